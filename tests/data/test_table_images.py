from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmret.backbones import load_backbone
from mmret.data.record_tables import RecordTable
from mmret.data.table_images import TableImages
from mmret.embedding import embed_images
from mmret.errors import InputError
from tests.data.page_layouts import cells, write_arrow, write_parquet
from tests.data.published_layouts import draw
from tests.methods.toy_data import write_backbone


def images(path: Path) -> TableImages:
    rows = [{"id": f"p{number}", "image": cell} for number, cell in enumerate(cells(9))]
    table = RecordTable([(write_parquet if path.suffix == ".parquet" else write_arrow)(path, rows)])
    return TableImages(table, "image", {row["id"]: number for number, row in enumerate(rows)})


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_cells_are_images_by_id(name: str, tmp_path: Path) -> None:
    found = images(tmp_path / name)
    assert list(found.ids) == [f"p{number}" for number in range(9)]
    for id in ("p8", "p0", "p5"):
        assert found.read(id).getpixel((0, 0)) == (10 * int(id[1]), 200, 90)
    assert len({found.stamp(id) for id in found.ids}) == 9
    before = found.stamp("p0")
    images(tmp_path / name)
    assert images(tmp_path / name).stamp("p0") != before
    assert found.missing(found.ids) == []


@pytest.mark.multiprocess
def test_worker_processes_read_them(tmp_path: Path) -> None:
    backbone = load_backbone(str(write_backbone(tmp_path / "clip")))
    found = images(tmp_path / "a.parquet")
    alone = embed_images(backbone, found, workers=0, progress=False)
    apart = embed_images(backbone, found, workers=2, batch_size=2, progress=False)
    assert np.allclose(apart, alone, atol=1e-5)


def test_cells_may_be_paths(tmp_path: Path) -> None:
    draw(tmp_path / "images/0.png", 0)
    rows = [{"id": "a", "image": "images/0.png"}, {"id": "b", "image": "images/1.png"}]
    table = RecordTable([write_parquet(tmp_path / "a.parquet", rows)])
    found = TableImages(table, "image", {"a": 0, "b": 1}, tmp_path)
    assert np.array_equal(found.read("a"), Image.open(tmp_path / "images/0.png"))
    assert found.missing(found.ids) == ["b"]


def test_cells_that_are_no_images_are_named(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": b"no image", "path": None}}, {"image": {"bytes": None, "path": None}}]
    table = RecordTable([write_parquet(tmp_path / "a.parquet", rows)])
    found = TableImages(table, "image", {"a": 0, "b": 1})
    with pytest.raises(InputError, match=r"a.parquet, row of a, image is no image of a format"):
        found.read("a")
    with pytest.raises(
        InputError, match=r"row of b, image: NoneType is no image; bytes or a path are needed"
    ):
        found.read("b")
