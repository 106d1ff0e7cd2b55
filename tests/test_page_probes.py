"""The page encoder that ships, on the questions of val, against its record and against random weights."""

import json

import numpy as np
import pytest
import torch

from mmret.backbones import load_backbone
from mmret.backbones.pretraining import trainable_backbone
from mmret.commands.miniature import MARGIN, PAGES_RECORD, compare
from mmret.data.miniature_pages import pages_benchmark
from mmret.page_probes import chances, probe_pages


def test_the_shipped_weights_are_as_good_as_their_record_says() -> None:
    recorded = json.loads(PAGES_RECORD.read_text(encoding="utf-8"))
    found = probe_pages(load_backbone("miniature-pages"))
    for name, value in found.items():
        assert value == pytest.approx(recorded["accuracy"][name], abs=0.02), name
    assert compare({"accuracy": found, "chance": chances()}, recorded)[1] == 0


def test_random_weights_know_nothing() -> None:
    torch.manual_seed(0)
    backbone = trainable_backbone("miniature-pages", from_scratch=True).freeze()
    found = probe_pages(backbone)
    assert found.keys() == chances().keys()
    assert max(value for name, value in found.items() if name.endswith("@10")) < 0.15


def test_chance_is_that_of_a_random_ranking() -> None:
    benchmark = pages_benchmark("val", "text")
    generator = np.random.default_rng(0)
    hits = [
        any(benchmark.gallery[place] in query.targets for place in generator.choice(500, 10, replace=False))
        for query in benchmark.queries
        for _ in range(200)
    ]
    assert chances()["text success@10"] == pytest.approx(np.mean(hits), abs=0.01)
    assert chances()["text success@1"] == pytest.approx(
        np.mean([len(query.targets) / 500 for query in benchmark.queries])
    )


def test_what_falls_short_is_counted() -> None:
    recorded = {"accuracy": {"text success@1": 0.5}}
    chance = {"text success@1": 0.002}
    for value, short in ((0.5, 0), (0.5 - MARGIN + 0.001, 0), (0.5 - MARGIN - 0.001, 1)):
        lines, failures = compare({"accuracy": {"text success@1": value}, "chance": chance}, recorded)
        assert failures == short and len(lines) == 2
    assert lines[1].endswith("below 0.470")
