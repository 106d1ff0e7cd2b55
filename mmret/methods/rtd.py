"""RTD: reducing the task discrepancy of the text encoder, on text alone (Byun et al., arXiv 2406.09188)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from mmret.backbones import load_backbone
from mmret.backbones.attention import training_attention
from mmret.backbones.base import Backbone, PromptTokens
from mmret.backbones.openclip import OpenClipBackbone
from mmret.backbones.prompt import Prompt, fill
from mmret.backbones.text_tower import own_text_tower, save_text_encoder, trainable_text_tower
from mmret.composition.composers import TEMPLATES, check_places
from mmret.composition.phi import Phi
from mmret.composition.phi_files import load_phi
from mmret.data.batches import TextTripletBatch
from mmret.errors import InputError
from mmret.losses import nt_xent
from mmret.methods.caption_features import CaptionFeatures
from mmret.methods.gathering import gather_with_gradient, writes_results
from mmret.methods.gradient_cache import cached_features
from mmret.methods.recomputing import RecomputingModule
from mmret.methods.selection import Selection

Noise = Literal["uniform", "rms", "none"]
Concatenation = Literal["refined", "simple"]
Sampling = Literal["refined", "plain"]
Targets = Literal["frozen", "trained"]

FILE = "text_encoder.safetensors"
#: The best tower so far: it takes the name above when the training ends, so that this name means a finished one.
UNFINISHED = "text_encoder.unfinished.safetensors"


class RTD(RecomputingModule):
    """Trains the query's text encoder so that "a photo of φ(reference) that CONDITION" means the target's caption.

    Batches are `TextTripletBatch`. Backbone and φ are frozen; what learns is a copy of the text tower. With ψ the
    frozen text encoder, t_r = ψ(reference caption) un-normalised and noisy, and s = φ(t_r), the queries are
    V = [ψ'("a photo of s that CONDITION"); ψ'("a photo of s")], the targets U = [ψ(target caption); ψ(reference
    caption)]: the reference's caption is a hard negative of the composed query, and the target's of the bare one.
    The loss is `mmret.losses.nt_xent` with same-side negatives, over all devices.

    The best tower on the validation is written to `<root>/text_encoder.safetensors`, with how it was selected, when the
    training ends (until then it is `text_encoder.unfinished.safetensors`); without a validation, the last one.
    Everywhere else `text_encoder: FILE` takes it; images, their stores and φ stay.

    Args:
        backbone: Name of the backbone, frozen. Any of open_clip's.
        phi: File or released name of a φ for it, frozen.
        optimizer: Over the tower; the official one is AdamW with learning rate 1e-5, weight decay .01, constant.
        template: Of the composed query, with `{word}` and `{text}`, or a method's name (as of `PseudoWord`).
        reference_template: Of the bare reference, with `{word}`.
        noise: On t_r: `uniform`, u·ε with u ~ U(0, 1) per caption and ε ~ N(0, noise_scale² I), the paper's; `rms`, the
            same times the root mean square of the batch's components; `none`.
        noise_scale: .5 in the official code.
        concatenation: `refined` as above; `simple`: the text "REFERENCE CONDITION", and the reference's caption
            for the bare query (the paper's ablation; no pseudo-word is trained with).
        sampling: `refined` as above; `plain`: the composed queries and their targets alone.
        targets: `frozen` as above; `trained`: from the tower that learns (the ablation without a frozen target).
        temperature: τ.
        chunk_size: Queries that are encoded at a time, for batches that do not fit (gradient cache); None: all.
        checkpoint_gradients: Compute activations again in the backward pass.
        selection: None: by `val/loss` on held-out triplets, which touches no composed retrieval data. Or
            `{benchmark: circo, split: val, metric: "map@10 (÷ min)"}`: by that benchmark, which is not zero-shot then.
        cached_captions: How many captions' frozen features are kept, so that a triplet that comes again costs none.

    Raises:
        InputError: an unknown option, a template without its places, a φ that does not fit the backbone, a backbone
            without a text tower, or a batch without negatives.

    Logs `train/loss`, `val/loss`, `val/recall@1` (of the target among its validation batch's) and `val/cosine` (query
    with target; before the first step as well, over all that is held out with the Trainer's `num_sanity_val_steps: -1`)
    and, where a benchmark selects, its metric.
    """

    def __init__(
        self,
        backbone: str,
        phi: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        template: str = "lincir",
        reference_template: str = "a photo of {word}",
        noise: Noise = "uniform",
        noise_scale: float = 0.5,
        concatenation: Concatenation = "refined",
        sampling: Sampling = "refined",
        targets: Targets = "frozen",
        temperature: float = 0.07,
        chunk_size: int | None = None,
        checkpoint_gradients: bool = False,
        selection: dict[str, Any] | None = None,
        cached_captions: int = 100_000,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer"])
        self._check_options()
        self.optimizer = optimizer
        self.template = TEMPLATES.get(template, template)
        check_places(self.template, "{word}", "{text}")
        check_places(reference_template, "{word}")
        self.backbone: Backbone | None = None
        self.tower: OpenClipBackbone | None = None
        self.phi: Phi | None = None
        self.selection = Selection.from_spec(selection)
        self.captions = CaptionFeatures(cached_captions)

    def _check_options(self) -> None:
        kinds = {"noise": Noise, "concatenation": Concatenation, "sampling": Sampling, "targets": Targets}
        for name, kind in kinds.items():
            if self.hparams[name] not in get_args(kind):
                raise InputError(f"{name} is {self.hparams[name]!r}, not one of {', '.join(get_args(kind))}.")
        if not self.hparams["temperature"] > 0:
            raise InputError(f"temperature is {self.hparams['temperature']}; give a number above 0.")
        chunk = self.hparams["chunk_size"]
        if chunk is not None and chunk < 1:
            raise InputError(f"chunk_size is {chunk}; give a number from 1, or leave it out.")

    def configure_model(self) -> None:
        """Load the frozen backbone and φ, and copy the text tower, once."""
        if self.backbone is not None:
            return
        loaded = load_backbone(self.hparams["backbone"])
        # The images' tower is needed where a benchmark selects; a training without one does not carry it along.
        self.backbone = own_text_tower(loaded) if self.selection.benchmark is None else loaded
        spec = self.backbone.spec
        self.tower = trainable_text_tower(self.backbone, self.hparams["checkpoint_gradients"])
        self.phi = load_phi(self.hparams["phi"], backbone=spec.name).requires_grad_(False)
        self.phi.check_backbone(spec.name, spec.width, self.tower.token_width)
        self.backbone.warns_of_cuts = self.tower.warns_of_cuts = False

    @property
    def frozen(self) -> Backbone:
        """The frozen backbone, once `configure_model` has loaded it."""
        assert self.backbone is not None, "configure_model has not run"
        return self.backbone

    @property
    def trained(self) -> OpenClipBackbone:
        """The text tower that learns, once `configure_model` has copied it."""
        assert self.tower is not None, "configure_model has not run"
        return self.tower

    @property
    def mapping(self) -> Phi:
        """φ, once `configure_model` has loaded it."""
        assert self.phi is not None, "configure_model has not run"
        return self.phi

    def training_step(self, batch: TextTripletBatch, batch_idx: int) -> Tensor:
        """The loss of one batch; queries and targets of all devices are one another's negatives."""
        queries, targets = self._sides(batch, noisy=True)
        queries, targets = gather_with_gradient(self, queries), gather_with_gradient(self, targets)
        if len(queries) < 2:
            raise InputError("a batch of one triplet has no negatives; give a batch_size of 2 or more.")
        loss = nt_xent(targets, queries, self.hparams["temperature"])
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: TextTripletBatch, batch_idx: int) -> None:
        """Loss, recall and cosine without noise, against the frozen encoder's targets."""
        queries, targets = self._sides(batch, noisy=False)
        count = len(batch["targets"])
        composed, wanted = (F.normalize(side[:count], dim=-1) for side in (queries, targets))
        similarities = composed @ wanted.T
        found = similarities.argmax(dim=1) == torch.arange(count, device=similarities.device)
        values = {
            "val/loss": nt_xent(targets, queries, self.hparams["temperature"]),
            "val/recall@1": found.float().mean(),
            "val/cosine": similarities.diagonal().mean(),
        }
        self.log_dict(values, prog_bar=True, sync_dist=True, batch_size=count)

    def configure_optimizers(self) -> Any:
        """The optimizer over the tower's parameters."""
        return self.optimizer(self._learning())

    def on_train_start(self) -> None:
        """Select anew where the best tower of the training that is resumed is not at hand."""
        if not self._file(UNFINISHED).is_file():
            self.selection.best = None

    def on_validation_end(self) -> None:
        """Keep the values before the first step, and the tower whenever it is the best so far."""
        if self.trainer.state.fn != TrainerFn.FITTING:  # `mmret validate` selects nothing
            return
        logged = self.trainer.callback_metrics.items()
        values = {name: float(value) for name, value in logged if name.startswith("val/")}
        measured = self.selection.measure(self)
        if self.trainer.sanity_checking:
            self.selection.before = values | measured
            self._log(values | measured, step=0)
            return
        self._log(measured, self.trainer.global_step)
        improved = self.selection.improves(values | measured, self.trainer.global_step)
        if improved and writes_results(self.trainer):
            self._write()

    def on_train_end(self) -> None:
        """Give the best tower its name, or the last one where nothing was validated; count the texts that were cut."""
        self.trained.warn_of_cuts()
        if not writes_results(self.trainer):
            return
        if self.selection.best is None:
            self._write()
        self._file(UNFINISHED).replace(self._file(FILE))
        print(f"text encoder written to {self._file(FILE)}: {self.selection}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what learns and how it was selected; names bring back the frozen backbone and φ."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {key: value for key, value in state.items() if key.startswith("tower.")}
        checkpoint["selection"] = self.selection.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete the checkpoint's state with the backbone and φ as they were loaded."""
        checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
        self.selection.restore(checkpoint["selection"])

    def _file(self, name: str) -> Path:
        return Path(self.trainer.default_root_dir) / name

    def _log(self, values: dict[str, float], step: int) -> None:
        for logger in self.trainer.loggers if values else ():
            logger.log_metrics(values, step=step)

    def _write(self) -> None:
        facts = {"method": "RTD", "phi": self.mapping.describe(), "selection": self.selection.state()}
        save_text_encoder(self.trained, self._file(UNFINISHED), {**facts, "settings": self._settings()})

    def _settings(self) -> dict[str, Any]:
        return {key: value for key, value in self.hparams.items() if key not in ("backbone", "phi")}

    def _learning(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.trained.parameters() if parameter.requires_grad]

    def _sides(self, batch: TextTripletBatch, noisy: bool) -> tuple[Tensor, Tensor]:
        """Queries and their targets, un-normalised, [N, D] each: the composed ones first, then the bare ones."""
        if not batch["references"]:
            raise InputError("a batch holds no text triplet; RTD needs at least one.")
        refined = self.hparams["sampling"] == "refined"
        references = self.captions(self.frozen, batch["references"])
        captions = [*batch["targets"], *(batch["references"] if refined else ())]
        queries = self._queries(batch, references, noisy, refined)
        if self.hparams["targets"] == "trained" and noisy:
            prompts: list[Prompt] = [(caption,) for caption in captions]
            return queries, self._encode(prompts, None)
        targets = self.captions(self.frozen, batch["targets"])
        return queries, torch.cat([targets, references]) if refined else targets

    def _queries(self, batch: TextTripletBatch, references: Tensor, noisy: bool, refined: bool) -> Tensor:
        pairs = list(zip(batch["references"], batch["conditions"], strict=True))
        if self.hparams["concatenation"] == "simple":
            bare: list[Prompt] = [(text,) for text, _ in pairs] if refined else []
            return self._encode([*((f"{text} {condition}",) for text, condition in pairs), *bare], None)
        words = self.mapping.infer(references + self._noise_like(references) if noisy else references)
        prompts = [fill(self.template, condition) for _, condition in pairs]
        if refined:
            prompts += [fill(self.hparams["reference_template"])] * len(pairs)
            words = words.repeat(2, 1)
        return self._encode(prompts, words)

    def _encode(self, prompts: Sequence[Prompt], words: Tensor | None) -> Tensor:
        """Un-normalised features [N, D] of the tower that learns; chunk by chunk where a chunk size is set."""
        tokens = self.trained.tokenize_prompts(prompts)
        size = self.hparams["chunk_size"]
        if size is None or not torch.is_grad_enabled():
            return self._encode_rows(tokens, words, slice(None))
        rows = [slice(start, start + size) for start in range(0, len(prompts), size)]
        chunks = [partial(self._encode_rows, tokens, words, part) for part in rows]
        return cached_features(chunks, self._learning())

    def _encode_rows(self, tokens: PromptTokens, words: Tensor | None, rows: slice) -> Tensor:
        part = PromptTokens(tokens.ids[rows], tokens.word_mask[rows])
        with training_attention(self.device):
            if words is None:
                return self.trained.encode_text(part.ids)
            return self.trained.encode_prompts(part, words[rows])

    def _noise_like(self, features: Tensor) -> Tensor:
        if self.hparams["noise"] == "none":
            return torch.zeros_like(features)
        scale = self.hparams["noise_scale"]
        if self.hparams["noise"] == "rms":
            scale = scale * features.square().mean().sqrt()
        share = torch.rand(len(features), 1, device=features.device)
        noise: Tensor = scale * share * torch.randn_like(features)
        return noise
