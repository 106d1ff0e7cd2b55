"""Captions → triplets in a file: a stream, the same for the same seed, resumable."""

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from mmret.atomic import atomic_write, write_text
from mmret.errors import InputError
from mmret.triplet_generation.edits import KINDS, Templates, edit_caption
from mmret.triplet_generation.vocabulary import Vocabulary

_SAMPLE = 8


@dataclass
class Generated:
    """What came of a corpus.

    Attributes:
        captions: Read.
        triplets: Written.
        kinds: Triplets by kind of edit.
        unedited: Captions that offer nothing to edit.
        repeated: Triplets left out because an equal one stands already.
        seconds: Wall-clock of this run (not of one that it resumed).
        sample: A few triplets.
    """

    captions: int = 0
    triplets: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    unedited: int = 0
    repeated: int = 0
    seconds: float = 0.0
    sample: list[dict[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "kinds": dict(self.kinds)}

    def __str__(self) -> str:
        shares = ", ".join(f"{kind} {self.kinds[kind]:,}" for kind in KINDS)
        speed = self.captions / max(self.seconds, 1e-9)
        return (
            f"{self.triplets:,} triplets of {self.captions:,} captions ({shares}); {self.unedited:,} captions offer "
            f"nothing to edit, {self.repeated:,} triplets repeat others; {speed:,.0f} captions/s"
        )


def generate_triplets(
    captions: Iterable[str],
    vocabulary: Vocabulary,
    path: str | Path,
    *,
    templates: Templates | None = None,
    kinds: Mapping[str, float] | None = None,
    number: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Generated:
    """Write one triplet a caption to a JSONL file, with RTD's three columns and `kind`.

    What is drawn for a caption follows from the seed and its row alone. Work in progress stands in `PATH.partial`, from
    which a killed run goes on to the same file as one that was never stopped. Statistics go to `PATH.stats.json`.

    Args:
        captions: In a fixed order.
        vocabulary: Of the same corpus.
        path: A `.jsonl` file; an existing one is refused.
        templates: Phrasings; by default those that come along.
        kinds: Kind of edit → how often it is tried first; by default replacements make half. A caption that offers
            nothing for a kind is tried with the others.
        number: Stop after so many triplets; None: one for each caption that can be edited.
        seed: Of all draws.
        settings: What else decides the output (the corpus, the phrasings), so that another run's work is not resumed.

    Raises:
        InputError: the file exists, or the work in progress was made with other settings.
    """
    target, weights = Path(path), dict(kinds or _DEFAULT_KINDS)
    unknown = sorted(set(weights) - set(KINDS))
    if unknown or not any(weights.values()):
        raise InputError(
            f"kinds are weights of {', '.join(KINDS)}; {unknown[0] if unknown else 'all'} is not usable."
        )
    if target.exists():
        raise InputError(f"{target} exists; take another name, or remove it.")
    marks = {"seed": seed, "kinds": weights, "number": number, "words": vocabulary.digest, **(settings or {})}
    started, phrasings = time.perf_counter(), templates or Templates()
    writer = _Writer(target, marks, number)
    with (
        writer,
        tqdm(desc="triplets", unit="caption", unit_scale=True, initial=writer.next_row, disable=None) as bar,
    ):
        for row, caption in enumerate(captions):
            if writer.full:
                break
            if row >= writer.next_row:
                writer.write(row, _triplet(caption, row, vocabulary, phrasings, weights, seed))
                bar.update()
    writer.done.seconds = round(time.perf_counter() - started, 3)
    writer.finish()
    return writer.done


_DEFAULT_KINDS = {"replace": 0.5, "attribute": 0.2, "add": 0.1, "remove": 0.1, "count": 0.1}


def _triplet(
    caption: str,
    row: int,
    vocabulary: Vocabulary,
    templates: Templates,
    weights: Mapping[str, float],
    seed: int,
) -> dict[str, str] | None:
    rng = random.Random(f"{seed}/{row}")
    for kind in _order(weights, rng):
        edited = edit_caption(caption, kind, vocabulary, templates, rng)
        if edited is not None:
            return {
                "reference_caption": caption,
                "conditioning_caption": edited.condition,
                "target_caption": edited.caption,
                "kind": kind,
            }
    return None


def _order(weights: Mapping[str, float], rng: random.Random) -> Sequence[str]:
    """The kinds in a random order, the heavy ones early; those without weight are left out."""
    return sorted(
        (kind for kind in weights if weights[kind]), key=lambda kind: -(rng.random() ** (1 / weights[kind]))
    )


class _Writer:
    """Triplets on their way into a file, line by line; what a killed run left is taken up."""

    def __init__(self, target: Path, marks: Mapping[str, Any], number: int | None) -> None:
        self.target, self.number = target, number
        self.partial = target.with_name(f"{target.name}.partial")
        self.done, self.next_row = Generated(), 0
        self.seen: set[bytes] = set()
        self.file: TextIO | None = None
        heading = json.dumps({"settings": marks}, sort_keys=True)
        if self.partial.exists():
            self._resume(heading)
        else:
            write_text(self.partial, heading + "\n")

    @property
    def full(self) -> bool:
        """Whether as many triplets stand as were asked for."""
        return self.number is not None and self.done.triplets >= self.number

    def __enter__(self) -> None:
        self.file = self.partial.open("a", encoding="utf-8")

    def __exit__(self, *_: object) -> None:
        assert self.file is not None
        self.file.close()

    def write(self, row: int, triplet: dict[str, str] | None) -> None:
        """Write what became of a caption: a triplet, nothing, or one that stands already."""
        line = {"row": row, **(triplet or {})}
        if triplet is not None and _key(triplet) in self.seen:
            line = {"row": row, "repeated": True}
        self._count(line)
        assert self.file is not None
        self.file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Make the file of the triplets alone, with the statistics beside it."""
        with self.partial.open(encoding="utf-8") as lines, atomic_write(self.target) as out:
            next(lines)
            for line in lines:
                record = json.loads(line)
                if "kind" in record:
                    del record["row"]
                    out.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
        statistics = json.dumps(self.done.to_dict(), indent=1, ensure_ascii=False)
        write_text(self.target.with_name(f"{self.target.name}.stats.json"), statistics + "\n")
        self.partial.unlink()

    def _resume(self, heading: str) -> None:
        """Take up the whole lines of an earlier run; a line that was cut off goes."""
        kept = 0
        with self.partial.open("rb") as lines:
            for number, line in enumerate(lines):
                if not line.endswith(b"\n"):
                    break
                kept += len(line)
                if number:
                    self._count(json.loads(line))
                elif line.decode().strip() != heading:
                    raise InputError(
                        f"{self.partial} was made with other settings; remove it, or take another name."
                    )
        with self.partial.open("r+b") as file:
            file.truncate(kept)

    def _count(self, line: dict[str, Any]) -> None:
        self.next_row = line["row"] + 1
        self.done.captions += 1
        if "kind" not in line:
            self.done.repeated += "repeated" in line
            self.done.unedited += "repeated" not in line
            return
        self.seen.add(_key(line))
        self.done.triplets += 1
        self.done.kinds[line["kind"]] += 1
        if len(self.done.sample) < _SAMPLE:
            self.done.sample.append({key: value for key, value in line.items() if key != "row"})


def _key(triplet: Mapping[str, str]) -> bytes:
    columns = ("reference_caption", "conditioning_caption", "target_caption")
    return hashlib.blake2b("\0".join(triplet[name] for name in columns).encode(), digest_size=8).digest()
