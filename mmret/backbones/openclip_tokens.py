"""The two kinds of tokenizer in open_clip: CLIP's byte-pair encoding, and Hugging Face tokenizers.

Without pseudo-words the rows equal the original tokenizer's.
"""

from collections.abc import Sequence
from typing import Any

from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from mmret.backbones.prompt import WORD, Prompt
from mmret.backbones.tokens import Body, Frame, PromptTokenizer
from mmret.errors import InputError

_PLACEHOLDERS = ("$", "*", "x", "a", "it")


class BytePairTokenizer(PromptTokenizer):
    """CLIP's own byte-pair encoding; the placeholder is "$" (id 259), as in SEARLE and LinCIR."""

    placeholder = "$"

    def __init__(self, tokenizer: SimpleTokenizer, length: int) -> None:
        self._tokenizer = tokenizer
        self._word_id = tokenizer.encode(self.placeholder)[0]
        self.frame = Frame(length, (tokenizer.sot_token_id,), (tokenizer.eot_token_id,), 0)

    def bodies(self, prompts: Sequence[Prompt]) -> list[Body]:
        """Encode the pieces one by one: no byte pair reaches over the edge of a word."""
        return [self._body(prompt) for prompt in prompts]

    def _body(self, prompt: Prompt) -> Body:
        ids: list[int] = []
        is_word: list[bool] = []
        for piece in prompt:
            found = [self._word_id] if piece is WORD else self._tokenizer.encode(piece)
            ids += found
            is_word += [piece is WORD] * len(found)
        return Body(ids, is_word)


class HubTokenizer(PromptTokenizer):
    """A Hugging Face tokenizer, as SigLIP, CLIPA, NLLB-CLIP and the XLM-RoBERTa towers use it.

    The cleaned pieces and a placeholder are joined by spaces and tokenised as one text (sentence pieces
    depend on what precedes them); character offsets then say which tokens are the placeholder's.
    """

    def __init__(self, tokenizer: HFTokenizer, length: int) -> None:
        self._clean = tokenizer.clean_fn
        self._inner: Any = tokenizer.tokenizer
        if not self._inner.is_fast:
            raise InputError(
                f"the tokenizer {self._inner.name_or_path} gives no character offsets, which pseudo-words "
                "need: save it in the fast format (tokenizer.json)."
            )
        self._stripped = self._inner.sep_token_id if tokenizer.strip_sep_token else None
        self.frame = self._clips_frame(length) if tokenizer.tokenizer_mode == "clips" else self._frame(length)
        self.placeholder = next(filter(self._is_one_token, _PLACEHOLDERS), _PLACEHOLDERS[0])
        self._word_id = [self.frame.padding, *self._own_tokens(self.placeholder)][-1]
        self._check_places()

    def bodies(self, prompts: Sequence[Prompt]) -> list[Body]:
        """Tokenise all prompts in one call."""
        if not prompts:
            return []
        texts, places = zip(*(self._join(prompt) for prompt in prompts), strict=True)
        found = self._inner(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        rows = zip(found["input_ids"], found["offset_mapping"], places, strict=True)
        return [self._body(*row) for row in rows]

    def _join(self, prompt: Prompt) -> tuple[str, list[tuple[int, int]]]:
        """Return the cleaned text of a prompt and the character ranges of its placeholders."""
        text, places = "", []
        for piece in prompt:
            cleaned = self.placeholder if piece is WORD else self._clean(piece)
            start = len(text) + bool(text)
            text = f"{text} {cleaned}" if text and cleaned else text + cleaned
            if piece is WORD:
                places.append((start, start + len(cleaned)))
        return text, places

    def _body(self, ids: list[int], spans: list[tuple[int, int]], places: list[tuple[int, int]]) -> Body:
        """Put one token for the one or more that overlap a placeholder: the same id wherever it stands."""
        body = Body([], [])
        last: int | None = None
        for token, (start, end) in zip(ids, spans, strict=True):
            place = next((n for n, (left, right) in enumerate(places) if start < right and end > left), None)
            if place is None or place != last:
                body.ids.append(self._strip(token) if place is None else self._word_id)
                body.is_word.append(place is not None)
            last = place
        return body

    def _check_places(self) -> None:
        """Refuse a vocabulary in which the placeholder leaves nothing behind: pseudo-words would be lost silently."""
        (trial,) = self.bodies([("a ", WORD, " b")])
        if sum(trial.is_word) != 1:
            raise InputError(
                f"the vocabulary of the tokenizer {self._inner.name_or_path} has nothing for a placeholder "
                f"({' '.join(_PLACEHOLDERS)}), so no pseudo-word can stand in a text: choose another backbone."
            )

    def _is_one_token(self, candidate: str) -> bool:
        """Whether a text between words is one known token of its own: fit to stand for a pseudo-word."""
        own = self._own_tokens(candidate)
        return len(own) == 1 and own[0] != self._inner.unk_token_id

    def _own_tokens(self, candidate: str) -> list[int]:
        """Return what a text adds between two words."""
        before, full = self._plain("a"), self._plain(f"a {candidate} b")
        return full[len(before) : len(full) - (len(self._plain("a b")) - len(before))]

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self._inner(text, add_special_tokens=False)["input_ids"]
        return ids

    def _strip(self, token: int) -> int:
        """Return the token, or 0 for a separator where the text tower was trained without (CLIPA)."""
        return 0 if token == self._stripped else token

    def _frame(self, length: int) -> Frame:
        """Read the special tokens off a tokenised word."""
        framed = [self._strip(token) for token in self._inner("a")["input_ids"]]
        plain = self._plain("a")
        start = next(i for i in range(len(framed)) if framed[i : i + len(plain)] == plain)
        suffix = framed[start + len(plain) :]
        left = self._inner.padding_side == "left"
        return Frame(length, tuple(framed[:start]), tuple(suffix), self._inner.pad_token_id, left)

    def _clips_frame(self, length: int) -> Frame:
        """CLIPS: start and end around the text, the class token in the row's last place."""
        start, end = (self._inner.bos_token_id,), (self._inner.eos_token_id,)
        return Frame(length, start, end, self._inner.pad_token_id, tail=(self._inner.cls_token_id,))


def prompt_tokenizer(tokenizer: object, length: int) -> PromptTokenizer:
    """Wrap open_clip's tokenizer for a text tower of `length` tokens; raises `InputError`."""
    if isinstance(tokenizer, SimpleTokenizer):
        return BytePairTokenizer(tokenizer, length)
    if isinstance(tokenizer, HFTokenizer):
        return HubTokenizer(tokenizer, length)
    raise InputError(f"tokenizers of the type {type(tokenizer).__name__} are not supported.")
