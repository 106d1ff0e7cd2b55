import csv
from html.parser import HTMLParser
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmret.tables.formats import html, latex, markdown, tidy_csv
from mmret.tables.grids import Column, Entry, Grid

HOSTILE = "a|b & 50% <script>alert('x')</script> $5_{x} \\ *b* #1 ~^"
GRID = Grid(
    HOSTILE,
    (Column("Method", numeric=False), Column("map@5 (÷ min)")),
    (
        (Entry("sum_raw"), Entry("12.30", "[10.00, 14.50]", "best")),
        (Entry(HOSTILE), Entry("–", tone="muted")),
    ),
)


class Texts(HTMLParser):
    """The texts between the tags, and the tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_markdown_aligns_marks_the_best_and_escapes() -> None:
    plain = Grid("T", GRID.columns, GRID.body[:1])
    assert markdown([plain], ["a note"]) == (
        "**T**\n\n"
        "| Method  |            map@5 (÷ min) |\n"
        "| ------- | -----------------------: |\n"
        "| sum_raw | **12.30** [10.00, 14.50] |\n\n"
        "- a note\n"
    )
    assert r"a\|b & 50% \<script>alert('x')\</script> $5\_{x} \\ \*b\* #1 ~^" in markdown([GRID], [])


def test_latex_escapes_every_sign_of_its_own() -> None:
    text = latex([GRID], ["Δ ≥ 5 %"])
    assert r"{}sum\_raw & \textbf{12.30} {\scriptsize [10.00, 14.50]} \\" in text
    assert r"\caption{a\textbar{}b \& 50\% \textless{}script\textgreater{}alert('x')" in text
    assert r"\$5\_\{x\} \textbackslash{} *b* \#1 \textasciitilde{}\textasciicircum{}" in text
    assert r"\begin{tabular}{lr}" in text
    assert r"Method & map@5 ($\div$ min) \\" in text
    assert r"\item $\Delta$ $\geq$ 5 \%" in text


def test_html_keeps_texts_as_texts() -> None:
    page = Texts(html([GRID], [HOSTILE]))
    assert "script" not in page.tags
    assert page.texts.count(HOSTILE) == 3
    assert page.tags.count("table") == 1


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1))
def test_any_text_stays_one_line_of_a_markdown_table_and_one_text_of_html(text: str) -> None:
    grid = Grid("T", (Column("A", numeric=False), Column("B")), ((Entry(text), Entry("1")),))
    line = markdown([grid], []).rstrip("\n").split("\n")[-1]
    unescaped = line.replace("\\\\", "").replace("\\|", "")
    assert unescaped.count("|") == 3
    assert text in Texts(html([grid], [])).texts


def test_csv_quotes_blanks_and_defuses_formulas() -> None:
    text = tidy_csv([{"row": '=HYPERLINK("x")', "delta": -0.5, "paper": None, "note": 'a, "b"\nc'}], FIELDS)
    assert list(csv.reader(StringIO(text))) == [FIELDS, ['\'=HYPERLINK("x")', "-0.5", "", 'a, "b"\nc']]


FIELDS = ["row", "delta", "paper", "note"]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("_x_", r"\_x\_"),
        ("a_b", "a_b"),
        ("[a](b)", r"\[a](b)"),
        ("`c`", r"\`c\`"),
        ("&amp;", r"\&amp;"),
        ("> q", r"\> q"),
        ("p < 1", "p < 1"),
    ],
)
def test_markdown_markup_in_a_text_stays_text(text: str, escaped: str) -> None:
    grid = Grid("T", (Column("A", numeric=False),), ((Entry(text),),))
    assert f"| {escaped} " in markdown([grid], [])
