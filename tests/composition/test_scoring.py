from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmret.composition import PDV, ComposedFeatures
from mmret.composition.scores import columns, concatenate, with_columns
from mmret.composition.scoring import SEIZE_PRESETS, AdaST, Seize, scoring_from_spec
from mmret.errors import InputError
from mmret.retrieval.index import Index
from mmret.retrieval.scored_search import search_scores
from mmret.retrieval.search import search

NAMES = ("q0", "q1", "q2")


def draw(seed: int = 0) -> tuple[Index, ComposedFeatures]:
    rng = np.random.default_rng(seed)
    gallery = Index([f"d{row:03d}" for row in range(200)], rng.standard_normal((200, 12)))
    image, reference = rng.standard_normal((2, len(NAMES), 12))
    composed = reference + rng.standard_normal((len(NAMES), 12))
    return gallery, ComposedFeatures(*(torch.from_numpy(part) for part in (image, reference, composed)))


def all_scores(scored: Any, gallery: Index) -> Any:
    return scored.scores(gallery)(np.arange(len(scored)), np.arange(len(gallery)))


def test_seize_is_the_published_score() -> None:
    gallery, features = draw()
    found = all_scores(Seize(0.13, 2.1)(features), gallery)
    before, after = (side.double().numpy() @ gallery.vectors.T for side in
                     (features.reference_text, features.composed_text))  # fmt: skip
    d = after - before
    assert (d < 0).any() and (d > 0).any()
    assert np.allclose(found, np.where(d < 0, after + 2.1 * d, after + 0.13 * d), atol=1e-6)


@given(st.floats(-0.5, 3.0), st.integers(0, 20))
def test_linear_seize_ranks_as_pdv_t(alpha: float, seed: int) -> None:
    gallery, features = draw(seed)
    scored = Seize(alpha - 1, alpha - 1)(features)
    mine = search_scores(gallery, NAMES, scored.scores(gallery), 200)
    theirs = search(gallery, NAMES, PDV(alpha, 0.0, 1.0)(features).numpy(), 200)
    where = np.nonzero(mine.indices != theirs.indices)
    # Both are sums of float32 vectors: only documents a rounding apart may change places.
    reached = np.take_along_axis(all_scores(scored, gallery), theirs.indices, axis=1)
    assert np.abs(mine.scores - reached)[where].max(initial=0) < 1e-5


def test_adast_takes_the_reference_from_the_top_and_leaves_the_unlike_alone() -> None:
    _, features = draw(3)
    proxies = AdaST().proxy(features)
    gallery = Index(
        ["reference", "proxy", "unlike"],
        torch.stack([features.reference_image[0], proxies[0], -features.reference_image[0]]).numpy(),
    )
    likeness = float(features.reference_image[0] @ proxies[0])
    reference, proxy, unlike = all_scores(AdaST(2.0)(features), gallery)[0]
    assert likeness > 0
    assert reference == pytest.approx(likeness - 2 * (1 - likeness), abs=1e-5)
    assert proxy == pytest.approx(1, abs=1e-5)
    assert unlike == pytest.approx(-likeness, abs=1e-5)
    unpunished = all_scores(AdaST(0.0)(features), gallery)[0]
    assert unpunished[0] == pytest.approx(likeness, abs=1e-5)


def test_adast_is_defined_where_nothing_is_edited() -> None:
    gallery, features = draw(4)
    same = ComposedFeatures(features.reference_image, features.composed_text, features.composed_text)
    assert np.isfinite(all_scores(AdaST()(same), gallery)).all()
    assert torch.allclose(AdaST().proxy(same), features.reference_image)


def test_specs() -> None:
    assert scoring_from_spec({"name": "seize", "preset": "cirr"}) == Seize(0.22, 1.0)
    assert SEIZE_PRESETS["circo"] == Seize(positive=0.13, negative=2.1)
    assert scoring_from_spec("adast") == AdaST(1.0)
    for spec, reason in (
        ("sieze", "no scoring 'sieze': the nearest names are seize"),
        ("softmax", "no scoring 'softmax': there are seize, adast"),
        ({"name": "seize", "preset": "fashioniq"}, "no preset 'fashioniq'"),
        ({"name": "seize"}, "takes positive, negative"),
        ({"name": "seize", "positive": "a lot", "negative": 1}, "finite number"),
        ({"name": "adast", "penalty": -1}, "0 or more"),
    ):
        with pytest.raises(InputError, match=reason):
            scoring_from_spec(spec)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="needs the features of a reference text"):
        AdaST()(torch.ones(2, 3))


def test_columns_come_apart_and_together() -> None:
    _, features = draw()
    both = concatenate([features, features])
    assert len(both) == 6 and isinstance(both, ComposedFeatures)
    scored = Seize(1, 2)(features)
    longer = with_columns(scored, {name: torch.cat([part, part]) for name, part in columns(scored).items()})
    assert len(longer) == 6 and longer.rule == scored.rule
    assert torch.equal(concatenate([torch.ones(1, 2), torch.zeros(1, 2)]), torch.tensor([[1.0, 1], [0, 0]]))
