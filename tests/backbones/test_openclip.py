"""Every shape of text tower: loaded through the real path, compared with the tower's own code."""

import json
import shutil
import warnings

import open_clip
import pytest
import torch

from mmret.backbones import load_backbone, resolve
from mmret.backbones.base import Backbone, PromptTokens
from mmret.backbones.openclip import OpenClipBackbone, build_model
from mmret.backbones.openclip_specs import model_config
from mmret.backbones.prompt import WORD, fill
from mmret.errors import InputError
from tests.backbones.tiny_models import CONFIGS

KINDS = pytest.mark.parametrize("kind", CONFIGS)
TEMPLATE = "a photo of {word} that {text}"
CAPTIONS = ["is red", "it costs $5", "has {word} on it *", "", "Ünïcode & <b>html</b> &amp; $ $"]
LONG = "a red dog " * 30


@pytest.fixture
def backbone(model_folder, kind):
    return load_backbone(str(model_folder(kind)))


def own_words(backbone, prompts):
    """The embeddings [B, T] that the tower itself has for the ids under the pseudo-words."""
    ids = torch.stack([row[mask][0] for row, mask in zip(prompts.ids, prompts.word_mask, strict=True)])
    tower = getattr(backbone.model, "text", backbone.model)
    embedding = getattr(tower, "token_embedding", None) or tower.transformer.get_input_embeddings()
    return embedding(ids)


@KINDS
def test_tokens_equal_open_clips_own(backbone, model_folder, kind):
    reference = open_clip.get_tokenizer(f"local-dir:{model_folder(kind)}")
    texts = [*CAPTIONS, "two  stars\nand a photo"]
    assert torch.equal(backbone.tokenize(texts), reference(texts))
    with pytest.warns(UserWarning, match="1 of 1 texts are longer"):
        assert torch.equal(backbone.tokenize([LONG]), reference([LONG]))


@KINDS
def test_features_are_the_models_own_not_normalised(backbone):
    tokens, pixels = backbone.tokenize(CAPTIONS), torch.randn(3, 3, 32, 32)
    texts, images = backbone.encode_text(tokens), backbone.encode_images(pixels)
    assert (texts.shape, texts.dtype) == ((len(CAPTIONS), 16), torch.float32)
    # Up to rounding: a text tower may read less padding (`mmret.backbones.shortening`).
    torch.testing.assert_close(texts, backbone.model.encode_text(tokens, normalize=False))
    torch.testing.assert_close(images, backbone.model.encode_image(pixels, normalize=False))
    assert not torch.allclose(texts.norm(dim=1), torch.ones(len(CAPTIONS)), atol=1e-3)


@KINDS
@torch.no_grad()
def test_the_placeholders_own_embedding_reproduces_the_text_exactly(backbone):
    prompts = backbone.tokenize_prompts([fill(TEMPLATE, caption) for caption in CAPTIONS])
    words = own_words(backbone, prompts)
    assert torch.equal(backbone.encode_prompts(prompts, words), backbone.encode_text(prompts.ids))


@KINDS
def test_a_word_goes_to_the_templates_place_and_nowhere_else(backbone):
    prompts = backbone.tokenize_prompts([fill(TEMPLATE, caption) for caption in CAPTIONS])
    assert prompts.word_mask.sum(dim=1).tolist() == [1] * len(CAPTIONS)
    assert prompts.word_mask.int().argmax(dim=1).unique().numel() == 1
    words = torch.randn(len(CAPTIONS), backbone.token_width)
    changed = backbone.encode_prompts(prompts, words)
    assert (changed - backbone.encode_text(prompts.ids)).abs().max(dim=1).values.min() > 1e-5


@KINDS
def test_the_mask_points_at_the_placeholder(backbone):
    prompts = backbone.tokenize_prompts(
        [("a", WORD), (WORD, "red"), ("a photo of", WORD, "dog"), (WORD, WORD)]
    )
    placeholders = prompts.ids[prompts.word_mask]
    # Any other place would show a letter, a special token or padding in one of the four.
    assert placeholders.tolist() == placeholders[:1].tolist() * 5
    written = backbone.tokenize(["a red photo of dog"])
    assert placeholders[0] not in written


