"""The real annotations of the composed benchmarks, where they are: counts and conventions to the letter."""

from pathlib import Path

import pytest

from mmret.data import load_benchmark

SHARED = Path(__file__).parents[3] / "shared" / "data" / "composed"
pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the real annotations are not at ../shared/data/composed"
)


def load(name: str, split: str, folder: str):  # type: ignore[no-untyped-def]
    return load_benchmark(name, split, SHARED / folder, annotations_only=True)


def test_cirr() -> None:
    val, test1 = load("cirr", "val", "cirr"), load("cirr", "test1", "cirr")
    assert (len(val.queries), len(val.gallery), len(test1.queries), len(test1.gallery)) == (
        4181,
        2297,
        4148,
        2315,
    )
    assert (val.version, test1.judgements) == ("rc2", {})
    assert {len(pool) for pool in (*val.pools.values(), *test1.pools.values())} == {5}
    assert all(query.targets.keys() <= set(val.pools[query.id]) for query in val.queries)
    assert sum(not query.texts[0].strip() for query in test1.queries) == 1


def test_circo() -> None:
    val, test = load("circo", "val", "circo"), load("circo", "test", "circo")
    assert (len(val.queries), len(test.queries), test.judgements) == (220, 800, {})
    assert all(sorted(query.targets.values())[-1] == 2 for query in val.queries)
    assert sum(len(query.targets) for query in val.queries) == 916
    assert all(query.reference not in query.targets for query in val.queries)


@pytest.mark.parametrize(
    ("category", "queries", "official", "union"),
    [("dress", 2017, 3817, 2628), ("shirt", 2038, 6346, 3089), ("toptee", 1961, 5373, 2902)],
)
def test_fashioniq(category: str, queries: int, official: int, union: int) -> None:
    found = load(f"fashioniq-{category}", "val", "fashioniq")
    older = load(f"fashioniq-union-{category}", "val", "fashioniq")
    assert (len(found.queries), len(found.gallery), len(older.gallery)) == (queries, official, union)
    assert {len(query.texts) for query in found.queries} == {2}
    assert set(older.gallery) <= set(found.gallery)


@pytest.mark.parametrize(
    ("task", "queries", "pool", "repeated"),
    [
        ("focus-attribute", 2000, 10, 1),
        ("change-attribute", 2112, 15, 0),
        ("focus-object", 1960, 15, 0),
        ("change-object", 1960, 15, 1),
    ],
)
def test_genecis(task: str, queries: int, pool: int, repeated: int) -> None:
    found = load(f"genecis-{task}", "test", "genecis")
    assert len(found.queries) == queries
    assert {len(candidates) for candidates in found.pools.values()} == {pool}
    targets = {query.id: next(iter(query.targets)) for query in found.queries}
    again = [id for id, pooled in found.pools.items() if f"{targets[id]}#2" in pooled]
    assert len(again) == repeated
