"""What a notebook shows of a run or an evaluation: a small HTML table, every text escaped.

Pictures need images, of which retrieval knows nothing: `mmret.display.show_run` has them.
"""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A caption, a line of titles and the rows, whose first text is a title too."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in header)
    body = "".join(f"<tr>{_row(texts)}</tr>" for texts in rows)
    return (
        f"<table><caption>{escape(caption)}</caption>"
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
    )


def _row(texts: Sequence[str]) -> str:
    first, *others = map(escape, texts)
    return f'<th scope="row">{first}</th>' + "".join(f"<td>{text}</td>" for text in others)
