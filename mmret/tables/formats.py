"""Grids as Markdown, LaTeX and HTML, and a table's cells as tidy CSV; each format escapes its own signs."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Final

from mmret.tables.grids import Column, Entry, Grid
from mmret.templates import render_template

_MARKDOWN_SIGNS: Final = re.compile(
    r"[\\`*|]|^[-+#>]|<(?=[A-Za-z/!?])|&(?=[#0-9A-Za-z])"  # code, emphasis, cells; blocks; tags; entities
    r"|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|\[(?=[^\]]*\]\()"  # emphasis that is no part of a name; links
)

_LATEX: Final[Mapping[str, str]] = {
    **{sign: f"\\{sign}" for sign in "{}$&#_%"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    **{
        sign: f"${command}$"
        for sign, command in {
            "−": "-",
            "×": r"\times",
            "÷": r"\div",
            "±": r"\pm",
            "≤": r"\leq",
            "≥": r"\geq",
            "→": r"\rightarrow",
            "Δ": r"\Delta",
            "α": r"\alpha",
            "β": r"\beta",
            "γ": r"\gamma",
            "τ": r"\tau",
            "φ": r"\varphi",
        }.items()
    },
}


def markdown(grids: Sequence[Grid], notes: Sequence[str]) -> str:
    """GitHub-flavoured Markdown with aligned columns."""
    parts = [f"**{_markdown_text(grid.caption)}**\n\n{_markdown_grid(grid)}" for grid in grids]
    if notes:
        parts.append("\n".join(f"- {_markdown_text(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _markdown_text(text: str) -> str:
    """The text with every sign that Markdown or HTML would take for its own behind a backslash."""
    return _MARKDOWN_SIGNS.sub(lambda match: f"\\{match[0]}", " ".join(text.split()))


def _markdown_entry(entry: Entry) -> str:
    text = _markdown_text(entry.text)
    text = f"**{text}**" if entry.tone == "best" else text
    return f"{text} {_markdown_text(entry.detail)}".rstrip()


def _markdown_grid(grid: Grid) -> str:
    lines = [[_markdown_text(column.title) for column in grid.columns]]
    lines += [[_markdown_entry(entry) for entry in entries] for entries in grid.body]
    widths = [max(3, *(len(line[place]) for line in lines)) for place in range(len(grid.columns))]
    rules = [
        "-" * (width - 1) + (":" if column.numeric else "-")
        for column, width in zip(grid.columns, widths, strict=True)
    ]
    return "\n".join(_markdown_line(line, grid.columns, widths) for line in (lines[0], rules, *lines[1:]))


def _markdown_line(texts: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    padded = (
        text.rjust(width) if column.numeric else text.ljust(width)
        for text, column, width in zip(texts, columns, widths, strict=True)
    )
    return f"| {' | '.join(padded)} |"


def latex(grids: Sequence[Grid], notes: Sequence[str]) -> str:
    """`table` environments for the booktabs package; the notes follow as a list in small print."""
    parts = [_latex_grid(grid) for grid in grids]
    if notes:
        items = "\n".join(f"  \\item {_latex_text(note)}" for note in notes)
        parts.append(f"\\begin{{itemize}}\\footnotesize\n{items}\n\\end{{itemize}}")
    return "\n\n".join(parts) + "\n"


def _latex_text(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))


def _latex_entry(entry: Entry) -> str:
    text = _latex_text(entry.text)
    text = f"\\textbf{{{text}}}" if entry.tone == "best" else text
    return f"{text} {{\\scriptsize {_latex_text(entry.detail)}}}" if entry.detail else text


def _latex_grid(grid: Grid) -> str:
    titles = " & ".join(_latex_text(column.title) for column in grid.columns)
    # A line that begins with "[" after "\\" would be read as the option of the line break.
    body = [f"{{}}{' & '.join(map(_latex_entry, entries))} \\\\" for entries in grid.body]
    lines = (
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_latex_text(grid.caption)}}}",
        f"\\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in grid.columns)}}}",
        "\\toprule",
        f"{titles} \\\\",
        "\\midrule",
        *body,
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    )
    return "\n".join(lines)


def html(grids: Sequence[Grid], notes: Sequence[str]) -> str:
    """A fragment with its own style, for notebooks and pages; reads in light and dark."""
    return render_template("table.html", grids=grids, notes=notes)


def tidy_csv(records: Iterable[Mapping[str, object]], fields: Sequence[str]) -> str:
    """One line for each record; None is an empty field.

    Texts that a spreadsheet would run as a formula get an apostrophe in front; numbers are written in full.
    """
    buffer = StringIO()
    writer = csv.DictWriter(buffer, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv_value(value) for key, value in record.items()} for record in records)
    return buffer.getvalue()


def _csv_value(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value
