"""Zero-shot composed image retrieval under `mmret test`: encode, compose, search, evaluate, on any devices."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.backbones.text_tower import load_text_encoder
from mmret.composition import PDV, Composer, composer_from_spec
from mmret.composition.scores import Composed, NeedsGallery, columns, with_columns
from mmret.composition.scoring import Transform, scoring_from_spec
from mmret.corridor import Ranked, query_vectors, rank_queries
from mmret.data.benchmark import Benchmark
from mmret.embedding import embed_images
from mmret.encoded_benchmark import EncodedBenchmark
from mmret.errors import InputError
from mmret.methods.gathering import gather_rows

IMAGES = 0


class ZeroShotCIR(LightningModule):
    """Evaluates a composer, with PDV if asked for, on the benchmark of the DataModule.

    Two dataloaders, as `BenchmarkDataModule` has them: images `{"ids": list of B strings, "pixels": float32
    [B, 3, H, W]}`, then queries `{"indices": int64 [B]}`. Devices may see an image or a query twice (a distributed
    sampler pads the last batch): rows are keyed by position, and each counts once.

    Args:
        backbone: Name of the backbone.
        composer: Short name and options of a composer, such as `{name: pseudo-word, phi: runs/lincir/phi.safetensors}`.
        pdv: PDV's knobs (`{alpha_text: 1.2, alpha_image: auto, beta: 0.75}`); None: the base method.
        scoring: A scoring instead of PDV, such as `{name: seize, preset: circo}`.
        depth: Ranks kept of each query.
        text_encoder: File of a tuned text encoder (`RTD`), for the queries' texts; None: the backbone's.

    Logs every metric of the benchmark as `test/<metric>`; `ranked` holds the run and the evaluation afterwards.
    """

    def __init__(
        self,
        backbone: str,
        composer: dict[str, Any],
        pdv: dict[str, float | str] | None = None,
        scoring: dict[str, Any] | None = None,
        depth: int = 50,
        text_encoder: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if pdv is not None and scoring is not None:
            raise InputError("ZeroShotCIR was given a pdv and a scoring; both act on the three features.")
        self.backbone: Backbone | None = None
        self.texts: Backbone | None = None
        self.composer: Composer | None = None
        self.transform: Transform | None = PDV.from_spec(pdv) if pdv is not None else None
        if scoring is not None:
            self.transform = scoring_from_spec(scoring)
        self.ranked: Ranked | None = None

    def configure_model(self) -> None:
        """Load the backbone, with the benchmark's preprocessing, and the composer, once."""
        if self.backbone is None:
            preprocess = self._benchmark().protocol.preprocess
            self.backbone = load_backbone(self.hparams["backbone"], preprocess=preprocess)
            tuned = self.hparams["text_encoder"]
            self.texts = self.backbone if tuned is None else load_text_encoder(self.backbone, tuned)
            self.composer = composer_from_spec(self.hparams["composer"])

    def on_test_epoch_start(self) -> None:
        """Start without vectors."""
        self._images: list[tuple[Tensor, Tensor]] = []
        self._queries: list[tuple[Tensor, Composed]] = []
        self._encoded: EncodedBenchmark | None = None

    def test_step(self, batch: Mapping[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode a batch of images, or compose a batch of queries once all images are there."""
        assert self.backbone is not None, "configure_model has not run"
        if dataloader_idx == IMAGES:
            rows = {name: row for row, name in enumerate(self._benchmark().image_ids)}
            positions = torch.tensor([rows[name] for name in batch["ids"]], device=self.device)
            self._images.append((positions, self.backbone.encode_images(batch["pixels"])))
            return
        positions = batch["indices"]
        self._queries.append((positions, self._compose(positions.tolist())))

    def on_test_epoch_end(self) -> None:
        """Rank and evaluate all queries; every device gets, and logs, the same numbers."""
        features = self._gathered_queries()
        encoded = self._gathered_images()
        settled = features.settle(encoded) if isinstance(features, NeedsGallery) else features
        queries = query_vectors(settled, self.transform)
        self.ranked = rank_queries(queries, encoded, depth=self.hparams["depth"])
        self.log_dict({f"test/{name}": value for name, value in self.ranked.evaluation.means.items()})

    def _benchmark(self) -> Benchmark:
        benchmark = getattr(self.trainer.datamodule, "benchmark", None)  # type: ignore[attr-defined]
        if not isinstance(benchmark, Benchmark):
            raise InputError(
                "ZeroShotCIR needs a benchmark: give --data mmret.data.datamodules.BenchmarkDataModule."
            )
        return benchmark

    def _gathered_images(self) -> EncodedBenchmark:
        """All images' vectors; the first query batch is the first that knows the images' loader to be done."""
        if self._encoded is None:
            benchmark = self._benchmark()
            assert self.backbone is not None, "configure_model has not run"
            vectors = self._gather(self._images, len(benchmark.image_ids))
            self._encoded = EncodedBenchmark(benchmark, vectors, embed=partial(embed_images, self.backbone))
        return self._encoded

    def _gathered_queries(self) -> Composed:
        """The composed features of all queries, in order; each of their tensors is gathered for itself."""
        parts = [(positions, columns(features)) for positions, features in self._queries]
        total = len(self._benchmark().queries)
        gathered = {
            name: self._gather([(positions, part[name]) for positions, part in parts], total)
            for name in parts[0][1]
        }
        tensors = {name: torch.from_numpy(values) for name, values in gathered.items()}
        return with_columns(self._queries[0][1], tensors)

    def _compose(self, positions: list[int]) -> Composed:
        assert self.composer is not None and self.texts is not None, "configure_model has not run"
        return self.composer(self.texts, self._gathered_images().batch(positions))

    def _gather(self, parts: list[tuple[Tensor, Tensor]], count: int) -> NDArray[np.float32]:
        """Rows [count, …] of all devices in the order of their positions."""
        positions, rows = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        flat = gather_rows(self, positions, rows.flatten(1), count)
        return flat.reshape(count, *rows.shape[1:])
