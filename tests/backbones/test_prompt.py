import pickle

import pytest

from mmret.backbones.prompt import WORD, check_prompts, fill
from mmret.errors import InputError


def test_the_word_and_the_text_take_their_places():
    assert fill("a photo of {word} that {text}", "is red") == ("a photo of ", WORD, " that is red")


def test_braces_dollars_and_stars_of_a_caption_stay_text():
    caption = "costs $5, has {word} and {text} * written on it"
    assert fill("{word}, {text}", caption) == (WORD, f", {caption}")


def test_a_template_may_hold_the_word_twice_or_never():
    assert fill("{word} and {word}") == (WORD, " and ", WORD)
    assert fill("plain {text}", "text") == ("plain text",)


def test_without_text_its_place_closes():
    assert fill("a {text} photo of {word}") == ("a  photo of ", WORD)


def test_word_survives_pickling_as_itself():
    assert pickle.loads(pickle.dumps(WORD)) is WORD
    assert repr((WORD,)) == "(WORD,)"


@pytest.mark.parametrize("wrong", ["a photo of {word}", ("a", 3)])
def test_what_is_no_prompt_is_refused(wrong):
    with pytest.raises(InputError, match="fill"):
        check_prompts([wrong])
