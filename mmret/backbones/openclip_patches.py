"""From an image tower of open_clip to what its vector is made of, patch by patch.

| tower | patches | their mean is the vector |
|---|---|---|
| `VisionTransformer`, `pool_type: avg` | the last block's tokens, behind norm and projection | exactly |
| `VisionTransformer`, `pool_type: tok` | the same of the tokens that are not pooled | no |
| `ModifiedResNet` | each place's share in the attention pooling | exactly |
| a trunk of timm that averages (ConvNeXt, ResNet, ViT) | its places, behind norm and projection | exactly |
| a ViT of timm with a class token, or attention (SigLIP) | each token as if it were the only one | no |

A projection is linear, so that a mean goes through it. A LayerNorm (or RMSNorm) *behind* the mean is not; with the
statistics of the pooled vector held fixed it is an affine map, which the mean goes through, and whose value at the
pooled vector is the norm's own. A trained BatchNorm is an affine map anyway. Where a patch's share is not exact, it is
the usual approximation for the towers of CLIP: the tokens have the pooled one's layers behind them, and lie in the
space of the texts, but nothing says that they sum up. A head with a non-linearity in it (`proj: mlp`) makes all of this
an approximation.
"""

from typing import Any, cast

import torch
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.layers.norm import RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d
from torch import Tensor, nn

from mmret.errors import InputError

_SCALING = (RmsNorm, RmsNorm2d, SimpleNorm, SimpleNorm2d, nn.RMSNorm)


def patch_vectors(tower: Any, pixels: Tensor) -> tuple[Tensor, bool]:
    """Return float32 [h, w, D] of one normalised image [1, 3, H, W], and whether their mean is its vector exactly.

    Raises `InputError` for a tower that is not in this module's table.
    """
    if isinstance(tower, VisionTransformer):
        vectors, exact = _of_transformer(tower, pixels)
    elif isinstance(tower, ModifiedResNet):
        maps = tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.stem(pixels)))))[0]
        vectors, exact = attention_shares(tower.attnpool, maps), True
    elif isinstance(tower, TimmModel):
        vectors, exact = _of_timm(tower, pixels)
    else:
        raise _unknown(tower)
    return vectors.float(), exact


