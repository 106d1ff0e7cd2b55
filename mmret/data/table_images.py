"""Images in the cells of a table (parquet, arrow, JSON lines), read one by one: an `ImageSource` without files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmret.data.images import file_stamp, read_image, read_image_bytes
from mmret.data.record_tables import RecordTable
from mmret.errors import InputError


class TableImages:
    """Images in a column, by id.

    A cell holds an image's bytes, `{"bytes": …, "path": …}` (as `datasets` stores images), or a path below `root`.

    Args:
        table: The table.
        column: Of the images.
        rows: Id → row, in the order of `ids`.
        root: What paths in cells are below; cells with bytes need none.
    """

    def __init__(
        self, table: RecordTable, column: str, rows: Mapping[str, int], root: Path | None = None
    ) -> None:
        self.table, self.column, self.rows, self.root = table, column, rows, root

    @property
    def ids(self) -> Sequence[str]:
        """All ids, in the table's order."""
        return tuple(self.rows)

    def read(self, id: str) -> Image.Image:
        """Return the image, RGB; raises `InputError`."""
        content = self._content(id)
        return read_image(content) if isinstance(content, Path) else read_image_bytes(content, self.place(id))

    def stamp(self, id: str) -> str:
        """Row, and the table file's size and modification time; raises `InputError`."""
        row = self.rows[id]
        return f"{file_stamp(self.table.file(row))}-{row}"

    def place(self, id: str) -> str:
        """Where the image lies: file, row and column."""
        row = self.rows[id]
        return f"{self.table.file(row)}, row of {id}, {self.column}"

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Which of these are paths without a file; cells with bytes are not looked at, and told when they are read."""
        if self.root is None:
            return []
        return [id for id in ids if isinstance(path := self._content(id), Path) and not path.is_file()]

    def _cell(self, id: str) -> Any:
        return self.table.cell(self.column, self.rows[id])

    def _content(self, id: str) -> bytes | Path:
        cell = self._cell(id)
        if isinstance(cell, Mapping):
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, bytes):
            return cell
        if isinstance(cell, str) and self.root is not None:
            return self.root / cell
        raise InputError(f"{self.place(id)}: {type(cell).__name__} is no image; bytes or a path are needed.")


class ListedImages(TableImages):
    """Images in a column of lists, as Docmatix has them: `12_0` is the first image of row 12, which counts from 0.

    Raises `InputError` for an id of another form, or a row that is not there.

    Args:
        table: The table.
        column: Of the lists of images.
        ids: Of the images that are needed; what else the table holds is not looked at.
    """

    def __init__(self, table: RecordTable, column: str, ids: Iterable[str]) -> None:
        super().__init__(table, column, {id: self._numbers(id, table)[0] for id in ids})

    @staticmethod
    def _numbers(id: str, table: RecordTable) -> tuple[int, int]:
        row, mark, image = id.partition("_")
        if not (mark and row.isdecimal() and image.isdecimal() and int(row) < len(table)):
            raise InputError(
                f"{table.paths[0]}: {id!r} names no image of {len(table):,} rows; ids are like 12_0, row and image."
            )
        return int(row), int(image)

    def _cell(self, id: str) -> Any:
        images, number = super()._cell(id), self._numbers(id, self.table)[1]
        if number >= len(images or ()):
            raise InputError(f"{self.place(id)} has {len(images or ()):,} images, and no {number} (from 0).")
        return images[number]
