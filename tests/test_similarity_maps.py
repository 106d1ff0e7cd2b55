from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from PIL import Image

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.backbones.vlm_pages import VlmBackbone
from mmret.embedding import embed_documents, embed_queries
from mmret.errors import InputError
from mmret.retrieval.multi_vectors import MultiVectors
from mmret.similarity_maps import cover, require_map, similarity_map
from tests.backbones.tiny_models import VISION, write_model
from tests.backbones.tiny_pages import FAMILIES

DOCS = Path(__file__).parents[1] / "docs"


def noise(width: int = 48, height: int = 64) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class _One:
    """An `ImageSource` of one page."""

    def __init__(self, page: Image.Image) -> None:
        self._page = page

    ids = ("page",)

    def read(self, id: str) -> Image.Image:
        return self._page

    def stamp(self, id: str) -> str:
        return ""


def clip(folder: Path, pool: str, preprocess: str = "squash") -> Backbone:
    vision = {**VISION, "patch_size": 8, "pool_type": pool}
    return load_backbone(str(write_model("clip", folder / pool, vision=vision)), preprocess=preprocess)


def searched(backbone: Backbone, text: str, page: Image.Image) -> float:
    """The cosine similarity of a text with a page, as a search has it: one vector each."""
    query = np.asarray(embed_queries(backbone, [text]))[0]
    vector = np.asarray(embed_documents(backbone, _One(page), progress=False))[0]
    return float(query @ vector / np.linalg.norm(query) / np.linalg.norm(vector))


def test_the_mean_of_a_map_is_the_score_of_the_search(tmp_path: Path) -> None:
    backbone, page = clip(tmp_path, "avg"), noise()
    found = similarity_map(backbone, "a red dog", page)
    cosine = searched(backbone, "a red dog", page)
    assert found.exact
    assert found.values.shape == (4, 4)
    assert found.score == pytest.approx(cosine, abs=1e-5)
    assert found.values.mean() == pytest.approx(cosine, abs=1e-5)
    assert found.by_token is None


def test_a_class_token_s_map_is_of_cosines(tmp_path: Path) -> None:
    backbone, page = clip(tmp_path, "tok"), noise()
    found = similarity_map(backbone, "a red dog", page)
    assert not found.exact
    assert np.abs(found.values).max() <= 1
    assert "approximate" in repr(found)
    query = np.asarray(embed_queries(backbone, ["a red dog"]))[0]
    patch = backbone.encode_patches(backbone.transform.pixels(page)).vectors[2, 1].numpy()
    cosine = query @ patch / np.linalg.norm(query) / np.linalg.norm(patch)
    assert found.values[2, 1] == pytest.approx(cosine, abs=1e-5)


def vlm(folder: Path, options: str = "") -> Backbone:
    return load_backbone(f"vlm:{FAMILIES['qwen2_vl'](folder / 'qwen')}{options}", preprocess="square-40")


def test_a_last_token_s_map_is_of_cosines_with_the_page_s_tokens(tmp_path: Path) -> None:
    backbone, page = vlm(tmp_path), noise()
    assert isinstance(backbone, VlmBackbone)
    found = similarity_map(backbone, "a red dog", page)
    with torch.no_grad():
        inputs = backbone.inputs.of_images(backbone.spec.document_prompt, [backbone.transform.pixels(page)])
        states = backbone.model(**inputs).last_hidden_state[0]
        asked = backbone.encode_text(backbone.tokenize(["a red dog"]))
    cosines = torch.nn.functional.cosine_similarity(states, asked)
    image = inputs["input_ids"][0] == backbone.inputs.image_id
    assert found.values == pytest.approx(cosines[image].view(10, 10).numpy(), abs=1e-5)
    assert found.score == pytest.approx(float(cosines[-1]), abs=1e-5)
    assert (found.exact, found.by_token, found.chosen) == (False, None, None)
    assert found.region == (0, 0, *page.size)


def test_a_mean_of_tokens_adds_up_with_those_of_its_prompt(tmp_path: Path) -> None:
    backbone, page = vlm(tmp_path, "?pooling=mean"), noise()
    found = similarity_map(backbone, "a red dog", page)
    cosine = searched(backbone, "a red dog", page)
    assert found.exact
    assert abs(found.elsewhere) > 1e-3
    assert float(found.values.mean()) + found.elsewhere == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize("family", ["colqwen2", "colpali"])
