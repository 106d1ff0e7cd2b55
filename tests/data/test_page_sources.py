from collections.abc import Sequence
from pathlib import Path

import pytest

from mmret.data.page_sources import open_query_pages
from mmret.data.query_pages import PageQuery, QueryPages
from mmret.data.record_tables import RecordTable
from mmret.data.table_images import ListedImages
from mmret.errors import InputError, InputWarning
from mmret.pages.documents import list_documents
from mmret.pages.render import render_documents
from tests.data.page_layouts import (
    QUESTIONS,
    picture,
    write_image_folder,
    write_labelled,
    write_lines,
    write_parquet,
    write_rows,
    write_tables,
    write_wiki_ss,
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


def test_a_query_id_asks_one_thing(tmp_path: Path) -> None:
    write_pairs(tmp_path, 1)
    rows = [{"query_id": 4, "query": text, "page": "p0.png"} for text in ("what?", "where?")]
    path = write_lines(tmp_path / "pairs.jsonl", rows)
    with pytest.raises(InputError, match=r"row 1 asks 'where\?' as the query '4', which asks 'what\?' above"):
        open_query_pages(f"pairs:{path}")


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


def write_passages(root: Path, columns: str = "old", corpus: str = "docid") -> str:
    """Two questions over four pages in Tevatron's layouts; the second names a page that the corpus lacks."""
    named = [(["d1"], ["d3", "d2"]), (["gone"], ["d0"])]
    if corpus == "docid":
        rows = [
            {"docid": f"d{n}", "image": {"bytes": picture(n), "path": None}, "text": f"page {n}"}
            for n in range(4)
        ]
    else:
        named = [([f"{id[1]}_1" for id in good], [f"{id[1]}_0" for id in bad]) for good, bad in named[:1]]
        rows = [{"images": [{"bytes": picture(n + 2 * m), "path": None} for m in range(2)]} for n in range(4)]
    write_parquet(root / "corpus/data/train-00000-of-00001.parquet", rows)
    old = [
        {"query_id": n, "query": f"q{n}", "positive_passages": [{"docid": id} for id in good],
         "negative_passages": [{"docid": id} for id in bad]}
        for n, (good, bad) in enumerate(named)
    ]  # fmt: skip
    new = [
        {"query_id": f"{n}", "query_text": f"q{n}", "query_image": None, "positive_document_ids": good,
         "negative_document_ids": bad}
        for n, (good, bad) in enumerate(named)
    ]  # fmt: skip
    write_parquet(root / "questions/data/train-00000-of-00001.parquet", old if columns == "old" else new)
    return f"passages:{root / 'questions'}+{root / 'corpus'}"


@pytest.mark.parametrize("columns", ["old", "new"])
def test_questions_that_name_their_pages(columns: str, tmp_path: Path) -> None:
    with pytest.warns(InputWarning, match="1 of 2 queries of .* name no page to train on"):
        data = open_query_pages(write_passages(tmp_path, columns))
    [query] = data.queries
    assert (query.id, query.text, query.positives, query.negatives) == ("0", "q0", ("d1",), ("d3", "d2"))
    assert data.pages.read("d3").getpixel((0, 0)) == (30, 200, 90)
    assert data.texts is not None
    assert dict(data.texts.read(["d1"])) == {"d1": "page 1"}


def test_pages_in_lists_as_docmatix_has_them(tmp_path: Path) -> None:
    data = open_query_pages(write_passages(tmp_path, corpus="images"))
    assert tuple(data.pages.ids) == ("1_1", "3_0", "2_0")
    assert data.pages.read("1_1").getpixel((0, 0)) == (30, 200, 90)
    assert data.pages.read("2_0").getpixel((0, 0)) == (20, 200, 90)
    (tmp_path / "docmatix-ir").mkdir()
    (tmp_path / "questions").rename(tmp_path / "docmatix-ir/docmatix-ir")
    (tmp_path / "corpus").rename(tmp_path / "docmatix-ir/Docmatix")
    assert open_query_pages("docmatix-ir", root=tmp_path / "docmatix-ir").queries == data.queries


@pytest.mark.parametrize(("id", "sentence"), [("9_0", "'9_0' names no image of 4 rows"), ("d", "ids are like 12_0"),
                                              ("0_2", "has 2 images, and no 2")])  # fmt: skip
def test_pages_that_no_list_has(id: str, sentence: str, tmp_path: Path) -> None:
    write_passages(tmp_path, corpus="images")
    table = RecordTable([tmp_path / "corpus/data/train-00000-of-00001.parquet"])
    with pytest.raises(InputError, match=sentence):
        ListedImages(table, "images", [id]).read(id)


def test_wiki_ss_in_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wiki_ss(tmp_path / "wiki-ss")
    monkeypatch.setenv("MMRET_DATA", str(tmp_path))
    data = open_query_pages("wiki-ss")
    assert [(query.id, query.positives) for query in data.queries] == [
        ("1", ("d0",)),
        ("2", ("d0",)),
        ("3", ("d0",)),
    ]
    assert open_query_pages(f"wiki-ss:{tmp_path / 'wiki-ss'}").queries == data.queries
    with pytest.raises(InputError, match="is of the split test and train, where dev is asked for"):
        open_query_pages("wiki-ss", "dev")
    with pytest.raises(
        InputError, match=r"no questions of train in .*: neither of wiki-ss-nq nor wiki-ss-nq-new"
    ):
        open_query_pages("wiki-ss", root=tmp_path)


@pytest.mark.parametrize("write", [write_tables, write_image_folder, write_rows])
def test_the_test_split_trains_nothing_unasked(write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is of the split test, where train is asked for"):
        open_query_pages(f"tables:{write(tmp_path)}")


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("a", r"'a' names no questions and corpus; write QUESTIONS\+CORPUS"),
        ("a+b", "a has no table for the split"),
    ],
)
def test_passages_that_are_nowhere(place: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        open_query_pages(f"passages:{place}")


def write_slides(root: Path, ids: Sequence[str], decks: Sequence[str] | None = None) -> str:
    rows = [{"corpus-id": id, "image": {"bytes": picture(n), "path": None}} for n, id in enumerate(ids)]
    if decks is not None:
        rows = [{**row, "deck": deck} for row, deck in zip(rows, decks, strict=True)]
    write_parquet(root / "corpus/train-00000-of-00001.parquet", rows)
    write_lines(root / "queries.jsonl", [{"query-id": "q", "query": "what?"}])
    write_lines(root / "qrels.jsonl", [{"query-id": "q", "corpus-id": ids[1], "score": 1}])
    return f"decks:{root}"


def test_the_other_slides_of_a_deck_are_negatives_the_nearest_first(tmp_path: Path) -> None:
    slides = ["talk-1_1.jpg", "talk-1_2.jpg", "other_1.jpg", "talk-1_10.jpg", "talk-1_11.jpg"]
    [query] = open_query_pages(write_slides(tmp_path / "ids", slides)).queries
    assert (query.group, query.positives) == ("talk-1", ("talk-1_2.jpg",))
    assert query.negatives == ("talk-1_1.jpg", "talk-1_10.jpg", "talk-1_11.jpg")
    named = write_slides(tmp_path / "named", ["1", "2", "3", "4"], ["a", "a", "b", "a"])
    [query] = open_query_pages(named).queries
    assert (query.group, query.negatives) == ("a", ("1", "4"))
    with pytest.raises(InputError, match="every slide has a deck of its own"):
        open_query_pages(write_slides(tmp_path / "bare", ["1", "2", "3"]))


def test_a_set_of_the_hub_by_a_local_folder_in_its_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="the hub needs datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_passages(tmp_path)
    questions = f"passages:hub:{tmp_path / 'questions'}+hub:{tmp_path / 'corpus'}"
    with pytest.warns(InputWarning, match="1 of 2 queries"):
        data = open_query_pages(questions)
    assert [query.positives for query in data.queries] == [("d1",)]
    assert data.pages.read("d3").getpixel((0, 0)) == (30, 200, 90)
    with pytest.raises(InputError, match="is of the split train, where test is asked for"):
        open_query_pages(questions, "test")
