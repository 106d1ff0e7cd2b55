from pathlib import Path

import pytest

from mmret.data.page_sources import open_query_pages
from mmret.data.query_pages import PageQuery, QueryPages
from mmret.errors import InputError, InputWarning
from mmret.pages.documents import list_documents
from mmret.pages.render import render_documents
from tests.data.page_layouts import (
    QUESTIONS,
    write_image_folder,
    write_labelled,
    write_lines,
    write_rows,
    write_tables,
)
from tests.data.training_pages import write_manuals, write_pairs
from tests.pages.pdf_files import make_pdf, page_in

DOCUMENTS = Path(__file__).parents[3] / "shared" / "data" / "documents"


def positives(data: QueryPages) -> dict[str, tuple[str, ...]]:
    return {query.text: query.positives for query in data.queries}


@pytest.mark.parametrize("write", [write_tables, write_image_folder])
def test_three_tables(write, tmp_path: Path) -> None:
    data = open_query_pages(f"tables:{write(tmp_path)}", "test")
    assert positives(data) == {text: tuple(f"{page}" for page in right) for _, text, right in QUESTIONS}
    assert len(data.pages.ids) == 16
    assert data.pages.read("7").mode == "RGB"


def test_rows_of_query_and_page_join_what_asks_the_same(tmp_path: Path) -> None:
    data = open_query_pages(f"tables:{write_rows(tmp_path)}", "test")
    assert positives(data)["What is red?"] == ("a.png", "d.png")
    assert tuple(data.pages.ids) == ("a.png", "b.png", "c.png", "d.png")


def test_queries_of_one_language(tmp_path: Path) -> None:
    root = write_tables(tmp_path)
    assert len(open_query_pages(f"tables:{root}?language=english", "test").queries) == 3
    with pytest.raises(InputError, match="has no query to train on"):
        open_query_pages(f"tables:{root}?language=french", "test")


def test_labelled_documents(tmp_path: Path) -> None:
    data = open_query_pages(f"labelled:{write_labelled(tmp_path)}")
    assert data.queries[1].positives == ("standard.pdf#1", "plus.pdf#1")
    assert page_in(data.pages.read("plus.pdf#1")) == 1


def test_titles_of_outlines_share_their_pages_between_documents(tmp_path: Path) -> None:
    root = write_manuals(tmp_path)
    data = open_query_pages(f"outlines:{root}")
    assert [(query.text, query.positives, query.group) for query in data.queries] == [
        ("Introduction", ("a.pdf#0",), "a.pdf"),
        ("Usage", ("a.pdf#1", "a.pdf#2"), "a.pdf"),
        ("INTRODUCTION", ("b.pdf#0",), "b.pdf"),
    ]
    assert data.queries[0].relevant == data.queries[2].relevant == {"a.pdf#0", "b.pdf#0"}
    assert data.queries[1].relevant == {"a.pdf#1", "a.pdf#2"}
    assert len(data.pages.ids) == 6
    assert page_in(data.pages.read("a.pdf#2")) == 2


def test_outlines_over_rendered_pages_and_at_another_size(tmp_path: Path) -> None:
    root = write_manuals(tmp_path / "docs")
    render_documents(list_documents(root), tmp_path / "pages", workers=0)
    rendered = open_query_pages(f"outlines:{root}?pages={tmp_path / 'pages'}")
    assert page_in(rendered.pages.read("a.pdf#2")) == 2
    small = open_query_pages(f"outlines:{root}?longest_side=100")
    assert small.pages.read("a.pdf#2").size == (100, 67)
    assert small.queries == rendered.queries


def test_a_broken_document_leaves_the_others(tmp_path: Path) -> None:
    root = write_manuals(tmp_path)
    (root / "broken.pdf").write_bytes(b"no PDF")
    with pytest.warns(InputWarning, match=r"1 documents cannot be read .* broken.pdf"):
        assert len(open_query_pages(f"outlines:{root}").queries) == 3


