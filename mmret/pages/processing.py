"""One job over every page of a folder: counted, done in processes, resumed, and checked for completeness."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

from tqdm import tqdm

from mmret.pages.documents import Document, Kind, Listing, Passwords, page_id, split_page_id
from mmret.pages.failures import Failure, PageError
from mmret.pages.ledger import Ledger
from mmret.pages.work import Crashed, run_tasks


class Job(Protocol):
    """What is done to pages; it is pickled into processes."""

    def fingerprint(self, kind: Kind) -> str:
        """All that decides the result on documents of a kind; results of another one are made anew."""
        ...

    def chunk(self, kind: Kind) -> int:
        """So many pages make one task."""
        ...

    def count(self, path: Path, kind: Kind, password: str | None) -> int:
        """The pages of a document; raises `PageError`."""
        ...

    def pages(
        self, path: Path, document: Document, numbers: Sequence[int], password: str | None
    ) -> Iterator[tuple[int, dict[str, Any] | PageError]]:
        """For each page what belongs into its record, or its error; raises `PageError` for the whole file."""
        ...

    def is_there(self, id: str) -> bool:
        """Whether what the record of a page speaks of is still on disk."""
        ...

    def discard(self, ids: Sequence[str]) -> None:
        """Delete what the records of these pages spoke of."""
        ...


class Chunk(NamedTuple):
    """A task: some pages of one document (none: count them)."""

    document: Document
    password: str | None
    pages: int = 0
    numbers: tuple[int, ...] = ()

    def singly(self) -> Iterable["Chunk"]:
        """A task for each page."""
        return [self._replace(numbers=(number,)) for number in self.numbers] or [self]


@dataclass(frozen=True)
class Outcome:
    """What a job came to: pages done now, pages that were there already, ids that are gone, all that failed."""

    done: int
    kept: int
    forgotten: tuple[str, ...]
    failures: tuple[Failure, ...]


Answer = int | list[dict[str, Any] | Failure]


def process(
    job: Job, listing: Listing, ledger: Ledger, *, passwords: Passwords, workers: int, label: str
) -> Outcome:
    """Do a job for all pages of a folder's documents that the ledger lacks, and bring the ledger up to date.

    Records of documents and pages that are gone, or are no longer what they were, are forgotten; those of a document
    that is there and does not open this time stay. Failures are tried again each time.
    """
    run = _Run(job, listing, ledger, passwords, workers)
    counts = run.count_pages()
    todo = {document: run.outstanding(document, count) for document, count in counts.items()}
    total = sum(counts.values())
    kept = total - sum(map(len, todo.values()))
    run.drop_outdated(todo)
    with tqdm(total=total, initial=kept, desc=label, unit="page", disable=None) as bar:
        done = run.do(counts, todo, bar)
    return Outcome(done, kept, tuple(run.forget(counts)), tuple(sorted(run.failures, key=_order)))


def _order(failure: Failure) -> tuple[str, int]:
    return failure.file, -1 if failure.page is None else failure.page


class _Run:
    def __init__(
        self, job: Job, listing: Listing, ledger: Ledger, passwords: Passwords, workers: int
    ) -> None:
        self.job, self.listing, self.ledger = job, listing, ledger
        self.passwords, self.workers = passwords, workers
        kinds = {document.kind for document in listing.documents}
        self.made_by = {kind: job.fingerprint(kind) for kind in kinds}
        self.work = partial(_answer, job, listing.root, self.made_by)
        self.failures: list[Failure] = list(listing.failures)
        self.dropped: list[str] = []

    def count_pages(self) -> dict[Document, int]:
        """Pages of every document that opens, from the ledger where it has the first as it is now."""
        counts: dict[Document, int] = {}
        unknown = []
        for document in self.listing.documents:
            first = page_id(document.file, 0)
            there = self.ledger.holds(first, document.stamp, self.made_by[document.kind])
            count = self.ledger.entries[first].pages if there else None
            if count is None:
                unknown.append(Chunk(document, self.passwords.of(document.file)))
            else:
                counts[document] = count
        with tqdm(total=len(unknown), desc="counting pages", unit="file", disable=None) as bar:
            for task, answer in run_tasks(self.work, unknown, self.workers):
                bar.update()
                if isinstance(answer, int):
                    counts[task.document] = answer
                else:
                    self._settle(task, answer)
        return {document: counts[document] for document in self.listing.documents if document in counts}

    def outstanding(self, document: Document, count: int) -> list[int]:
        """The pages of a document that have no record of today, or whose files are gone."""
        made_by = self.made_by[document.kind]
        ids = [page_id(document.file, number) for number in range(count)]
        return [
            number
            for number, id in enumerate(ids)
            if not (self.ledger.holds(id, document.stamp, made_by) and self.job.is_there(id))
        ]

    def drop_outdated(self, todo: dict[Document, list[int]]) -> None:
        """Forget the records of pages that are about to be done again, on disk too.

        A page's file is replaced before its new record is written. Were the old record still there when a kill comes
        in between, it would speak of a file that is another.
        """
        again = {page_id(document.file, number) for document, numbers in todo.items() for number in numbers}
        self.dropped = self.ledger.keep(lambda id: id not in again)
        if self.dropped:
            self.ledger.write()
            self.job.discard(self.dropped)

    def do(self, counts: dict[Document, int], todo: dict[Document, list[int]], bar: "tqdm[NoReturn]") -> int:
        """Do what is outstanding; the number of pages that came out well."""
        done = 0
        for task, answer in run_tasks(self.work, self._chunks(counts, todo), self.workers, Chunk.singly):
            done += self._settle(task, answer)
            bar.update(len(task.numbers))
        return done

    def _chunks(self, counts: dict[Document, int], todo: dict[Document, list[int]]) -> Iterator[Chunk]:
        for document, numbers in todo.items():
            size = self.job.chunk(document.kind)
            for start in range(0, len(numbers), size):
                some = tuple(numbers[start : start + size])
                yield Chunk(document, self.passwords.of(document.file), counts[document], some)

    def _settle(self, task: Chunk, answer: Answer | Crashed) -> int:
        """Enter what came of a task, and make a failure of every page that nothing came of."""
        file = task.document.file
        if isinstance(answer, Crashed):
            page = task.numbers[0] if len(task.numbers) == 1 else None
            self.failures.append(Failure(file, page, "crash", "the process that read it was killed"))
            return 0
        assert isinstance(answer, list)  # a count was taken by `count_pages`
        failures = [item for item in answer if isinstance(item, Failure)]
        records = [item for item in answer if isinstance(item, dict)]
        self.ledger.add(records)
        accounted = {item.page for item in failures} | {record["page"] for record in records}
        if None not in accounted:
            lost = set(task.numbers) - accounted
            failures += [
                Failure(file, page, "page count", "the renderer left it out") for page in sorted(lost)
            ]
        self.failures += failures
        return len(records)

    def forget(self, counts: Collection[Document]) -> list[str]:
        """Drop the records of pages that are gone, with their files; all ids of which no record is left.

        Documents that are there and did not open this time keep what they have, and so do those that a run over some
        files did not ask for.
        """
        current = {document.file: document for document in counts}
        shut = {failure.file for failure in self.failures if failure.cause != "missing"} - set(current)
        asked = {document.file for document in self.listing.documents}
        asked |= {failure.file for failure in self.listing.failures}

        def wanted(id: str) -> bool:
            file, _ = split_page_id(id)
            if file in shut or (self.listing.partial and file not in asked):
                return True
            document = current.get(file)
            return document is not None and self.ledger.holds(id, document.stamp, self.made_by[document.kind])

        gone = self.ledger.keep(wanted)
        self.job.discard(gone)
        return gone + [id for id in self.dropped if id not in self.ledger.entries]


def _answer(job: Job, root: Path, made_by: dict[Kind, str], task: Chunk) -> Answer:
    """Done in a process: count the pages of a document, or make the records of some."""
    document = task.document
    path = root / document.file
    try:
        if not task.numbers:
            return job.count(path, document.kind, task.password)
        found = job.pages(path, document, task.numbers, task.password)
        return [_record(task, made_by[document.kind], number, result) for number, result in found]
    except PageError as error:
        return [Failure.of(document.file, None, error)]


def _record(
    task: Chunk, made_by: str, number: int, result: dict[str, Any] | PageError
) -> dict[str, Any] | Failure:
    file, _, stamp = task.document
    if isinstance(result, PageError):
        return Failure.of(file, number, result)
    place = {"id": page_id(file, number), "file": file, "page": number, "pages": task.pages}
    return {**place, **result, "stamp": stamp, "made_by": made_by}
