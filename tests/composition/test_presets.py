from typing import Any

import pytest

from mmret.composition import PDV
from mmret.composition.presets import (
    AUTO_BETA,
    PAPER_SETTINGS,
    automatic_setting,
    backbone_size,
    paper_setting,
    selection_split,
)
from mmret.errors import InputError


@pytest.mark.parametrize(
    ("base", "benchmark", "architecture", "expected"),
    [
        ("cirevl", "circo", "ViT-B-32", PDV(beta=0.75, alpha_image=1.4, alpha_text=1.2)),
        ("searle", "cirr", "ViT-L-14-quickgelu", PDV(beta=0.85, alpha_image=1.4, alpha_text=1.2)),
        ("cirevl", "fashioniq-dress", "ViT-L-14", PDV(beta=0.55, alpha_image=1.0, alpha_text=1.3)),
        ("searle", "fashioniq-shirt", "ViT-B-32-quickgelu", PDV(beta=0.9, alpha_image=1.1, alpha_text=0.9)),
        ("ldre", "circo", "ViT-bigG-14", PDV(beta=0.75, alpha_image=1.4, alpha_text=1.4)),
    ],
)
def test_the_paper_s_settings(base: str, benchmark: str, architecture: str, expected: PDV) -> None:
    assert paper_setting({"base": base}, "caption-edit", benchmark, architecture) == expected


def test_the_paper_has_six_and_nine_rows() -> None:
    counts = [sum(key[0] == data for key in PAPER_SETTINGS) for data in ("fashioniq", "circo", "cirr")]
    assert counts == [6, 9, 9]


def test_a_method_may_imply_its_base_and_the_row_may_say_more() -> None:
    assert paper_setting({}, "ldre", "circo", "ViT-L-14") == PDV(1.4, 1.4, 0.75)
    spec: dict[str, Any] = {"base": "cirevl", "data": "circo", "size": "B"}
    assert paper_setting(spec, "caption-edit", "miniature", "custom") == PDV(1.2, 1.4, 0.75)
    assert paper_setting({**spec, "variant": "image"}, "caption-edit", "miniature", "custom").beta == 0


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, "no PDV setting for base None"),
        ({"base": "lincir"}, "circo B searle"),
        ({"base": "cirevl", "size": "H"}, "size H"),
        ({"base": "cirevl", "variant": "text"}, "fusion and image"),
        ({"base": "cirevl", "beta": 0.5}, "has no beta"),
    ],
)
def test_settings_that_nobody_published_are_refused(spec: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        paper_setting(spec, "pseudo-word", "circo", "ViT-B-32")


def test_the_automatic_setting_chooses_nothing() -> None:
    assert automatic_setting() == PDV(1.0, "auto", AUTO_BETA)


def test_where_to_choose() -> None:
    names = ("cirr", "circo", "fashioniq-toptee", "genecis-focus-object")
    assert [selection_split(name) for name in names] == ["val", "val", "train", "cross-fit"]
    with pytest.raises(InputError, match="no split to choose on for emoji"):
        selection_split("emoji")


def test_sizes() -> None:
    sizes = {
        "ViT-B-32": "B",
        "ViT-L-14-336": "L",
        "ViT-H-14": "",
        "ViT-g-14": "G",
        "ViT-bigG-14": "G",
        "RN50": "",
    }
    assert {name: backbone_size(name) for name in sizes} == sizes
