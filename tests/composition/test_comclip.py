from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mmret.composition import ComCLIP, QueryBatch
from mmret.composition.comclip import role_weights
from mmret.composition.image_parts import ImageParts
from mmret.composition.scores import Region
from mmret.errors import InputError
from mmret.retrieval.index import Index

BOXES = [
    {"image": "a", "subject": [0, 0, 4, 4], "object": [[5, 5, 9, 9], [1, 1, 2, 2]]},
    {"image": "a", "query": "q2", "subject": [3, 3, 4, 4]},
    {"query": "q1", "subject": "red", "object": "a ring"},
    {"query": "q2", "subject": "blue", "object": "red", "predicate": "an open sign"},
]
BATCH = QueryBatch(("q1", "q2"), ("a", "b"), (("a red ring",), ("blue",)), torch.ones(2, 4))


class ToySurroundings:
    """Features of regions that are drawn by their order, remembered."""

    def __init__(self) -> None:
        self.index = Index(["a", "b"], np.eye(2, 4))
        self.query_ids = ("q1", "q2")
        self.features: dict[Region, Any] = {}

    def encode_regions(self, regions: Any) -> Any:
        rng = np.random.default_rng(0)
        self.features = {region: rng.random(4).astype(np.float32) for region in regions}
        return np.stack(list(self.features.values()))


def test_weights_are_shares_of_the_products() -> None:
    words = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    parts = np.array([[[3.0, 9.0], [9.0, 0.5], [7.0, 7.0]], [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]])
    assert role_weights(words, parts).tolist() == [[0.75, 0.25, 0.0], [0.0, 0.0, 0.0]]


def test_the_score_is_the_published_one(backbone: Any) -> None:
    around = ToySurroundings()
    scored = ComCLIP(BOXES)(backbone, BATCH).settle(around)  # type: ignore[arg-type]
    found = scored.scores(around.index)(np.arange(2), np.arange(2))
    whole = around.features[Region("a", ())].astype(float)
    subject = around.features[Region("a", ((0, 0, 4, 4),))].astype(float)
    objects = around.features[Region("a", ((5, 5, 9, 9), (1, 1, 2, 2)))].astype(float)
    red, ring, sentence = (np.array(v, float) for v in ((3, 4, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0)))
    shares = np.array([red @ subject, ring @ objects])
    vector = whole + (shares / shares.sum()) @ np.stack([subject, objects])
    assert found[0, 0] == pytest.approx(vector @ sentence / np.linalg.norm(vector))
    # Image b has no boxes: both of q1's parts are the whole image, and its direction is all that is left.
    other = around.features[Region("b", ())].astype(float)
    assert found[0, 1] == pytest.approx(other @ sentence / np.linalg.norm(other))


def test_a_pair_s_own_boxes_count_alone_and_a_predicate_is_the_union() -> None:
    regions, places = ImageParts.load(BOXES).lay_out(("a", "b"), ("q1", "q2"))
    assert len(set(regions)) == len(regions)
    mine, other = places.parts(0, np.array([0])), places.parts(1, np.array([1, 0]))
    both = ((0, 0, 4, 4), (5, 5, 9, 9), (1, 1, 2, 2))
    assert [regions[row].boxes for row in mine[0]] == [both[:1], both[1:], both]
    assert [regions[row] for row in other[0]] == [Region("b", ())] * 3
    assert [regions[row].boxes for row in other[1]] == [((3, 3, 4, 4),), (), ()]


def test_words_come_from_the_text_where_the_file_has_none() -> None:
    class Recorder:
        spec = SimpleNamespace(name="toy", width=2)

        def __init__(self) -> None:
            self.read: list[str] = []

        def tokenize(self, texts: Any) -> Any:
            self.read += texts
            return torch.zeros(len(texts))

        def encode_text(self, tokens: Any) -> Any:
            return torch.ones(len(tokens), 2)

    batch = QueryBatch(("q",), ("a",), (("a white dog chases a ball",),), torch.ones(1, 2))
    backbone = Recorder()
    found = ComCLIP([])(backbone, batch)  # type: ignore[arg-type]
    assert backbone.read == ["a white dog chases a ball", "white dog", "ball", "chases"]
    assert found.words.shape == (1, 3, 2) and bool(found.words.all())


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([{"subject": [0, 0, 1, 1]}], "record 0 names neither"),
        ([BOXES[0], BOXES[0]], "record 1 repeats image 'a'"),
        ([{"image": "a", "subject": [4, 0, 1, 1]}], "record 0: subject is"),
        ([{"query": "q", "subject": 3}], "query's words are needed"),
        ({"image": "a"}, "holds a dict"),
    ],
)
def test_bad_files_are_refused(records: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        ImageParts.load(records)


def test_strangers_are_named() -> None:
    with pytest.raises(InputError, match=r"boxes for 1 images .* \(a\)"):
        ImageParts.load(BOXES).lay_out(("b",), ("q2",))
    with pytest.raises(InputError, match=r"boxes for 1 queries .* \(q2\)"):
        ImageParts.load(BOXES).lay_out(("a",), ("q1",))
