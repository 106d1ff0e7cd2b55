import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmret.errors import InputError
from mmret.retrieval import Index, ranking, search
from mmret.retrieval.torch_backend import TorchExact
from tests.retrieval import reference

RANDOM = np.random.default_rng(0)
BACKENDS = ["faiss", "torch", "torch with prefilter"]


def gaussian(count, width, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)


def indexed(ids, vectors, backend="faiss", device="cpu"):
    index = Index(ids, vectors, backend=backend.split()[0], device=device)
    if backend.endswith("prefilter"):
        index.backend = TorchExact(index.vectors, device, prefilter=True)
    return index


def numbered(prefix, count):
    """Ids whose alphabetical order is not that of their rows."""
    return [f"{prefix}{number}" for number in np.random.default_rng(count).permutation(count)]


@st.composite
def problems(draw):
    """Galleries full of duplicates, opposites and rescaled copies, so that ties stand everywhere."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    width, distinct = draw(st.integers(1, 9)), draw(st.integers(1, 8))
    base = generator.standard_normal((distinct, width), dtype=np.float32) + 0.01
    size = draw(st.integers(1, 120))
    gallery = base[generator.integers(distinct, size=size)]
    gallery = gallery * generator.choice([1.0, 2.0, 4.0], size=(size, 1)).astype(np.float32)
    count = draw(st.integers(1, 12))
    queries = np.where(
        generator.random((count, 1)) < 0.5,
        base[generator.integers(distinct, size=count)],
        generator.standard_normal((count, width), dtype=np.float32) + 0.01,
    )
    ids, query_ids = numbered("d", size), numbered("q", count)
    exclude = {
        query: [str(name) for name in generator.choice(ids, size=draw(st.integers(0, size)), replace=False)]
        for query in query_ids[::2]
    }
    return ids, gallery, query_ids, queries, draw(st.integers(1, size + 3)), exclude


def expected_rankings(problem, pools=None):
    ids, gallery, query_ids, queries, k, exclude = problem
    vectors, asked = reference.unit(gallery), reference.unit(queries)
    chosen = [list(dict.fromkeys((pools or {}).get(name, ids))) for name in query_ids]
    place = {name: row for row, name in enumerate(ids)}
    return [
        reference.ranking(query, pool, [vectors[place[name]] for name in pool], k, exclude.get(name, ()))
        for name, query, pool in zip(query_ids, asked, chosen, strict=True)
    ]


def assert_same(run, expected):
    for name, ranked in zip(run.query_ids, expected, strict=True):
        assert [document for document, _ in run.ranking(name)] == [document for document, _ in ranked]
        np.testing.assert_allclose(
            [score for _, score in run.ranking(name)], [score for _, score in ranked], atol=1e-6
        )


@pytest.mark.parametrize("backend", BACKENDS)
@given(problem=problems())
def test_search_ranks_as_the_definition_does(backend, problem):
    ids, gallery, query_ids, queries, k, exclude = problem
    run = search(indexed(ids, gallery, backend), query_ids, queries, k, exclude=exclude)
    assert run.indices.shape == run.scores.shape == (len(query_ids), k)
    assert_same(run, expected_rankings(problem))


@pytest.mark.parametrize("shared_from", [1, 10**9])
@given(problem=problems(), data=st.data())
def test_pools_rank_as_the_definition_does(shared_from, problem, data):
    ids, gallery, query_ids, queries, k, exclude = problem
    pool = st.lists(st.sampled_from(ids), max_size=12)
    some = data.draw(st.lists(pool, min_size=1, max_size=2))
    pools = {name: some[number % len(some)] for number, name in enumerate(query_ids)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmret.retrieval.pools._SHARED_FROM_PAIRS", shared_from)
        patch.setattr("mmret.retrieval.pools._PAIRS_AT_A_TIME", 16)
        run = search(Index(ids, gallery), query_ids, queries, k, exclude=exclude, pools=pools)
    assert_same(run, expected_rankings(problem, pools))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tie_that_runs_beyond_the_candidates_goes_to_the_smallest_ids(backend):
    gallery = gaussian(500, 32)
    gallery[100:400] = gallery[100]
    ids = numbered("d", 500)
    run = search(indexed(ids, gallery, backend), ["q"], gallery[100:101], 5)
    assert [name for name, _ in run.ranking("q")] == sorted(ids[100:400])[:5]
    assert run.ties == 4
    assert len({score for _, score in run.ranking("q")}) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_exclusions_than_were_fetched_for(backend):
    gallery, ids = gaussian(300, 16), numbered("d", 300)
    full = search(indexed(ids, gallery, backend), ["q"], gallery[:1], 300)
    ranked = [name for name, _ in full.ranking("q")]
    run = search(indexed(ids, gallery, backend), ["q"], gallery[:1], 3, exclude={"q": ranked[:200]})
    assert [name for name, _ in run.ranking("q")] == ranked[200:203]
    nothing = search(indexed(ids, gallery, backend), ["q"], gallery[:1], 3, exclude={"q": ids})
    assert nothing.indices.tolist() == [[-1, -1, -1]]
    assert np.isneginf(nothing.scores).all()


def test_exclusions_outside_the_gallery_and_of_other_queries_are_passed_over():
    index = Index(["a", "b"], np.eye(2))
    run = search(index, ["q"], [[1.0, 0.5]], 2, exclude={"q": ["z"], "other": ["a"]})
    assert run.ranking("q")[0][0] == "a"


@pytest.mark.parametrize("queries_at_a_time", [1, 7, 8_192])
def test_batches_do_not_change_the_run(monkeypatch, queries_at_a_time):
    gallery, ids, names = gaussian(200, 24), numbered("d", 200), numbered("q", 50)
    exclude = {name: ids[row : row + 3] for row, name in enumerate(names)}
    asked = gallery[:50] + 0.1
    expected = search(Index(ids, gallery), names, asked, 10, exclude=exclude)
    monkeypatch.setattr(sys.modules["mmret.retrieval.search"], "_QUERIES_AT_A_TIME", queries_at_a_time)
    run = search(Index(ids, gallery), names, asked, 10, exclude=exclude)
    np.testing.assert_array_equal(run.indices, expected.indices)


def test_the_error_of_float32_sums_stays_inside_the_tolerance():
    index = Index(numbered("d", 2_000), gaussian(2_000, 1_024))
    queries = index.vectors[:200]
    exact = queries.astype(np.float64) @ index.vectors.T.astype(np.float64)
    scores, rows = index.backend.top(queries, 2_000)
    error = np.abs(scores - np.take_along_axis(exact, rows, axis=1)).max(axis=1)
    assert (error < ranking.sum_error(index, queries) / 2).all()


def test_without_normalisation_lengths_count():
    index = Index(["short", "long"], [[1.0, 0.0], [3.0, 3.0]], normalise=False)
    run = search(index, ["q"], [[2.0, 0.0]], 2, normalise=False)
    assert run.ranking("q") == [("long", 6.0), ("short", 2.0)]
    cosine = search(Index(["short", "long"], [[1.0, 0.0], [3.0, 3.0]]), ["q"], [[2.0, 0.0]], 2)
    assert [name for name, _ in cosine.ranking("q")] == ["short", "long"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"k": 0}, "k is a whole number from 1 up, not 0"),
        ({"k": 2.5}, r"not 2\.5"),
        ({"k": True}, "not True"),
        ({"query_ids": ["x", "x"]}, "queries appear more than once, first 'x'"),
        ({"queries": [[np.nan, 1], [1, 1]]}, "the queries are not finite, first 'p'"),
        ({"queries": [[1, 1], [0, 0]]}, "the queries are zero, first 'q'"),
        ({"queries": [[1, 1, 1], [1, 1, 1]]}, "the queries are 3 wide, not 2"),
        ({"queries": [1, 1]}, "give real numbers"),
        ({"pools": {"p": ["a"]}}, "Query 'q' has no pool"),
        ({"pools": {"p": ["a"], "q": ["nowhere"]}}, "pool of query 'q' names 1 documents .* first 'nowhere'"),
    ],
)
def test_bad_queries_are_refused_in_a_sentence(arguments, fault):
    good = {"query_ids": ["p", "q"], "queries": [[1, 1], [1, 0]], "k": 1}
    with pytest.raises(InputError, match=fault):
        search(Index(["a", "b"], np.eye(2)), **{**good, **arguments})


@pytest.mark.parametrize("factory", ["IVF4,Flat", "HNSW16", "SQ8"])
def test_approximate_factories_rank_and_exclude(factory):
    gallery, ids = gaussian(400, 16), numbered("d", 400)
    index = Index(ids, gallery, factory=factory, parameters="nprobe=4" if "IVF" in factory else "")
    exact = search(Index(ids, gallery), ids[:20], gallery[:20], 10)
    run = search(index, ids[:20], gallery[:20], 10, exclude={name: [name] for name in ids[:20]})
    assert all(name not in dict(run.ranking(name)) for name in ids[:20])
    shared = [len(set(run.indices[row]) & set(exact.indices[row, 1:])) for row in range(20)]
    assert np.mean(shared) >= 8  # of the 9 neighbours that are not excluded


def test_an_approximate_index_fetches_for_every_exclusion():
    gallery, ids = gaussian(400, 16), numbered("d", 400)
    index = Index(ids, gallery, factory="SQ8")
    ranked = [name for name, _ in search(index, ["q"], gallery[:1], 103).ranking("q")]
    run = search(index, ["q"], gallery[:1], 3, exclude={"q": ranked[:100]})
    assert [name for name, _ in run.ranking("q")] == ranked[100:]


def test_an_approximate_index_pads_what_it_does_not_find():
    gallery = gaussian(64, 8)
    run = search(Index(numbered("d", 64), gallery, factory="IVF8,Flat"), ["q"], gallery[:1], 64)
    found = int((run.indices >= 0).sum())
    assert 0 < found < 64
    assert np.isneginf(run.scores[0, found:]).all()


def test_importing_the_room_imports_neither_torch_nor_faiss():
    heavy = "{'torch', 'faiss', 'lightning', 'scipy'}"
    check = f"import sys, mmret.retrieval; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", check], text=True).strip() == "[]"
