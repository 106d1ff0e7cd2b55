"""SlideVQA as its authors publish it: a row for each question, with the 20 slides of its deck (arXiv 2301.04883).

| column | |
|---|---|
| `qa_id`, `question` | the question |
| `deck_name` | its deck; the questions of a deck have the same slides |
| `page_1` … `page_20` | images |
| `evidence_pages` | the numbers of the slides that answer it, from 1 |

The hub has it as `NTT-hil-insight/SlideVQA`. A slide's id is `DECK/page_3`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmret.data import records
from mmret.data.benchmark import Query
from mmret.data.published import Annotations
from mmret.data.record_tables import RecordTable, require_split, require_table
from mmret.data.table_images import TableImages
from mmret.errors import InputError

_FIRST = "page_1"
_SLIDE = re.compile(r"page_(\d+)")


class SlideImages(TableImages):
    """Slides by id, each from the first row of its deck.

    Args:
        table: The rows.
        decks: Deck → row, in the order of `ids`.
        slides: The names of the columns with slides.
    """

    def __init__(self, table: RecordTable, decks: Mapping[str, int], slides: Sequence[str]) -> None:
        rows = {f"{deck}/{slide}": row for deck, row in decks.items() for slide in slides}
        super().__init__(table, _FIRST, rows)

    def _cell(self, id: str) -> Any:
        return self.table.cell(id.rpartition("/")[2], self.rows[id])


def has_slides(table: RecordTable) -> bool:
    """Whether a table is of this layout."""
    return table.optional(_FIRST) is not None


def deck_of(slide: str) -> str:
    """The deck of a slide, by its id."""
    return slide.rpartition("/")[0]


def read_split(root: Path, split: str) -> Annotations:
    """A split's questions over the slides of all splits that are in the folder, as DSE asks them.

    Raises:
        InputError: There is no such split; and as `read_slides`.
    """
    questions = require_table(root, "data", split)
    require_split(questions, split)
    first = questions.paths[0]
    return read_slides(questions, RecordTable(sorted(first.parent.glob(f"*{first.suffix}"))))


def read_slides(questions: RecordTable, pool: RecordTable | None = None) -> Annotations:
    """The questions of a table, and all slides of another, `pool`, that holds its rows too; else of its own decks.

    No image is read: each deck is taken to have all slides that the table has columns for.

    Raises:
        InputError: Columns are missing; evidence that is no slide of the question's deck.
    """
    everything = pool or questions
    deck = everything.require("deck_name")
    decks: dict[str, int] = {}
    for number, (where, row) in enumerate(everything.rows([deck])):
        decks.setdefault(records.field(row, deck, str, where), number)
    numbers = sorted(int(found[1]) for name in everything.columns if (found := _SLIDE.fullmatch(name)))
    images = SlideImages(everything, decks, [f"page_{number}" for number in numbers])
    return Annotations(tuple(_questions(questions, images.rows)), tuple(images.ids), images)


def _questions(table: RecordTable, slides: Mapping[str, int]) -> Iterable[Query]:
    id, text, deck = table.require("qa_id"), table.require("question"), table.require("deck_name")
    evidence = table.require("evidence_pages")
    for where, row in table.rows([id, text, deck, evidence]):
        right = [f"{row[deck]}/page_{number}" for number in row[evidence] or ()]
        unknown = [slide for slide in right if slide not in slides]
        if unknown or not right:
            raise InputError(
                f"{where}: evidence_pages is {row[evidence]}, which names no slide of {row[deck]}."
            )
        yield Query(str(row[id]), None, (records.field(row, text, str, where),), dict.fromkeys(right, 1))
