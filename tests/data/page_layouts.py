"""Small sets of pages in the layouts of their publishers: drawn images, words of our own."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from PIL import Image

from mmret.data.page_labels import ASKED
from mmret.data.vidore import SLIDEVQA, VIDORE
from tests.data.published_layouts import NAMES, draw, say_trimmed
from tests.pages.pdf_files import make_pdf

Rows = Sequence[Mapping[str, Any]]

QUESTIONS = (
    ("q0", "Which page is about the red square?", {0: 1}),
    ("q1", "Where are discs?", {6: 2, 7: 1}),
    ("q2", "What is blue?", {2: 1, 8: 1, 14: 1}),
)
"""Id, text and the numbers of the right pages with their grades."""


def picture(number: int) -> bytes:
    """A PNG of `NAMES[number]`."""
    image = BytesIO()
    Image.new("RGB", (40, 30), (10 * number, 200, 90)).save(image, "PNG")
    return image.getvalue()


def cells(count: int) -> list[dict[str, Any]]:
    """Image cells as `datasets` stores them."""
    return [{"bytes": picture(number), "path": None} for number in range(count)]


def write_parquet(path: Path, rows: Rows, rows_a_group: int = 3) -> Path:
    """A parquet file in several row groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path, row_group_size=rows_a_group)
    return path


