"""What a training of page encoders refuses, before anything is trained: options, backbones, strategies, batches."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule
from lightning.pytorch.strategies import FSDPStrategy

from mmret.backbones import load_backbone
from mmret.errors import InputError
from mmret.methods import DocumentScreenshotEmbedding
from tests.backbones.tiny_pages import FAMILIES
from tests.methods.toy_dse import trainer
from tests.methods.toy_pages import ToyPages


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0"),
        ({"chunk_size": 0}, "chunk_size is 0"),
        ({"schedule": "stairs"}, "schedule is 'stairs', not one of cosine, linear, constant"),
        ({"positive_threshold": 1.5}, r"positive_threshold is 1\.5"),
        ({"matryoshka": []}, "matryoshka needs at least one width"),
        ({"matryoshka": [4, 8], "matryoshka_weights": [1.0]}, "as many weights"),
        ({"matryoshka": [4, 8], "matryoshka_weights": [0, 0]}, r"matryoshka_weights are \[0, 0\]"),
        ({"matryoshka": [4, 8], "matryoshka_weights": [2, -1]}, r"matryoshka_weights are \[2, -1\]"),
        ({"frozen_precision": "fp8"}, "frozen_precision is 'fp8', not one of fp32, bf16, fp16"),
        ({"adapter": {"r": 8}}, "adapter has the unknown r; it takes rank, alpha"),
        ({"adapter": {"rank": 0}}, "adapter has the rank 0; give a whole number from 1"),
        ({"adapter": {"rank": "8"}}, "adapter has the rank '8'; give a whole number"),
        ({"adapter": {"rank": 8.5}}, r"adapter has the rank 8\.5"),
        ({"adapter": {"alpha": 0}}, "adapter has the alpha 0; give a number above 0"),
        ({"adapter": {"dropout": 2.0}}, r"adapter has the dropout 2\.0; give a share"),
        ({"adapter": {"dora": "yes"}}, "adapter has the dora 'yes'; give true or false"),
        ({"adapter": {"targets": "*_proj"}}, r"adapter has the targets '\*_proj'; give a regular expression"),
    ],
)
def test_options_that_cannot_be_are_refused(
    backbone_folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        DocumentScreenshotEmbedding(str(backbone_folder), **options)


def test_backbones_that_cannot_be_trained_so_are_refused(
    backbone_folder: Path, qwen: str, tmp_path: Path
) -> None:
    projecting = str(FAMILIES["colqwen2"](tmp_path / "colqwen2"))
    refused: list[tuple[str, dict[str, Any], str]] = [
        (str(backbone_folder), {"adapter": {}}, "takes no adapter"),
        (str(backbone_folder), {"matryoshka": [32]}, "matryoshka asks for width 32; .* has 16"),
        (qwen, {"from_scratch": True}, "is not trained from scratch"),
        (qwen, {"preprocess": "center-crop"}, "center-crop"),
        (f"{qwen}?quantise=4bit", {}, "has weights in 4bit, and is not written whole: train an adapter"),
        (projecting, {}, "has a projection behind its states, and is not written whole"),
    ]
    for name, options, message in refused:
        with pytest.raises(InputError, match=message):
            DocumentScreenshotEmbedding(name, **options).configure_model()


def test_a_strategy_that_lets_go_of_weights_is_refused(backbone_folder: Path, tmp_path: Path) -> None:
    module, run = DocumentScreenshotEmbedding(str(backbone_folder)), trainer(tmp_path)
    run._accelerator_connector.strategy = FSDPStrategy()  # which asks for a GPU before it comes to this
    module.trainer = run
    with pytest.raises(InputError, match="FSDPStrategy, as it is set, does not train page encoders"):
        module.setup("fit")


def fit(module: DocumentScreenshotEmbedding, data: LightningDataModule, out: Path) -> None:
    trainer(out, max_steps=1, limit_val_batches=0).fit(module, datamodule=data)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_batch_of_one_page_is_refused(backbone_folder: Path, tmp_path: Path, batch_norm: bool) -> None:
    """Before it is encoded, which BatchNorm could not do."""
    name = "miniature-pages" if batch_norm else str(backbone_folder)
    with pytest.raises(InputError, match="a batch of one page has no negatives"):
        fit(DocumentScreenshotEmbedding(name), ToyPages(name, batch_size=1), tmp_path)


def test_chunks_are_refused_where_batch_statistics_count(tmp_path: Path) -> None:
    name = "miniature-pages"
    with pytest.raises(InputError, match="chunk_size is 2, and miniature-pages has BatchNorm"):
        fit(DocumentScreenshotEmbedding(name, chunk_size=2), ToyPages(name, batch_size=3), tmp_path)


def test_model_and_data_agree_on_the_preprocessing(backbone_folder: Path, tmp_path: Path) -> None:
    name = str(backbone_folder)
    module = DocumentScreenshotEmbedding(name, preprocess="squash")
    with pytest.raises(InputError, match="the model's preprocess is squash and the data's is own"):
        fit(module, ToyPages(name), tmp_path)
    fit(DocumentScreenshotEmbedding(name, preprocess="squash"), ToyPages(name, preprocess="squash"), tmp_path)
    assert load_backbone(str(tmp_path / "backbone")).spec.preprocess == "squash"
