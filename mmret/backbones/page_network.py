"""The image network of the miniature page encoder, registered with timm so that open_clip builds it by name.

Print on a page of 128 pixels is 10 to 14 pixels high. The networks of timm that are small enough to be trained on two
cores see a page, in the end, in cells of 32 pixels, each of which holds the parts of several words; this one, of timm's
blocks, sees it in cells of 8.
"""

from typing import Any, Final

from timm.layers.classifier import NormMlpClassifierHead
from timm.models import ByobNet, build_model_with_cfg, register_model
from timm.models.byobnet import ByoBlockCfg, ByoModelCfg
from torch import nn

NAME: Final = "page_resnet"
_WIDTH: Final = 384
"""Numbers a cell, and a page."""

default_cfgs: Final = {NAME: {"url": "", "input_size": (3, 128, 128), "pool_size": (16, 16), "crop_pct": 1.0}}

_CONFIG: Final = ByoModelCfg(
    blocks=tuple(
        ByoBlockCfg(type="basic", d=1, c=width, s=stride, gs=0, br=1.0)
        for width, stride in ((48, 2), (96, 2), (192, 1))
    ),
    stem_type="3x3",
    stem_chs=24,
    stem_pool="",
    downsample="avg",
    num_features=_WIDTH,
    # Blocks that begin as identities, timm's choice for deep networks, learnt to read far more slowly.
    zero_init_last=False,
)


@register_model
def page_resnet(pretrained: bool = False, **options: Any) -> ByobNet:
    """Three residual blocks between a strided and a pointwise convolution: pixels [B, 3, H, W] → [B, 384, H/8, W/8].

    The mean over a page's cells has a BatchNorm behind it: pages are mostly paper, so that the means of any two are
    much alike, and what tells them apart would be small. `options` are timm's. There are no published weights:
    `pretrained` raises timm's `RuntimeError`.
    """
    model: ByobNet = build_model_with_cfg(
        ByobNet, NAME, pretrained, model_cfg=_CONFIG, feature_cfg={"flatten_sequential": True}, **options
    )
    model.head = NormMlpClassifierHead(_WIDTH, model.num_classes, norm_layer=nn.BatchNorm2d)
    return model
