from dataclasses import replace

import pytest
from PIL import Image

from mmret.data.benchmark import Benchmark, Query, parse_query
from mmret.data.protocol import Protocol, join_captions
from mmret.errors import InputError


class FourImages:
    ids = ("a", "b", "c", "d")

    def read(self, id: str) -> Image.Image:
        return Image.new("RGB", (1, 1))

    def stamp(self, id: str) -> str:
        return ""


QUERIES = (
    Query("q1", "a", ("make it red",), {"b": 1}, subset=("a", "b", "c"), attributes={"edit": "colour"}),
    Query("q2", None, ("a dog",), {"a": 2, "c": 1}),
    Query("q3", "d", ("at night",)),
)


def benchmark(**changes: object) -> Benchmark:
    whole = Benchmark("toy", "1", "val", FourImages(), ("a", "b", "c"), QUERIES, metrics=("recall@1",))
    return replace(whole, **changes)


def test_judgements_leave_out_queries_without_public_truth() -> None:
    assert benchmark().judgements == {"q1": {"b": 1}, "q2": {"a": 2, "c": 1}}


def test_references_and_images_to_encode() -> None:
    assert benchmark().references == {"q1": "a", "q3": "d"}
    assert benchmark().image_ids == ("a", "b", "c", "d")


def test_the_protocol_alone_decides_on_the_reference() -> None:
    kept, removed = benchmark(), benchmark(protocol=Protocol(remove_reference=True))
    assert kept.exclusions == {}
    assert kept.pools == {"q1": ("a", "b", "c")}
    assert removed.exclusions == {"q1": ("a",), "q3": ("d",)}
    assert removed.pools == {"q1": ("b", "c")}


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ("and", ("Is red and has dots",)),
        ("reversed-and", ("has dots and Is red.",)),
        ("both-orders", ("Is red and has dots", "has dots and Is red")),
        ("comma", ("Is red., has dots",)),
    ],
)
def test_two_captions_are_joined_as_each_paper_does(join: str, expected: tuple[str, ...]) -> None:
    assert join_captions(("Is red.", "has dots"), join) == expected


def test_both_orders_of_one_caption_are_one_text() -> None:
    assert join_captions(("is red, ",), "both-orders") == ("is red",)


def test_alternatives_follow_the_protocol() -> None:
    two = replace(QUERIES[0], texts=("x", "y"))
    toy = benchmark(queries=(two,), protocol=Protocol(caption_join="reversed-and"))
    assert toy.alternatives(two) == ("y and x",)


def test_html_and_placeholders_are_text() -> None:
    text = "it costs $5 <b>&amp;</b> *"
    assert join_captions((text,), "single") == (text,)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gallery": ("a", "a", "b", "c")}, "holds image 'a' more than once"),
        ({"gallery": ("a", "b", "c", "x")}, "names 'x', which has no image"),
        ({"queries": (QUERIES[0], QUERIES[0])}, "hold id 'q1' more than once"),
        ({"queries": (replace(QUERIES[0], reference="x"),)}, "'q1' names the reference 'x'"),
        ({"queries": (replace(QUERIES[0], targets={"d": 1}),)}, "target 'd', which is not in the gallery"),
        ({"queries": (replace(QUERIES[0], subset=("d",)),)}, "subset of query 'q1' names 'd'"),
        ({"queries": (replace(QUERIES[0], texts=("x", "y")),)}, "name how to join them"),
        (
            {
                "queries": (replace(QUERIES[0], targets={"a": 1}),),
                "protocol": Protocol(remove_reference=True),
            },
            "'q1' has its reference 'a' as a target",
        ),
    ],
)
def test_faulty_benchmarks_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        benchmark(**changes)


@pytest.mark.parametrize("texts", [(), ("",), ("", "  ")])
def test_a_query_has_an_image_or_words(texts: tuple[str, ...]) -> None:
    assert Query("q", "a", texts).texts == texts
    with pytest.raises(InputError, match="'q' has neither an image nor words"):
        Query("q", None, texts)


def test_grades_start_at_one() -> None:
    with pytest.raises(InputError, match="grades its target 'b' below 1"):
        Query("q", "a", ("red",), {"b": 0})


def test_unknown_protocol_values_are_refused() -> None:
    with pytest.raises(InputError, match="caption_join is 'or', not one of single, and"):
        Protocol(caption_join="or")  # type: ignore[arg-type]


def test_faulty_records_are_refused() -> None:
    with pytest.raises(InputError, match="toy: the protocol field 'reference' is none of remove_reference"):
        Protocol.from_record({"reference": "removed"}, "toy")
    with pytest.raises(InputError, match="query 0 has no 'text'"):
        parse_query({"id": "q"}, "query 0")


def test_the_repr_is_one_line() -> None:
    assert repr(benchmark()) == "Benchmark(toy 1, val: 3 queries, 3 images)"
