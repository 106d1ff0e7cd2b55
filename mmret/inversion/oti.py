"""OTI: optimisation-based textual inversion, many images at once (Baldrati et al., arXiv 2303.15247)."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmret.backbones.attention import training_attention
from mmret.backbones.base import Backbone, PromptTokens
from mmret.backbones.prompt import fill
from mmret.embedding import embed_texts
from mmret.errors import InputError
from mmret.inversion.concepts import TEMPLATES, ConceptBook, phrase_prompt

_PHRASE = 1


@dataclass(frozen=True)
class OTI:
    """The settings of an inversion; call it on images. The defaults are the official code's.

    The pseudo-word v of an image with feature x minimises
    (λ_cos · (1 − cos(E(template with v), x)) + λ_gpt · (1 − cos(E(phrase with v), E(phrase)))) / (λ_cos + λ_gpt),
    a template and a phrase of one of the image's nearest concepts being drawn anew at each step. The result is the
    exponential moving average of v over the steps.

    Attributes:
        steps: of the optimizer, AdamW.
        learning_rate: constant.
        weight_decay: AdamW's.
        lambda_cos: weight of the image term.
        lambda_gpt: weight of the phrase term; 0: no phrases are needed.
        ema_decay: of the moving average.
        concepts: how many nearest concepts an image's phrases are drawn from.
        init_std: standard deviation of the normal distribution that v starts from.
        templates: with `{word}`.
        seed: of start and draws, together with the image's id.
    """

    steps: int = 350
    learning_rate: float = 2e-2
    weight_decay: float = 0.01
    lambda_cos: float = 1.0
    lambda_gpt: float = 0.5
    ema_decay: float = 0.99
    concepts: int = 15
    init_std: float = 0.02
    templates: tuple[str, ...] = TEMPLATES
    seed: int = 0

    def __call__(
        self, backbone: Backbone, ids: Sequence[str], image_features: Tensor, book: ConceptBook | None = None
    ) -> Tensor:
        """Pseudo-words float32 [B, T], on the CPU, of images with `image_features` [B, D] (of any norm).

        Each image has an optimum of its own: start, draws and gradients depend on its id and its feature alone,
        so that another batch gives the same word up to rounding.

        Raises:
            InputError: for other than one feature an id, or phrases that are asked for and not given.
        """
        if len(ids) != len(image_features):
            raise InputError(f"there are {len(ids)} image ids but {len(image_features)} image features.")
        if self.lambda_gpt and book is None:
            raise InputError("OTI needs phrases of concepts (phrases: FILE), or lambda_gpt 0 to go without.")
        plan = _Plan(self, backbone, ids, image_features, book if self.lambda_gpt else None)
        words = self._start(ids, backbone.token_width).to(backbone.device).requires_grad_()
        average = words.detach().clone()
        optimizer = torch.optim.AdamW([words], lr=self.learning_rate, weight_decay=self.weight_decay)
        with torch.enable_grad(), training_attention(backbone.device):
            for step in range(self.steps):
                optimizer.zero_grad()
                plan.loss(step, words).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                average.lerp_(words.detach(), 1 - self.ema_decay)
        return average.cpu()

    def describe(self) -> dict[str, Any]:
        """The settings as plain values."""
        return {**asdict(self), "templates": list(self.templates)}

    def _start(self, ids: Sequence[str], width: int) -> Tensor:
        """The words that the optimisation starts from, [B, T]."""
        generators = [torch.Generator().manual_seed(_seed(self.seed, name)) for name in ids]
        rows = [torch.randn(width, generator=generator) for generator in generators]
        return self.init_std * torch.stack(rows) if rows else torch.empty(0, width)


def _seed(seed: int, name: str) -> int:
    """A number that follows from seed and id on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7])


class _Plan:
    """Everything that is drawn for a batch of images, tokenised and encoded before the first step.

    Each prompt is tokenised once, and the features of whole phrases, which do not change, are computed once.
    """

    def __init__(
        self, oti: OTI, backbone: Backbone, ids: Sequence[str], features: Tensor, book: ConceptBook | None
    ) -> None:
        self.backbone = backbone
        chances = [random.Random(f"{oti.seed}/{name}") for name in ids]
        templates = [[rng.randrange(len(oti.templates)) for _ in range(oti.steps)] for rng in chances]
        prompts = [fill(template) for template in oti.templates]
        rows, weights = [templates], [oti.lambda_cos]
        self.images = F.normalize(features.detach().float(), dim=-1).to(backbone.device)
        self.whole: Tensor | None = None
        if book is not None:
            drawn = _draw_phrases(book, features, oti, chances)
            known = {pair: row for row, pair in enumerate(dict.fromkeys(p for line in drawn for p in line))}
            rows.append([[len(prompts) + known[pair] for pair in line] for line in drawn])
            weights.append(oti.lambda_gpt)
            self.whole = _features(backbone, [phrase for _, phrase in known])
            self.first_phrase = len(prompts)
            prompts += [phrase_prompt(*pair) for pair in known]
        self.weights = torch.tensor(weights, dtype=torch.float32, device=backbone.device)
        self.rows = torch.tensor(rows, dtype=torch.int64).reshape(len(rows), len(ids), oti.steps)
        self.tokens = backbone.tokenize_prompts(prompts)

    def loss(self, step: int, words: Tensor) -> Tensor:
        """The sum of all images' losses, so that no image's gradient depends on how many there are."""
        rows = self.rows[:, :, step]
        tokens = PromptTokens(self.tokens.ids[rows.flatten()], self.tokens.word_mask[rows.flatten()])
        found = self.backbone.encode_prompts(tokens, words.repeat(len(rows), 1))
        targets = self.images
        if self.whole is not None:
            targets = torch.cat([targets, self.whole[(rows[_PHRASE] - self.first_phrase).to(words.device)]])
        apart = 1 - F.cosine_similarity(found, targets).reshape(rows.shape)
        loss: Tensor = (self.weights @ apart).sum() / self.weights.sum()
        return loss


def _draw_phrases(
    book: ConceptBook, features: Tensor, oti: OTI, chances: Sequence[random.Random]
) -> list[list[tuple[str, str]]]:
    """For each image and step a (concept, phrase), all phrases of the image's concepts being equally likely."""
    drawn = []
    for concepts, rng in zip(book.nearest(features, oti.concepts), chances, strict=True):
        choices = [(concept, phrase) for concept in concepts for phrase in book.phrases.phrases[concept]]
        drawn.append(rng.choices(choices, k=oti.steps))
    return drawn


def _features(backbone: Backbone, texts: Sequence[str]) -> Tensor:
    """Normalised features [N, D] on the backbone's device."""
    return F.normalize(torch.from_numpy(embed_texts(backbone, texts)), dim=-1).to(backbone.device)
