import pytest

from mmret.triples import Phrase, parse_attributes, parse_phrases, parse_triples


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A white dog chases a red ball.", [("white dog", "chases", "red ball")]),
        (
            "a man riding a brown horse next to a wooden fence",
            [("man", "riding", "brown horse"), ("man", "next to", "wooden fence")],
        ),
        ("a photo of a black cat that is sleeping on the old sofa", []),
        ("a black cat is sleeping on the old sofa", [("black cat", "sleeping on", "old sofa")]),
        ("a woman sitting on a bench and a dog", [("woman", "sitting on", "bench")]),
        ("at night, three little stars in the middle", [("little stars", "in", "middle")]),
        ("a running horse", []),
        ("two boys carried a boat", [("boys", "carried", "boat")]),
        ("", []),
    ],
)
def test_triples(caption: str, expected: list[tuple[str, str, str]]) -> None:
    found = [(str(triple.subject), triple.predicate, str(triple.object)) for triple in parse_triples(caption)]
    assert found == expected


def test_attributes_stand_before_their_noun() -> None:
    phrases = parse_attributes("a picture of two small striped rings on grass, and a red box")
    assert phrases == [Phrase("rings", ("small", "striped")), Phrase("box", ("red",))]
    assert [str(phrase) for phrase in parse_phrases("a running horse on a beach")] == [
        "running horse",
        "beach",
    ]
