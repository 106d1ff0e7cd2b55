"""The miniature CLIP's figures: what the probe asks, and that the shipped weights answer as their record says."""

import json
import re

import pytest
import torch

from mmret.backbones import load_backbone
from mmret.commands.miniature import RECORD, REQUIRED, compare
from mmret.data.miniature.scene import ATTRIBUTES
from mmret.probes import PROMPTS_A_VALUE, ProbeResult, probe

PICTURES = 500


@pytest.fixture(scope="module")
def asked() -> tuple[list[list[str]], ProbeResult]:
    """The batches of texts that a probe of the shipped weights asks for, and what it finds."""
    backbone = load_backbone("miniature-clip")
    batches: list[list[str]] = []

    def tokenize(texts: list[str]) -> torch.Tensor:
        batches.append(list(texts))
        return type(backbone).tokenize(backbone, texts)

    backbone.tokenize = tokenize
    return batches, probe(backbone, PICTURES)


def test_all_values_of_an_attribute_are_said_of_equally_many_objects(
    asked: tuple[list[list[str]], ProbeResult],
) -> None:
    ensembles = iter(asked[0])
    for name, values in ATTRIBUTES.items():
        texts = [next(ensembles) for _ in values]
        assert {len(batch) for batch in texts} == {PROMPTS_A_VALUE}
        if name not in ("shape", "count"):
            many = [[bool(re.search(r"(shape|thing|object)s\b", text)) for text in batch] for batch in texts]
            assert 0 < sum(many[0]) < PROMPTS_A_VALUE
            assert all(batch == many[0] for batch in many), name


def test_the_shipped_weights_are_as_good_as_their_record_says(
    asked: tuple[list[list[str]], ProbeResult],
) -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    assert min(recorded["accuracy"].values()) >= REQUIRED
    for attribute, value in asked[1].accuracy.items():
        # Four standard errors of a share of .95 among this many pictures.
        assert value == pytest.approx(recorded["accuracy"][attribute], abs=0.04), attribute


def test_random_weights_know_nothing() -> None:
    backbone = load_backbone("miniature-clip")
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(0))
    found = probe(backbone, 200)
    assert found.accuracy["shape"] < 0.4
    assert abs(found.binding - 0.5) < 0.15
    assert compare(found.to_dict(), found.to_dict(), REQUIRED)[1] >= 5
