"""From a prompt and pages or texts to what a model of transformers is called with."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmret.backbones.vlm_families import Family
from mmret.backbones.vlm_grids import token_places
from mmret.errors import InputError

NONE = -1
"""What stands in a matrix of ids where a row has no token: unlike a pad token it cannot be part of a prompt."""

_DUMMY = 56
"""Side, in pixels, of the dummy image of a text query: what Qwen's 28 × 28 becomes under the rule of 4 × 28² pixels."""


class Inputs:
    """A processor and a tokenizer, used in one way for every family.

    The image processor takes pages; what an image becomes in the text the processor says (`replace_image_token`, which
    all of transformers' have); the text goes through the tokenizer without any special tokens but those written in it.
    Raises `InputError` where the tokenizer has no token for images.
    """

    def __init__(self, family: Family, processor: Any, padding_side: str) -> None:
        self.family, self.processor, self.padding_side = family, processor, padding_side
        self.tokenizer = processor.tokenizer
        self.image_token = str(getattr(processor, "image_token", family.image))
        self.image_id = token_id(self.tokenizer, self.image_token)
        pad = self.tokenizer.pad_token_id
        self.pad_id = int(self.tokenizer.eos_token_id if pad is None else pad)

    def of_images(self, prompt: str, pages: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the model's arguments for B pages uint8 [3, H, W], of any sizes, each in a prompt with `{image}`.

        `input_ids` and `attention_mask` are int64 [B, L], as are `position_ids`, `mm_token_type_ids` and
        `token_type_ids` where the family has them; L is the longest row's. What the image processor gives comes on top,
        under names and in shapes of its own: pixels are float32. Raises `InputError` for Phi-3-vision's pages that are
        no whole tiles; other processors raise what they will for pages that were not resized as the spec says.
        """
        images = self._images(pages)
        texts = [self._expanded(self._written(prompt), images, row) for row in range(len(pages))]
        return {**self._of_padded(self._tokens(texts)), **self._for_model(images)}

    def places(self, page: Tensor, count: int) -> Tensor:
        """Return int64 [h, w]: which of the `count` image tokens of a page uint8 [3, H, W] lies where on it.

        Raises `InputError` where that is not known.
        """
        images = self._images([page])
        if self.family.grid == "processor":
            places: Tensor = self.processor.places(images)
            return places
        merge = getattr(self.processor.image_processor, "merge_size", 1)
        return token_places(self.family.grid, images, count, merge)

    def ids(self, prompt: str, texts: Sequence[str]) -> Tensor:
        """Return the ids int64 [B, L] of texts in the prompt, on the left, then `NONE`."""
        written = self._written(prompt)
        if "{image}" in prompt:
            written = self._expanded(written, self._images([self._dummy()]), 0)
        return self._tokens([written.replace("{text}", self._harmless(text)) for text in texts])

    def of_ids(self, ids: Tensor, prompt: str) -> dict[str, Tensor]:
        """Return the model's arguments for ids int64 [B, L], `NONE` behind each row, which `ids` gave for this prompt.

        As for `of_images`; pixels are there only if the prompt has a dummy image, one for each row.
        """
        inputs = self._of_padded(ids)
        if "{image}" in prompt:
            dummy = self._dummy().to(ids.device)
            inputs |= self._for_model(self._images([dummy] * len(ids)))
        elif self.family.positions is None:
            inputs["position_ids"] = _positions(inputs["attention_mask"], 0)
        return inputs

    def length(self, prompt: str) -> int:
        """Return how many tokens a piece of a prompt has, with the dummy image's where it stands in it."""
        if not prompt:
            return 0
        return int((self.ids(prompt, [""]) != NONE).sum())

    def _written(self, prompt: str) -> str:
        """The prompt with its image and its special tokens in the tokenizer's words."""
        names = {"bos": "bos_token", "eos": "eos_token", "pad": "pad_token"}
        for place, name in names.items():
            prompt = prompt.replace(f"{{{place}}}", getattr(self.tokenizer, name) or "")
        return prompt.replace("{image}", self.family.image)

    def _expanded(self, text: str, images: dict[str, Any], row: int) -> str:
        return text.replace(self.image_token, self.processor.replace_image_token(images, row), 1)

    def _images(self, pages: Sequence[Tensor]) -> dict[str, Any]:
        given = [[page] for page in pages] if self.family.nested else list(pages)
        found = self.processor.image_processor(images=given, return_tensors="pt", **self.family.image_options)
        return dict(found)

    def _for_model(self, images: dict[str, Any]) -> dict[str, Tensor]:
        """What the model takes of what the image processor gave, less what it only told the processor."""
        unused = {"rows", "cols", *getattr(self.processor, "unused_input_names", ())}
        return {key: value for key, value in images.items() if key not in unused}

    def _dummy(self) -> Tensor:
        processor = self.processor.image_processor
        patch, merge = getattr(processor, "patch_size", None), getattr(processor, "merge_size", None)
        side = 2 * patch * merge if isinstance(patch, int) and isinstance(merge, int) else _DUMMY
        return torch.zeros(3, side, side, dtype=torch.uint8)

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        rows = (
            self.tokenizer(list(texts), add_special_tokens=False, padding=False)["input_ids"] if texts else []
        )
        ids = torch.full((len(rows), max(map(len, rows), default=0)), NONE, dtype=torch.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
        return ids

    def _of_padded(self, ids: Tensor) -> dict[str, Tensor]:
        """Ids and mask on the family's padding side, and all that follows from them."""
        if self.padding_side == "left":
            ids = _to_the_right(ids)
        mask = (ids != NONE).long()
        inputs = {"input_ids": ids.masked_fill(mask == 0, self.pad_id), "attention_mask": mask}
        if self.family.positions is not None:
            inputs["position_ids"] = _positions(mask, self.family.positions)
        if self.family.marks_images:
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == self.image_id).long()
        if self.family.two_way:
            inputs["token_type_ids"] = torch.zeros_like(mask)
        return inputs

    def _harmless(self, text: str) -> str:
        """A text without the special tokens it spells out: one that stands for an image would take an image's place."""
        return without_tokens(text, [*self.tokenizer.all_special_tokens, self.image_token])


def without_tokens(text: str, tokens: Sequence[str]) -> str:
    """Return a text in which none of these tokens is spelt out, nor comes together where another was taken out."""
    spelt = re.compile("|".join(map(re.escape, tokens)))
    while (less := spelt.sub("", text)) != text:
        text = less
    return text


def token_id(tokenizer: Any, token: str) -> int:
    """Return the id of the token that stands for images.

    Raises `InputError` where the tokenizer has none: some of transformers' are built without a word if their files are
    not there.
    """
    found: Any = tokenizer.convert_tokens_to_ids(token)
    if found is None or found == tokenizer.unk_token_id:
        raise InputError(
            f"the tokenizer of {tokenizer.name_or_path} has no {token}, which stands for images: see that its files "
            "are there."
        )
    return int(found)


def _positions(mask: Tensor, first: int) -> Tensor:
    """Positions int64 [B, L] that count tokens from `first`, and no padding."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0) + first


def _to_the_right(ids: Tensor) -> Tensor:
    """Rows with their tokens moved behind their padding."""
    lengths = (ids != NONE).sum(dim=1, keepdim=True)
    places = torch.arange(ids.shape[1], device=ids.device) + lengths - ids.shape[1]
    return torch.where(places >= 0, ids.gather(1, places.clamp(min=0)), NONE)
