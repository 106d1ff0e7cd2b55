import json
from pathlib import Path

import pytest

from mmret.data import load_benchmark
from mmret.data.catalogue import RELEASES, releases
from mmret.data.published import TRIMMED
from mmret.errors import InputError
from tests.data.page_layouts import write_pages
from tests.data.published_layouts import write_all, write_cirr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pages(write_all(tmp_path_factory.mktemp("data")))


@pytest.fixture
def cirr(tmp_path: Path) -> Path:
    return write_cirr(tmp_path / "cirr")


def rewrite(path: Path, change: object) -> None:
    records = json.loads(path.read_text())
    change(records)  # type: ignore[operator]
    path.write_text(json.dumps(records))


@pytest.mark.parametrize("name", RELEASES)
def test_every_benchmark_is_found_below_the_data_folder(
    name: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMRET_DATA", str(data))
    release = RELEASES[name]
    for split in release.counts:
        found = load_benchmark(name, split)
        assert (found.name, found.split, found.metrics) == (name, split, release.metrics)
        assert found.protocol == release.protocol
        assert found.version.startswith(f"{release.version}-trimmed-")
        first = found.images.read(found.image_ids[0])
        assert first.mode == "RGB"
        assert found.images.stamp(found.image_ids[0])


def test_annotations_that_are_no_whole_copy_must_say_so(cirr: Path) -> None:
    trimmed = load_benchmark("cirr", "val", cirr)
    (cirr / TRIMMED).unlink()
    with pytest.raises(
        InputError, match="8 queries where the whole has 4,181 and 24 gallery entries where"
    ) as error:
        load_benchmark("cirr", "val", cirr)
    assert f"in a file {cirr / TRIMMED}" in str(error.value)
    (cirr / TRIMMED).write_text("a part")
    captions = cirr / "cirr" / "captions" / "cap.rc2.val.json"
    rewrite(captions, lambda records: records.pop())
    assert load_benchmark("cirr", "val", cirr).version != trimmed.version


def test_missing_images_are_named_counted_and_refused_unless_allowed(cirr: Path) -> None:
    whole = load_benchmark("cirr", "val", cirr)
    gone = whole.queries[0]
    (cirr / "dev" / f"{gone.reference}.png").unlink()
    (cirr / "dev" / "dev-23-0-img0.png").unlink()
    with pytest.raises(
        InputError, match=r"2 images in .* are missing or broken: dev-0-0-img0 \(missing\); dev-23"
    ):
        load_benchmark("cirr", "val", cirr)
    with pytest.warns(UserWarning, match="the gallery has 22 of 24 images, 7 of 8 queries remain"):
        part = load_benchmark("cirr", "val", cirr, allow_missing=True)
    assert gone.id not in {query.id for query in part.queries}
    assert all("dev-23-0-img0" not in query.subset for query in part.queries)
    assert part.version.startswith(f"{whole.version}-without-2-")
    assert len(load_benchmark("cirr", "val", cirr, annotations_only=True).queries) == 8


def test_targets_outside_the_gallery_are_refused(cirr: Path) -> None:
    rewrite(cirr / "cirr/image_splits/split.rc2.val.json", lambda paths: paths.pop("dev-3-0-img0"))
    with pytest.raises(
        InputError, match="Query '100' names the target 'dev-3-0-img0', which is not in the gallery"
    ):
        load_benchmark("cirr", "val", cirr)


def test_missing_files_and_folders_are_named(cirr: Path) -> None:
    captions = cirr / "cirr/captions/cap.rc2.val.json"
    captions.unlink()
    with pytest.raises(InputError, match=f"no file {captions}"):
        load_benchmark("cirr", "val", cirr)
    with pytest.raises(
        InputError, match="no folder nowhere for cirr; give it as the root, or set MMRET_DATA"
    ):
        load_benchmark("cirr", "val", "nowhere")
    with pytest.raises(InputError, match="cirr has no split 'test'; it has val, test1"):
        load_benchmark("cirr", "test", cirr)


def test_a_protocol_changes_only_what_is_a_choice(data: Path) -> None:
    root = data / "fashioniq"
    changed = load_benchmark("fashioniq-dress", "val", root, protocol={"caption_join": "reversed-and"})
    assert changed.alternatives(changed.queries[0]) == ("a disc and is red disc.",)
    with pytest.raises(
        InputError, match="gallery is 'split' and no choice of the protocol; another one is another"
    ):
        load_benchmark("fashioniq-dress", "val", root, protocol={"gallery": "union"})
    with pytest.raises(InputError, match="no text field 'title'; it has captions"):
        load_benchmark("fashioniq-dress", "val", root, protocol={"query_text_field": "title"})
    with pytest.raises(InputError, match="protocol field 'galery' is none of"):
        load_benchmark("miniature", "val", protocol={"galery": "union"})


def test_a_name_or_a_family() -> None:
    assert [item.name for item in releases("cirr")] == ["cirr"]
    assert len(releases("genecis")) == 4
    with pytest.raises(InputError, match="no published benchmark 'coco-capt'"):
        releases("coco-capt")
    with pytest.raises(InputError, match="no benchmark 'shapes'"):
        load_benchmark("shapes", "val")
