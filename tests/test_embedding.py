import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmret.backbones.base import Backbone
from mmret.backbones.spec import BackboneSpec
from mmret.data.images import FolderImages
from mmret.embedding import embed_images, embed_texts, open_store
from mmret.errors import InputError

SPEC = BackboneSpec(
    name="mean", loader="test", architecture="mean", weights="none", revision="1", width=3, pooling="-",
    preprocess="squash", image_size=4, context_length=2, licence="MIT", mean=(0.0,) * 3, std=(1.0,) * 3,
)  # fmt: skip


class MeanColour(Backbone):
    """Gives an image's mean colour (+ 1, as stores refuse zero vectors), and counts how many it saw."""

    def __init__(self) -> None:
        super().__init__(SPEC)
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.batches: list[int] = []

    describe = load = classmethod(lambda cls, *_: pytest.fail("not called"))

    def encode_images(self, pixels: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.batches.append(len(pixels))
        return pixels.mean(dim=(2, 3)) + self.weight

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[len(text), 1] for text in texts], dtype=torch.int64).reshape(-1, 2)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return tokens[:, :1] * self.weight


class Fragile:
    """Solid colours by id; some ids are broken, and reading one may stop everything as a kill does."""

    def __init__(self, ids: Sequence[str], broken: Sequence[str] = (), deadly: str = "") -> None:
        self.ids, self.broken, self.deadly = list(ids), set(broken), deadly
        self.stamps = dict.fromkeys(self.ids, "1")

    def read(self, id: str) -> Image.Image:
        if id == self.deadly:
            raise KeyboardInterrupt
        if id in self.broken:
            raise InputError(f"the image {id} is damaged.")
        return Image.new("RGB", (5, 7), (int(id), 0, 51 * int(self.stamps[id])))

    def stamp(self, id: str) -> str:
        return self.stamps[id]


def expected(ids: Sequence[str], blue: float = 0.2) -> np.ndarray:
    return np.array([[1 + int(id) / 255, 1.0, 1 + blue] for id in ids], dtype=np.float32)


@pytest.fixture
def backbone():
    return MeanColour().freeze()


IDS = [str(number) for number in range(10)]


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_stand_in_the_order_of_the_ids(backbone, workers):
    ids = ["7", "0", "3", "7"]
    vectors = embed_images(backbone, Fragile(IDS), ids, batch_size=2, workers=workers)
    assert (vectors.dtype, vectors.shape) == (np.float32, (4, 3))
    np.testing.assert_allclose(vectors, expected(ids), rtol=1e-6)


def test_without_ids_all_are_embedded(backbone):
    np.testing.assert_allclose(embed_images(backbone, Fragile(IDS), batch_size=4), expected(IDS), rtol=1e-6)
    assert backbone.batches == [4, 4, 2]


def test_no_ids_give_no_rows(backbone):
    assert embed_images(backbone, Fragile(IDS), []).shape == (0, 3)


def test_real_files_go_through_the_backbones_own_preprocessing(backbone, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (9, 6, 3), dtype=np.uint8)).save(tmp_path / name)
    images = FolderImages(tmp_path)
    pixels = torch.stack([backbone.transform(images.read(id)) for id in images.ids])
    with torch.no_grad():
        direct = backbone.encode_images(pixels).numpy()
    assert np.array_equal(embed_images(backbone, images), direct)


def test_only_what_the_store_lacks_is_encoded(backbone, tmp_path):
    store = open_store(tmp_path / "store", backbone)
    images = Fragile(IDS)
    embed_images(backbone, images, IDS[:4], store=store)
    backbone.batches.clear()
    vectors = embed_images(backbone, images, IDS, store=open_store(tmp_path / "store", backbone))
    assert backbone.batches == [6]
    np.testing.assert_allclose(vectors, expected(IDS), rtol=1e-6)


def test_a_changed_image_is_encoded_again(backbone, tmp_path):
    store = open_store(tmp_path / "store", backbone)
    images = Fragile(IDS)
    embed_images(backbone, images, store=store)
    backbone.batches.clear()
    images.stamps["5"] = "2"
    vectors = embed_images(backbone, images, store=store)
    assert backbone.batches == [1]
    np.testing.assert_allclose(vectors[5], expected(["5"], blue=0.4)[0], rtol=1e-6)
    assert len(store) == 10
    assert store.missing(IDS, [images.stamp(id) for id in IDS]) == []


