import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmret.data.annotated_folder import (
    describe_folder,
    load_annotated_folder,
    load_captioned_images,
    split_captions,
)
from mmret.data.benchmark import Query
from mmret.data.protocol import Protocol
from mmret.errors import InputError

COLOURS = {"red": "train", "blue": "val", "green": "val", "white": "val"}
QUERY = {
    "id": "q1",
    "reference": "blue.png",
    "text": "make it green",
    "targets": ["green.png"],
    "split": "val",
}


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images (one to train on), two queries of val."""
    (tmp_path / "images").mkdir()
    for colour in COLOURS:
        Image.new("RGB", (2, 2), colour).save(tmp_path / "images" / f"{colour}.png")
    captions = [{"image": f"{c}.png", "caption": f"all {c}", "split": split} for c, split in COLOURS.items()]
    write_lines(tmp_path / "captions.jsonl", captions)
    graded = {
        "id": "q2",
        "texts": ["something pale"],
        "targets": {"white.png": 2, "green.png": 1},
        "split": "val",
    }
    write_lines(tmp_path / "queries.jsonl", [QUERY, graded])
    return tmp_path


def test_a_split_has_its_own_gallery_and_queries(folder: Path) -> None:
    val = load_annotated_folder(folder, "val")
    assert val.gallery == ("blue.png", "green.png", "white.png")
    assert val.queries == (
        Query("q1", "blue.png", ("make it green",), {"green.png": 1}),
        Query("q2", None, ("something pale",), {"white.png": 2, "green.png": 1}),
    )
    assert val.images.read("green.png").getpixel((0, 0)) == (0, 128, 0)
    assert (val.name, val.protocol) == (folder.name, Protocol())


def test_without_captions_every_image_is_searched(folder: Path) -> None:
    (folder / "captions.jsonl").unlink()
    assert set(load_annotated_folder(folder, "val").gallery) == {f"{colour}.png" for colour in COLOURS}


def test_folder_json_sets_name_place_and_protocol(folder: Path) -> None:
    (folder / "images").rename(folder / "pictures")
    settings = {
        "name": "flat",
        "version": "2",
        "images": "pictures",
        "protocol": {"remove_reference": True},
        "metrics": ["recall@1"],
    }
    (folder / "folder.json").write_text(json.dumps(settings))
    val = load_annotated_folder(folder, "val")
    assert (val.name, val.version, val.metrics) == ("flat", "2", ("recall@1",))
    assert val.exclusions == {"q1": ("blue.png",)}


def test_the_version_changes_with_the_annotations(folder: Path) -> None:
    before = describe_folder(folder).version
    assert describe_folder(folder).version == before
    write_lines(folder / "queries.jsonl", [QUERY])
    assert describe_folder(folder).version != before


def test_training_pairs_are_those_of_the_split(folder: Path) -> None:
    pairs = load_captioned_images(folder, "train")
    assert pairs.pairs == (("red.png", "all red"),)
    assert pairs[0][0].getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"targets": ["gren.png"]}, "'q1' names the target 'gren.png', which is not in the gallery"),
        ({"targets": ["red.png"]}, "target 'red.png', which is not in the gallery"),
        ({"targets": {"green.png": "1"}}, "queries.jsonl:1: 'targets' is"),
        ({"targets": {"green.png": 0}}, "queries.jsonl:1: Query 'q1' grades"),
        ({"targets": {"green.png": True}}, "queries.jsonl:1: 'targets' is"),
        ({"attributes": ["tone"]}, "queries.jsonl:1: 'attributes' is"),
        ({"text": " "}, "queries.jsonl:1: Query 'q1' has an empty caption"),
        ({"texts": ["a", "b"]}, "name how to join them"),
        ({"subset": ["x.png"]}, "subset of query 'q1' names 'x.png'"),
        ({"reference": 3}, "queries.jsonl:1: 'reference' is 3"),
        ({"split": "test"}, "has no query of split 'val'; it has test"),
    ],
)
def test_faulty_queries_are_refused(folder: Path, change: dict[str, Any], sentence: str) -> None:
    write_lines(folder / "queries.jsonl", [{**QUERY, **change}])
    with pytest.raises(InputError, match=sentence):
        load_annotated_folder(folder, "val")


@pytest.mark.parametrize("key", ["id", "text", "targets", "split"])
def test_a_missing_key_is_told_with_its_line(folder: Path, key: str) -> None:
    write_lines(folder / "queries.jsonl", [{name: value for name, value in QUERY.items() if name != key}])
    with pytest.raises(InputError, match=f"queries.jsonl:1 has no '{key}'"):
        load_annotated_folder(folder, "val")


def test_duplicate_queries_are_refused(folder: Path) -> None:
    write_lines(folder / "queries.jsonl", [QUERY, QUERY])
    with pytest.raises(InputError, match="hold id 'q1' more than once"):
        load_annotated_folder(folder, "val")


def test_missing_and_broken_images_are_named_and_counted(folder: Path) -> None:
    (folder / "images" / "white.png").unlink()
    truncated = (folder / "images" / "green.png").read_bytes()[:40]
    (folder / "images" / "green.png").write_bytes(truncated)
    with pytest.raises(
        InputError, match=r"2 images .* white\.png \(missing\); green\.png \(broken: .*allow_miss"
    ):
        load_annotated_folder(folder, "val")


def test_an_allowed_smaller_gallery_is_told_of(folder: Path) -> None:
    (folder / "images" / "green.png").unlink()
    with pytest.warns(UserWarning, match="gallery has 2 of 3 images, 1 of 2 queries remain"):
        val = load_annotated_folder(folder, "val", allow_missing=True)
    assert val.gallery == ("blue.png", "white.png")
    assert val.judgements == {"q2": {"white.png": 2}}


def test_a_missing_reference_takes_its_query_along(folder: Path) -> None:
    (folder / "images" / "blue.png").unlink()
    with pytest.warns(UserWarning, match="1 of 2 queries remain"):
        val = load_annotated_folder(folder, "val", allow_missing=True)
    assert [query.id for query in val.queries] == ["q2"]


def test_an_unchecked_load_decodes_nothing(folder: Path) -> None:
    (folder / "images" / "green.png").write_bytes(b"no image")
    assert "green.png" in load_annotated_folder(folder, "val", check_images=False).gallery


def test_an_unknown_split_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(InputError, match="no image of split 'dev'; it has train, val"):
        split_captions(folder, "dev")


def test_unknown_settings_and_folders_are_refused(folder: Path) -> None:
    (folder / "folder.json").write_text('{"picture": "x"}')
    with pytest.raises(InputError, match="unknown key 'picture'; known are name"):
        describe_folder(folder)
    with pytest.raises(InputError, match="There is no folder"):
        describe_folder(folder / "nowhere")
