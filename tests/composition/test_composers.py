from typing import Any

import pytest
import torch

from mmret.composition import (
    COMPOSERS,
    CaptionEdit,
    CombinerNetwork,
    ComposedFeatures,
    ImageOnly,
    InvertedWord,
    MappingNetwork,
    PseudoWord,
    PseudoWords,
    QueryBatch,
    Sum,
    TextOnly,
    composer_from_spec,
    save_combiner,
    save_phi,
)
from mmret.composition.encoding import TEXTS_AT_ONCE
from mmret.errors import InputError

IMAGES = torch.tensor([[3.0, 0.0, 0.0, 4.0], [0.0, 0.0, 0.0, 2.0]])
BATCH = QueryBatch(("q1", "q2"), ("r1", "r2"), (("red", "blue"), ("blue",)), IMAGES)
UNIT_IMAGES = torch.tensor([[0.6, 0.0, 0.0, 0.8], [0.0, 0.0, 0.0, 1.0]])
# red is (.6, .8, 0, 0) and blue (0, 0, 1, 0): their mean (.3, .4, .5, 0) has the length √.5.
UNIT_TEXTS = torch.tensor([[0.3, 0.4, 0.5, 0.0], [0.0, 0.0, 0.5**0.5, 0.0]]) / 0.5**0.5
CAPTIONS = [
    {"id": "q1", "base_caption": "a ring", "modified_captions": "a red ring", "instruction": "red"},
    {"id": "q2", "base_caption": ["a ring", "blue"], "modified_captions": ["an open sign"]},
]


@pytest.fixture
def phi() -> MappingNetwork:
    torch.manual_seed(0)
    return MappingNetwork(4, 8, 3, backbone="toy").train()


def test_image_only_is_the_normalised_image_and_needs_no_text(backbone: Any) -> None:
    silent = QueryBatch(BATCH.ids, BATCH.references, ((), ()), IMAGES)
    assert torch.allclose(ImageOnly()(backbone, silent), UNIT_IMAGES)
    assert backbone.calls == []


def test_text_only_averages_normalised_alternatives(backbone: Any) -> None:
    assert torch.allclose(TextOnly()(backbone, BATCH), UNIT_TEXTS)


def test_the_two_sums(backbone: Any) -> None:
    expected = torch.nn.functional.normalize(UNIT_IMAGES + UNIT_TEXTS)
    assert torch.allclose(Sum("normalised")(backbone, BATCH), expected)
    # Un-normalised: red and blue average to (1.5, 2, 1, 0).
    raw = torch.tensor([[2.25, 1.0, 0.5, 2.0], [0.0, 0.0, 1.0, 1.0]])
    assert torch.allclose(Sum("raw")(backbone, BATCH), raw)
    assert Sum() == Sum("normalised")


def test_many_texts_are_encoded_in_blocks(backbone: Any) -> None:
    count = TEXTS_AT_ONCE + 1
    ids = tuple(map(str, range(count)))
    batch = QueryBatch(ids, ids, (("red", "blue"), *[("blue",)] * (count - 1)), IMAGES[:1].expand(count, 4))
    found = TextOnly()(backbone, batch)
    assert backbone.calls == [TEXTS_AT_ONCE, 2]
    assert torch.allclose(found[[0, -1]], UNIT_TEXTS)


def test_pseudo_words_stand_in_both_prompts(backbone: Any, phi: MappingNetwork) -> None:
    found = PseudoWord(phi, "{word} and {word} {text}", "only {word}")(backbone, BATCH)
    words = phi.eval()(IMAGES)
    # " and " and " red" are 9 characters, " and " and " blue" 10, "only " 5.
    red, blue = (torch.cat([2 * words, torch.full((2, 1), n)], dim=1) for n in (9.0, 10.0))
    normalise = torch.nn.functional.normalize
    composed = torch.stack([normalise(red)[0] + normalise(blue)[0], 2 * blue[1]])
    reference = torch.cat([words, torch.full((2, 1), 5.0)], dim=1)
    assert torch.allclose(found.composed_text, normalise(composed), atol=1e-6)
    assert torch.allclose(found.reference_text, normalise(reference), atol=1e-6)
    assert torch.allclose(found.reference_image, UNIT_IMAGES)


def test_pseudo_words_have_no_dropout_and_leave_the_mode(backbone: Any, phi: MappingNetwork) -> None:
    composer = PseudoWord(phi)
    first, second = composer(backbone, BATCH), composer(backbone, BATCH)
    assert torch.equal(first.composed_text, second.composed_text)
    assert phi.training
    assert not first.composed_text.requires_grad


def test_a_caption_with_the_placeholder_stays_text(backbone: Any, phi: MappingNetwork) -> None:
    # The toy's features count the places of the word and the characters of the text.
    plain, tricky = (
        QueryBatch(("q",), ("r",), ((text,),), IMAGES[:1]) for text in ("costs five$$$", "costs {word}$")
    )
    composer = PseudoWord(phi)
    assert torch.equal(composer(backbone, plain).composed_text, composer(backbone, tricky).composed_text)


def words(ids: tuple[str, ...]) -> PseudoWords:
    """A word for each image, (0, 1, 2) and (3, 4, 5) for the first two."""
    rows = torch.arange(3.0 * len(ids)).reshape(-1, 3)
    return PseudoWords(ids, rows, {"architecture": "toy", "revision": "1"}, {"steps": 1})


