r"""JSON lines about pages, or other images, that grow while they are made, survive a kill, and end whole and in order.

New lines go to a journal beside the file; what a kill cut short is dropped. At the end (or when the next run opens
it) both become the file, atomically. Only the places of lines are held in memory, never their content.
"""

import fcntl
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from mmret.atomic import atomic_write, make_folder
from mmret.errors import InputError
from mmret.pages.documents import place_of

Record = Mapping[str, Any]

JOURNAL_SUFFIX = ".journal"


class Entry(NamedTuple):
    """One line: what it was made of and by, the pages of its document if it says so, and where it stands."""

    stamp: str
    made_by: str
    pages: int | None
    in_journal: bool
    offset: int


class Ledger:
    """A file of JSON lines by the ids of pages or other images; use it in a `with` block.

    Every record has `id`, `stamp` (of its source) and `made_by`, and may have `pages` (of its document).

    Raises:
        InputError: another process writes it; it cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        make_folder(self.path.parent)
        if self.path.is_dir():
            raise InputError(f"{self.path} is a folder; name a file to write.")
        self._journal = _locked(self.path.with_name(self.path.name + JOURNAL_SUFFIX))
        try:
            self.entries = self._read()
            self.write()
        except BaseException:
            self._journal.close()
            raise

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        """After success the journal goes; after anything else it stays, for the next run to take over."""
        if kind is None:
            self.write()
            Path(self._journal.name).unlink(missing_ok=True)
        self._journal.close()

    def _read(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        if self.path.exists():
            with self.path.open("rb") as file:
                entries |= _entries(file, str(self.path), in_journal=False)
        self._journal.seek(0)
        entries |= _entries(self._journal, self._journal.name, in_journal=True)
        return entries

    def holds(self, id: str, stamp: str, made_by: str) -> bool:
        """Whether there is a record of this page, of this source, made in this way."""
        entry = self.entries.get(id)
        return entry is not None and (entry.stamp, entry.made_by) == (stamp, made_by)

    def add(self, records: Iterable[Record]) -> None:
        """Append records to the journal; those of the same ids are replaced. Raises `InputError`."""
        try:
            offset = self._journal.seek(0, 2)
            for record in records:
                line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
                entry = _entry(record, offset, in_journal=True)
                self._journal.write(line)
                self.entries[record["id"]] = entry
                offset += len(line)
            self._journal.flush()
        except OSError as error:
            raise InputError(
                f"Cannot write {self._journal.name}: {error.strerror}; mend that and run again."
            ) from error

    def keep(self, wanted: Callable[[str], bool]) -> list[str]:
        """Forget all records whose ids are not wanted, and return these ids."""
        forgotten = [id for id in self.entries if not wanted(id)]
        for id in forgotten:
            del self.entries[id]
        return forgotten

    def write(self) -> None:
        """Make one file of both, sorted by file and page, and empty the journal."""
        ordered = {id: self.entries[id] for id in sorted(self.entries, key=_order)}
        written: dict[str, Entry] = {}
        with atomic_write(self.path) as new:
            for id, line in zip(ordered, self._lines(ordered.values()), strict=True):
                written[id] = ordered[id]._replace(in_journal=False, offset=new.tell())
                new.write(line)
        self.entries = written
        self._journal.truncate(0)

    def _lines(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        old = self.path.open("rb") if self.path.exists() else None
        try:
            for entry in entries:
                file = self._journal if entry.in_journal else old
                assert file is not None  # an entry outside the journal was read from the file
                file.seek(entry.offset)
                yield file.readline()
        finally:
            if old is not None:
                old.close()


def _order(id: str) -> tuple[str, int]:
    file, page = place_of(id)
    return file, page or 0


def _locked(path: Path) -> BinaryIO:
    try:
        journal = path.open("a+b")
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"another process is writing {path}; wait until it has ended.") from None
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror}; mend that and run again.") from error
    return journal


def _entry(record: Record, offset: int, *, in_journal: bool) -> Entry:
    # Interned: ten thousand pages share one text about what made them.
    stamp, made_by = sys.intern(record["stamp"]), sys.intern(record["made_by"])
    return Entry(stamp, made_by, record.get("pages"), in_journal, offset)


def _entries(file: BinaryIO, name: str, *, in_journal: bool) -> dict[str, Entry]:
    """Entries of a file; the last line of a journal may be cut, every other mistake is an error."""
    entries: dict[str, Entry] = {}
    offset = 0
    for number, line in enumerate(file, start=1):
        if in_journal and not line.endswith(b"\n"):
            break
        try:
            record = json.loads(line)
            entries[sys.intern(record["id"])] = _entry(record, offset, in_journal=in_journal)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{name}:{number} is no record of a page ({error}); delete it, or name another file."
            ) from error
        offset += len(line)
    return entries
