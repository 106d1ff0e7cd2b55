"""From prompts to rows of token ids, with the places of the pseudo-word.

A tokenizer supplies the tokens of the text; the row around them (start, end, padding, cutting) is put
together here, because a tokenizer would cut a pseudo-word as readily as any other token.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mmret.backbones.base import PromptTokens
from mmret.backbones.prompt import Prompt, check_prompts
from mmret.errors import InputError


@dataclass(frozen=True)
class Frame:
    """What stands around the text in a row of `length` tokens: prefix, text, suffix, padding, tail."""

    length: int
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    padding: int
    pad_left: bool = False
    tail: tuple[int, ...] = ()

    @property
    def room(self) -> int:
        """How many tokens of text fit."""
        return self.length - len(self.prefix) - len(self.suffix) - len(self.tail)

    def row(self, body: Sequence[int]) -> list[int]:
        """Return the whole row of a body that fits."""
        text = [*self.prefix, *body, *self.suffix]
        padding = [self.padding] * (self.room - len(body))
        return [*padding, *text, *self.tail] if self.pad_left else [*text, *padding, *self.tail]

    def mask(self, is_word: Sequence[bool]) -> list[bool]:
        """Return which places of the row hold a pseudo-word, from which places of the body do."""
        start = len(self.prefix) + (self.room - len(is_word) if self.pad_left else 0)
        return [*[False] * start, *is_word, *[False] * (self.length - start - len(is_word))]


@dataclass(frozen=True)
class Body:
    """The tokens of a prompt without its frame; `is_word` marks pseudo-words (their ids: a placeholder's)."""

    ids: list[int]
    is_word: list[bool]

    def cut(self, room: int) -> "Body":
        """Return the first tokens that fit into `room`, giving up text before any pseudo-word."""
        if len(self.ids) <= room:
            return self
        text_left = room - sum(self.is_word)
        if text_left < 0:
            raise InputError(
                f"a prompt holds {sum(self.is_word)} pseudo-words, but the text tower takes {room} tokens: "
                "shorten the prompt."
            )
        kept = []
        for place, word in enumerate(self.is_word):
            text_left -= not word
            if word or text_left >= 0:
                kept.append(place)
        return Body([self.ids[i] for i in kept], [self.is_word[i] for i in kept])


class PromptTokenizer(ABC):
    """Turns prompts into `PromptTokens`. `placeholder` is the text whose id stands under each pseudo-word."""

    frame: Frame
    placeholder: str

    @abstractmethod
    def bodies(self, prompts: Sequence[Prompt]) -> list[Body]:
        """Return each prompt's tokens, neither framed nor cut."""

    def __call__(self, prompts: Sequence[Prompt]) -> tuple[PromptTokens, int]:
        """Return the rows, ids int64 [B, L] and word mask bool [B, L], and how many prompts had to be cut."""
        check_prompts(prompts)
        full = self.bodies(prompts)
        cut = [body.cut(self.frame.room) for body in full]
        ids = torch.tensor([self.frame.row(body.ids) for body in cut], dtype=torch.int64)
        mask = torch.tensor([self.frame.mask(body.is_word) for body in cut], dtype=torch.bool)
        shape = (len(prompts), self.frame.length)
        shortened = sum(len(a.ids) > len(b.ids) for a, b in zip(full, cut, strict=True))
        return PromptTokens(ids.reshape(shape), mask.reshape(shape)), shortened