def test_inverted_words_stand_in_the_prompts_of_their_images(backbone: Any) -> None:
    found = InvertedWord(words(("r2", "r1")), "{word} {text}")(backbone, BATCH)
    single = QueryBatch(("q2",), ("r2",), (("blue",),), IMAGES[1:])
    alone = InvertedWord(words(("r2",)), "{word} {text}")(backbone, single)
    # " blue" has 5 characters.
    assert torch.allclose(
        found.composed_text[1], torch.nn.functional.normalize(torch.tensor([0.0, 1, 2, 5]), dim=0)
    )
    assert torch.allclose(found.composed_text[1], alone.composed_text[0])


def test_images_without_words_and_words_of_another_backbone_are_refused(backbone: Any) -> None:
    with pytest.raises(InputError, match=r"no pseudo-word of 1 images \(r2\)"):
        InvertedWord(words(("r1",)))(backbone, BATCH)
    strange = PseudoWords(("r1", "r2"), torch.ones(2, 3), {"architecture": "toy", "revision": "2"}, {})
    with pytest.raises(InputError, match="another backbone than toy: its revision is 2, not 1"):
        InvertedWord(strange)(backbone, BATCH)


def test_a_method_names_its_papers_template(phi: MappingNetwork) -> None:
    assert PseudoWord(phi, "pic2word").describe()["template"] == "a photo of {word} , {text}"
    assert PseudoWord(phi).describe()["template"] == "a photo of {word} that {text}"


def test_phi_of_another_width_is_refused(backbone: Any) -> None:
    with pytest.raises(InputError, match="toy has features of width 4 and tokens of width 3"):
        PseudoWord(MappingNetwork(512, 8, 512))(backbone, BATCH)


def test_caption_edits_are_encoded_as_they_stand(backbone: Any) -> None:
    found = CaptionEdit(CAPTIONS)(backbone, BATCH)
    reference = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.5**0.5, 0.0, 0.5**0.5, 0.0]])
    composed = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    assert torch.allclose(found.reference_text, reference)
    assert torch.allclose(found.composed_text, composed)
    assert torch.allclose(found.reference_image, UNIT_IMAGES)


def test_raw_averages_are_normalised_last(backbone: Any) -> None:
    found = CaptionEdit(CAPTIONS, average="raw")(backbone, BATCH)
    # "a ring" is (1, 0, 0, 0), "blue" (0, 0, 2, 0): their mean points twice as far along the third axis.
    expected = torch.tensor([1.0, 0.0, 2.0, 0.0]) / 5**0.5
    assert torch.allclose(found.reference_text[1], expected)
    with pytest.raises(InputError, match="no average 'mean'"):
        CaptionEdit(CAPTIONS, average="mean")  # type: ignore[arg-type]


def test_queries_without_captions_or_text_are_named_at_once(backbone: Any, phi: MappingNetwork) -> None:
    batch = QueryBatch(("q1", "q3", "q4"), ("r",) * 3, ((),) * 3, torch.ones(3, 4))
    with pytest.raises(InputError, match=r"no captions for 2 of 3 queries \(q3, q4\)"):
        CaptionEdit(CAPTIONS)(backbone, batch)
    for composer in (TextOnly(), Sum(), PseudoWord(phi)):
        with pytest.raises(InputError, match=r"3 of 3 queries have no text \(q1, q3, q4\)"):
            composer(backbone, batch)


def test_specs_make_composers(tmp_path: Any, phi: MappingNetwork) -> None:
    save_phi(phi, tmp_path / "phi.safetensors")
    specs: dict[str, Any] = {
        "image-only": "image-only",
        "text-only": {"name": "text-only"},
        "sum": {"name": "sum", "mode": "raw"},
        "pseudo-word": {"name": "pseudo-word", "phi": str(tmp_path / "phi.safetensors")},
        "oti": {"name": "oti", "words": str(tmp_path / "words.safetensors")},
        "caption-edit": {"name": "caption-edit", "captions": CAPTIONS},
        "ldre": {"name": "ldre", "captions": CAPTIONS[:1]},
        "comclip": {"name": "comclip", "parts": []},
        "combiner": {"name": "combiner", "combiner": str(tmp_path / "combiner.safetensors")},
    }
    words(("r1", "r2")).save(tmp_path / "words.safetensors")
    save_combiner(CombinerNetwork(4, 3, 5), tmp_path / "combiner.safetensors")
    assert set(specs) == set(COMPOSERS)
    for name, spec in specs.items():
        composer = composer_from_spec(spec)
        assert composer.name == composer.describe()["name"] == name
        assert composer_from_spec(spec).describe() == composer.describe()
        assert composer_from_spec(composer) is composer
    assert composer_from_spec(specs["sum"]) == Sum("raw")


def test_only_three_feature_composers_take_pdv(backbone: Any, phi: MappingNetwork) -> None:
    for composer in (ImageOnly(), TextOnly(), Sum(), PseudoWord(phi), CaptionEdit(CAPTIONS)):
        assert isinstance(composer(backbone, BATCH), ComposedFeatures) == composer.takes_pdv


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("image-onyl", "no composer 'image-onyl': the nearest names are image-only"),
        ({"name": "sum", "weight": 1}, "sum has no weight; it takes mode"),
        ({"name": "pseudo-word"}, "pseudo-word needs phi"),
        ({"name": "sum", "mode": "mean"}, "normalised and raw"),
        ({"name": "pseudo-word", "phi": "phi.pt", "template": "a photo that {text}"}, r"lacks \{word\}"),
    ],
)
def test_specs_that_mean_nothing_are_refused(spec: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        composer_from_spec(spec)
