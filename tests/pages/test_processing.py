import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mmret.pages.documents import Document, Kind, Passwords, list_documents
from mmret.pages.failures import PageError
from mmret.pages.ledger import Ledger
from mmret.pages.processing import process


@dataclass(frozen=True)
class Deadly:
    """A job that dies of counting `dead.pdf`, and of page 1 of every other document."""

    def fingerprint(self, kind: Kind) -> str:
        return "deadly"

    def chunk(self, kind: Kind) -> int:
        return 8

    def count(self, path: Path, kind: Kind, password: str | None) -> int:
        if path.name == "dead.pdf":
            os.kill(os.getpid(), signal.SIGKILL)
        return 2

    def pages(
        self, path: Path, document: Document, numbers: Sequence[int], password: str | None
    ) -> Iterator[tuple[int, dict[str, Any] | PageError]]:
        for number in numbers:
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield number, {}

    def is_there(self, id: str) -> bool:
        return True

    def discard(self, ids: Sequence[str]) -> None:
        pass


@pytest.mark.multiprocess
def test_a_page_or_a_document_that_kills_its_process_is_a_crash_and_the_rest_is_done(tmp_path: Path) -> None:
    for name in ("dead.pdf", "whole.pdf"):
        (tmp_path / name).write_bytes(b"x")
    with Ledger(tmp_path / "out.jsonl") as ledger:
        listing = list_documents(tmp_path)
        outcome = process(Deadly(), listing, ledger, passwords=Passwords(), workers=1, label="dying")
        assert list(ledger.entries) == ["whole.pdf#0"]
    assert [(failure.file, failure.page, failure.cause) for failure in outcome.failures] == [
        ("dead.pdf", None, "crash"), ("whole.pdf", 1, "crash")
    ]  # fmt: skip
    assert outcome.done == 1
