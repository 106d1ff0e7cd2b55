from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmret.backbones.pretraining import save_backbone, trainable_backbone
from mmret.backbones.text_tower import save_text_encoder, trainable_text_tower
from mmret.composition import PDV, MappingNetwork, save_phi
from mmret.errors import InputError
from mmret.folder_search import SearchableFolder, open_folder
from tests.backbones.tiny_pages import FAMILIES

NAMES = ["0.png", "1.png", "2.png", "more/3.png"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random CLIP of the miniature's architecture: the same pixels give the same vector, no more."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("backbone")
    save_backbone(trainable_backbone("miniature-clip", from_scratch=True), folder)
    return str(folder)


def paint(path: Path, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for seed, name in enumerate(NAMES):
        paint(root / name, seed)
    return root


def opened(photos: Path, backbone: str) -> SearchableFolder:
    return open_folder(photos, backbone, device="cpu", progress=False)


def test_an_image_finds_its_copy_and_not_itself(photos: Path, backbone: str, tmp_path: Path) -> None:
    paint(tmp_path / "copy.png", seed=2)
    folder = opened(photos, backbone)
    copy = folder.search(image=tmp_path / "copy.png")
    assert copy.hits[0] == ("2.png", pytest.approx(1, abs=1e-5))
    assert sorted(name for name, _ in copy.hits) == NAMES
    own = folder.search(image=photos / "more" / "3.png")
    assert sorted(name for name, _ in own.hits) == NAMES[:3]


def test_text_and_image_are_summed_normalised(photos: Path, backbone: str) -> None:
    folder = opened(photos, backbone)
    model, picture = folder.backbone, Image.open(photos / "0.png")
    with torch.no_grad():
        image = torch.nn.functional.normalize(model.encode_images(model.transform(picture)[None]))
        text = torch.nn.functional.normalize(model.encode_text(model.tokenize(["at night"])))
        gallery = torch.nn.functional.normalize(torch.tensor(folder.store.vectors(NAMES)))
    expected = (gallery @ torch.nn.functional.normalize(image + text).T)[:, 0].tolist()
    scores = dict(folder.search("at night", picture).hits)
    assert [scores[name] for name in NAMES] == pytest.approx(expected, abs=1e-5)
    only_text = dict(folder.search("at night").hits)
    assert [only_text[name] for name in NAMES] == pytest.approx((gallery @ text.T)[:, 0].tolist(), abs=1e-5)


def test_a_tuned_text_encoder_reads_the_query_s_text(photos: Path, backbone: str, tmp_path: Path) -> None:
    plain = opened(photos, backbone)
    tower = trainable_text_tower(plain.backbone)
    with torch.no_grad():
        tower.model.text_projection.add_(torch.randn_like(tower.model.text_projection))
    save_text_encoder(tower, tmp_path / "text.safetensors", {})
    folder = open_folder(
        photos, backbone, device="cpu", progress=False, text_encoder=tmp_path / "text.safetensors"
    )
    assert str(folder.changes) == "nothing new"  # the images' vectors stay
    found = dict(folder.search("at night").hits)
    gallery = torch.nn.functional.normalize(torch.tensor(folder.store.vectors(NAMES)))
    with torch.no_grad():
        text = torch.nn.functional.normalize(tower.eval().encode_text(tower.tokenize(["at night"])))
    assert [found[name] for name in NAMES] == pytest.approx((gallery @ text.T)[:, 0].tolist(), abs=1e-5)
    assert found != pytest.approx(dict(plain.search("at night").hits), abs=1e-3)
    with pytest.raises(InputError, match=f"was tuned from {backbone}"):
        open_folder(photos, "miniature-clip", progress=False, text_encoder=tmp_path / "text.safetensors")


def test_only_what_changed_is_embedded_again(photos: Path, backbone: str) -> None:
    assert str(opened(photos, backbone).changes) == "4 added"
    assert str(opened(photos, backbone).changes) == "nothing new"
    paint(photos / "1.png", seed=70)
    paint(photos / "4.png", seed=4)
    (photos / "2.png").unlink()
    folder = opened(photos, backbone)
    assert str(folder.changes) == "1 added, 1 changed, 1 deleted"
    assert sorted(folder.index.ids) == ["0.png", "1.png", "4.png", "more/3.png"]
    assert folder.search(image=Image.open(photos / "1.png")).hits[0] == ("1.png", pytest.approx(1, abs=1e-5))


def test_broken_images_are_told_and_left_out(photos: Path, backbone: str) -> None:
    (photos / "1.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 4 images .*1\.png"):
        folder = opened(photos, backbone)
    assert folder.changes.unreadable == 1
    assert "1.png" not in {name for name, _ in folder.search("a dog").hits}


def test_an_image_that_breaks_later_is_no_longer_found(photos: Path, backbone: str) -> None:
    opened(photos, backbone)
    (photos / "1.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 of 4 images"):
        assert len(opened(photos, backbone).index) == 3


def test_a_phi_makes_a_word_of_the_image(photos: Path, backbone: str, tmp_path: Path) -> None:
    folder = opened(photos, backbone)
    width, token_width = folder.backbone.spec.width, folder.backbone.token_width
    phi = MappingNetwork(width, 8, token_width, 0.0, backbone=folder.backbone.spec.name)
    save_phi(phi, tmp_path / "phi.safetensors")
    base = folder.search("at night", photos / "0.png", phi=tmp_path / "phi.safetensors")
    same = folder.search("at night", photos / "0.png", phi=tmp_path / "phi.safetensors", pdv=PDV())
    other = folder.search("at night", photos / "0.png", phi=tmp_path / "phi.safetensors", pdv=PDV(beta=0.2))
    assert [name for name, _ in same.hits] == [name for name, _ in base.hits]
    assert dict(same.hits) == pytest.approx(dict(base.hits), abs=1e-6)
    assert dict(other.hits) != pytest.approx(dict(base.hits), abs=1e-3)


def test_a_folder_that_cannot_be_written_keeps_its_vectors_in_the_cache(
    photos: Path, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("os.access", lambda *_: False)
    assert opened(photos, backbone).store.path.is_relative_to(tmp_path / "cache" / "mmret")
    assert not (photos / ".mmret").exists()


def test_several_vectors_an_image_are_refused_before_anything_is_embedded(
    photos: Path, tmp_path: Path
) -> None:
    late = FAMILIES["colqwen2"](tmp_path / "late")
    with pytest.raises(InputError, match="open the folder as documents"):
        open_folder(photos, f"vlm:{late}", device="cpu", progress=False)
    assert not (photos / ".mmret").exists()


def test_a_wrong_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_folder(tmp_path / "nowhere")


def test_results_show_themselves(photos: Path, backbone: str) -> None:
    folder = opened(photos, backbone)
    result = folder.search("a dog", photos / "0.png", k=2)
    assert repr(folder).startswith(f"SearchableFolder({photos}: 4 images")
    assert repr(result).startswith("SearchResult(an image + 'a dog': ")
    assert result._repr_html_().count("data:image/jpeg") == 3