@KINDS
def test_gradients_reach_the_words_and_no_weight(backbone):
    prompts = backbone.tokenize_prompts([fill(TEMPLATE, "is red"), fill("{word} and {word}")])
    words = torch.randn(2, backbone.token_width, requires_grad=True)
    (backbone.encode_prompts(prompts, words) @ torch.randn(16)).sum().backward()
    assert words.grad.norm(dim=1).min() > 0
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@KINDS
def test_over_long_prompts_lose_text_and_keep_their_word(backbone):
    prompts = [fill(TEMPLATE, LONG), fill("{text} {word}", LONG), fill(TEMPLATE, "is red")]
    with pytest.warns(UserWarning, match="2 of 3 texts are longer than the (40|39) tokens") as caught:
        tokens = backbone.tokenize_prompts(prompts)
    assert len(caught) == 1
    assert tokens.word_mask.sum(dim=1).tolist() == [1, 1, 1]
    assert tokens.ids.shape == (3, backbone.spec.context_length)
    words = torch.randn(3, backbone.token_width)
    assert torch.isfinite(backbone.encode_prompts(tokens, words)).all()


@KINDS
def test_no_prompts_give_no_rows(backbone):
    tokens = backbone.tokenize_prompts([])
    assert (tokens.ids.shape, tokens.ids.dtype) == ((0, backbone.spec.context_length), torch.int64)
    assert tokens.word_mask.shape == tokens.ids.shape


@pytest.mark.parametrize("kind", ["clip", "custom-text-linear", "coca", "siglip", "metaclip2"])
@torch.no_grad()
def test_weights_are_read_as_open_clip_reads_them(backbone, model_folder, kind):
    # Frozen as ours is: torch's matmul picks its kernel by `requires_grad`, even where no gradient is kept, and
    # two kernels round differently.
    reference = open_clip.create_model(f"local-dir:{model_folder(kind)}").eval().requires_grad_(False)
    ours, theirs = backbone.model.state_dict(), reference.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    tokens, pixels = backbone.tokenize(CAPTIONS), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(backbone.encode_text(tokens), reference.encode_text(tokens, normalize=False))
    torch.testing.assert_close(
        backbone.encode_images(pixels), reference.encode_image(pixels, normalize=False)
    )
    assert backbone.logit_scale == pytest.approx(reference.logit_scale.exp().item())


@pytest.mark.parametrize("kind", ["clip"])
def test_clips_placeholder_is_the_dollar_of_searle(backbone):
    tokens = backbone.tokenize_prompts([fill("a photo of {word} that costs $")])
    assert tokens.ids[0][tokens.word_mask[0]].tolist() == [259]
    assert torch.equal(tokens.ids, backbone.tokenize(["a photo of $ that costs $"]))
    assert (tokens.ids == 259).sum() == 2


@pytest.mark.parametrize("kind", ["siglip2"])
def test_a_placeholder_keeps_the_pieces_around_it(backbone):
    with_word = backbone.tokenize_prompts([("a", WORD, "dog")])
    written = backbone.tokenize([f"a {backbone.prompt_tokenizer.placeholder} dog"])
    kept = [id for id, word in zip(with_word.ids[0], with_word.word_mask[0], strict=True) if not word]
    assert len(kept) == 39
    assert with_word.word_mask.sum() == 1
    assert set(map(int, kept)) <= set(written[0].tolist())


@pytest.mark.parametrize("kind", ["clip"])
def test_more_words_than_room_are_refused(backbone):
    with pytest.raises(InputError, match="39 pseudo-words"):
        backbone.tokenize_prompts([(WORD,) * 39])


