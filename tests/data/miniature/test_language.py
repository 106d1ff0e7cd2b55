import random
import re

import pytest

from mmret.data.miniature.edits import BANKS, KINDS, PHRASES, sample_edit
from mmret.data.miniature.language import COUNT_WORDS, MENTION, caption, describe, noun_phrase, plural
from mmret.data.miniature.scene import ATTRIBUTES, Group, Scene, belongs_to, sample_scene

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
        ({"colour"}, r"(some )?orange (shapes|things|objects)"),
        ({"count"}, r"(two|a pair of) (shapes|things|objects)"),
        ({"shape", "count"}, r"(two|a pair of) (rings|hoops)"),
        ({"pattern"}, r"(some )?(striped )?(shapes|things|objects)( with stripes)?"),
        ({"size", "shape"}, r"(some )?(big|large) (rings|hoops)"),
    ],
)
def test_a_noun_phrase_says_what_it_is_asked_to_say(said: set[str], pattern: str) -> None:
    for seed in range(20):
        phrase = noun_phrase(RINGS, random.Random(seed), said=said)
        assert re.fullmatch(pattern, phrase), phrase


def test_a_lone_object_is_never_many() -> None:
    one = Group("ring", "orange", "striped", "big", 1, "left")
    counted = {noun_phrase(one, random.Random(seed), said={"colour", "count"}) for seed in range(60)}
    uncounted = {noun_phrase(one, random.Random(seed), said={"colour"}) for seed in range(60)}
    nouns = ("shape", "thing", "object")
    assert uncounted == {f"an orange {noun}" for noun in nouns}
    assert counted == {f"{word} orange {noun}" for word in ("an", "one", "a single") for noun in nouns}


def test_a_description_mentions_background_and_place_only_when_asked() -> None:
    words = re.compile(r"night|left")
    rng = random.Random(0)
    assert not any(words.search(describe(SCENE, {"shape"}, rng)) for _ in range(30))
    assert all(len(words.findall(describe(SCENE, {"place", "background"}, rng))) == 2 for _ in range(30))


def test_captions_of_one_scene_vary() -> None:
    rng = random.Random(0)
    assert len({caption(SCENE, rng) for _ in range(100)}) > 80


@pytest.mark.parametrize(
    ("word", "share"), [("orange", 0.5), ("night", 0.5), ("left", 0.5), (r"ring|hoop", 0.9)]
)
def test_captions_mention_each_attribute_as_often_as_stated(word: str, share: float) -> None:
    rng = random.Random(0)
    mentions = sum(bool(re.search(word, caption(SCENE, rng))) for _ in range(1000)) / 1000
    assert abs(mentions - share) < 0.06


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
    assert set(MENTION) == set(ATTRIBUTES)
