from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmret.composition import PDV, ComposedFeatures
from mmret.composition.features import l2_normalise
from mmret.corridor import query_vectors, rank_queries
from mmret.data.benchmark import Benchmark, Query
from mmret.data.images import FolderImages
from mmret.data.protocol import Protocol
from mmret.encoded_benchmark import EncodedBenchmark
from mmret.errors import InputError
from mmret.explore import BASE, SLIDERS, Explorer, panel, show_differences

SETTINGS = [BASE, PDV(1.4, 0.5, 0.3), PDV(0.8, "auto", 0.6), PDV(1, 1, 0)]
QUERIES, IMAGES, WIDTH = 12, 30, 6


@pytest.fixture
def encoded(tmp_path: Path) -> EncodedBenchmark:
    """Thirty images of random vectors (two of them equal) and twelve queries; the reference is left out."""
    generator = np.random.default_rng(0)
    names = [f"{number:02}.png" for number in generator.permutation(IMAGES)]
    for number, name in enumerate(names):
        Image.new("RGB", (8, 8), (8 * number, 0, 0)).save(tmp_path / name)
    vectors = generator.standard_normal((IMAGES, WIDTH)).astype(np.float32)
    vectors[5] = vectors[17]
    picked = generator.permutation(IMAGES)
    queries = tuple(
        Query(f"q{row}", names[picked[row]], (f"edit {row}",), {names[picked[row + 12]]: 1, names[17]: 1})
        for row in range(QUERIES)
        if picked[row] != 17
    )
    protocol, metrics = Protocol(remove_reference=True), ("success@1", "success@10", "mrr@30")
    own = Benchmark("toy", "1", "val", FolderImages(tmp_path), tuple(names), queries, protocol, metrics)
    order = [names.index(name) for name in own.image_ids]
    return EncodedBenchmark(own, vectors[order])


@pytest.fixture
def explorer(encoded: EncodedBenchmark) -> Explorer:
    generator = torch.Generator().manual_seed(1)
    three = torch.randn(3, len(encoded.benchmark.queries), WIDTH, generator=generator)
    return Explorer(encoded, ComposedFeatures(*map(l2_normalise, three)))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_rankings_are_those_of_a_search(encoded: EncodedBenchmark, explorer: Explorer, setting: PDV) -> None:
    ranked = rank_queries(query_vectors(explorer.features, setting), encoded)
    for query in encoded.benchmark.queries:
        expected = ranked.run.ranking(query.id)[:10]
        found = explorer.ranking(query.id, setting)
        assert [name for name, _ in found] == [name for name, _ in expected]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    reciprocal = ranked.evaluation.per_query["mrr@30"]
    assert 1 / explorer.ranks(setting) == pytest.approx(reciprocal)


def test_the_heat_map_is_the_metric_at_each_setting(encoded: EncodedBenchmark, explorer: Explorer) -> None:
    heat_map = explorer.heat_map(k=1).heat_map
    for beta, gamma in ((1.0, 1.0), (0.0, 0.0), (0.5, 1.5)):
        vectors = query_vectors(explorer.features, PDV(gamma, gamma, beta))
        value = rank_queries(vectors, encoded).evaluation.means["success@1"]
        assert heat_map.nearest(beta, gamma) == pytest.approx(value)
    assert heat_map.metric == "success@1"


def test_a_setting_has_its_place_on_the_heat_map(explorer: Explorer) -> None:
    assert explorer.knobs(PDV(alpha_text=1.5, alpha_image=0.5, beta=0.25)) == pytest.approx((0.25, 0.75))
    drawn = explorer.heat_map()
    picture = explorer.place(drawn, PDV(1.5, 0.5, 0.25))
    assert picture.details[-1].startswith("here:") and picture.details[-1].endswith("β 0.25, γ 0.75")
    x, y = drawn.locate(0.25, 0.75)
    assert picture.svg.count(f'<circle cx="{x:.2f}" cy="{y:.2f}"') == 2


def test_differences_are_the_queries_that_moved(explorer: Explorer) -> None:
    setting = PDV(1, 0, 0.2)
    base, moved = explorer.ranks(BASE), explorer.ranks(setting)
    found = explorer.differences(setting)
    assert {item.query_id for item in found} == {
        name for name, row in explorer.rows.items() if base[row] != moved[row]
    }
    gains = [1 / item.moved - 1 / item.base for item in found]
    assert gains == sorted(gains, reverse=True)
    assert explorer.differences(BASE) == ()
    up, down = (moved < base).sum(), (moved > base).sum()
    assert f"{up} queries gain, {down} lose, {(moved == base).sum()} stay" in repr(
        show_differences(explorer, setting)
    )


def test_the_gallery_outlines_hits(explorer: Explorer) -> None:
    query = explorer.benchmark.queries[0]
    example = explorer.gallery([query.id], PDV(1, 1, 0.5)).examples[0]
    assert [ranking.label for ranking in example.rankings] == ["base", "PDV"]
    assert {hit.id for ranking in example.rankings for hit in ranking.hits if hit.relevant} <= set(
        query.targets
    )
    with pytest.raises(InputError, match="no query 'none'"):
        explorer.gallery(["none"], BASE)


def test_sliders_move_ranking_and_place(explorer: Explorer) -> None:
    ids = list(explorer.rows)[:2]
    widget = panel(explorer, explorer.heat_map(), ids, depth=3)
    top, ranking = widget.children
    controls, place = top.children
    query, *sliders = controls.children
    assert [slider.description for slider in sliders] == list(SLIDERS)
    before = ranking.value, place.value
    assert "alpha_text=1," in before[0]
    sliders[2].value = 0.3
    assert "beta=0.3" in ranking.value
    assert "here" in place.value and "β 0.30" in place.value
    query.value = ids[1]
    assert f"query {ids[1]}" in ranking.value


def test_features_of_other_queries_are_refused(encoded: EncodedBenchmark) -> None:
    three = torch.ones(3, 2, WIDTH)
    with pytest.raises(InputError, match="there are 2 features"):
        Explorer(encoded, ComposedFeatures(*map(l2_normalise, three)))
