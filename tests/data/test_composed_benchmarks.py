"""The readers of CIRR, CIRCO, FashionIQ and GeneCIS, on records of our own in their schemas."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmret.data import load_benchmark
from mmret.data.genecis import crop_dilated, pad_to_square
from mmret.errors import InputError
from tests.data.published_layouts import NAMES, write_circo, write_cirr, write_fashioniq, write_genecis


def test_cirr_removes_the_reference_from_rankings_and_subsets(tmp_path: Path) -> None:
    cirr = load_benchmark("cirr", "val", write_cirr(tmp_path))
    query = cirr.queries[0]
    assert (query.id, query.reference, query.targets) == ("100", "dev-0-0-img0", {"dev-3-0-img0": 1})
    assert cirr.exclusions["100"] == ("dev-0-0-img0",)
    assert cirr.pools["100"] == tuple(f"dev-{number}-0-img0" for number in range(1, 6))
    kept = load_benchmark("cirr", "val", tmp_path, protocol={"remove_reference": False})
    assert kept.pools == cirr.pools
    assert cirr.queries[7].texts == ("",)
    assert load_benchmark("cirr", "test1", tmp_path).judgements == {}


def test_cirr_in_the_layout_of_its_own_repository(tmp_path: Path) -> None:
    write_cirr(tmp_path / "SEARLE")
    (tmp_path / "SEARLE" / "cirr").rename(tmp_path / "own")
    (tmp_path / "own" / "img_raw").mkdir()
    (tmp_path / "SEARLE" / "dev").rename(tmp_path / "own" / "img_raw" / "dev")
    (tmp_path / "SEARLE" / "TRIMMED.txt").rename(tmp_path / "own" / "TRIMMED.txt")
    assert len(load_benchmark("cirr", "val", tmp_path / "own").gallery) == 24


def test_circo_tells_the_single_target_from_the_other_ground_truths(tmp_path: Path) -> None:
    circo = load_benchmark("circo", "val", write_circo(tmp_path))
    assert circo.queries[2].targets == {"1056": 2, "1098": 1, "1140": 1}
    assert circo.queries[1].attributes == {"semantic_aspects": ("addition", "negation")}
    assert (circo.exclusions, circo.pools) == ({}, {})
    assert circo.queries[0].texts == ("is disc-shaped",)
    both = {"query_text_field": "shared_concept+relative_caption", "caption_join": "comma"}
    joined = load_benchmark("circo", "val", tmp_path, protocol=both)
    assert joined.alternatives(joined.queries[0]) == ("something red, is disc-shaped",)


def test_circo_without_images_can_only_be_scored(tmp_path: Path) -> None:
    path = write_circo(tmp_path) / "COCO2017_unlabeled" / "annotations" / "image_info_unlabeled2017.json"
    path.unlink()
    assert load_benchmark("circo", "val", tmp_path, annotations_only=True).gallery == ()
    with pytest.raises(InputError, match=f"circo val lacks {path}"):
        load_benchmark("circo", "val", tmp_path)


def test_the_two_galleries_of_fashioniq_have_two_names(tmp_path: Path) -> None:
    write_fashioniq(tmp_path)
    official, union = (
        load_benchmark(f"fashioniq-{name}", "val", tmp_path) for name in ("shirt", "union-shirt")
    )
    assert (len(official.gallery), len(union.gallery)) == (24, 12)
    assert official.queries == union.queries
    assert (official.protocol.gallery, union.protocol.gallery) == ("split", "union")
    assert official.alternatives(official.queries[0]) == ("is red disc and a disc", "a disc and is red disc")


def test_a_record_of_genecis_is_a_gallery_of_its_own(tmp_path: Path) -> None:
    task = load_benchmark("genecis-focus-object", "test", write_genecis(tmp_path))
    first, second = task.queries[:2]
    assert (first.reference, first.targets) == ("000000000001", {"000000000002": 1})
    # The target is listed again: it takes a second place, and only there.
    assert [len(task.pools[query.id]) for query in (first, second)] == [15, 15]
    assert task.copies == {"000000000002#2": "000000000002"}
    assert "000000000002#2" in task.pools["0"]
    assert "000000000002#2" not in task.image_ids
    assert len(load_benchmark("genecis-focus-attribute", "test", tmp_path).pools["0"]) == 10


def test_crops_reach_further_to_the_left_and_the_top_only() -> None:
    pixels = np.arange(60 * 40, dtype=np.uint8).reshape(40, 60)
    image = Image.fromarray(np.stack([pixels] * 3, axis=-1))
    crop = crop_dilated(image, (30, 20, 10, 10))
    assert np.array_equal(np.asarray(crop), np.asarray(image)[13:30, 23:40])
    # Stopped by the border, the crop keeps its size and so reaches further to the right, up to the other border.
    assert crop_dilated(image, (0, 20, 10, 10)).size == (17, 17)
    assert crop_dilated(image, (2, 0, 50, 40)).size == (60, 40)
    padded = np.asarray(pad_to_square(Image.new("RGB", (10, 5), "white")))
    assert padded.shape == (10, 10, 3)
    assert padded[:, :, 0].sum(axis=1).tolist() == [0, 0, *[2550] * 5, 0, 0, 0]


def test_genecis_reads_crops_by_their_boxes(tmp_path: Path) -> None:
    task = load_benchmark("genecis-change-attribute", "test", write_genecis(tmp_path))
    name = str(task.queries[0].reference)
    assert name == "1@12,10.5,20,12.25"
    assert task.images.read(name).size == (34, 34)  # the left edge stops at 0, 1.7 boxes are 34 pixels wide
    path = tmp_path / "genecis" / "change_attribute.json"
    records = json.loads(path.read_text())
    records[1]["target"]["instance_bbox"] = [1, 2, 3]
    path.write_text(json.dumps(records))
    with pytest.raises(InputError, match=r"record 1: the box \[1, 2, 3\] is not four numbers"):
        load_benchmark("genecis-change-attribute", "test", tmp_path)


def test_the_drawn_images_differ() -> None:
    assert len(set(NAMES)) == 24
