from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mmret.composition import LDRE, ComposedFeatures, QueryBatch
from mmret.composition.ldre import ensemble_weights, similarity_drops
from mmret.composition.scores import concatenate
from mmret.errors import InputError
from mmret.retrieval.index import Index

RECORDS = [
    {
        "id": "q1",
        "multi_caption_opt": ["a ring", "blue"],
        "multi_gpt-3.5_opt": ["a red ring", "an open sign"],
    },
    {"id": "q2", "multi_caption_opt": ["red", "a ring"], "multi_gpt-3.5_opt": ["blue", "a ring"]},
]
BATCH = QueryBatch(("q1", "q2"), ("r1", "r2"), (("red",), ("blue",)), torch.ones(2, 4))


def surroundings(vectors: Any) -> Any:
    return SimpleNamespace(index=Index([str(row) for row in range(len(vectors))], vectors))


def test_drops_are_the_largest_of_each_query_summed() -> None:
    rng = np.random.default_rng(0)
    before, after = (torch.from_numpy(rng.standard_normal((5, 3, 6))) for _ in range(2))
    gallery = rng.standard_normal((40, 6)).astype(np.float32)
    expected = [
        sum(
            np.sort(np.maximum((before[q, c] - after[q, c]).numpy() @ gallery.T, 0))[-4:].sum()
            for q in range(5)
        )
        for c in range(3)
    ]
    assert np.allclose(similarity_drops(before, after, gallery, 4), expected, rtol=1e-5)
    assert np.allclose(
        similarity_drops(before, after, gallery, 99), similarity_drops(before, after, gallery, 40)
    )


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    before, after = (torch.from_numpy(rng.standard_normal((5, 2, 6))) for _ in range(2))
    gallery = rng.standard_normal((40, 6)).astype(np.float32)
    whole = similarity_drops(before, after, gallery, 5)
    monkeypatch.setattr("mmret.composition.ldre.DROPS_AT_A_TIME", 80)
    assert np.allclose(whole, similarity_drops(before, after, gallery, 5))


def test_weights_are_a_softmax_of_relative_drops() -> None:
    expected = np.exp(np.array([0.5, 1.0]) / 0.04)
    assert np.allclose(ensemble_weights(np.array([3.0, 6.0]), 0.04), expected / expected.sum())
    assert ensemble_weights(np.zeros(4), 0.04).tolist() == [0.25] * 4


def test_the_ensemble_becomes_three_features(backbone: Any) -> None:
    ensemble = LDRE(RECORDS, temperature=0.5, top=1)(backbone, BATCH)
    settled = ensemble.settle(surroundings(np.eye(4)))
    assert isinstance(settled, ComposedFeatures)
    # Caption 1 falls by 1 on the first axis (a ring → a red ring), and by .8 on the second (red → blue): v = 1.8.
    # Caption 2 falls by 1 on the third (blue → an open sign) and by nothing (a ring → a ring): v = 1.
    first, second = ensemble_weights(np.array([1.8, 1.0]), 0.5)
    expected = torch.tensor([0.0, first, 0.0, second]) / (first**2 + second**2) ** 0.5
    assert torch.allclose(settled.composed_text[0], expected.float())
    expected = torch.tensor([first, 0.0, second, 0.0]) / (first**2 + second**2) ** 0.5
    assert torch.allclose(settled.reference_text[0], expected.float())


def test_weights_belong_to_the_whole_split(backbone: Any) -> None:
    composer, gallery = LDRE(RECORDS, top=1), surroundings(np.eye(4))
    one = QueryBatch(("q1",), ("r1",), (("red",),), torch.ones(1, 4))
    other = QueryBatch(("q2",), ("r2",), (("blue",),), torch.ones(1, 4))
    whole = composer(backbone, BATCH).settle(gallery)
    parts = concatenate([composer(backbone, one), composer(backbone, other)]).settle(gallery)
    assert torch.equal(whole.composed_text, parts.composed_text)


def test_uneven_captions_are_named(backbone: Any) -> None:
    short = [RECORDS[0], {**RECORDS[1], "multi_caption_opt": ["red"]}]
    with pytest.raises(InputError, match=r"another number than 2 and 2 for 1 of 2 queries \(q2\)"):
        LDRE(short)(backbone, BATCH)
    with pytest.raises(InputError, match="above 0"):
        LDRE(RECORDS, temperature=0)
