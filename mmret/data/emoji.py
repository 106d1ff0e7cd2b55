"""Real composed queries from Noto Emoji: edits of skin tone and gender, each with one exact target.

`prepare_emoji` writes an annotated folder (see `mmret.data.annotated_folder`) that points at the pictures
where they lie. Everything is split by base emoji: all variants of one figure are in the same split.
"""

import argparse
import json
import random
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from mmret.atomic import write_text
from mmret.data import records
from mmret.data.emoji_names import (
    FEMALE_SIGN,
    MALE_SIGN,
    TONES,
    EmojiSequence,
    gender_edits,
    gender_pairs,
    tone_edits,
)
from mmret.data.protocol import Protocol
from mmret.data.text_triplets import TextTriplet
from mmret.errors import InputError

VERSION: Final = "1"
METRICS: Final = ("recall@1", "recall@5", "recall@10", "mrr@10")
# Half of the base emoji train; the figures come from the test split, the settings from val.
SHARES: Final = {"train": 0.5, "val": 0.125, "test": 0.375}

# Two banks of edits with no sentence in common: training text never shows how the evaluation asks.
_TRAINING_EDITS: Final = {
    "tone": (
        "make the skin tone {to}",
        "change the skin colour to {to}",
        "the same one but with {to} skin",
        "give it a {to} skin tone",
        "turn the skin {to}",
        "identical except for {to} skin",
    ),
    "gender": (
        "make it a {to}",
        "change the person to a {to}",
        "turn this one into a {to}",
        "the same thing but as a {to}",
        "should be a {to}",
    ),
}
_EVALUATION_EDITS: Final = {
    "tone": (
        "now with {to} skin",
        "swap the complexion for a {to} one",
        "I want this in the {to} skin tone",
        "use {to} skin instead",
        "switch over to {to} skin, please",
        "is {to}-skinned here",
    ),
    "gender": (
        "a {to} instead",
        "show me the {to} version",
        "swap them for a {to}",
        "replace whoever that is by a {to}",
        "now it is a {to}",
    ),
}


@dataclass(frozen=True)
class EmojiEdit:
    """One composed query: a reference, what to change it to in words, and the only right answer."""

    kind: str
    reference: EmojiSequence
    to: str
    target: EmojiSequence

    @property
    def id(self) -> str:
        """Unique and readable: the file names of both, without their common parts."""
        return f"{Path(self.reference.file_name).stem} -> {Path(self.target.file_name).stem}".replace(
            "emoji_u", ""
        )

    def phrase(self, split: str) -> str:
        """The edit in words, from the bank of the split; the same on every machine."""
        bank = (_TRAINING_EDITS if split == "train" else _EVALUATION_EDITS)[self.kind]
        return bank[zlib.crc32(self.id.encode()) % len(bank)].format(to=self.to)


def read_sequences(source: str | Path) -> list[EmojiSequence]:
    """The sequences that have a picture in `source/png128`, sorted."""
    pictures = Path(source) / "png128"
    names = [path.name for path in pictures.glob("*.png")]
    if not names:
        raise InputError(f"{pictures} holds no PNG; give the folder of Noto Emoji that has png128 in it.")
    return sorted(EmojiSequence.from_file_name(name) for name in names)


def all_edits(sequences: Sequence[EmojiSequence]) -> list[EmojiEdit]:
    """Every tone edit among the five tones and every gender edit that has one exact target."""
    tones = [
        EmojiEdit("tone", item, TONES[target.tones[0]], target) for item, target in tone_edits(sequences)
    ]
    genders = [
        EmojiEdit("gender", item, "woman" if target == item.with_gender("woman") else "man", target)
        for item, target in gender_edits(sequences)
    ]
    return tones + genders


def count_edits(sequences: Sequence[EmojiSequence]) -> dict[str, int]:
    """What the pictures give: bases with all five tones, ordered tone edits, gender pairs and edits.

    "gender pairs with signs" also counts the bare male and female signs as a pair, which show no person.
    """
    tones, pairs = tone_edits(sequences), gender_pairs(sequences)
    signs = {EmojiSequence((MALE_SIGN,)), EmojiSequence((FEMALE_SIGN,))}
    return {
        "images": len(sequences),
        "toned bases": len({item.with_tone(next(iter(TONES))) for item, _ in tones}),
        "ordered tone edits": len(tones),
        "gender pairs": len(pairs),
        "gender pairs with signs": len(pairs) + (signs <= set(sequences)),
        "gender edits": len(gender_edits(sequences)),
    }


def split_by_root(
    sequences: Sequence[EmojiSequence], edits: Iterable[EmojiEdit], seed: int = 0
) -> dict[tuple[int, ...], str]:
    """Root → split, in the shares of `SHARES`, separately for roots with and without edits."""
    edited = {edit.reference.root for edit in edits}
    splits = {}
    for group in (sorted(edited), sorted({item.root for item in sequences} - edited)):
        random.Random(seed).shuffle(group)
        ends = [round(sum(list(SHARES.values())[: n + 1]) * len(group)) for n in range(len(SHARES))]
        for start, end, split in zip([0, *ends], ends, SHARES, strict=False):
            splits.update(dict.fromkeys(group[start:end], split))
    return splits