def test_pairs_of_images(tmp_path: Path) -> None:
    data = open_query_pages(f"pairs:{write_pairs(tmp_path, 3, {0: ['p2.png', 'p1.png']})}")
    assert positives(data) == {f"q{n}": (f"p{n}.png",) for n in range(3)}
    assert data.queries[0].negatives == ("p2.png", "p1.png")
    assert data.pages.read("p2.png").getpixel((0, 0)) == (20, 200, 90)


def test_pairs_in_csv_with_images_and_pages_of_documents(tmp_path: Path) -> None:
    write_pairs(tmp_path, 2)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.pdf").write_bytes(make_pdf(["x", "y", "z"]))
    rows = [
        "query,page,negatives",
        'what is "x"?,sub/a.pdf#0,p0.png',
        'and y?,sub/a.pdf#1,"[""p1.png"", [""sub/a.pdf"", 2]]"',
        'what is "x"?,p0.png,',
    ]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    data = open_query_pages(f"pairs:{tmp_path / 'mine.csv'}?longest_side=60")
    assert [(q.id, q.text, q.positives, q.negatives) for q in data.queries] == [
        ("0", 'what is "x"?', ("sub/a.pdf#0", "p0.png"), ()),
        ("1", "and y?", ("sub/a.pdf#1",), ("p1.png", "sub/a.pdf#2")),
    ]
    assert data.pages.ids == ("p0.png", "p1.png", "sub/a.pdf#0", "sub/a.pdf#1", "sub/a.pdf#2")
    assert data.pages.read("sub/a.pdf#1").size == (60, 40)
    assert data.pages.stamp("p0.png") != data.pages.stamp("sub/a.pdf#1")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"query": "a"}, r"has no column 'page'"),
        ({"page": "p0.png"}, r"has no column 'query'"),
        ({"query": " ", "page": "p0.png"}, "row 0 has no words in 'query'"),
        ({"query": "a", "page": "none.png"}, "1 images are not there, the first .*none.png"),
        ({"query": "a", "page": 7}, "the page is 7, where a path"),
        ({"query": "a", "page": "a.pdf"}, "names the document a.pdf without a page; write a.pdf#0"),
        ({"query": "a", "page": ["a.pdf", 9]}, "the query '0' names the page 'a.pdf#9', which is not there"),
        ({"query": "a", "page": "broken.pdf#0"}, "be read: broken.pdf: truncated"),
        ({"query": "a", "page": "gone.pdf#0"}, "there is no file"),
        ({"query": "a", "page": "p0.png", "negatives": "[1"}, "'negatives' is no JSON list"),
    ],
)
def test_a_row_that_is_no_pair_is_told_in_a_sentence(row: dict, sentence: str, tmp_path: Path) -> None:
    write_pairs(tmp_path, 1)
    (tmp_path / "a.pdf").write_bytes(make_pdf(["x"]))
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing else")
    with pytest.raises(InputError, match=sentence):
        open_query_pages(f"pairs:{write_lines(tmp_path / 'bad.jsonl', [row])}")


