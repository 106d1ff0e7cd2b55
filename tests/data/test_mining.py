from pathlib import Path

import pytest

from mmret.data.miniature import CaptionedScenes
from mmret.data.mining import MinedTriplet, facts_of, mine_triplets, read_concreteness, singular
from mmret.errors import InputError

CAPTIONS = ["a red ring on grass", "a blue ring on sand", "two red rings", "a dog", "a small blue ring"]


def test_facts_are_attributes_and_relations() -> None:
    facts = {
        (fact.subject, fact.kind, fact.about, fact.condition)
        for fact in facts_of("two red rings on wet grass")
    }
    assert facts == {
        ("ring", "attribute", "red", "red"),
        ("ring", "relation", "grass", "on wet grass"),
        ("grass", "attribute", "wet", "wet"),
    }
    assert [singular(noun) for noun in ("boxes", "crosses", "rings", "glass", "bus")] == [
        "box", "cross", "ring", "glass", "bus",
    ]  # fmt: skip


def test_a_target_says_what_the_reference_does_not() -> None:
    triplets = mine_triplets(CAPTIONS, 200)
    assert mine_triplets(CAPTIONS, 200) == triplets
    for triplet in triplets:
        mine, theirs = (
            {fact.condition for fact in facts_of(CAPTIONS[row]) if fact.subject == triplet.subject}
            for row in (triplet.reference, triplet.target)
        )
        assert triplet.condition in theirs - mine
    pairs = {(triplet.reference, triplet.target, triplet.condition) for triplet in triplets}
    assert {(0, 1, "on sand"), (1, 2, "red"), (0, 4, "blue"), (0, 4, "small")} <= pairs
    assert not any(3 in pair[:2] for pair in pairs)


def test_two_captions_of_one_image_are_no_pair() -> None:
    triplets = mine_triplets(CAPTIONS, 100, images=["a", "a", "b", "c", "c"])
    assert not any({triplet.reference, triplet.target} == {0, 1} for triplet in triplets)


def test_what_is_not_concrete_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "norms.tsv"
    path.write_text("Word\tBigram\tConc.M\nring\t0\t5.0\nGrass\t0\t4.9\nsand\t0\t4.9\n")
    ratings = read_concreteness(path)
    triplets = mine_triplets(CAPTIONS, 20, concreteness=ratings)
    assert {triplet.condition for triplet in triplets} == {"on grass", "on sand"}
    path.write_text("Word\tConc.M\nring\t5\n")
    with pytest.raises(InputError, match=r"norms\.tsv:2"):
        read_concreteness(path)


def test_captions_that_give_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="no noun has two different facts"):
        mine_triplets(["a dog", "a red ring"], 1)
    with pytest.raises(InputError, match="only 0 of 5 triplets"):
        mine_triplets(CAPTIONS, 5, images=["a"] * 4 + ["b"], least_images=1, concreteness={})


def test_the_miniature_world_can_be_mined_without_drawing() -> None:
    scenes = CaptionedScenes(200)
    assert scenes.texts[7] == scenes[7][1]
    triplets = mine_triplets(scenes.texts, 50, images=scenes.owners)
    assert all(isinstance(triplet, MinedTriplet) for triplet in triplets)
