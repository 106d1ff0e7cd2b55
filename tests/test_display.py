import base64
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmret.data.benchmark import Benchmark, Query
from mmret.display import Gallery, make_example, show_run, thumbnail
from mmret.errors import InputError
from mmret.retrieval.run import Run

HOSTILE = "<script>alert('x')</script> & $5"


class Colours:
    """Images that are one colour each; ids are numbers."""

    ids = tuple("abcdef")

    def read(self, id: str) -> Image.Image:
        return Image.new("RGB", (300, 150), (40 * self.ids.index(id), 0, 0))

    def stamp(self, id: str) -> str:
        return id


class Page(HTMLParser):
    """The tags of a page with their attributes, and its texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of(self, name: str) -> list[dict[str, str | None]]:
        """The attributes of every such tag."""
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture
def benchmark() -> Benchmark:
    queries = (
        Query("q0", "a", (HOSTILE,), {"b": 1}),
        Query("q1", "a", ("at night",), {"c": 1}),
        Query("q2", "b", ("blue",), {"d": 1}),
        Query("q3", None, ("no public truth",)),
    )
    return Benchmark("toy", "1", "test", Colours(), Colours.ids, queries)


def make_run(*rankings: str) -> Run:
    indices = np.array([[Colours.ids.index(name) for name in ranking] for ranking in rankings])
    scores = np.tile(np.linspace(1, 0, indices.shape[1], dtype=np.float32), (len(rankings), 1))
    return Run(tuple(f"q{row}" for row in range(len(rankings))), Colours.ids, indices, scores)


RUN = make_run("bacdef", "abcdef", "abcefd", "abcdef")
BASE = make_run("abcdef", "cabdef", "abcefd", "abcdef")


def decode(uri: str) -> Image.Image:
    assert uri.startswith("data:image/jpeg;base64,")
    return Image.open(BytesIO(base64.b64decode(uri.split(",")[1])))


def test_a_thumbnail_is_small_keeps_its_shape_and_stands_on_white() -> None:
    assert decode(thumbnail(Image.new("RGB", (300, 150)))).size == (128, 64)
    assert decode(thumbnail(Image.new("RGB", (20, 10)))).size == (20, 10)
    clear = decode(thumbnail(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))
    assert clear.getpixel((4, 4)) == (255, 255, 255)


def test_hits_are_marked_and_the_first_is_counted(benchmark: Benchmark) -> None:
    gallery = show_run(RUN, benchmark, label="PDV", beside={"base": BASE}, query_ids=["q0", "q2"], depth=3)
    first, second = gallery.examples
    assert [ranking.label for ranking in first.rankings] == ["base", "PDV"]
    assert [ranking.about for ranking in first.rankings] == ["first hit at rank 2", "first hit at rank 1"]
    assert [hit.id for hit in first.rankings[1].hits] == ["b", "a", "c"]
    assert [hit.relevant for hit in first.rankings[1].hits] == [True, False, False]
    assert second.rankings[0].about == "first hit at rank 6"
    assert decode(first.reference).size == (128, 64)


def test_a_query_without_truth_or_reference_marks_nothing(benchmark: Benchmark) -> None:
    example = show_run(RUN, benchmark, query_ids=["q3"]).examples[0]
    assert example.reference == ""
    assert example.rankings[0].about == ""
    assert not any(hit.relevant for hit in example.rankings[0].hits)


def test_a_ranking_without_a_hit_says_how_deep_it_is() -> None:
    example = make_example(Colours(), {"x": [("a", 1.0), ("b", 0.5)]}, query_id="q", relevant={"c"})
    assert example.rankings[0].about == "no hit in the top 2"


@pytest.mark.parametrize(
    ("order", "expected"), [("gains", ["q0"]), ("losses", ["q1"]), ("spread", ["q0", "q3"])]
)
def test_queries_are_chosen_by_what_changed(benchmark: Benchmark, order: str, expected: list[str]) -> None:
    gallery = show_run(RUN, benchmark, beside={"base": BASE}, order=order, count=2)  # type: ignore[arg-type]
    assert [example.query_id for example in gallery.examples] == expected


def test_a_choice_that_cannot_be_made_is_refused(benchmark: Benchmark) -> None:
    with pytest.raises(InputError, match="compares two runs"):
        show_run(RUN, benchmark, order="gains")
    with pytest.raises(InputError, match="no query 'q9'"):
        show_run(RUN, benchmark, query_ids=["q9"])


def test_html_is_escaped_and_accessible(benchmark: Benchmark) -> None:
    gallery = show_run(RUN, benchmark, query_ids=["q0"], title=HOSTILE)
    page = Page(gallery._repr_html_())
    assert not page.of("script")
    assert page.texts.count(HOSTILE) == 2
    assert [image["alt"] for image in page.of("img")][:3] == [
        "Reference image of query q0",
        "Rank 1: b, relevant",
        "Rank 2: a",
    ]
    assert len([item for item in page.of("li") if item.get("class") == "hit"]) == 1
    assert "\n" not in repr(gallery)


def test_a_gallery_is_saved_as_a_page_that_loads_nothing(benchmark: Benchmark, tmp_path: Path) -> None:
    gallery = show_run(RUN, benchmark, query_ids=["q0"])
    gallery.save(tmp_path / "deep" / "page.html")
    page = Page((tmp_path / "deep" / "page.html").read_text(encoding="utf-8"))
    assert page.of("meta")[2]["content"].startswith("default-src 'none'")  # type: ignore[union-attr]
    assert all(image["src"].startswith("data:") for image in page.of("img"))  # type: ignore[union-attr]
    assert not page.of("link")
    assert Gallery("empty", ())._repr_html_()
