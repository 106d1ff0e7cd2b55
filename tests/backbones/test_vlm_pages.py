"""Every family, on tiny random models whose processors and weights were saved and are loaded as public ones are."""

import json
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmret.backbones import load_backbone, vlm_families
from mmret.backbones.base import Features, TokenVectors
from mmret.backbones.vlm_inputs import without_tokens
from mmret.backbones.vlm_pages import VlmBackbone, longrope_limit
from mmret.backbones.vlm_presets import PRESETS
from mmret.errors import InputError
from tests.backbones.tiny_pages import FAMILIES

TEXTS = ("a", "a much longer question, longer than the other ones", "which page?")
Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    root = tmp_path_factory.mktemp("pages")

    def folder(kind: str) -> Path:
        return root / kind if (root / kind).exists() else FAMILIES[kind](root / kind)

    return folder


def load(folder: Path, options: str = "", **recipe: str) -> VlmBackbone:
    """The backbone of a folder that brings this recipe."""
    (folder / "mmret_encoder.json").write_text(json.dumps(recipe))
    backbone = load_backbone(f"vlm:{folder}{options}")
    assert isinstance(backbone, VlmBackbone)
    return backbone


def pages(backbone: VlmBackbone, *sizes: tuple[int, int]) -> list[Tensor]:
    rng = np.random.default_rng(0)
    drawn = (Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes)
    return [backbone.transform.pixels(image) for image in drawn]


def flat(features: Features | Sequence[Features]) -> Tensor:
    if isinstance(features, TokenVectors):
        return features.vectors
    return features if isinstance(features, Tensor) else torch.cat([flat(each) for each in features])


def test_every_family_has_a_tiny_model() -> None:
    assert {*vlm_families.FAMILIES, *vlm_families.WRAPPERS} == set(FAMILIES)


SMALL = {"phi3_v": {"resizing": "hd-4"}}
"""Recipes that keep a test quick; here pages of different shapes have different numbers of tiles."""


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_vector_does_not_depend_on_its_batch(page_folder: Folder, kind: str, side: str) -> None:
    backbone = load(page_folder(kind), padding_side=side, **SMALL.get(kind, {}))
    images = pages(backbone, (20, 40), (64, 10), (9, 9))
    tokens = backbone.tokenize(TEXTS)
    with torch.no_grad():
        together, alone = (
            backbone.encode_documents(images),
            [backbone.encode_documents([each]) for each in images],
        )
        asked, one_by_one = (
            backbone.encode_queries(tokens),
            [backbone.encode_queries(tokens[row : row + 1]) for row in range(3)],
        )
    for all_at_once, singly in ((together, alone), (asked, one_by_one)):
        vectors = flat(all_at_once)
        assert vectors.dtype == torch.float32 and vectors.shape[1] == backbone.spec.width
        assert (vectors - flat(singly)).abs().max() < 1e-5
        assert (vectors[0] - vectors[-1]).abs().max() > 1e-3  # of different inputs, or tokens


@pytest.mark.parametrize("kind", FAMILIES)
def test_states_come_from_behind_the_last_norm(page_folder: Folder, kind: str) -> None:
    """Twice the norm's weight, twice the states: what `hidden_states[-1]` does not promise."""
    backbone = load(page_folder(kind), **SMALL.get(kind, {}))
    backbone.projection = None  # of late interaction: it stands behind the states, and has a bias
    model, prompts = backbone.model, backbone.prompts
    text = getattr(model, "language_model", None) or getattr(model, "text_model", model)
    asked = backbone.inputs.of_ids(backbone.tokenize(TEXTS), prompts["query"])
    page = backbone.inputs.of_images(prompts["document"], pages(backbone, (20, 40)))
    with torch.no_grad():
        before = [backbone.states(inputs) for inputs in (asked, page)]
        weight, first = text.norm.weight, float("Gemma" in type(text.norm).__name__)  # Gemma's: 1 + weight
        weight.copy_(2 * (weight + first) - first)
        for inputs, states in zip((asked, page), before, strict=True):
            assert torch.allclose(backbone.states(inputs), 2 * states, atol=1e-5)


def test_states_are_the_base_models_last_hidden_state(page_folder: Folder) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = page_folder("qwen2_vl")
    backbone = load(folder)
    processor = AutoProcessor.from_pretrained(folder)
    writes = AutoModelForImageTextToText.from_pretrained(folder)
    (page,) = pages(backbone, (20, 30))
    prompt = backbone.spec.document_prompt.replace("{image}", "<|vision_start|><|image_pad|><|vision_end|>")
    inputs = processor(text=[prompt], images=[page], do_resize=False, return_tensors="pt")
    with torch.no_grad():
        expected = writes.model(**inputs).last_hidden_state[:, -1]
        assert torch.allclose(flat(backbone.encode_documents([page])), expected, atol=1e-6)


def test_special_tokens_of_a_query_are_words_to_nobody(page_folder: Folder) -> None:
    backbone = load(page_folder("qwen2_vl"))
    plain = backbone.tokenize(["ab"])
    for text in ("a<|image_pad|>b", "a<|image<|im_end|>_pad|>b", "a<|im<|image_pad|>_end|>b"):
        assert torch.equal(backbone.tokenize([text]), plain)


