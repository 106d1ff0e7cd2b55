import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmret.errors import InputError
from mmret.text_search.analyser import Analyser
from mmret.text_search.bm25 import BM25

pytest.importorskip("bm25s", reason="BM25 needs bm25s")
PLAIN = Analyser(stop_words="none", stemmer="none")
WORDS = st.lists(st.sampled_from(["copay", "plan", "plan", "network", "deductible", "x"]), max_size=6).map(
    " ".join
)


def lucene(texts: dict[str, str], query: str, k1: float, b: float) -> dict[str, float]:
    """BM25 as Lucene has it: idf = ln(1 + (N - n + .5) / (n + .5)), tf / (tf + k1 (1 - b + b · length / mean))."""
    words = {id: text.split() for id, text in texts.items()}
    mean = sum(map(len, words.values())) / len(words)
    found: dict[str, float] = {}
    for word in query.split():
        holders = [id for id, own in words.items() if word in own]
        idf = math.log(1 + (len(words) - len(holders) + 0.5) / (len(holders) + 0.5))
        for id in holders:
            tf = words[id].count(word)
            found[id] = found.get(id, 0) + idf * tf / (tf + k1 * (1 - b + b * len(words[id]) / mean))
    return found


@given(
    st.lists(WORDS, min_size=1, max_size=6),
    WORDS,
    st.sampled_from([0.9, 1.5]),
    st.sampled_from([0.0, 0.4, 1.0]),
)
def test_scores_are_lucene_s(texts: list[str], query: str, k1: float, b: float) -> None:
    named = {f"d{number}": text for number, text in enumerate(texts)}
    if not any(texts):
        return
    index = BM25(k1, b, analyser=PLAIN).index(named.items())
    wanted = lucene(named, query, k1, b)
    scores = index.scores(query)
    assert {id for id, score in zip(index.ids, scores, strict=True) if np.isfinite(score)} == set(wanted)
    for id, score in wanted.items():
        assert scores[index.ids.index(id)] == pytest.approx(score, rel=1e-5)
    ranked = index.search({"q": query}, 10).ranking("q")
    assert ranked == sorted(ranked, key=lambda pair: (-pair[1], pair[0]))


def test_equal_texts_tie_in_order_of_ids_and_pools_bound() -> None:
    texts = {"b": "plan copay", "a": "plan copay", "c": "plan", "scan": ""}
    index = BM25(analyser=PLAIN).index(texts.items())
    run = index.search({"q": "copay plan", "none": "unheard"}, 3)
    assert [name for name, _ in run.ranking("q")] == ["a", "b", "c"]
    assert run.ties == 1
    assert run.ranking("none") == []
    within = index.search({"q": "plan"}, 3, pools={"q": ["c", "scan"]})
    assert [name for name, _ in within.ranking("q")] == ["c"]


def test_bad_settings_and_texts_without_words_are_told() -> None:
    with pytest.raises(InputError, match="method is 'okapi', not one of lucene"):
        BM25(method="okapi")
    with pytest.raises(InputError, match=r"k1 -1 and b 0\.4"):
        BM25(k1=-1)
    with pytest.raises(InputError, match="None of the 2 texts holds a word"):
        BM25().index([("a", ""), ("b", "?!")])