def write_arrow(path: Path, rows: Rows) -> Path:
    """An arrow stream, as `datasets` saves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(list(rows))
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=5)
    return path


def write_lines(path: Path, rows: Rows) -> Path:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tables(pages: int = 16) -> dict[str, list[dict[str, Any]]]:
    """The rows of corpus, queries and qrels."""
    images = cells(pages)
    return {
        "corpus": [
            {"corpus-id": number, "image": image, "text": NAMES[number]}
            for number, image in enumerate(images)
        ],
        "queries": [{"query-id": id, "query": text, "language": "english"} for id, text, _ in QUESTIONS],
        "qrels": [
            {"query-id": id, "corpus-id": page, "score": grade}
            for id, _, right in QUESTIONS
            for page, grade in right.items()
        ],
    }


def write_tables(root: Path) -> Path:
    """Three tables as the hub has them, in parquet."""
    for name, rows in tables().items():
        write_parquet(root / name / "test-00000-of-00001.parquet", rows)
    return say_trimmed(root)


def write_image_folder(root: Path) -> Path:
    """Three tables in JSON lines (qrels as BEIR's TSV), images in files."""
    for number in range(16):
        draw(root / "images" / f"{number}.png", number)
    rows = tables()
    write_lines(root / "corpus.jsonl", [{"_id": f"{n}", "image": f"images/{n}.png"} for n in range(16)])
    write_lines(
        root / "queries.jsonl", [{"_id": row["query-id"], "text": row["query"]} for row in rows["queries"]]
    )
    lines = [
        "query-id\tcorpus-id\tscore",
        *("\t".join(str(value) for value in row.values()) for row in rows["qrels"]),
    ]
    (root / "qrels").mkdir()
    (root / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return root


def write_rows(root: Path) -> Path:
    """Rows of query and page in two shards: two ask the same, one asks nothing, one page comes twice."""
    asked = ["What is red?", "What is green?", None, "What is red?", "What is wide?"]
    files = ["a.png", "b.png", "c.png", "d.png", "a.png"]
    rows = [
        {"query": query, "image": image, "image_filename": name, "text_description": f"about {name}"}
        for query, name, image in zip(asked, files, cells(5), strict=True)
    ]
    write_parquet(root / "data" / "test-00000-of-00002.parquet", rows[:3])
    write_parquet(root / "data" / "test-00001-of-00002.parquet", rows[3:])
    return say_trimmed(root)


SLIDES = {"sun-2": (0, 1, 2), "moon": (3, 4, 5), "sea": (6, 7, 8)}
"""Deck → what its slides show."""


def slide_row(id: str, deck: str, evidence: list[int]) -> dict[str, Any]:
    """A question about a deck, in SlideVQA's own layout."""
    slides = {
        f"page_{place}": {"bytes": picture(number), "path": None}
        for place, number in enumerate(SLIDES[deck], start=1)
    }
    return {
        "qa_id": id,
        "question": f"what of {id}?",
        "deck_name": deck,
        **slides,
        "evidence_pages": evidence,
    }


def write_slide_rows(root: Path, *train: dict[str, Any]) -> Path:
    """Five questions, of `test` about the deck "sea"; and more of `train`."""
    rows = [
        slide_row("1", "sun-2", [2]),
        slide_row("2", "sun-2", [1, 3]),
        slide_row("3", "moon", [3]),
        *train,
    ]
    write_parquet(root / "data" / "train-00000-of-00002.parquet", rows[:1])
    write_parquet(root / "data" / "train-00001-of-00002.parquet", rows[1:])
    write_parquet(
        root / "data" / "test-00000-of-00001.parquet",
        [slide_row("4", "sea", [1]), slide_row("5", "sea", [2, 3])],
    )
    return say_trimmed(root)


PASSAGES = (
    "Ada Lovelace was born in London in 1815.",
    "The café lies in Zürich, Switzerland.",
    "Nothing of interest here.",
    "London again: 1666, the great fire.",
)


def write_wiki_ss(root: Path) -> Path:
    """Wiki-SS in its old columns, NQ and TriviaQA; images that are no images, since nobody may decode them."""
    corpus = [
        {"docid": f"d{number}", "image": {"bytes": picture(number), "path": None}, "text": text}
        for number, text in enumerate(PASSAGES)
    ]
    write_parquet(root / "wiki-ss-corpus/data/train-00000-of-00002.parquet", corpus[:2])
    write_parquet(root / "wiki-ss-corpus/data/train-00001-of-00002.parquet", corpus[2:])
    asked = [
        ("1", "Where was Ada Lovelace born?", ["London"]),
        ("2", "Which city?", ["Zurich", "Zürich"]),
        ("3", "Who?", ["Turing"]),
    ]
    old = [
        {
            "query_id": id,
            "query": text,
            "answers": answers,
            "positive_passages": [{"docid": "d0"}],
            "negative_passages": [],
        }
        for id, text, answers in asked
    ]
    for split in ("train", "test"):
        write_parquet(root / f"wiki-ss-nq/data/{split}-00000-of-00001.parquet", old)
    trivia = [
        {"query_id": id, "question": text, "answer": {"value": answers[0], "aliases": answers}}
        for id, text, answers in asked
    ]
    write_lines(root / "wiki-ss-triviaqa/test.jsonl", trivia)
    return say_trimmed(root)


def write_labelled(root: Path) -> Path:
    """Two PDFs and three questions, one on pages of both."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "standard.pdf").write_bytes(make_pdf(["standard copay is 20", "deductible is 500", "networks"]))
    (root / "plus.pdf").write_bytes(make_pdf(["copay is 10", "deductible is 100"]))
    asked: list[tuple[str, str, list[list[object]]]] = [
        ("c0", "what is the standard copay?", [["standard.pdf", 0]]),
        ("c1", "what is the deductible of both plans?", [["standard.pdf", 1], ["plus.pdf", 1]]),
        ("c2", "which networks?", [["standard.pdf", 2]]),
    ]
    write_lines(
        root / "queries.jsonl", [{"qid": id, "query": text, "relevant": labels} for id, text, labels in asked]
    )
    return say_trimmed(root)


def write_manuals(root: Path) -> Path:
    """The four manuals that are asked about, each with an outline, and one that is not."""
    for file in (*ASKED, "pari-doc/users.pdf"):
        place = root / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(make_pdf(["contents", "how to begin"], outline=[("Beginning", 1)]))
    return say_trimmed(root)


def write_pages(root: Path) -> Path:
    """Every published set of pages, in the folders where `MMRET_DATA` is looked into."""
    other = {"vidore-v1-docvqa": write_rows, "slidevqa": write_slide_rows}
    for release in (*VIDORE, *SLIDEVQA):
        other.get(release.name, write_tables)(root / release.folder)
    write_wiki_ss(root / "wiki-ss")
    write_labelled(root / "documents/contoso")
    write_manuals(root / "documents/debian-manuals")
    return root
