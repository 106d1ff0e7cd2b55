import hashlib
import json
import random
import re

import numpy as np
import pytest

from mmret.data.miniature import (
    CaptionedScenes,
    caption_edits,
    miniature_benchmark,
    scene_queries,
    text_triplets,
    training_captions,
)
from mmret.data.miniature.edits import BANKS, PHRASES
from mmret.data.miniature.language import describe
from mmret.data.miniature.samples import sample_sheet
from mmret.data.miniature.scene import Combination, Scene, belongs_to
from mmret.data.miniature.world import miniature_images
from mmret.errors import InputError


def test_the_benchmark_has_the_stated_sizes() -> None:
    val, test = miniature_benchmark("val"), miniature_benchmark("test")
    assert (len(val.queries), len(test.queries)) == (800, 2400)
    assert {len(query.targets) for query in val.queries} == {1, 2, 3}
    assert not set(val.gallery) & set(test.gallery)
    assert val.protocol.remove_reference is False


def test_the_truth_is_every_image_of_the_edited_scene_and_no_other() -> None:
    benchmark = miniature_benchmark("val")
    drawings = benchmark.images.drawings  # type: ignore[attr-defined]
    for query, scenes in zip(benchmark.queries[::40], scene_queries("val")[::40], strict=True):
        assert drawings[query.reference].scene == scenes.scene
        same = {name for name, drawing in drawings.items() if drawing.scene == scenes.edit.target}
        assert set(query.targets) == same
        assert query.reference in benchmark.gallery
        assert query.reference not in query.targets


def test_every_image_shows_combinations_of_its_split() -> None:
    drawings = miniature_benchmark("val").images.drawings  # type: ignore[attr-defined]
    assert all(belongs_to(drawing.scene, "val") for drawing in drawings.values())


def test_a_gallery_image_reads_the_same_twice() -> None:
    benchmark = miniature_benchmark("val")
    first, again = (np.asarray(benchmark.images.read("val-00007")) for _ in range(2))
    assert np.array_equal(first, again)
    with pytest.raises(InputError, match="no image 'nobody'"):
        benchmark.images.read("nobody")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InputError, match="no split 'train'; it has val and test"):
        miniature_benchmark("train")


def test_training_pairs_are_a_function_of_their_index() -> None:
    pairs = CaptionedScenes(4)
    assert [pairs[2][1]] * 2 == [CaptionedScenes(4)[2][1], CaptionedScenes(9)[2][1]]
    assert len({pairs[i][1] for i in range(4)}) == 4
    with pytest.raises(IndexError):
        pairs[4]


def test_triplets_hold_neither_phrasings_nor_combinations_of_the_benchmark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    described: list[Scene] = []

    def noting(scene: Scene, said: set[str], rng: random.Random) -> str:
        described.append(scene)
        return describe(scene, said, rng)

    monkeypatch.setattr("mmret.data.miniature.world.describe", noting)
    triplets = text_triplets(1000)
    assert len(described) == 2 * len(triplets)
    shown = {group.on(scene.background) for scene in described for group in scene.groups}
    held_out = set[Combination]()
    for split in ("val", "test"):
        scenes = [drawing.scene for drawing in miniature_images(split).drawings.values()]
        held_out |= {group.on(scene.background) for scene in scenes for group in scene.groups}
    assert len(shown) > 600
    assert len(held_out) > 350
    assert not shown & held_out
    spoken, asked = ({sentence for texts in PHRASES[bank].values() for sentence in texts} for bank in BANKS)
    assert not spoken & asked
    for text in {triplet.conditioning_caption for triplet in triplets}:
        assert any(_says(text, sentence) for sentence in spoken)
        assert not any(_says(text, sentence) for sentence in asked), text


def _says(text: str, sentence: str) -> bool:
    """Whether a phrasing gives the text with some words in its places."""
    pattern = re.sub(
        r"\{(\w+)\}", lambda place: "(one|two|three)" if place[1] == "number" else ".+", sentence
    )
    return re.fullmatch(pattern, text) is not None


def test_training_text_never_speaks_the_edits_of_the_benchmark() -> None:
    triplets = text_triplets(300)
    asked = {query.texts[0] for query in miniature_benchmark("test").queries}
    assert not asked & {triplet.conditioning_caption for triplet in triplets}
    assert all(triplet.reference_caption != triplet.target_caption for triplet in triplets)
    made = [re.fullmatch(r"make .* (red|orange|yellow|green|blue|purple|pink|brown)", t.conditioning_caption)
            for t in triplets]  # fmt: skip
    coloured = [(found[1], t.target_caption) for found, t in zip(made, triplets, strict=True) if found]
    assert len(coloured) > 5
    assert all(
        colour in caption for colour, caption in coloured
    )  # the target's caption says what the edit changed
    shared = {triplet.conditioning_caption for triplet in text_triplets(2000, bank="B")}
    assert asked & shared
    assert len(set(training_captions(50))) > 40


def test_caption_edits_say_the_edit() -> None:
    records = {record["id"]: record for record in caption_edits("val")}
    queries = scene_queries("val")
    assert list(records) == [query.id for query in queries]
    coloured = [query for query in queries if query.edit.kind == "colour"]
    assert all(query.edit.fields["colour"] in records[query.id]["modified_captions"] for query in coloured)
    assert all(records[query.id]["instruction"] == query.text for query in queries)


def test_the_world_does_not_change_unnoticed() -> None:
    """A changed generator is another benchmark: raise `world.VERSION` with it."""
    benchmark = miniature_benchmark("val")
    content = [
        [query.id, query.reference, query.texts[0], sorted(query.targets)] for query in benchmark.queries
    ]
    pixels = np.asarray(benchmark.images.read("val-00003")).tobytes()
    digests = [hashlib.sha256(item).hexdigest()[:16] for item in (json.dumps(content).encode(), pixels)]
    assert digests == DIGESTS


DIGESTS = ["d0eb0c6354cda6d6", "df302d45713f7aad"]


def test_the_sample_sheet_has_a_row_of_pictures_for_each_query() -> None:
    sheet = sample_sheet(columns=1, rows=2)
    assert sheet.mode == "RGB"
    assert sheet.width > 3 * 128
    assert np.asarray(sheet).std() > 20