def test_what_maxsim_counts_adds_up_to_its_score(family: str, tmp_path: Path) -> None:
    backbone = load_backbone(f"vlm:{FAMILIES[family](tmp_path / family)}")
    page = noise()
    found = similarity_map(backbone, "a dog", page)
    query = embed_queries(backbone, ["a dog"])
    held = embed_documents(backbone, _One(page), progress=False)
    assert isinstance(query, MultiVectors)
    products = query.vectors @ held.take([0]).vectors.T  # type: ignore[union-attr]
    assert found.score == pytest.approx(float(products.max(axis=1).sum()), abs=1e-4)
    assert found.by_token is not None
    assert found.chosen is not None
    assert len(found.by_token) == len(query.vectors) == len(found.tokens)
    assert "".join(found.tokens).count("a dog") == 1
    assert found.values == pytest.approx(found.by_token.sum(axis=0), abs=1e-4)
    assert float(found.chosen.sum()) + found.elsewhere == pytest.approx(found.score, abs=1e-4)


def test_the_cover_lies_where_the_map_is_greatest() -> None:
    page, values = Image.new("RGB", (80, 40), "white"), np.zeros((2, 4), dtype=np.float32)
    values[1, 3] = 1
    covered = np.asarray(cover(page, values, (0, 0, 80, 40))).astype(int)
    assert covered[35, 75].tolist() == pytest.approx([255, 167.5, 114.8], abs=1)  # .55 of the colour
    assert covered[5, 5].tolist() == [255, 255, 255]
    flat = np.asarray(cover(page, np.ones((2, 4), dtype=np.float32), (0, 0, 80, 40)))
    assert (flat == 255).all()


def test_a_letterbox_is_laid_over_the_page_without_its_bars(tmp_path: Path) -> None:
    page = Image.new("RGB", (40, 80), "white")
    values = np.zeros((4, 4), dtype=np.float32)
    values[:, 1] = 1  # the left half of the page: the outer columns are bars
    region = clip(tmp_path, "avg", "letterbox").transform.region(40, 80)
    covered = np.asarray(cover(page, values, region))[40, :, 2].astype(int)
    assert covered[10] < 120
    assert covered[30] == 255


def test_a_centre_crop_covers_the_centre_alone(tmp_path: Path) -> None:
    page = Image.new("RGB", (40, 80), "white")
    values = np.zeros((4, 4), dtype=np.float32)
    values[0] = 1
    region = clip(tmp_path, "avg", "center-crop").transform.region(40, 80)
    covered = np.asarray(cover(page, values, region))[:, 20, 2]
    assert (covered[:20] == 255).all()
    assert covered[20] < 150
    assert (covered[40:] == 255).all()


def test_a_map_shows_itself(tmp_path: Path) -> None:
    found = similarity_map(clip(tmp_path, "avg"), "a red dog", noise())
    assert found._repr_png_().startswith(b"\x89PNG")
    assert repr(found).startswith("SimilarityMap(4 x 4, score ")
    assert found.overlay(np.zeros((4, 4), dtype=np.float32)).tobytes() == noise().tobytes()


def test_backbones_that_do_not_say_are_refused(tmp_path: Path) -> None:
    backbone = load_backbone(str(write_model("coca", tmp_path / "coca")))
    with pytest.raises(InputError, match="CoCa"):
        similarity_map(backbone, "a dog", noise())
    with pytest.raises(InputError, match="CoCa"):
        require_map(backbone)
    for family in ("qwen2_vl", "idefics3", "paligemma", "colpali"):
        require_map(load_backbone(f"vlm:{FAMILIES[family](tmp_path / family)}"))


def test_the_picture_in_the_readme_is_what_its_script_draws(tmp_path: Path) -> None:
    run_path(str(DOCS / "similarity_maps.py"))["main"](tmp_path / "maps.png")
    drawn, shown = (
        np.asarray(Image.open(place / name), dtype=float)
        for place, name in ((tmp_path, "maps.png"), (DOCS, "similarity_maps.png"))
    )
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).mean() < 1
