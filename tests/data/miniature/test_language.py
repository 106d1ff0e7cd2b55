import random
import re

import pytest

from mmret.data.miniature.edits import BANKS, KINDS, PHRASES, sample_edit
from mmret.data.miniature.language import COUNT_WORDS, MENTIONABLE, caption, describe, noun_phrase, plural
from mmret.data.miniature.scene import Group, Scene, belongs_to, sample_scene

RINGS = Group("ring", "orange", "striped", "big", 2, "left")
SCENE = Scene((RINGS,), "night")


def test_plurals() -> None:
    assert [plural(word) for word in ("star", "box", "cross", "plus sign")] == [
        "stars",
        "boxes",
        "crosses",
        "plus signs",
    ]


@pytest.mark.parametrize(
    ("said", "pattern"),
    [
        ({"colour"}, r"(a|one|a single|an) orange (shape|thing|object)"),
        ({"count"}, r"(two|a pair of) (shapes|things|objects)"),
        ({"shape", "count"}, r"(two|a pair of) (rings|hoops)"),
        ({"pattern"}, r"(a|one|a single) (striped )?(shape|thing|object)( with stripes)?"),
        ({"size", "shape"}, r"(a|one|a single) (big|large) (ring|hoop)"),
    ],
)
def test_a_noun_phrase_says_what_it_is_asked_to_say(said: set[str], pattern: str) -> None:
    for seed in range(20):
        phrase = noun_phrase(RINGS, random.Random(seed), said=said)
        assert re.fullmatch(pattern, phrase), phrase


def test_a_description_mentions_background_and_place_only_when_asked() -> None:
    words = re.compile(r"night|left")
    rng = random.Random(0)
    assert not any(words.search(describe(SCENE, {"shape"}, rng)) for _ in range(30))
    assert all(len(words.findall(describe(SCENE, {"place", "background"}, rng))) == 2 for _ in range(30))


def test_captions_of_one_scene_vary() -> None:
    rng = random.Random(0)
    assert len({caption(SCENE, rng) for _ in range(100)}) > 80
    assert all("orange" in caption(SCENE, rng, partial=0) for _ in range(30))


def test_captions_are_grammatical_about_articles() -> None:
    rng = random.Random(1)
    texts = [caption(sample_scene(rng, "train"), rng) for _ in range(500)]
    assert not [text for text in texts if re.search(r"\ba [aeiou]|\ban [^aeiou]", text)]


def test_the_banks_share_no_phrasing() -> None:
    first, second = ({phrase for phrases in PHRASES[bank].values() for phrase in phrases} for bank in BANKS)
    assert not first & second
    assert PHRASES["A"].keys() == PHRASES["B"].keys()


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_changes_what_it_says_and_stays_in_its_split(kind: str) -> None:
    rng = random.Random(2)
    edits = [edit for _ in range(60) if (edit := sample_edit(scene := sample_scene(rng, "test"), kind, rng, "test"))
             and edit.target != scene]  # fmt: skip
    assert len(edits) > 5
    for edit in edits:
        assert edit.kind == kind
        assert belongs_to(edit.target, "test")
        assert all("{" not in edit.text(bank, rng) for bank in BANKS)


def test_a_recoloured_scene_is_the_old_one_in_one_attribute() -> None:
    rng = random.Random(3)
    scene = sample_scene(rng, "train", 1)
    edit = next(edit for _ in range(50) if (edit := sample_edit(scene, "colour", rng, "train")))
    old, new = scene.groups[0], edit.target.groups[0]
    assert new.colour != old.colour
    assert (new.shape, new.size, new.count, new.place) == (old.shape, old.size, old.count, old.place)
    assert new.colour in edit.text("B", rng)


def test_every_count_has_words() -> None:
    assert set(COUNT_WORDS) == {1, 2, 3, 4}
    assert set(MENTIONABLE) == {"shape", "colour", "pattern", "size", "count", "place", "background"}
