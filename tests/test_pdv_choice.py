from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mmret.backbones.spec import BackboneSpec
from mmret.composition import PDV, AdaST, ComposedFeatures
from mmret.composition.presets import automatic_setting
from mmret.composition.selection import deal_folds
from mmret.corridor import query_vectors, rank_queries
from mmret.data.benchmark import Benchmark, Query
from mmret.data.protocol import Protocol
from mmret.encoded_benchmark import EncodedBenchmark
from mmret.errors import InputError
from mmret.pdv_choice import CrossFitted, Row, choose

IMAGES = tuple(f"i{number:02d}" for number in range(30))


class Names:
    """An image source of names only."""

    ids = IMAGES

    def read(self, id: str) -> Any:
        raise AssertionError("vectors are given")

    def stamp(self, id: str) -> str:
        return ""


def encoded(split: str, name: str = "circo") -> EncodedBenchmark:
    rng = np.random.default_rng(len(split))
    queries = tuple(
        Query(f"q{n}", IMAGES[n // 2], ("edit",), {IMAGES[20 + n % 10]: 1}, IMAGES[20:26]) for n in range(12)
    )
    queries = tuple(replace(query, targets={IMAGES[20 + n % 6]: 1}) for n, query in enumerate(queries))
    benchmark = Benchmark(name, "1", split, Names(), IMAGES, queries, Protocol(), ("map@5 (÷ min)",))
    return EncodedBenchmark(benchmark, rng.standard_normal((30, 8)).astype(np.float32))


def features(seed: int) -> ComposedFeatures:
    torch.manual_seed(seed)
    return ComposedFeatures(*torch.randn(3, 12, 8))


def row(
    method: str = "caption-edit", name: str = "circo", architecture: str = "ViT-B-32", **changes: Any
) -> Row:
    spec = BackboneSpec.__new__(BackboneSpec)
    object.__setattr__(spec, "architecture", architecture)
    made = Row(
        features(0), encoded("test", name), method, spec, lambda split: (features(1), encoded(split, name))
    )
    return replace(made, **changes)


def test_presets_become_settings() -> None:
    paper = choose({"preset": "pdv-paper", "base": "cirevl"}, None, row())
    assert paper.transform == PDV(1.2, 1.4, 0.75)
    for spec in ("auto", "pdv-auto", {"preset": "pdv-auto"}):
        assert choose(spec, None, row()).transform == automatic_setting()
    assert choose("PDV(beta=0.5)", None, row()).pdv == {"alpha_text": 1.0, "alpha_image": 1.0, "beta": 0.5}
    assert choose(None, None, row()).transform is None
    assert choose(None, "adast", row()).transform == AdaST()


def test_pdv_val_chooses_on_the_split_of_the_benchmark() -> None:
    named = choose({"preset": "pdv-val", "grid": "plain-fusion"}, None, row())
    explicit = choose({"select": "val", "grid": "plain-fusion"}, None, row())
    other = choose({"preset": "pdv-val", "split": "train", "grid": "plain-fusion"}, None, row())
    assert named.facts["selected_on"] == ["circo", "val"]
    assert named.transform == explicit.transform
    assert other.facts["selected_on"] == ["circo", "train"]
    with pytest.raises(InputError, match="select it on another split"):
        choose({"select": "test"}, None, row())


def test_cross_fitting_never_measures_a_query_s_own_fold() -> None:
    here = row(name="genecis-focus-object")
    spec = {"preset": "pdv-val", "grid": "plain-fusion", "metric": "success_subset@1", "folds": 3}
    choice = choose(spec, None, here)
    assert isinstance(choice.transform, CrossFitted)
    benchmark = here.encoded.benchmark
    folds = deal_folds([query.reference or "" for query in benchmark.queries], 3)
    assert np.array_equal(choice.transform.folds, folds)
    # By hand: every setting searched for by itself over the pools, the best mean of the other folds.
    from mmret.composition.grid import PLAIN_FUSION

    judged = replace(here.encoded, benchmark=replace(benchmark, metrics=("success_subset@1",)))
    values = {
        setting: rank_queries(query_vectors(here.features, setting), judged).evaluation.per_query[
            "success_subset@1"
        ]
        for setting in PLAIN_FUSION
    }
    for fold, chosen in enumerate(choice.transform.settings):
        means = {setting: scores[folds != fold].mean() for setting, scores in values.items()}
        assert means[chosen] == pytest.approx(max(means.values()))
    vectors = query_vectors(here.features, choice.transform)
    for query in range(12):
        setting = choice.transform.settings[folds[query]]
        assert np.allclose(vectors[query], query_vectors(here.features, setting)[query])  # type: ignore[index]


def test_queries_of_one_reference_share_a_fold() -> None:
    references = ["a", "b", "a", "c", "d", "c"]
    folds = deal_folds(references, 2)
    assert folds[0] == folds[2] and folds[3] == folds[5]
    assert sorted(np.bincount(deal_folds(list("abcd"), 2))) == [2, 2]
    with pytest.raises(InputError, match="5 folds of 4 reference images"):
        deal_folds(references, 5)


@pytest.mark.parametrize(
    ("pdv", "scoring", "reason"),
    [
        ({"beta": 0.5}, "adast", "give one"),
        ({"preset": "pdv-auto", "beta": 0.5}, None, "takes nothing"),
        ({"preset": "pdv-best"}, None, "no PDV preset 'pdv-best'"),
        ({"select": "val", "grid": "fine"}, None, "no grid of PDV settings 'fine'"),
        ({"select": "val", "beta": 0.5}, None, "has no beta"),
        ({"preset": "pdv-paper", "base": "lincir"}, None, "no PDV setting for base lincir"),
    ],
)
def test_what_means_nothing_is_refused(pdv: Any, scoring: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        choose(pdv, scoring, row())


def test_pdv_needs_a_reference_text() -> None:
    with pytest.raises(InputError, match="no reference text"):
        choose({"preset": "pdv-val"}, None, row(features=torch.ones(12, 8)))


def test_a_split_without_public_truth_chooses_nothing() -> None:
    here = row()
    benchmark = here.encoded.benchmark
    hidden = replace(benchmark, queries=tuple(replace(query, targets={}) for query in benchmark.queries))
    secret = replace(here, encoded=replace(here.encoded, benchmark=hidden))
    with pytest.raises(InputError, match="12 of its queries have no public ground truth"):
        choose({"select": "cross-fit", "folds": 2}, None, secret)