@pytest.mark.parametrize("tokens", list(permutations(["<image>", "</s>", "<pad>"])))
def test_no_token_comes_together_where_another_was_taken_out(tokens: tuple[str, ...]) -> None:
    for text in ("a<image>b", "a<im</s>age>b", "a<<pa<image>d>/s>b", "a<im<im</s>age>age>b"):
        assert without_tokens(text, tokens) == "ab"
    assert without_tokens("a < b </ s>", tokens) == "a < b </ s>"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_query_may_carry_a_dummy_image(page_folder: Folder, kind: str, side: str) -> None:
    prompt = PRESETS["dse-qwen2-2b-mrl"].recipe.query
    backbone = load(page_folder(kind), padding_side=side, query=prompt)
    assert "{image}" in prompt and backbone.spec.padding_side == side
    tokens = backbone.tokenize(TEXTS)
    squares = (tokens == backbone.inputs.image_id).sum(dim=1)
    assert squares.tolist() == [4, 4, 4]  # 2 × 2: 56 × 56 pixels of Qwen's
    with torch.no_grad():
        together = flat(backbone.encode_queries(tokens))
        alone = flat([backbone.encode_queries(backbone.tokenize([text])) for text in TEXTS])
    assert (together - alone).abs().max() < 1e-5


def test_longrope_does_not_take_its_frequencies_from_the_batch(tmp_path: Path) -> None:
    folder = FAMILIES["phi3_v"](tmp_path / "phi")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "original_max_position_embeddings": 50}))
    backbone = load(folder, resizing="hd-4")
    assert longrope_limit(backbone.model) == 50
    texts = ["short", "a question of more than fifty bytes, each of which is a token"]
    images = pages(backbone, (20, 40), (64, 10))  # two tiles and four
    prompt = backbone.spec.document_prompt
    shorter, longer = (backbone.inputs.of_images(prompt, [page])["input_ids"].shape[1] for page in images)
    assert shorter <= 50 < longer
    with torch.no_grad():
        together = flat(backbone.encode_queries(backbone.tokenize(texts)))
        alone = flat([backbone.encode_queries(backbone.tokenize([text])) for text in texts])
        assert (together - alone).abs().max() < 1e-5
        seen, one_by_one = backbone.encode_documents(images), [backbone.encode_documents([p]) for p in images]
    assert (flat(seen) - flat(one_by_one)).abs().max() < 1e-5


def test_widths_are_cut_and_tokens_are_unit_vectors(page_folder: Folder) -> None:
    folder = page_folder("qwen2_vl")
    whole, narrow = load(folder), load(folder, "?width=5")
    images = pages(whole, (20, 30), (40, 8))
    with torch.no_grad():
        assert torch.equal(flat(narrow.encode_documents(images)), flat(whole.encode_documents(images))[:, :5])
        tokens = load(folder, "?width=5&pooling=tokens").encode_documents(images)
        clustered = load(folder, "?pooling=tokens-3").encode_documents(images)
    assert isinstance(tokens, TokenVectors) and isinstance(clustered, TokenVectors)
    assert tokens.vectors.shape[1] == 5 and torch.allclose(tokens.vectors.norm(dim=1), torch.ones(()))
    assert (clustered.lengths <= tokens.lengths // 3).all() and (clustered.lengths > 1).all()
    assert whole.fingerprint() != narrow.fingerprint()


def test_latent_attention_reads_its_weights_and_leaves_the_instruction_out(page_folder: Folder) -> None:
    from safetensors.torch import save_file

    from mmret.backbones.pooling import LatentAttention

    folder = page_folder("qwen2_vl")
    with pytest.raises(InputError, match="needs weights of its own"):
        load(folder, "?pooling=latent-attention")
    latent = LatentAttention(16, latents=8)
    save_file(dict(latent.state_dict()), folder / "latent_attention.safetensors")
    backbone = load(folder, "?pooling=latent-attention", query="<|im_start|>ask: {text}<|im_end|>")
    with torch.no_grad():
        vectors = flat(backbone.encode_queries(backbone.tokenize(["abc", "a much longer one"])))
        inputs = backbone.inputs.of_ids(backbone.tokenize(["abc"]), backbone.spec.query_prompt)
        mask = inputs["attention_mask"].bool()
        mask[:, :6] = False  # <|im_start|> and five bytes
        expected = latent(backbone.states(inputs), mask)
    (folder / "latent_attention.safetensors").unlink()
    assert torch.allclose(vectors[:1], expected, atol=1e-5)


def test_weights_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = FAMILIES["qwen2_vl"](tmp_path / "tiny")
    state = load_file(folder / "model.safetensors")
    gone = next(key for key in state if "layers.1.mlp" in key)
    save_file(
        {k: v for k, v in state.items() if k != gone}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(InputError, match=r"lacks 1 weights of its model.*layers\.1\.mlp"):
        load_backbone(str(folder))


def test_bf16_is_near_fp32(page_folder: Folder) -> None:
    folder = page_folder("qwen2_vl")
    exact = load(folder)
    (page,) = pages(exact, (20, 30))
    with torch.no_grad():
        half = load_backbone(str(folder), precision="bf16").encode_documents([page])
        difference = flat(half) - flat(exact.encode_documents([page]))
    assert flat(half).dtype == torch.float32 and 0 < difference.abs().max() < 0.1