@pytest.mark.parametrize(
    ("source", "split", "root", "sentence"),
    [
        ("photos", "train", None, "source is 'photos'; queries and pages come from tables:FOLDER"),
        ("pairs:", "train", None, "queries and pages come from"),
        ("tables:nowhere", "train", None, "There is no folder nowhere"),
        ("tables:nowhere?pages=x", "train", None, "has the option 'pages'; tables: takes language"),
        ("pairs:nowhere.csv", "train", None, "There is no file nowhere.csv"),
        ("pairs:nowhere.csv", "val", None, "has no splits, so none is 'val'"),
        ("pairs:a.csv", "train", "b", r"names its place, so leave root \(b\) out"),
        ("outlines:.?longest_side=wide", "train", None, "longest_side is 'wide'"),
    ],
)
def test_sources_that_cannot_be(source: str, split: str, root: str | None, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        open_query_pages(source, split, root)


class Pages:
    """Ids of pages that nobody reads."""

    ids = ("a", "b", "c", "d")

    def read(self, id: str):
        raise AssertionError(id)

    stamp = read


def test_what_asks_the_same_is_no_negative_of_one_another() -> None:
    data = QueryPages.of(
        "x",
        [
            PageQuery("1", "Where  is it?", ("a",), ("a", "b", "c")),
            PageQuery("2", "where is IT?", ("b",)),
            PageQuery("3", "what?", ("c",), also_relevant=frozenset("d")),
        ],
        Pages(),
    )
    assert [query.relevant for query in data.queries] == [{"a", "b"}, {"a", "b"}, {"c", "d"}]
    assert data.queries[0].negatives == ("c",)


@pytest.mark.parametrize(
    ("queries", "sentence"),
    [
        ([], "x has no query to train on"),
        ([PageQuery("1", "q", ())], "the query '1' names no page that answers it"),
        ([PageQuery("1", " ", ("a",))], "the query '1' has no words"),
        ([PageQuery("1", "q", ("a",), ("z",))], "the query '1' names the page 'z', which is not there"),
        ([PageQuery("1", "q", ("a",)), PageQuery("1", "r", ("b",))], "has the query id '1' twice"),
    ],
)
def test_queries_that_cannot_train(queries: list[PageQuery], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        QueryPages.of("x", queries, Pages())


def grouped() -> QueryPages:
    sizes = {"f": 3, "g": 2, "h": 5}
    queries = [
        PageQuery(f"{group}{number}", f"{group} {number}", ("a",), group=group)
        for group, size in sizes.items()
        for number in range(size)
    ]
    return QueryPages.of("x", queries, Pages())


def test_whole_documents_are_held_out_by_number_or_by_name() -> None:
    data = grouped()
    for seed in range(8):
        train, val = data.hold_out(5, seed)
        assert sorted([*train, *val]) == list(range(10))
        groups = {data.queries[position].group for position in val}
        assert groups in ({"h"}, {"f", "g"})
        assert groups.isdisjoint(data.queries[position].group for position in train)
    assert data.hold_out(["h"], 0)[1] == [5, 6, 7, 8, 9]
    assert data.hold_out(0, 0) == (list(range(10)), [])
    for held_out, sentence in (
        (1, "that of x with the fewest queries has 2"),
        (10, "held_out is 10, of 10 queries"),
        (["z"], "names 'z', which is no document with queries of x; it has f, g, h"),
        (["f", "g", "h"], "held_out takes all 10 queries"),
    ):
        with pytest.raises(InputError, match=sentence):
            data.hold_out(held_out, 0)


def test_queries_without_documents_are_held_out_one_by_one(tmp_path: Path) -> None:
    data = open_query_pages(f"pairs:{write_pairs(tmp_path)}")
    train, val = data.hold_out(3, seed=1)
    assert (len(train), len(val)) == (5, 3)
    assert data.hold_out(3, seed=1) == (train, val)
    assert data.hold_out(3, seed=2)[1] != val


@pytest.mark.skipif(not DOCUMENTS.is_dir(), reason="the real documents are not here")
def test_the_outlines_of_real_manuals_are_split_by_manual() -> None:
    data = open_query_pages(f"outlines:{DOCUMENTS / 'debian-manuals'}?longest_side=200")
    files = {query.group for query in data.queries}
    assert (len(data.queries), len(data.pages.ids), len(files)) == (4335, 6434, 19)
    train, val = data.hold_out(["debian-policy/policy.pdf"], 0)
    assert len(val) == 327
    trained = {page.partition("#")[0] for position in train for page in data.queries[position].positives}
    assert trained == files - {"debian-policy/policy.pdf"}
    assert max(data.pages.read(data.queries[val[0]].positives[0]).size) == 200
