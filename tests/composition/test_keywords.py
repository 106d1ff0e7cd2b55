import random

import pytest

from mmret.backbones.prompt import WORD
from mmret.composition.keywords import keyword_spans, mask_keywords


@pytest.mark.parametrize(
    ("caption", "keywords"),
    [
        ("a small brown dog on the left of a red car", ["a small brown dog", "the left", "a red car"]),
        ("two dogs are running with three balls", ["dogs", "balls"]),
        ("Dog, cat and bird", ["Dog", "cat", "bird"]),
        ("it is the one", []),
        ("", []),
        ("the man's well-worn hat", ["the man's well-worn hat"]),
    ],
)
def test_runs_of_nouns_adjectives_and_determiners(caption: str, keywords: list[str]) -> None:
    assert [caption[start:end] for start, end in keyword_spans(caption)] == keywords


def test_every_run_becomes_the_word_and_the_rest_stays() -> None:
    prompt = mask_keywords("two big red stars on the left, at night", random.Random(0))
    assert prompt == ("two ", WORD, " on ", WORD, ", at ", WORD)


def test_a_caption_without_keywords_loses_one_random_word() -> None:
    prompts = {mask_keywords("it is there", random.Random(seed)) for seed in range(20)}
    assert prompts == {(WORD, " is there"), ("it ", WORD, " there"), ("it is ", WORD)}


def test_a_caption_without_words_becomes_a_photo_of_the_word() -> None:
    assert mask_keywords("?!", random.Random(0)) == ("a photo of ", WORD)


def test_a_dollar_sign_in_a_caption_stays_text() -> None:
    assert mask_keywords("it costs $5 {word}", random.Random(0))[0] == "it "
    assert WORD in mask_keywords("it costs $5 {word}", random.Random(0))
