"""A text tower small enough to check by hand."""

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from mmret.backbones.prompt import WORD, Prompt

WIDTH, TOKEN_WIDTH = 4, 3

FEATURES = {
    "red": (3.0, 4.0, 0.0, 0.0),
    "blue": (0.0, 0.0, 2.0, 0.0),
    "a ring": (1.0, 0.0, 0.0, 0.0),
    "a red ring": (0.0, 5.0, 0.0, 0.0),
    "an open sign": (0.0, 0.0, 0.0, 7.0),
}


class ToyBackbone:
    """Texts have the features of a table; a prompt's feature is its words' plus a mark of its text.

    `calls` records how many texts each call encoded.
    """

    def __init__(self) -> None:
        self.spec = SimpleNamespace(name="toy", width=WIDTH)
        self.token_width = TOKEN_WIDTH
        self.calls: list[int] = []

    def fingerprint(self) -> dict[str, str]:
        return {"architecture": "toy", "revision": "1"}

    def tokenize(self, texts: Sequence[str], /) -> Tensor:
        self.calls.append(len(texts))
        return torch.tensor([list(FEATURES).index(text) for text in texts])

    def encode_text(self, tokens: Tensor, /) -> Tensor:
        return torch.tensor(list(FEATURES.values()))[tokens]

    def tokenize_prompts(self, prompts: Sequence[Prompt], /) -> list[tuple[int, int]]:
        """(places of the word, characters of the text) of each prompt."""
        self.calls.append(len(prompts))
        return [
            (sum(part is WORD for part in prompt), sum(len(part) for part in prompt if isinstance(part, str)))
            for prompt in prompts
        ]

    def encode_prompts(self, prompt_tokens: list[tuple[int, int]], words: Tensor, /) -> Tensor:
        """The word times its places, and the length of the text as the last feature."""
        places, lengths = torch.tensor(prompt_tokens, dtype=torch.float32).T
        return torch.cat([words * places[:, None], lengths[:, None]], dim=1)


@pytest.fixture
def backbone() -> ToyBackbone:
    return ToyBackbone()
