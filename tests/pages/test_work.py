import os
import signal
import time

import pytest

from mmret.pages.work import Crashed, run_tasks


def total(numbers: tuple[int, ...]) -> int:
    """Dies of 13, as a library with a fault would."""
    if 13 in numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    return sum(numbers)


class Counted:
    """Work that knows a lot, and how often it was pickled."""

    pickled = 0

    def __call__(self, number: int) -> int:
        return 2 * number

    def __getstate__(self) -> dict[str, object]:
        Counted.pickled += 1
        return {}


def slow(number: int) -> int:
    time.sleep(60)
    return number


def test_without_processes_tasks_are_done_here() -> None:
    assert list(run_tasks(total, [(1, 2), (3,)], 0)) == [((1, 2), 3), ((3,), 3)]


@pytest.mark.multiprocess
def test_a_crash_is_the_tasks_own_and_the_rest_is_done() -> None:
    tasks = [(n, n + 1) for n in range(0, 40, 2)]
    found = dict(run_tasks(total, iter(tasks), 2, split=lambda task: [(n,) for n in task]))
    crashed = [task for task, result in found.items() if isinstance(result, Crashed)]
    assert crashed == [(13,)]
    assert sorted(n for task in found for n in task) == list(range(40))
    assert all(result == sum(task) for task, result in found.items() if task not in crashed)


@pytest.mark.multiprocess
def test_work_is_sent_once_a_process() -> None:
    assert dict(run_tasks(Counted(), range(20), 2)) == {number: 2 * number for number in range(20)}
    assert 1 <= Counted.pickled <= 2


@pytest.mark.multiprocess
def test_tasks_are_drawn_only_as_they_are_needed() -> None:
    drawn = []

    def tasks():  # type: ignore[no-untyped-def]
        for number in range(100):
            drawn.append(number)
            yield (number + 100,)

    results = run_tasks(total, tasks(), 1)
    next(results)
    assert len(drawn) <= 4
    results.close()  # type: ignore[attr-defined]
