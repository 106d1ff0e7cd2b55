import pytest

from mmret.errors import InputError
from mmret.text_search.analyser import Analyser, singular


def test_words_are_folded_and_divided() -> None:
    plain = Analyser(stop_words="none", stemmer="none")
    assert plain("The ﬁrst STRASSE, straße; 1,000 ＡＢＣ e\u0301té—東京") == [
        *("the", "first", "strasse", "strasse", "1", "000", "abc", "été", "東京")
    ]


def test_stop_words_and_plurals() -> None:
    assert Analyser()("What is not covered by the plans' policies?") == ["what", "covered", "plan", "policy"]
    assert Analyser(stemmer="none")("the plans") == ["plans"]


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("skies", "sky"),
        ("aies", "aies"),
        ("trees", "trees"),
        ("horses", "horse"),
        ("gas", "ga"),
        ("s", "s"),
        ("press", "press"),
    ],
)
def test_harman_s_rules(word: str, stem: str) -> None:
    assert singular(word) == stem


def test_unknown_options_are_refused() -> None:
    with pytest.raises(InputError, match="stop_words is 'german', not none or english"):
        Analyser(stop_words="german")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="stemmer is 'porter', not none or plural"):
        Analyser(stemmer="porter")  # type: ignore[arg-type]
