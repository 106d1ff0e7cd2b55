"""DSE: document screenshot embedding, pages and queries in one space (Ma et al., arXiv 2406.11251)."""

from pathlib import Path
from typing import Any, get_args

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmret.backbones.base import Backbone
from mmret.backbones.page_training import (
    adapter_settings,
    is_adapted,
    page_encoder_to_train,
    save_trained,
)
from mmret.backbones.preprocess import OWN
from mmret.backbones.spec import PRECISIONS
from mmret.data.batches import QueryPageBatch
from mmret.errors import InputError
from mmret.hard_negatives import check_threshold
from mmret.losses import info_nce, suspects
from mmret.methods.gathering import writes_results
from mmret.methods.joint_batch import JointBatch, join
from mmret.methods.page_features import encode, page_chunks, query_chunks
from mmret.methods.page_recall import recalls
from mmret.methods.random_state import random_state_of
from mmret.methods.recomputing import RecomputingModule
from mmret.methods.schedules import Schedule, by_step, decay_groups
from mmret.methods.sharding import keeps_whole, shard, spreads_by_data, whole

CUTOFFS = (1, 10)


class DocumentScreenshotEmbedding(RecomputingModule):
    """Trains a backbone so that a query lies near the screenshot of the page that answers it.

    Batches are `QueryPageBatch`. Each query is to find its own page among all pages of all devices, hard negatives
    among them, by InfoNCE over cosines / τ; pages that are known to answer it as well are no negatives of it. With a
    pooling of several vectors (`tokens`) cosines become MaxSim's mean (late interaction, as ColPali trains).

    After training the backbone is written as a folder that `load_backbone` reads, `<root>/backbone`, or, where one was
    trained, its adapter as `<root>/adapter`, for `NAME?adapter=FOLDER`.

    Args:
        backbone: Name of the backbone to train: open_clip's, or a vision-language model.
        optimizer: Given two parameter groups (with and without weight decay).
        from_scratch: Start from random weights of the same architecture (open_clip's).
        preprocess: What becomes of pages, by name, in place of the backbone's own; the DataModule's must be the same.
        adapter: Train a new LoRA alone: any of `rank`, `alpha`, `dropout`, `dora`, `targets` (`AdapterSettings`).
            Without it, an adapter that the backbone's name has (`NAME?adapter=FOLDER`) goes on learning alone.
        frozen_precision: Number format of the weights beside an adapter: fp32, bf16 or fp16.
        temperature: τ; DSE's is .02.
        symmetric: Let each query's own page find the query as well, among all queries, as CLIP does.
        matryoshka: Widths whose losses are averaged, such as [1536, 512, 128]; None: the whole width alone.
        matryoshka_weights: Of the widths; None: equal ones.
        mask_known: Leave out, of a query's negatives, pages that answer it by their id.
        positive_threshold: Leave out pages more similar to a query than this share of its own page's similarity, as
            they may answer it too (.95 in NV-Retriever); None: none.
        warmup_steps: Steps of linear warm-up.
        schedule: `cosine` and `linear` end at zero with the training, `constant` stays.
        chunk_size: Queries, and pages, that are encoded at a time, for batches that do not fit (gradient cache); models
            with BatchNorm do not take it.
        checkpoint_gradients: Compute activations again in the backward pass.

    Raises:
        InputError: an option that cannot be; later, a strategy, a model or data that it does not go with.

    Logs `train/loss`; `val/loss`, by batch; and `val/recall@1`, `val/recall@10`: the share of validation queries with a
    page that answers them among the first so many of all validation pages.
    """

    def __init__(
        self,
        backbone: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        from_scratch: bool = False,
        preprocess: str | None = None,
        adapter: dict[str, Any] | None = None,
        frozen_precision: str = "fp32",
        temperature: float = 0.02,
        symmetric: bool = False,
        matryoshka: list[int] | None = None,
        matryoshka_weights: list[float] | None = None,
        mask_known: bool = True,
        positive_threshold: float | None = None,
        warmup_steps: int = 0,
        schedule: Schedule = "linear",
        chunk_size: int | None = None,
        checkpoint_gradients: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer"])
        self._check_options()
        self.optimizer = optimizer
        self.adapter = adapter_settings(adapter)
        self.backbone: Backbone | None = None
        self._seen: list[JointBatch] = []

    def _check_options(self) -> None:
        options = self.hparams
        if not options["temperature"] > 0:
            raise InputError(f"temperature is {options['temperature']}; give a number above 0.")
        if options["chunk_size"] is not None and options["chunk_size"] < 1:
            raise InputError(f"chunk_size is {options['chunk_size']}; give a number from 1, or leave it out.")
        if options["schedule"] not in get_args(Schedule):
            known = ", ".join(get_args(Schedule))
            raise InputError(f"schedule is {options['schedule']!r}, not one of {known}.")
        if options["frozen_precision"] not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise InputError(f"frozen_precision is {options['frozen_precision']!r}, not one of {known}.")
        check_threshold(options["positive_threshold"])
        widths, weights = options["matryoshka"], options["matryoshka_weights"]
        if widths == [] or (weights is not None and len(weights) != len(widths or ())):
            raise InputError("matryoshka needs at least one width, and matryoshka_weights as many weights.")
        if weights and not (min(weights) >= 0 and sum(weights) > 0):
            raise InputError(f"matryoshka_weights are {weights}; give numbers from 0, one of them above it.")

    def setup(self, stage: str) -> None:
        """Refuse strategies by which other weights, or by other batches, would be trained."""
        strategy = self.trainer.strategy
        if not (keeps_whole(strategy) or spreads_by_data(strategy)):
            raise InputError(
                f"{type(strategy).__name__}, as it is set, does not train page encoders: write `strategy: ddp`, or "
                "ModelParallelStrategy with `data_parallel_size` (how many devices) and `tensor_parallel_size: 1`."
            )

    def configure_model(self) -> None:
        """Load the backbone, once, ready to be trained."""
        if self.backbone is not None:
            return
        names = ("from_scratch", "preprocess", "frozen_precision", "checkpoint_gradients")
        options = {name: self.hparams[name] for name in names}
        self.backbone = page_encoder_to_train(self.hparams["backbone"], adapter=self.adapter, **options)
        self.backbone.warns_of_cuts = False
        width = self.backbone.spec.width
        for wanted in self.hparams["matryoshka"] or ():
            if not 1 <= wanted <= width:
                raise InputError(
                    f"matryoshka asks for width {wanted}; {self.hparams['backbone']} has {width}."
                )
        if self.device_mesh is not None:
            shard(self.backbone, self.device_mesh["data_parallel"])

    @property
    def model(self) -> Backbone:
        """The backbone, once `configure_model` has loaded it."""
        assert self.backbone is not None, "configure_model has not run"
        return self.backbone

    def training_step(self, batch: QueryPageBatch, batch_idx: int) -> Tensor:
        """The loss of one batch; pages of all devices are negatives."""
        if self.trainer.world_size * len(batch["pages"]) < 2:
            raise InputError("a batch of one page has no negatives; give a batch_size of 2 or more.")
        with random_state_of(self, batch_idx):
            joint = self._joint(batch)
        loss = self._loss(joint)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["queries"]))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start without features."""
        self._seen = []

    def validation_step(self, batch: QueryPageBatch, batch_idx: int) -> None:
        """The loss of one batch, whose features are kept for the recalls."""
        joint = self._joint(batch)
        self._seen.append(joint.cpu())
        self.log("val/loss", self._loss(joint), prog_bar=True, sync_dist=True, batch_size=len(joint.queries))

    def on_validation_epoch_end(self) -> None:
        """Recalls over all validation pages; every device gets, and logs, the same numbers."""
        found = recalls(self._seen, CUTOFFS)
        self._seen = []
        self.log_dict({f"val/recall@{k}": value for k, value in found.items()}, prog_bar=True, sync_dist=True)

    def on_fit_start(self) -> None:
        """Refuse what would train another model than was asked for."""
        self._refuse_other_pages()
        self._refuse_chunks_with_batch_norm()

    def _refuse_other_pages(self) -> None:
        """Pages that another preprocessing made than the one that is written with the backbone."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None or "preprocess" not in data.hparams or data.hparams.get("backbone"):
            return
        own, theirs = (each.hparams["preprocess"] or OWN for each in (self, data))
        if own != theirs:
            raise InputError(
                f"the model's preprocess is {own} and the data's is {theirs}: give both the same name."
            )

    def _refuse_chunks_with_batch_norm(self) -> None:
        size = self.hparams["chunk_size"]
        if size is not None and any(isinstance(part, _BatchNorm) for part in self.model.modules()):
            raise InputError(
                f"chunk_size is {size}, and {self.hparams['backbone']} has BatchNorm: the statistics of chunks are not "
                "those of the batch, so that the gradient would not be the plain step's; leave chunk_size out."
            )

    def configure_optimizers(self) -> Any:
        """The optimizer over what learns, in two parameter groups, with warm-up and schedule by step."""
        optimizer = self.optimizer(decay_groups(self.parameters()))
        return by_step(self.trainer, optimizer, self.hparams["warmup_steps"], self.hparams["schedule"])

    def on_train_end(self) -> None:
        """Write what was trained, from the first process, and count the queries that were cut."""
        self.model.warn_of_cuts()
        writes = writes_results(self.trainer)
        with whole(self.model, keep=writes):
            if writes:
                folder = save_trained(self.model, Path(self.trainer.default_root_dir))
                print(f"{folder.name} written to {folder}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what learns: the name brings back what is frozen beside an adapter."""
        if is_adapted(self.model) and self.device_mesh is None:
            learns, state = self._names_that_learn(), checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: value for name, value in state.items() if name in learns}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete the checkpoint's state with the frozen weights as they were loaded.

        Raises:
            InputError: it lacks weights of the adapter, which would begin anew.
        """
        if is_adapted(self.model) and self.device_mesh is None:
            lacking = sorted(self._names_that_learn() - checkpoint["state_dict"].keys())
            if lacking:
                raise InputError(
                    f"the checkpoint lacks {len(lacking)} of the adapter's weights, the first {lacking[0]}: it is of "
                    "another training."
                )
            checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}

    def _names_that_learn(self) -> set[str]:
        return {name for name, weight in self.named_parameters() if weight.requires_grad}

    def _joint(self, batch: QueryPageBatch) -> JointBatch:
        """The batch of all devices, encoded; in chunks where a chunk size is set."""
        size = self.hparams["chunk_size"]
        queries = query_chunks(self.model, batch["queries"], size or len(batch["queries"]))
        pages = page_chunks(self.model, batch["pages"], size or len(batch["pages"]))
        learning = self._learning() if size and torch.is_grad_enabled() else None
        alone_or_sharded = self.trainer.world_size == 1 or self.device_mesh is not None
        return join(self, *encode(queries, pages, learning, accumulate=alone_or_sharded), batch)

    def _learning(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def _loss(self, joint: JointBatch) -> Tensor:
        """The mean over the Matryoshka widths."""
        widths = self.hparams["matryoshka"] or [self.model.spec.width]
        weights = torch.tensor(self.hparams["matryoshka_weights"] or [1.0] * len(widths))
        losses = torch.stack([self._loss_of(joint, joint.similarities(width)) for width in widths])
        return (losses * (weights / weights.sum()).to(losses)).sum()

    def _loss_of(self, joint: JointBatch, similarities: Tensor) -> Tensor:
        left_out = self._left_out(joint, similarities)
        temperature = self.hparams["temperature"]
        loss = info_nce(similarities, joint.own, temperature, left_out)
        if not self.hparams["symmetric"]:
            return loss
        rows = torch.arange(len(joint.own), device=joint.own.device)
        back_out = left_out.T[joint.own] | joint.siblings
        back = info_nce(similarities.T[joint.own], rows, temperature, back_out)
        return (loss + back) / 2

    def _left_out(self, joint: JointBatch, similarities: Tensor) -> Tensor:
        """Bool [Q, N]: pages that are no negatives of a query."""
        none = torch.zeros_like(joint.known_others)
        known = joint.known_others if self.hparams["mask_known"] else none
        threshold = self.hparams["positive_threshold"]
        return known if threshold is None else known | suspects(similarities, joint.own, threshold)
