import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mmret import cli
from mmret.backbones import load_backbone
from mmret.data.negative_files import read_negatives
from mmret.data.page_sources import open_query_pages
from mmret.data.query_pages import PageQuery, QueryPages
from mmret.data.text_sources import MappedTexts
from mmret.embedding import open_store
from mmret.errors import InputError
from mmret.hard_negatives import (
    Ask,
    Mining,
    ask_words,
    mine,
    mine_by_vectors,
    some_pages,
    write_mined,
)
from mmret.retrieval.index import Index
from mmret.retrieval.search import search
from tests.backbones.tiny_pages import FAMILIES
from tests.data.page_layouts import write_labelled
from tests.data.training_pages import write_pairs

BACKBONE = "miniature-clip"
ANGLES = {"own": 30, "near": 10, "nearer": 5, "middle": 40, "far": 60, "opposite": 180, "twin": 20}
"""Pages on a circle, in degrees; queries lie at 0."""


class Pages:
    """Pages that nobody reads."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = tuple(ids)

    def read(self, id: str):
        raise AssertionError(id)

    stamp = read


def circle(degrees: Sequence[float]) -> np.ndarray:
    return np.array([[math.cos(math.radians(each)), math.sin(math.radians(each))] for each in degrees])


def by_angle(queries: dict[str, float]) -> Ask:
    index = Index(list(ANGLES), circle(list(ANGLES.values())).astype(np.float32))
    return lambda asked: partial(search, index, asked, circle([queries[id] for id in asked]))


def mined(mining: Mining, *positives: str, also: frozenset[str] = frozenset(), angle: float = 0) -> list[str]:
    query = PageQuery("q", "?", positives, also_relevant=also)
    [found] = mine(by_angle({"q": angle}), [query], mining)
    return [page for page, _ in found.negatives]


def cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


ALL = ["nearer", "near", "twin", "middle", "far", "opposite"]


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ({"positive_threshold": None}, ALL),
        ({"positive_threshold": None, "negatives": 2}, ALL[:2]),
        ({"positive_threshold": None, "skip_top": 1, "negatives": 2}, ALL[1:3]),
        ({"positive_threshold": None, "depth": 4, "negatives": 4, "skip_top": 3}, ["middle"]),
        ({"positive_threshold": 1.0}, ["middle", "far", "opposite"]),
        ({}, ["middle", "far", "opposite"]),  # cos 40° / cos 30° = .885
        ({"positive_threshold": 0.88}, ["far", "opposite"]),
        (
            {"positive_threshold": None, "positive_margin": 0.05},
            ["middle", "far", "opposite"],
        ),  # .866 − .766 = .1
        ({"positive_threshold": None, "positive_margin": 0.12}, ["far", "opposite"]),
        ({"positive_threshold": None, "max_score": 0.95}, ["twin", "middle", "far", "opposite"]),
        ({"max_score": 0.6}, ["far", "opposite"]),
        ({"depth": 3, "negatives": 3}, []),
    ],
)
def test_exactly_these_pages_of_a_circle(rules: dict, wanted: list[str]) -> None:
    assert mined(Mining(**rules), "own") == wanted


def test_what_is_known_to_answer_is_never_mined_and_the_weakest_positive_counts() -> None:
    rules = Mining(positive_threshold=None)
    assert mined(rules, "own", "near", also=frozenset({"twin"})) == ["nearer", "middle", "far", "opposite"]
    assert mined(Mining(), "near", "far") == ["opposite"]
    assert mined(
        Mining(depth=1, negatives=1, positive_threshold=None), "near", also=frozenset({"nearer"})
    ) == ["twin"]


def test_a_positive_that_points_away_lets_nothing_better_through() -> None:
    assert mined(Mining(), "opposite") == []
    assert mined(Mining(), "far", angle=180) == [
        "middle",
        "own",
        "twin",
        "near",
        "nearer",
    ]  # all below cos 120°


def test_the_file_says_what_made_it_and_trains(tmp_path: Path) -> None:
    queries = [
        PageQuery("a", "?", ("own",)),
        PageQuery("b", "!", ("far",)),
        PageQuery("c", "…", ("opposite",)),
    ]
    data = QueryPages("ring", tuple(queries), Pages(list(ANGLES)))
    path = tmp_path / "new/negatives.jsonl"
    told = write_mined(
        path, by_angle({"a": 0, "b": 60, "c": 0}), data, Mining(negatives=2), 7, {"by": "hand"}
    )
    assert str(told) == "4 hard negatives of 3 queries; 1 queries have none"
    header, first, *_ = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    made_by = {"source": "ring", "pages": 7, "by": "hand", "depth": 100, "negatives": 2, "skip_top": 0,
               "positive_threshold": 0.95, "positive_margin": None, "max_score": None}  # fmt: skip
    assert header == {"made_by": made_by}
    assert first == {
        "query_id": "a",
        "negatives": [
            {"page_id": "middle", "score": pytest.approx(cos(40))},
            {"page_id": "far", "score": pytest.approx(0.5)},
        ],
        "positive_score": pytest.approx(cos(30)),
    }
    read = read_negatives(path, ["a", "b", "c"], ANGLES)
    assert read == {"a": ("middle", "far"), "b": ("middle", "own"), "c": ()}


def test_by_words(tmp_path: Path) -> None:
    texts = {
        "a": "copay of the plan",
        "b": "copay copay plan",
        "c": "a plan",
        "d": "nothing alike",
        "e": "copay",
    }
    queries = [PageQuery("q", "copay plan", ("a",)), PageQuery("r", "plan", ("d",))]
    ask = ask_words(MappedTexts(texts), list(texts), "texts")
    found = list(mine(ask, queries, Mining(positive_threshold=None)))
    assert [{page for page, _ in each.negatives} for each in found] == [{"b", "c", "e"}, {"a", "b", "c"}]
    assert [each.positive_score for each in found] == [-math.inf, -math.inf]  # nobody asked for them
    stricter = list(mine(ask, queries, Mining(positive_threshold=1.0)))
    assert {page for page, _ in stricter[0].negatives} == {"c", "e"}
    assert stricter[1].negatives == ()  # a positive without a word of its query says nothing about the others
    write_mined(
        tmp_path / "n.jsonl", ask, QueryPages("x", tuple(queries), Pages(list(texts))), Mining(), 5, {}
    )
    assert json.loads((tmp_path / "n.jsonl").read_text().splitlines()[2])["positive_score"] is None


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ({"negatives": 0}, "negatives 0"),
        ({"depth": 5, "negatives": 6}, "depth is 5, negatives 6"),
        ({"depth": 5, "negatives": 2, "skip_top": 5}, "skip_top 5"),
        ({"positive_threshold": 1.5}, "positive_threshold is 1.5"),
        ({"positive_margin": -0.1}, "positive_margin is -0.1"),
    ],
)
def test_rules_that_cannot_be(rules: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Mining(**rules)


def test_some_pages_hold_the_queries_own(tmp_path: Path) -> None:
    data = open_query_pages(f"pairs:{write_pairs(tmp_path, 6, {0: ['p5.png']})}")
    whole = QueryPages("x", data.queries[:2], data.pages)
    assert some_pages(whole, None) == some_pages(whole, 99) == list(data.pages.ids)
    kept = some_pages(whole, 4)
    assert len(kept) == 4
    assert kept == [id for id in data.pages.ids if id in kept]
    assert {"p0.png", "p1.png"} < set(kept)
    with pytest.raises(InputError, match="max_pages is 1; the queries of x have 2 pages of their own"):
        some_pages(whole, 1)


def test_a_backbone_mines_what_its_search_ranks_first(tmp_path: Path) -> None:
    data, backbone = open_query_pages(f"pairs:{write_pairs(tmp_path, 8)}"), load_backbone(BACKBONE)
    rules = Mining(negatives=3, positive_threshold=None)
    store = open_store(tmp_path / "store", backbone)
    told = mine_by_vectors(backbone, data, tmp_path / "n.jsonl", rules, store=store)
    assert (told.queries, told.negatives, told.without) == (8, 24, 0)
    assert len(store) == 8
    texts = backbone.encode_text(backbone.tokenize([query.text for query in data.queries]))
    run = search(
        Index(data.pages.ids, store.vectors(data.pages.ids)), [q.id for q in data.queries], texts.numpy(), 8
    )
    read = read_negatives(tmp_path / "n.jsonl", [q.id for q in data.queries], data.pages.ids)
    for query in data.queries:
        others = [page for page, _ in run.ranking(query.id) if page not in query.positives]
        assert read[query.id] == tuple(others[:3])


def test_late_interaction_mines_by_maxsim(tmp_path: Path) -> None:
    data = open_query_pages(f"pairs:{write_pairs(tmp_path, 4)}")
    backbone = load_backbone(f"vlm:{FAMILIES['colqwen2'](tmp_path / 'model')}")
    assert backbone.spec.multi_vector
    store = open_store(tmp_path / "store", backbone)
    rules = Mining(negatives=2, positive_threshold=None, positive_margin=0.0)
    with_store = mine_by_vectors(backbone, data, tmp_path / "n.jsonl", rules, store=store)
    assert with_store.queries == 4
    for line in (tmp_path / "n.jsonl").read_text().splitlines()[1:]:
        record = json.loads(line)
        assert all(each["score"] <= record["positive_score"] for each in record["negatives"])
    plain = Mining(negatives=3, positive_threshold=None)
    assert mine_by_vectors(backbone, data, tmp_path / "n.jsonl", plain).negatives == 12


def run(*arguments: str) -> int:
    return cli.main(["mine", *arguments])


def test_the_command_by_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = f"pairs:{write_pairs(tmp_path, 6)}", tmp_path / "mined.jsonl"
    arguments = ("--source", source, "--out", str(out), "--backbone", BACKBONE, "--negatives", "2")
    assert run(*arguments, "--positive-threshold", "0") == 0
    assert f"12 hard negatives of 6 queries: {out}" in capsys.readouterr().out
    made_by = json.loads(out.read_text().splitlines()[0])["made_by"]
    assert (made_by["backbone"]["name"], made_by["split"], made_by["pages"]) == (BACKBONE, "train", 6)
    assert made_by["positive_threshold"] is None
    shards = sorted((tmp_path / "mined.jsonl.store").glob("*.npy"))
    first = out.read_bytes()
    assert run(*arguments, "--positive-threshold", "0") == 0  # nothing is embedded again
    assert sorted((tmp_path / "mined.jsonl.store").glob("*.npy")) == shards
    assert out.read_bytes() == first


def test_the_command_by_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, texts, out = write_labelled(tmp_path / "docs"), tmp_path / "texts.jsonl", tmp_path / "mined.jsonl"
    assert cli.main(["pages", "text", str(root), "--out", str(texts), "--workers", "0"]) == 0
    assert run("--source", f"labelled:{root}", "--out", str(out), "--bm25", str(texts)) == 0
    read = read_negatives(out, ["c0", "c1", "c2"], open_query_pages(f"labelled:{root}").pages.ids)
    assert read["c0"][0] == "plus.pdf#0"
    assert run("--source", f"labelled:{root}", "--out", str(out), "--bm25") == 2
    assert "has no texts of its own; give a file of them" in capsys.readouterr().err
