import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmret.backbones import load_backbone, resolve
from mmret.backbones.base import Backbone, TokenVectors
from mmret.backbones.crops import Crops, parse_crops, patches_of_views
from mmret.embedding import embed_documents, embed_queries
from mmret.errors import InputError
from mmret.retrieval.multi_vectors import MultiVectors
from mmret.similarity_maps import similarity_map
from tests.backbones.tiny_models import VISION, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    vision = {**VISION, "patch_size": 8, "pool_type": "avg"}
    return str(write_model("clip", tmp_path_factory.mktemp("crops") / "model", vision=vision))


def noise(seed: int, width: int = 70, height: int = 90) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


class Pages:
    """An `ImageSource` in memory."""

    def __init__(self, pages: list[Image.Image]) -> None:
        self._pages = pages
        self.ids = [f"{number}" for number in range(len(pages))]

    def read(self, id: str) -> Image.Image:
        return self._pages[int(id)]

    def stamp(self, id: str) -> str:
        return ""


def quarters() -> Image.Image:
    """Red and green above, blue and white below."""
    page = Image.new("RGB", (60, 40), "white")
    for place, colour in {(0, 0): "red", (30, 0): "lime", (0, 20): "blue"}.items():
        page.paste(colour, (*place, place[0] + 30, place[1] + 20))
    return page


def test_tiles_stand_row_by_row_and_the_whole_comes_last(folder: str) -> None:
    transform = load_backbone(folder, preprocess="crops-2x2").transform
    views = transform.pixels(quarters())
    assert views.shape == (5, 3, 32, 32)
    middles = views[:4, :, 16, 16].tolist()
    assert middles == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    assert views[4, :, 4, 4].tolist() == [255, 0, 0]
    assert views[4, :, 28, 28].tolist() == [255, 255, 255]
    assert load_backbone(folder, preprocess="crops-3x2").transform.pixels(quarters()).shape[0] == 7
    assert pickle.loads(pickle.dumps(transform)) == transform
    assert transform.region(60, 40) == (0, 0, 60, 40)


def test_tiles_together_are_the_resized_page(folder: str) -> None:
    transform: Any = load_backbone(folder, preprocess="crops-3x2").transform
    page = noise(0)
    tiles = transform.pixels(page)[:6]
    rows = [torch.cat(list(tiles[3 * row : 3 * row + 3]), dim=2) for row in range(2)]
    assert torch.equal(torch.cat(rows, dim=1), transform.square.resized(page, 96, 64))


def test_a_vector_is_the_mean_of_those_of_the_views(folder: str) -> None:
    cropped, plain = load_backbone(folder, preprocess="crops-2x3"), load_backbone(folder, preprocess="squash")
    page = noise(1)
    found = np.asarray(embed_documents(cropped, Pages([page]), progress=False))[0]
    views = [page, *_tiles(page, 2, 3)]
    assert found == pytest.approx(
        np.asarray(embed_documents(plain, Pages(views), progress=False)).mean(axis=0), abs=1e-5
    )
    with torch.no_grad():
        assert cropped.encode_images(cropped.transform(page)[None])[0].numpy() == pytest.approx(
            found, abs=1e-5
        )


def _tiles(page: Image.Image, columns: int, rows: int) -> list[Image.Image]:
    whole = page.resize((32 * columns, 32 * rows), Image.Resampling.BICUBIC)
    boxes = [(32 * x, 32 * y, 32 * x + 32, 32 * y + 32) for y in range(rows) for x in range(columns)]
    return [whole.crop(box) for box in boxes]


def test_each_view_may_keep_its_vector_and_the_best_one_answers(folder: str) -> None:
    each = load_backbone(folder, preprocess="crops-2x2-each")
    page = noise(2)
    found = embed_documents(each, Pages([page]), progress=False)
    query = embed_queries(each, ["a red dog"])
    assert isinstance(found, MultiVectors)
    assert isinstance(query, MultiVectors)
    assert each.spec.multi_vector
    assert (found.lengths.tolist(), query.lengths.tolist()) == ([5], [1])
    plain = load_backbone(folder, preprocess="squash")
    views = np.asarray(embed_documents(plain, Pages([*_tiles(page, 2, 2), page]), progress=False))
    assert found.vectors == pytest.approx(views / np.linalg.norm(views, axis=1, keepdims=True), abs=1e-5)
    with pytest.raises(InputError, match="choose another pooling"):
        each.encode_images(each.transform(page)[None])


@pytest.mark.parametrize("name", ["crops-2x2", "crops-2x2-each"])
def test_a_vector_does_not_depend_on_its_batch(folder: str, name: str) -> None:
    backbone = load_backbone(folder, preprocess=name)
    pages = [noise(seed, 40 + 20 * seed, 90) for seed in range(3)]
    together = _vectors(backbone, pages)
    alone = np.concatenate([_vectors(backbone, [page]) for page in pages])
    assert together == pytest.approx(alone, abs=1e-5)


def _vectors(backbone: Backbone, pages: list[Image.Image]) -> Any:
    pixels = backbone.transform.stack([backbone.transform.pixels(page) for page in pages])
    with torch.no_grad():
        features = backbone.encode_documents(pixels)
    return (features.vectors if isinstance(features, TokenVectors) else features).numpy()


def test_names_say_how_many_and_stand_in_the_fingerprint(folder: str) -> None:
    assert parse_crops("crops-4x3") == Crops(4, 3, each=False)
    assert parse_crops("crops-4x3-each") == Crops(4, 3, each=True)
    assert parse_crops("squash") is None
    specs = [resolve(folder, name) for name in ("squash", "crops-2x2", "crops-2x3", "crops-2x2-each")]
    assert len({spec.fingerprint()["preprocess"] for spec in specs}) == 4
    assert resolve("miniature-clip", "crops-2x2").name == "miniature-clip"
    assert load_backbone("miniature-clip", preprocess="crops-4x4").images_at_once == 64 // 17


@pytest.mark.parametrize("name", ["crops-", "crops-0x2", "crops-4", "crops-10x10", "crops-2x2-all"])
def test_wrong_names_are_refused(folder: str, name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' divides no page"):
        resolve(folder, name)


def test_the_patches_of_all_views_add_up_to_the_score(folder: str) -> None:
    backbone = load_backbone(folder, preprocess="crops-2x3")
    found = similarity_map(backbone, "a red dog", noise(3))
    assert found.exact
    assert found.values.shape == (12, 8)
    assert found.values.mean() == pytest.approx(found.score, abs=1e-6)
    each = similarity_map(load_backbone(folder, preprocess="crops-2x3-each"), "a red dog", noise(3))
    assert each.values.shape == (3, 2)
    assert each.chosen is not None
    assert float(each.chosen.sum()) + each.elsewhere == pytest.approx(each.score, abs=1e-6)
    assert each.score >= each.values.max() - 1e-6


def test_a_place_has_what_its_tile_and_the_whole_say_of_it() -> None:
    views = torch.zeros(3, 2, 2, 1)  # two tiles side by side, then the whole
    views[1, 0, 1] = 1  # the right tile's upper right corner
    views[2, 1, 0] = 1  # the whole's lower left quarter
    patches = patches_of_views(views, Crops(2, 1, each=False))[..., 0]
    third = 1 / 3
    expected = torch.tensor([[0, 0, 0, 2 * third], [third, third, 0, 0]])
    assert torch.allclose(patches, expected)
    assert float(patches.mean()) == pytest.approx(float(views.mean()))
