import pytest

from mmret.backbones.prompt import WORD
from mmret.backbones.tokens import Body, Frame, PromptTokenizer
from mmret.errors import InputError

RIGHT = Frame(8, prefix=(101,), suffix=(102,), padding=0)
LEFT = Frame(8, prefix=(101,), suffix=(102,), padding=0, pad_left=True)
TAILED = Frame(8, prefix=(), suffix=(102,), padding=0, tail=(103,))


class Letters(PromptTokenizer):
    """One token a letter, 9 under a pseudo-word."""

    placeholder = "9"

    def __init__(self, frame):
        self.frame = frame

    def bodies(self, prompts):
        return [self.body(prompt) for prompt in prompts]

    def body(self, prompt):
        pieces = [(9, True) if p is WORD else (ord(p), False) for piece in prompt
                  for p in ([WORD] if piece is WORD else piece)]  # fmt: skip
        return Body([id for id, _ in pieces], [word for _, word in pieces])


A, B = ord("a"), ord("b")


@pytest.mark.parametrize(
    ("frame", "ids", "place"),
    [
        (RIGHT, [101, A, 9, B, 102, 0, 0, 0], 2),
        (LEFT, [0, 0, 0, 101, A, 9, B, 102], 5),
        (TAILED, [A, 9, B, 102, 0, 0, 0, 103], 1),
    ],
)
def test_the_mask_points_at_the_placeholder_wherever_the_frame_puts_it(frame, ids, place):
    tokens, cut = Letters(frame)([("a", WORD, "b")])
    assert tokens.ids.tolist() == [ids]
    assert tokens.word_mask[0].nonzero().flatten().tolist() == [place]
    assert cut == 0


def test_cutting_drops_the_last_text_and_keeps_words_in_order():
    tokens, cut = Letters(RIGHT)([("aaaaabbb",), ("aaaaabbb", WORD, "b", WORD), ("aaaaaa",)])
    assert tokens.ids[:, 1:-1].tolist() == [[A, A, A, A, A, B], [A, A, A, A, 9, 9], [A] * 6]
    assert tokens.word_mask[1].nonzero().flatten().tolist() == [5, 6]
    assert cut == 2


def test_words_alone_must_fit():
    tokens, _ = Letters(RIGHT)([(WORD,) * 6])
    assert tokens.word_mask.sum() == 6
    with pytest.raises(InputError, match="7 pseudo-words, but the text tower takes 6 tokens"):
        Letters(RIGHT)([(WORD,) * 7])
