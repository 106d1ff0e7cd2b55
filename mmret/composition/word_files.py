"""Pseudo-words by image id, as textual inversion leaves them in a safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmret.atomic import atomic_write
from mmret.errors import InputError

_WEIGHTS = ("architecture", "revision")
_NAMED = 10


@dataclass(frozen=True, eq=False)
class PseudoWords:
    """One pseudo-word for each of N images.

    Attributes:
        ids: the N image ids, each once.
        words: float32 [N, T].
        fingerprint: the fingerprint of the backbone that they were found with.
        settings: how they were found, as plain values.
        where: the file's name, for messages.
    """

    ids: tuple[str, ...]
    words: Tensor
    fingerprint: Mapping[str, str]
    settings: Mapping[str, Any]
    where: str = "the pseudo-words"

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def rows(self, ids: Sequence[str]) -> Tensor:
        """The words [n, T] of these images, in their order; an `InputError` counts and names those without."""
        missing = list(dict.fromkeys(name for name in ids if name not in self))
        if missing:
            more = ", …" if len(missing) > _NAMED else ""
            raise InputError(
                f"{self.where} has no pseudo-word of {len(missing)} images ({', '.join(missing[:_NAMED])}{more}); "
                "find them with mmret oti."
            )
        return self.words[[self._positions[name] for name in ids]]

    def check_backbone(self, name: str, fingerprint: Mapping[str, str]) -> None:
        """Raise `InputError` unless the words were found with the weights of the backbone `name`.

        How images are preprocessed may differ: the words live in the text tower.
        """
        wrong = [key for key in _WEIGHTS if self.fingerprint.get(key) != fingerprint.get(key)]
        if wrong:
            raise InputError(
                f"{self.where} holds words of another backbone than {name}: its {wrong[0]} is "
                f"{self.fingerprint.get(wrong[0])}, not {fingerprint.get(wrong[0])}."
            )

    def describe(self) -> dict[str, Any]:
        """How they were made, and a digest: equal digests are equal words of the same images."""
        digest = hashlib.sha256(json.dumps(self.ids).encode() + self.words.numpy().tobytes())
        return {"count": len(self), "settings": dict(self.settings), "sha256": digest.hexdigest()[:16]}

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, one tensor [T] an image, whole or not at all. Raises `InputError`."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        metadata = {
            "fingerprint": json.dumps(dict(self.fingerprint), sort_keys=True),
            "settings": json.dumps(dict(self.settings), sort_keys=True),
        }
        tensors = {name: word.clone() for name, word in zip(self.ids, self.words, strict=True)}
        with atomic_write(target) as handle:
            handle.write(save(tensors, metadata))

    @classmethod
    def load(cls, path: str | Path) -> PseudoWords:
        """Read what `save` wrote; `InputError` for a missing or damaged file, or one of something else."""
        source = Path(path)
        if not source.is_file():
            raise InputError(f"there are no pseudo-words at {source}; find them with mmret oti.")
        try:
            with safe_open(source, framework="pt") as file:
                ids, metadata = tuple(sorted(file.keys())), file.metadata() or {}
                words = torch.stack([file.get_tensor(name) for name in ids])
            fingerprint, settings = json.loads(metadata["fingerprint"]), json.loads(metadata["settings"])
        except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
            raise InputError(f"{source} holds no pseudo-words of mmret oti ({error}).") from error
        if words.ndim != 2:
            raise InputError(
                f"{source} holds tensors of shape {tuple(words.shape[1:])} where words [T] are needed."
            )
        return cls(ids, words.float(), fingerprint, settings, str(source))
