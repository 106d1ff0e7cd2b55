"""Exact English names of emoji sequences, composed from the Unicode names of their parts.

A file of Noto Emoji is named by its code points: `emoji_u1f3c3_1f3fd_200d_2640.png` is RUNNER, a medium skin
tone, a joiner and FEMALE SIGN; its name here is "runner, woman: medium skin tone". Different sequences have
different names.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mmret.errors import InputError

JOINER: Final = 0x200D
KEYCAP: Final = 0x20E3
MAN, WOMAN, PERSON = 0x1F468, 0x1F469, 0x1F9D1
MALE_SIGN, FEMALE_SIGN = 0x2642, 0x2640
RIGHTWARDS: Final = 0x27A1

# The five Fitzpatrick modifiers under the names that Unicode's CLDR gives them.
TONES: Final = {
    0x1F3FB: "light",
    0x1F3FC: "medium-light",
    0x1F3FD: "medium",
    0x1F3FE: "medium-dark",
    0x1F3FF: "dark",
}

# Unicode 15 to 16: newer than the database of Python 3.11, and the names must not depend on the Python.
_NEWER: Final = {
    0x1F6DC: "wireless",
    0x1FA75: "light blue heart",
    0x1FA76: "grey heart",
    0x1FA77: "pink heart",
    0x1FA87: "maracas",
    0x1FA88: "flute",
    0x1FA89: "harp",
    0x1FA8F: "shovel",
    0x1FAAD: "folding hand fan",
    0x1FAAE: "hair pick",
    0x1FAAF: "khanda",
    0x1FABB: "hyacinth",
    0x1FABC: "jellyfish",
    0x1FABD: "wing",
    0x1FABE: "leafless tree",
    0x1FABF: "goose",
    0x1FAC6: "fingerprint",
    0x1FACE: "moose",
    0x1FACF: "donkey",
    0x1FADA: "ginger root",
    0x1FADB: "pea pod",
    0x1FADC: "root vegetable",
    0x1FADF: "splatter",
    0x1FAE8: "shaking face",
    0x1FAE9: "face with bags under eyes",
    0x1FAF7: "leftwards pushing hand",
    0x1FAF8: "rightwards pushing hand",
    0xFE82B: "unknown flag",  # Noto's own, from the private use area
}
# Names that say less than everyday English does.
_PLAINER: Final = {PERSON: "person", 0x2764: "heart", KEYCAP: "keycap"}
# What a code point means when a joiner stands before it.
_JOINED: Final = {MALE_SIGN: "man", FEMALE_SIGN: "woman", RIGHTWARDS: "facing right"}
_TO_MAN: Final = {WOMAN: MAN, FEMALE_SIGN: MALE_SIGN}
_TO_WOMAN: Final = {man: woman for woman, man in _TO_MAN.items()}

# One figure under several code points: the other forms of it may not end up in another split.
_SAME_FIGURE: Final = {
    MAN: (PERSON,),
    WOMAN: (PERSON,),
    0x1F466: (0x1F9D2,),  # boy, child
    0x1F467: (0x1F9D2,),  # girl
    0x1F474: (0x1F9D3,),  # older man, older adult
    0x1F475: (0x1F9D3,),  # older woman
    0x1F478: (0x1F934,),  # princess, prince
    0x1F936: (0x1F385,),  # Mother and Father Christmas
    0x1F57A: (0x1F483,),  # man dancing, dancer
    **dict.fromkeys((0x1F46B, 0x1F46C, 0x1F46D), (PERSON, 0x1F91D, PERSON)),  # two people holding hands
    0x1F491: (PERSON, 0x2764, PERSON),  # couple with heart
    0x1F48F: (PERSON, 0x2764, 0x1F48B, PERSON),  # kiss
}


@dataclass(frozen=True, order=True)
class EmojiSequence:
    """A sequence of code points with one picture."""

    codes: tuple[int, ...]

    @classmethod
    def from_file_name(cls, name: str) -> "EmojiSequence":
        """Parse `emoji_u1f3c3_1f3fd.png`."""
        match = re.fullmatch(r"emoji_u([0-9a-f]+(?:_[0-9a-f]+)*)\.png", name)
        if match is None:
            raise InputError(f"{name!r} is no file name of Noto Emoji such as 'emoji_u1f3c3_1f3fd.png'.")
        return cls(tuple(int(code, 16) for code in match[1].split("_")))

    @property
    def file_name(self) -> str:
        """The name of its picture in Noto Emoji."""
        return f"emoji_u{'_'.join(f'{code:04x}' for code in self.codes)}.png"

    @property
    def tones(self) -> tuple[int, ...]:
        """The skin tone modifiers in it; a swatch that stands alone modifies nothing."""
        return () if len(self.codes) == 1 else tuple(code for code in self.codes if code in TONES)

    @property
    def parts(self) -> tuple[str, ...]:
        """The words for everything but the tones, in order: ("runner", "woman")."""
        before = (None, *self.codes)
        pairs = zip(before, self.codes, strict=False)
        return tuple(_word(code, last) for last, code in pairs if code != JOINER and code not in self.tones)

    @property
    def name(self) -> str:
        """The exact name: its parts, and its tones after a colon."""
        tones = ", ".join(f"{TONES[tone]} skin tone" for tone in self.tones)
        return ", ".join(self.parts) + (f": {tones}" if tones else "")

    @property
    def root(self) -> tuple[int, ...]:
        """What all variants in tone, gender, age word and direction share; the unit of splitting."""
        if len(self.codes) == 1:
            return _SAME_FIGURE.get(self.codes[0], self.codes)
        dropped = {JOINER, MALE_SIGN, FEMALE_SIGN, RIGHTWARDS, *TONES}
        kept = (code for code in self.codes if code not in dropped)
        return tuple(same for code in kept for same in _SAME_FIGURE.get(code, (code,)))

    def count_of(self, gender: str) -> int:
        """How many men or women it shows: people, or signs behind a joiner (a bare sign is not a person)."""
        if len(self.codes) == 1 and self.codes[0] in _JOINED:
            return 0
        wanted = _TO_WOMAN if gender == "man" else _TO_MAN
        return sum(code in wanted for code in self.codes)

    def with_tone(self, tone: int) -> "EmojiSequence":
        """The same with every tone replaced by this one."""
        return EmojiSequence(tuple(tone if code in self.tones else code for code in self.codes))

    def with_gender(self, gender: str) -> "EmojiSequence":
        """The same with every person of the other gender (a "man" or a "woman") turned into this one."""
        swap = _TO_MAN if gender == "man" else _TO_WOMAN
        return EmojiSequence(tuple(swap.get(code, code) for code in self.codes))


def _word(code: int, before: int | None) -> str:
    if before == JOINER and code in _JOINED:
        return _JOINED[code]
    if before is None and code in TONES:
        return f"{TONES[code]} skin tone"
    if code in _NEWER or code in _PLAINER:
        return _NEWER.get(code) or _PLAINER[code]
    try:
        return unicodedata.name(chr(code)).lower().removeprefix("emoji component ")
    except ValueError:
        raise InputError(f"U+{code:04X} has no name in Unicode {unicodedata.unidata_version}.") from None


def tone_edits(sequences: Iterable[EmojiSequence]) -> list[tuple[EmojiSequence, EmojiSequence]]:
    """Ordered pairs (reference, target) that differ in their one skin tone; both have one, and both exist."""
    known = set(sequences)
    toned = sorted(item for item in known if len(item.tones) == 1)
    return [
        (item, target)
        for item in toned
        for tone in TONES
        if (target := item.with_tone(tone)) != item and target in known
    ]


def gender_pairs(sequences: Iterable[EmojiSequence]) -> list[tuple[EmojiSequence, EmojiSequence]]:
    """Pairs (with exactly one man, the same with a woman in his place); both exist."""
    known = set(sequences)
    men = sorted(item for item in known if item.count_of("man") == 1)
    return [(item, target) for item in men if (target := item.with_gender("woman")) in known]


def gender_edits(sequences: Iterable[EmojiSequence]) -> list[tuple[EmojiSequence, EmojiSequence]]:
    """The pairs in both directions, less those whose reference has two women: which one is meant?"""
    pairs = gender_pairs(sequences)
    back = [(woman, man) for man, woman in pairs if woman.count_of("woman") == 1]
    return [*pairs, *back]
