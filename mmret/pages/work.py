"""Many small tasks in several processes: results as they come, few in flight, and a crash that is one task's own."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from typing import Any, Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_IN_FLIGHT = 2  # tasks a process: one that runs, one that waits

_WORK: list[Callable[[Any], Any]] = []
"""In a process of a pool, what it does: sent once and not with each task, for it may know a million ids."""


@dataclass(frozen=True)
class Crashed:
    """In the place of a result: the process died (a fault in a library, or killed for want of memory)."""


def run_tasks(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    split: Callable[[Task], Iterable[Task]] = lambda task: (task,),
) -> Iterator[tuple[Task, Result | Crashed]]:
    """Do every task in one of `workers` fresh processes, and yield it with its result, in any order.

    `work` is pickled once a process, tasks and results each; tasks are drawn as they are needed. When a process dies,
    what was in flight is split (into single pages, say) and done again piece by piece, each where it can harm no other,
    so that only the piece that kills its process is `Crashed`. With 0 workers everything is done here.
    """
    if workers == 0:
        yield from ((task, work(task)) for task in tasks)
        return
    pending = iter(tasks)
    while True:
        crew = _Crew(work, workers)
        try:
            yield from crew.results(pending)
        finally:
            crew.dismiss()
        if not crew.lost:
            return
        for task in crew.lost:
            for piece in split(task):
                yield piece, _alone(work, piece)


@dataclass
class _Crew(Generic[Task, Result]):
    """One pool of processes, until the tasks or the processes are done for; `lost` are then those in flight."""

    work: Callable[[Task], Result]
    workers: int
    lost: list[Task] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pool = _pool(self.workers, self.work)
        self._running: dict[Future[Result], Task] = {}

    def dismiss(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def results(self, pending: Iterator[Task]) -> Iterator[tuple[Task, Result]]:
        try:
            while self._fill(pending):
                for future in wait(self._running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield self._running.pop(future), result
        except BrokenProcessPool:
            self.lost += self._running.values()

    def _fill(self, pending: Iterator[Task]) -> bool:
        """Keep enough tasks in flight; whether there are any."""
        for task in islice(pending, _IN_FLIGHT * self.workers - len(self._running)):
            try:
                self._running[self._pool.submit(_do, task)] = task
            except BrokenProcessPool:
                self.lost.append(task)  # drawn already: it must not be forgotten
                raise
        return bool(self._running)


def _alone(work: Callable[[Task], Result], task: Task) -> Result | Crashed:
    with _pool(1, work) as pool:
        try:
            result: Result = pool.submit(_do, task).result()
            return result
        except BrokenProcessPool:
            return Crashed()


def _pool(workers: int, work: Callable[[Any], Any]) -> ProcessPoolExecutor:
    # Spawned, not forked: the caller may hold threads, locks and open documents.
    return ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_enter_service, initargs=(work,)
    )


def _do(task: Any) -> Any:
    """Done in a process: its work on a task."""
    return _WORK[0](task)


def _enter_service(work: Callable[[Any], Any]) -> None:
    """Keep the work, leave an interrupt to the parent, and end when it does, however it does."""
    _WORK.append(work)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
