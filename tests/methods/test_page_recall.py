import torch

from mmret.methods.joint_batch import JointBatch, hashed
from mmret.methods.page_recall import recalls


def batch(
    queries: dict[str, list[float]], pages: dict[str, list[float]], answers: list[set[str]]
) -> JointBatch:
    """A batch whose i-th page is the i-th query's own."""
    pairs = [(row, name) for row, names in enumerate(answers) for name in sorted(names)]
    return JointBatch(
        torch.tensor(list(queries.values())),
        torch.tensor(list(pages.values())),
        torch.arange(len(queries)),
        hashed(queries),
        hashed(pages),
        torch.stack([torch.tensor([row for row, _ in pairs]), hashed(name for _, name in pairs)], dim=1),
    )


FIRST = batch({"q": [1.0, 0.0], "r": [0.0, 1.0]}, {"a": [0.9, 0.1], "b": [0.5, 0.5]}, [{"a"}, {"b"}])
SECOND = batch({"s": [0.6, 0.8]}, {"c": [0.1, 0.9]}, [{"c", "b"}])


def test_pages_of_all_batches_are_searched() -> None:
    assert recalls([FIRST], [1, 2]) == {1: 1.0, 2: 1.0}
    # r now finds c before its own b; s finds b, which answers it too, first.
    found = recalls([FIRST, SECOND], [1, 2])
    assert found == {1: torch.tensor(2 / 3).item(), 2: 1.0}


def test_what_stands_in_two_batches_counts_once() -> None:
    assert recalls([FIRST, SECOND, SECOND, FIRST], [1]) == recalls([FIRST, SECOND], [1])


def test_a_page_that_answers_comes_last_among_equals() -> None:
    same = batch({"q": [1.0, 0.0]}, {"a": [1.0, 0.0]}, [{"a"}])
    other = batch({"r": [0.0, 1.0]}, {"b": [1.0, 0.0]}, [{"b"}])
    assert recalls([same, other], [1, 2]) == {1: 0.0, 2: 1.0}


def test_no_batches_have_no_recall() -> None:
    assert recalls([], [1]) == {}


def test_ids_are_hashed_alike_everywhere() -> None:
    """Devices, and processes, must agree: Python's own `hash` of a text differs between processes."""
    assert hashed(["a.pdf#3", "ä", "\udcff"]).tolist() == [
        -6679589373134162205,
        4152366542966443504,
        -6717455779351158834,
    ]
    assert len(set(hashed(str(number) for number in range(10_000)).tolist())) == 10_000
