from pathlib import Path

import torch

from mmret.backbones import load_backbone
from mmret.methods.caption_features import CaptionFeatures


def test_each_caption_is_encoded_once_up_to_the_capacity(backbone_folder: Path, monkeypatch) -> None:
    backbone, read = load_backbone(str(backbone_folder)), []
    tokenize = backbone.tokenize
    monkeypatch.setattr(backbone, "tokenize", lambda texts: read.extend(texts) or tokenize(texts))
    features = CaptionFeatures(capacity=2)
    first = features(backbone, ["a", "b", "a", "c"])
    torch.testing.assert_close(first, backbone.encode_text(tokenize(["a", "b", "a", "c"])))
    assert read == ["a", "b", "c"]
    assert torch.equal(features(backbone, ["b", "a"]), first[[1, 0]])
    assert read == ["a", "b", "c"]
    features(backbone, ["c"])
    assert read == ["a", "b", "c", "c"]