@pytest.mark.parametrize("kind", ["clip"])
def test_words_of_another_shape_are_refused(backbone):
    prompts = backbone.tokenize_prompts([fill(TEMPLATE, "is red")])
    with pytest.raises(InputError, match="made for another backbone"):
        backbone.encode_prompts(prompts, torch.zeros(1, 8))
    with pytest.raises(InputError, match="one a prompt"):
        backbone.encode_prompts(prompts, torch.zeros(2, 16))
    assert torch.isfinite(backbone.encode_text(prompts.ids)).all()  # no hook was left behind


@pytest.mark.parametrize("kind", ["clip"])
def test_texts_that_fit_are_no_reason_to_warn(backbone):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.tokenize(["a " * 38])


@pytest.mark.parametrize("kind", ["clip"])
def test_a_frozen_backbone_stays_in_evaluation_mode(backbone):
    parent = torch.nn.Sequential(backbone).train()
    assert parent.training
    assert not any(module.training for module in backbone.modules())


@pytest.mark.parametrize("kind", ["clip", "coca", "siglip", "xlm-roberta", "mt5"])
@pytest.mark.parametrize(("precision", "close"), [("bf16", 0.05), ("fp16", 0.01)])
@torch.no_grad()
def test_half_precision_is_close_and_comes_out_as_float32(model_folder, kind, precision, close):
    full = load_backbone(str(model_folder(kind)))
    half = load_backbone(str(model_folder(kind)), precision=precision)
    prompts = full.tokenize_prompts([fill(TEMPLATE, caption) for caption in CAPTIONS])
    words, pixels = torch.randn(len(CAPTIONS), 16), torch.randn(2, 3, 32, 32)
    for a, b in (
        (full.encode_prompts(prompts, words), half.encode_prompts(prompts, words)),
        (full.encode_images(pixels), half.encode_images(pixels)),
    ):
        assert b.dtype == torch.float32
        assert ((a - b).norm() / a.norm()).item() < close
    assert half.logit_scale == pytest.approx(full.logit_scale)
    assert half.fingerprint() != full.fingerprint()


class MetaBackbone(OpenClipBackbone):
    """Ours, for a model without numbers: there is no scale to read off."""

    def __init__(self, spec, model):
        Backbone.__init__(self, spec)
        self.model = model


@pytest.mark.parametrize(
    "name",
    [
        "clip-vit-b-32",
        "vit-b-16-siglip2",
        "eva02-b-16-merged2b-s8b-b131k",
        "mobileclip2-s0",
        "pe-core-t-16-384",
        "coca-vit-b-32-laion2b-s13b-b90k",
    ],
)
def test_a_published_architecture_is_what_its_spec_says(name):
    """Every family's own towers, built in full but without memory for their weights."""
    spec = resolve(name)
    with torch.device("meta"):
        backbone = MetaBackbone(spec, build_model(model_config(spec)))
    size = backbone.model.visual.image_size
    assert (size[0] if isinstance(size, tuple) else size) == spec.image_size
    assert backbone.model.context_length == spec.context_length
    pixels = torch.zeros(1, 3, spec.image_size, spec.image_size, device="meta")
    assert backbone.encode_images(pixels).shape == (1, spec.width)
    tokens = PromptTokens(
        *(torch.zeros(1, spec.context_length, dtype=kind, device="meta") for kind in (int, bool))
    )
    words = torch.zeros(1, backbone.token_width, device="meta")
    assert backbone.encode_prompts(tokens, words).shape == (1, spec.width)


def test_a_vocabulary_without_any_placeholder_is_refused(model_folder, tmp_path):
    """A tokenizer that drops Latin letters and signs: nothing could mark where a pseudo-word stands."""
    folder = shutil.copytree(model_folder("siglip"), tmp_path / "siglip")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"] = {"type": "Replace", "pattern": {"Regex": "[!-~]"}, "content": ""}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="has nothing for a placeholder"):
        load_backbone(str(folder)).tokenize_prompts([fill("a photo of {word}")])