def captions_of(item: EmojiSequence) -> list[str]:
    """The exact name and two everyday sentences for one picture."""
    words = " ".join(item.parts)
    skin = " and ".join(f"{TONES[tone]} skin" for tone in item.tones)
    tones = "-and-".join(f"{TONES[tone]}" for tone in item.tones)
    return [
        item.name,
        f"an emoji of {words} with {skin}" if skin else f"an emoji of {words}",
        f"a {tones}-skinned {words}" if tones else f"a little picture: {words}",
    ]


def prepare_emoji(source: str | Path, out: str | Path, seed: int = 0) -> dict[str, int]:
    """Write the annotated folder of the emoji benchmark; the pictures stay in `source`.

    Writes `captions.jsonl`, `queries.jsonl` (the edits), `names.jsonl` (text queries: an exact name and its
    picture), `triplets.jsonl` (text triplets of the train split), `edits.json` (for every query what a perfect
    captioner and a perfect editor would say, as CIReVL's records) and, last, `folder.json`.

    Args:
        source: The folder of Noto Emoji, with `png128` in it.
        out: The folder to write.
        seed: Of the split.

    Returns:
        The counts of `count_edits`.
    """
    source, out = Path(source), Path(out)
    sequences = read_sequences(source)
    edits = all_edits(sequences)
    splits = split_by_root(sequences, edits, seed)
    records.write_json_lines(out / "captions.jsonl", _caption_records(sequences, splits))
    records.write_json_lines(out / "queries.jsonl", _query_records(edits, splits))
    records.write_json_lines(out / "names.jsonl", _name_records(sequences, splits))
    records.write_json_lines(out / "triplets.jsonl", map(asdict, _triplets(edits, splits)))
    write_text(out / "edits.json", json.dumps(_caption_edits(edits, splits), indent=1) + "\n")
    folder = {
        "name": "emoji",
        "version": f"{VERSION}, seed {seed}",
        "images": str((source / "png128").resolve()),
        "protocol": asdict(Protocol(remove_reference=True)),
        "metrics": METRICS,
    }
    write_text(out / "folder.json", json.dumps(folder, indent=1) + "\n")
    return count_edits(sequences)


Splits = Mapping[tuple[int, ...], str]


def _caption_records(sequences: Sequence[EmojiSequence], splits: Splits) -> Iterator[records.Record]:
    for item in sequences:
        group, split = " ".join(f"{code:x}" for code in item.root), splits[item.root]
        yield {"image": item.file_name, "captions": captions_of(item), "split": split, "group": group}


def _name_records(sequences: Sequence[EmojiSequence], splits: Splits) -> Iterator[records.Record]:
    for item in sequences:
        image = item.file_name
        yield {"id": f"name {image}", "text": item.name, "targets": [image], "split": splits[item.root]}


def _query_records(edits: Sequence[EmojiEdit], splits: Splits) -> Iterator[records.Record]:
    for edit in edits:
        split = splits[edit.reference.root]
        yield {
            "id": edit.id,
            "reference": edit.reference.file_name,
            "text": edit.phrase(split),
            "targets": [edit.target.file_name],
            "split": split,
            "attributes": {"edit": edit.kind, "to": edit.to},
        }


def _caption_edits(edits: Sequence[EmojiEdit], splits: Splits) -> dict[str, records.Record]:
    """Query id → captions of the reference and of the target that differ in nothing but the edit."""
    manner = 1  # "an emoji of a runner with light skin": a sentence, as captioners write them
    return {
        edit.id: {
            "base_caption": captions_of(edit.reference)[manner],
            "instruction": edit.phrase(splits[edit.reference.root]),
            "modified_captions": captions_of(edit.target)[manner],
        }
        for edit in edits
    }


def _triplets(edits: Sequence[EmojiEdit], splits: Splits) -> Iterator[TextTriplet]:
    for edit in edits:
        if splits[edit.reference.root] == "train":
            # Any caption may describe either side, but both sides are said in the same manner.
            manner = zlib.crc32(edit.id.encode()) % 3
            before, after = captions_of(edit.reference)[manner], captions_of(edit.target)[manner]
            yield TextTriplet(before, edit.phrase("train"), after)


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m mmret.data.emoji SOURCE OUT`: write the benchmark and print what it holds."""
    parser = argparse.ArgumentParser(prog="python -m mmret.data.emoji", description=main.__doc__)
    parser.add_argument("source", help="the folder of Noto Emoji, with png128 in it")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--seed", type=int, default=0, help="of the split by base emoji (default 0)")
    options = parser.parse_args(argv)
    for name, count in prepare_emoji(options.source, options.out, options.seed).items():
        print(f"{count:>6,} {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