def test_broken_images_are_counted_named_and_cost_no_other_work(backbone, tmp_path):
    ids = [str(number) for number in range(40)]
    store = open_store(tmp_path / "store", backbone)
    with pytest.raises(InputError, match="12 of 40 images cannot be used") as error:
        embed_images(backbone, Fragile(ids, broken=ids[5:17]), store=store, batch_size=8)
    assert "the image 14 is damaged. … and 2 more." in str(error.value)
    assert "the image 15 is damaged" not in str(error.value)
    assert set(store.ids) == set(ids) - set(ids[5:17])


def test_a_whole_batch_of_broken_images_does_no_harm(backbone):
    with pytest.raises(InputError, match="2 of 4"):
        embed_images(backbone, Fragile(IDS, broken=["0", "1"]), IDS[:4], batch_size=2)


@pytest.mark.parametrize("stored", [True, False])
def test_skipped_images_have_rows_that_no_index_accepts(backbone, tmp_path, stored):
    store = open_store(tmp_path / "store", backbone) if stored else None
    with pytest.warns(UserWarning, match=r"1 of 3 images cannot be used: the image 1 is damaged\."):
        vectors = embed_images(backbone, Fragile(IDS, broken=["1"]), IDS[:3], store=store, on_error="skip")
    assert np.isnan(vectors[1]).all()
    np.testing.assert_allclose(vectors[[0, 2]], expected(["0", "2"]), rtol=1e-6)


def test_an_image_that_disappeared_is_reported_though_its_vector_is_stored(backbone, tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (3, 3), "red").save(tmp_path / name)
    images, store = FolderImages(tmp_path), open_store(tmp_path / "store", backbone)
    embed_images(backbone, images, store=store)
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 images cannot be used: the image .*a\.png"):
        embed_images(backbone, images, store=store)


def test_a_killed_run_keeps_what_it_has_and_resumes(backbone, tmp_path):
    store = open_store(tmp_path / "store", backbone)
    with pytest.raises(KeyboardInterrupt):
        embed_images(backbone, Fragile(IDS, deadly="7"), store=store, batch_size=2, workers=0)
    kept = set(open_store(tmp_path / "store", backbone).ids)
    assert kept
    assert kept <= set(IDS[:6])
    backbone.batches.clear()
    vectors = embed_images(backbone, Fragile(IDS), store=open_store(tmp_path / "store", backbone))
    assert sum(backbone.batches) == 10 - len(kept)
    np.testing.assert_allclose(vectors, expected(IDS), rtol=1e-6)


@pytest.mark.parametrize(("limit", "value", "shards"), [("_FLUSH_ROWS", 4, 3), ("_FLUSH_SECONDS", -1.0, 5)])
def test_vectors_reach_the_disk_while_the_work_goes_on(backbone, tmp_path, monkeypatch, limit, value, shards):
    monkeypatch.setattr(f"mmret.embedding.{limit}", value)
    vectors = embed_images(
        backbone, Fragile(IDS), store=open_store(tmp_path, backbone), batch_size=2, workers=0
    )
    assert len(list(tmp_path.glob("*.npy"))) == shards
    np.testing.assert_allclose(vectors, expected(IDS), rtol=1e-6)


def test_a_store_of_another_backbone_is_refused(backbone, tmp_path):
    open_store(tmp_path / "store", backbone)
    other = MeanColour()
    other.precision = "bf16"
    with pytest.raises(InputError, match="bf16"):
        open_store(tmp_path / "store", other)
    manifest = json.loads((tmp_path / "store" / "store.json").read_text())
    assert manifest["fingerprint"] == backbone.fingerprint()


def test_texts_are_encoded_in_order_and_in_batches(backbone):
    vectors = embed_texts(backbone, ["a", "bbb", "cc"], batch_size=2)
    assert vectors.tolist() == [[1.0] * 3, [3.0] * 3, [2.0] * 3]
    assert embed_texts(backbone, []).shape == (0, 3)