def _of_transformer(tower: VisionTransformer, pixels: Tensor) -> tuple[Tensor, bool]:
    if tower.attn_pool is not None or tower.pool_type not in ("avg", "tok"):
        raise InputError(
            "this image tower pools its patches by attention to queries of its own (CoCa), which says nothing about "
            "single patches."
        )
    height, width = (side // patch for side, patch in zip(pixels.shape[2:], tower.patch_size, strict=True))
    tokens = tower.transformer(tower._embeds(pixels))[0, 1:]
    averages = tower.pool_type == "avg"
    if tower.final_ln_after_pool and averages:
        tokens = held_norm(tower.ln_post, tokens, tokens.mean(dim=0))
    else:
        tokens = tower.ln_post(tokens)
    vectors = tokens if tower.proj is None else tokens @ tower.proj
    return vectors.view(height, width, -1), averages


def attention_shares(pool: AttentionPool2d, maps: Tensor) -> Tensor:
    """Return each place's share [h, w, D] in CLIP's pooling of maps [C, h, w]; their mean is what it gives.

    The query is the mean of all places. What it takes from a place is a weight times a linear map of it, head by
    head; what it takes from the mean itself is divided among the places that the mean is of. Constants are divided
    evenly.
    """
    places = maps.flatten(1).T
    count, heads = len(places), pool.num_heads
    mean = places.mean(dim=0, keepdim=True)
    positions = pool.positional_embedding.to(places.dtype)
    tokens = torch.cat([mean, places]) + positions
    query, keys = _by_head(pool.q_proj(tokens[:1]), heads), _by_head(pool.k_proj(tokens), heads)
    weights = ((query * keys).sum(dim=-1) * keys.shape[-1] ** -0.5).softmax(dim=0)
    own = _by_head(pool.v_proj(tokens[1:]), heads) * weights[1:, :, None]
    through_mean = _by_head(pool.v_proj(places + positions[:1]), heads) * weights[:1, :, None] / count
    shares: Tensor = pool.c_proj(count * (own + through_mean).flatten(1))
    return shares.view(*maps.shape[1:], -1)


def _by_head(rows: Tensor, heads: int) -> Tensor:
    return rows.view(len(rows), heads, -1)


def held_norm(norm: nn.Module, rows: Tensor, pooled: Tensor) -> Tensor:
    """Return `norm` of rows [..., C], with the statistics of the pooled vector [C] for all of them.

    The mean of the result is the norm of the pooled vector, if the mean of the rows is that. Raises `InputError` for
    a norm that is no LayerNorm, no BatchNorm in evaluation, and does not scale alone.
    """
    if isinstance(norm, nn.Identity):
        return rows
    if isinstance(norm, _SCALING):
        return _held_scale(norm, rows, pooled)
    if isinstance(norm, nn.BatchNorm2d) and not norm.training:
        return cast(Tensor, norm(rows.reshape(-1, rows.shape[-1], 1, 1))).view(rows.shape)
    if not isinstance(norm, nn.LayerNorm):
        raise InputError(
            f"a {type(norm).__name__} behind the pooling cannot be divided among patches; Layer- and BatchNorms can."
        )
    scaled = (rows - pooled.mean()) / (pooled.var(correction=0) + norm.eps).sqrt()
    if norm.weight is not None:
        scaled = scaled * norm.weight
    return scaled if norm.bias is None else scaled + norm.bias


def _held_scale(norm: nn.Module, rows: Tensor, pooled: Tensor) -> Tensor:
    """The same of a norm that multiplies by one number of its input, and by its weights: that number is read off."""
    weights = norm.weight if isinstance(norm.weight, Tensor) else torch.ones_like(pooled)
    is_2d = isinstance(norm, (RmsNorm2d, SimpleNorm2d))
    normed = norm(pooled[None, :, None, None]).flatten() if is_2d else norm(pooled)
    weighted = pooled * weights
    scaled: Tensor = rows * weights * (normed @ weighted / (weighted @ weighted))
    return scaled


def _of_timm(tower: TimmModel, pixels: Tensor) -> tuple[Tensor, bool]:
    features = tower.trunk.forward_features(pixels)[0]
    if hasattr(tower.trunk, "num_prefix_tokens"):
        vectors, exact = _of_timm_tokens(tower.trunk, features)
    else:
        vectors, exact = _of_timm_maps(tower.trunk, features), True
    linear = not any(name == "mlp" for name, _ in tower.head.named_children())
    return tower.head(vectors), exact and linear


def _of_timm_maps(trunk: Any, maps: Tensor) -> Tensor:
    """Places [h, w, C] of a convolutional trunk's maps [C, h, w], as its head would norm their mean."""
    pools: dict[Any, Any] = {
        part: getattr(part, "global_pool", None) for part in (trunk, getattr(trunk, "head", trunk))
    }
    head = next((part for part, pool in pools.items() if hasattr(pool, "pool_type")), None)
    if head is None or pools[head].pool_type not in ("avg", "fast", "fastavg"):
        raise _unknown(trunk)
    places = maps.permute(1, 2, 0)
    norm = nn.Identity() if head is trunk else getattr(head, "norm", nn.Identity())
    return held_norm(norm, places, places.mean(dim=(0, 1)))


def _of_timm_tokens(trunk: Any, features: Tensor) -> tuple[Tensor, bool]:
    """Places [h, w, C] of a transformer's tokens [N, C] as what is pooled of them is normed; whether that is exact."""
    tokens = features[trunk.num_prefix_tokens :]
    grid = tuple(trunk.patch_embed.grid_size)
    averages = trunk.global_pool == "avg" and getattr(trunk, "attn_pool", None) is None
    if averages and not getattr(trunk, "pool_include_prefix", False):
        vectors = held_norm(trunk.fc_norm, tokens, tokens.mean(dim=0))
    elif getattr(trunk, "attn_pool", None) is not None:
        vectors, averages = trunk.fc_norm(trunk.attn_pool(tokens[:, None])), False
    else:
        vectors, averages = trunk.fc_norm(tokens), False
    return trunk.head(vectors).view(*grid, -1), averages


def _unknown(tower: Any) -> InputError:
    return InputError(
        f"image towers of the kind {type(tower).__name__} do not say here which part of a page their vector comes from."
    )
