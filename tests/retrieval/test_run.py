import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmret.errors import InputError
from mmret.retrieval import Run

NONE = -np.inf


def small():
    return Run(
        ("q2", "q1"),
        ("a", "b", "c"),
        np.array([[2, 0, 1], [1, -1, -1]]),
        np.array([[0.5, 0.5, 0.25], [1.0, NONE, NONE]], dtype=np.float32),
    )


def test_rankings_depth_ties_and_repr():
    run = small()
    assert run.ranking("q2") == [("c", 0.5), ("a", 0.5), ("b", 0.25)]
    assert run.ranking("q1") == [("b", 1.0)]
    assert (len(run), run.depth, run.ties) == (2, 3, 1)
    assert run.tied.tolist() == [[False, True, False], [False, False, False]]
    assert repr(run) == "Run(2 queries x 3 of 3 documents, 1 ties)"
    with pytest.raises(InputError, match="no query 'q3'"):
        run.ranking("q3")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"query_ids": ("q1", "q1")}, "more than once"),
        ({"query_ids": ("q1",)}, r"indices \[2, 3\], scores \[2, 3\], 1 queries"),
        ({"indices": [[3, 0, 1], [1, -1, -1]]}, "outside the documents"),
        ({"indices": [[-2, 0, 1], [1, -1, -1]]}, "outside the documents"),
        ({"indices": [[-1, 0, 1], [1, -1, -1]]}, "padding"),
        ({"scores": [[NONE, 0.5, 0.25], [1, NONE, NONE]]}, "padding"),
        ({"scores": [[np.nan, 0.5, 0.25], [1, NONE, NONE]]}, "padding"),
        ({"scores": [[0.1, 0.5, 0.25], [1, NONE, NONE]]}, "rise"),
        ({"indices": [[0, 0, 1], [1, -1, -1]]}, "a document twice"),
    ],
)
def test_damaged_runs_are_refused(changes, fault):
    run = small()
    with pytest.raises(InputError, match=fault):
        Run(**{name: changes.get(name, getattr(run, name)) for name in run.__dataclass_fields__})


def assert_equal(one, other):
    assert one.query_ids == other.query_ids
    assert [one.ranking(name) for name in one.query_ids] == [other.ranking(name) for name in other.query_ids]


def test_a_saved_run_comes_back_as_it_was(tmp_path):
    run = Run(("ü\n", "q 1"), ("a", "\udce9.jpg", "c"), small().indices, small().scores)
    run.save(tmp_path / "run.npz")
    loaded = Run.load(tmp_path / "run.npz")
    assert loaded.document_ids == run.document_ids
    np.testing.assert_array_equal(loaded.indices, run.indices)
    np.testing.assert_array_equal(loaded.scores, run.scores)
    assert_equal(loaded, run)
    assert os.listdir(tmp_path) == ["run.npz"]


@pytest.mark.parametrize("content", [None, b"", b"no archive", "vectors"])
def test_a_file_that_is_no_run_is_refused(tmp_path, content):
    path = tmp_path / "run.npz"
    if content == "vectors":
        np.savez(path, indices=np.eye(2))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.npz is no saved run"):
        Run.load(path)


def test_a_save_that_fails_keeps_the_former_file(tmp_path, monkeypatch):
    small().save(tmp_path / "run.npz")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        InputError, match=r"Cannot write .*: No space left on device; nothing there was changed"
    ):
        small().save(tmp_path / "run.npz")
    assert os.listdir(tmp_path) == ["run.npz"]
    assert_equal(Run.load(tmp_path / "run.npz"), small())


def test_trec_lines_fall_strictly_where_scores_are_tied(tmp_path):
    small().write_trec(tmp_path / "run.txt", "sum")
    lines = [line.split() for line in (tmp_path / "run.txt").read_text().splitlines()]
    assert [line[:4] for line in lines] == [
        ["q2", "Q0", "c", "1"],
        ["q2", "Q0", "a", "2"],
        ["q2", "Q0", "b", "3"],
        ["q1", "Q0", "b", "1"],
    ]
    scores = [np.float32(line[4]) for line in lines[:3]]
    assert scores == [np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(0)), np.float32(0.25)]
    assert {line[5] for line in lines} == {"sum"}


@given(st.data())
def test_a_trec_file_round_trips(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("trec") / "run.txt"
    documents = tuple(data.draw(st.permutations([f"d{number}" for number in range(6)])))
    value = st.sampled_from([0.0, -0.0, 0.1, 1 / 3, -1.5, 1e-45, 3e38]) | st.floats(-1, 1, width=32)
    count, k = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    scores = -np.sort(
        -np.array(
            data.draw(st.lists(st.lists(value, min_size=k, max_size=k), min_size=count, max_size=count)),
            dtype=np.float32,
        )
    )
    indices = np.array([data.draw(st.permutations(range(6)))[:k] for _ in range(count)])
    run = Run(tuple(f"q{number}" for number in range(count)), documents, indices, scores)
    run.write_trec(path)
    again = Run.read_trec(path)
    assert again.query_ids == run.query_ids
    assert again.ties == 0
    for name in run.query_ids:
        assert [document for document, _ in again.ranking(name)] == [
            document for document, _ in run.ranking(name)
        ]
        np.testing.assert_allclose(
            [score for _, score in again.ranking(name)],
            [score for _, score in run.ranking(name)],
            rtol=1e-6,
            atol=1e-44,
        )
    again.write_trec(path.with_name("again.txt"))
    assert path.with_name("again.txt").read_text() == path.read_text()


def test_a_foreign_trec_file_is_read_by_score_then_id_whatever_its_ranks(tmp_path):
    (tmp_path / "run.txt").write_text("q Q0 b 9 1.5 x\n\nq Q0 c 1 2 x\np\tQ0\tz 1 -1e3 x\nq Q0 a 2 1.5 x\n")
    run = Run.read_trec(tmp_path / "run.txt")
    assert run.ranking("q") == [("c", 2.0), ("a", 1.5), ("b", 1.5)]
    assert run.ranking("p") == [("z", -1000.0)]
    assert (run.depth, run.ties) == (3, 1)
    assert Run.read_trec(tmp_path / "run.txt", depth=1).ranking("q") == [("c", 2.0)]
    assert Run.read_trec(tmp_path / "run.txt", depth=9).indices.shape == (2, 9)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("q Q0 a 1 0.5", "5 fields in line 2 of"),
        ("q Q0 a 1 high x", "score 'high' in line 2 of"),
        ("q Q0 a 1 nan x", "score 'nan' in line 2 of"),
        ("q Q0 d 1 0.5 x", "Line 2 of .* ranks 'd' for 'q' again"),
    ],
)
def test_malformed_trec_lines_are_named(tmp_path, line, fault):
    (tmp_path / "run.txt").write_text(f"q Q0 d 1 0.9 x\n{line}\n")
    with pytest.raises(InputError, match=fault):
        Run.read_trec(tmp_path / "run.txt")


def test_what_trec_cannot_carry_is_refused(tmp_path):
    path = tmp_path / "run.txt"
    with pytest.raises(InputError, match="The tag 'my run'"):
        small().write_trec(path, "my run")
    with pytest.raises(InputError, match="The document id 'a b'"):
        Run(("q",), ("a b",), np.array([[0]]), np.array([[1.0]])).write_trec(path)
    with pytest.raises(InputError, match="cannot be read as a TREC run"):
        Run.read_trec(path)
    assert os.listdir(tmp_path) == []
