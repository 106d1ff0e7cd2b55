from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mmret.backbones import load_backbone
from mmret.backbones.base import Backbone
from mmret.backbones.prompt import WORD, fill
from mmret.errors import InputError
from mmret.inversion import OTI, TEMPLATES, ConceptBook, ConceptPhrases
from mmret.inversion.concepts import phrase_prompt

PHRASES = ConceptPhrases({
    "red square": ("a photo of a red square on sand", "a red square at night"),
    "dog": ("a photo of a dog that runs", "the Dog sleeps"),
    "star": ("a star and a dog",),
})  # fmt: skip
SHORT = OTI(steps=12, concepts=2)


@pytest.fixture(scope="module")
def backbone(backbone_folder: Path) -> Backbone:
    return load_backbone(str(backbone_folder))


@pytest.fixture(scope="module")
def book(backbone: Backbone) -> ConceptBook:
    return ConceptBook(backbone, PHRASES)


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(1))


def test_a_word_does_not_depend_on_the_batch_it_was_found_in(backbone: Backbone, book: ConceptBook) -> None:
    together = SHORT(backbone, ["a", "b", "c"], images(), book)
    for row, name in enumerate("abc"):
        alone = SHORT(backbone, [name], images()[row : row + 1], book)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=1e-3)
    turned = SHORT(backbone, ["c", "a"], images()[[2, 0]], book)
    torch.testing.assert_close(turned, together[[2, 0]], atol=1e-4, rtol=1e-3)


def test_words_follow_from_id_and_seed(backbone: Backbone, book: ConceptBook) -> None:
    one, other = (SHORT(backbone, ["a", "b"], images(1).expand(2, -1), book) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.allclose(one[0], one[1], atol=1e-3)
    assert not torch.allclose(replace(SHORT, seed=1)(backbone, ["a", "b"], images(2), book), one, atol=1e-3)


def test_the_word_comes_to_mean_the_image(backbone: Backbone) -> None:
    """Images are what real words of the tower mean, so they can be reached."""
    words = torch.randn(4, backbone.token_width, generator=torch.Generator().manual_seed(2))
    prompts = backbone.tokenize_prompts([fill("a photo of {word}")] * 4)
    with torch.no_grad():
        wanted = backbone.encode_prompts(prompts, words)
    method = OTI(steps=60, lambda_gpt=0, ema_decay=0.5, templates=("a photo of {word}",), learning_rate=0.1)
    ids = list("abcd")
    means = []
    for steps in (0, 60):
        found = replace(method, steps=steps)(backbone, ids, wanted)
        with torch.no_grad():
            means.append(F.cosine_similarity(backbone.encode_prompts(prompts, found), wanted))
    assert (means[1] > 0.95).all()
    assert (means[0] < means[1]).all()


def test_one_step_is_adamws_from_the_start(backbone: Backbone) -> None:
    """AdamW's first step is the learning rate in the gradient's direction, after the decay; then the average."""
    method = OTI(steps=1, lambda_gpt=0, learning_rate=0.1, weight_decay=0.5, ema_decay=0.75, init_std=0.5)
    start = replace(method, steps=0)(backbone, ["a"], images(1))
    moved = (method(backbone, ["a"], images(1)) - 0.75 * start) / 0.25
    assert start.std().item() == pytest.approx(0.5, rel=0.5)
    torch.testing.assert_close(
        (moved - 0.95 * start).abs(), torch.full_like(start, 0.1), rtol=1e-2, atol=1e-3
    )


def test_the_phrase_term_counts_as_stated(backbone: Backbone, book: ConceptBook) -> None:
    """With the image term off, a word that stands for a concept of a single phrase is drawn to that phrase."""
    single = ConceptBook(backbone, ConceptPhrases({"star": ("a star and a dog",)}))
    method = OTI(steps=60, lambda_cos=0, lambda_gpt=1, learning_rate=0.1, ema_decay=0.5)
    found = method(backbone, ["a"], images(1), single)
    prompts = backbone.tokenize_prompts([phrase_prompt("star", "a star and a dog")])
    with torch.no_grad():
        whole = backbone.encode_text(backbone.tokenize(["a star and a dog"]))
        assert F.cosine_similarity(backbone.encode_prompts(prompts, found), whole).item() > 0.95


def test_the_official_settings_are_the_defaults() -> None:
    official = {"steps": 350, "learning_rate": 0.02, "weight_decay": 0.01, "lambda_cos": 1, "lambda_gpt": 0.5,
                "ema_decay": 0.99, "concepts": 15, "init_std": 0.02}  # fmt: skip
    assert {name: OTI().describe()[name] for name in official} == official
    assert len(set(TEMPLATES)) == 24
    assert all("{word}" in template for template in TEMPLATES)


def test_what_is_missing_is_said(backbone: Backbone) -> None:
    with pytest.raises(InputError, match="needs phrases of concepts"):
        OTI()(backbone, ["a"], images(1))
    with pytest.raises(InputError, match="2 image ids but 1 image features"):
        OTI(lambda_gpt=0)(backbone, ["a", "b"], images(1))


def test_the_nearest_concepts_are_those_of_the_texts(backbone: Backbone, book: ConceptBook) -> None:
    assert torch.allclose(book.features.norm(dim=1), torch.ones(3))
    near = book.nearest(book.features[[2, 0]] * 7, 1)
    assert near == [("star",), ("red square",)]
    assert sorted(book.nearest(images(1), 9)[0]) == ["dog", "red square", "star"]


def test_the_first_mention_becomes_the_word() -> None:
    assert phrase_prompt("dog", "the Dog and a dog") == ("the ", WORD, " and a dog")
    with pytest.raises(InputError, match="'dogs run' does not mention its concept 'dog'"):
        ConceptPhrases({"dog": ("dogs run",)})
