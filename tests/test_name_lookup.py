import pytest
from PIL import Image

from mmret.data.benchmark import Benchmark, Query
from mmret.errors import InputError
from mmret.name_lookup import edited_name, name_lookup

RUNNERS = tuple(
    f"emoji_u1f3c3_{end}.png" for end in ("1f3fb_200d_2640", "1f3ff_200d_2640", "1f3ff_200d_2642")
)


class Pictures:
    ids = RUNNERS

    def read(self, id: str) -> Image.Image:
        raise AssertionError("the lookup looks at no picture")

    def stamp(self, id: str) -> str:
        return ""


@pytest.mark.parametrize(
    ("name", "edit", "expected"),
    [
        ("runner, man: dark skin tone", "now with medium-dark skin", "runner, man: medium-dark skin tone"),
        ("man in tuxedo, man: light skin tone", "a woman instead", "man in tuxedo, woman: light skin tone"),
        ("woman, heart, man", "swap them for a woman", "woman, heart, woman"),
        ("surfer, woman", "make it a man", "surfer, man"),
    ],
)
def test_edits_act_on_names(name: str, edit: str, expected: str) -> None:
    assert edited_name(name, edit) == expected


def test_an_edit_of_something_else_is_refused() -> None:
    with pytest.raises(InputError, match="neither a skin tone nor a gender"):
        edited_name("runner", "at night")


def test_the_named_image_stands_first_and_alone() -> None:
    light, dark, man = RUNNERS
    queries = (
        Query("tone", light, ("is dark-skinned here",), {dark: 1}),
        Query("gender", dark, ("a man instead",), {man: 1}),
        Query("absent", man, ("use light skin instead",), {light: 1}),
    )
    run = name_lookup(Benchmark("emoji", "1", "test", Pictures(), RUNNERS, queries), depth=3)
    assert run.ranking("tone") == [(dark, 1.0)]
    assert run.ranking("gender") == [(man, 1.0)]
    assert run.ranking("absent") == []
    assert run.depth == 3


def test_a_text_query_has_no_name_to_edit() -> None:
    toy = Benchmark("emoji", "1", "test", Pictures(), RUNNERS, (Query("q", None, ("a man",)),))
    with pytest.raises(InputError, match="no reference"):
        name_lookup(toy)
