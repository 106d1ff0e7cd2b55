"""From a language model's states to one vector, or several: the poolings of the field as named values.

| name | what it is | who uses it |
|---|---|---|
| `last` | the state of the last token | DSE, GME, Qwen3-VL-Embedding |
| `mean` | the mean over all tokens | |
| `latent-attention` | tokens attend to trained latents; mean without the instruction | NV-Embed |
| `tokens` | every token's state, projected and normalised (late interaction, MaxSim) | ColPali, ColQwen2 |
| `tokens-K` | the same, a page's tokens clustered to a K-th of their number | ColPali's token pooling |

B = inputs, L = tokens, H = width of the states. Padding may stand on either side and changes nothing.
"""

import re

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmret.backbones.base import Features, TokenVectors
from mmret.errors import InputError

LATENT_ATTENTION = "latent-attention"
_NAME = re.compile(r"last|mean|latent-attention|tokens(?:-([1-9]\d*))?")


def parse_pooling(name: str) -> tuple[str, int]:
    """Return a pooling's family and its factor (1 where it has none); raises `InputError` for a name that is none."""
    found = _NAME.fullmatch(name)
    if not found:
        raise InputError(
            f"there is no pooling {name!r}: use last, mean, latent-attention, tokens or tokens-K."
        )
    return name.partition("-")[0] if found[1] else name, int(found[1] or 1)


def last_token(states: Tensor, mask: Tensor) -> Tensor:
    """Return the state [B, H] of each row's last token; `mask` bool [B, L] is true where tokens are."""
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * (places + 1)).argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), last]


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean [B, H] of the states where `mask` bool [B, L] is true, summed in float32."""
    kept = states.float().masked_fill(~mask[..., None], 0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)


def without_first(mask: Tensor, count: int) -> Tensor:
    """Return `mask` bool [B, L] less the first `count` tokens of each row: its instruction."""
    return mask & (mask.cumsum(dim=1) > count)


def token_vectors(states: Tensor, mask: Tensor, width: int) -> TokenVectors:
    """Return each token's first `width` numbers, L2-normalised, without padding."""
    vectors = functional.normalize(states[..., :width].float(), dim=-1)
    return TokenVectors(vectors[mask], mask.sum(dim=1))


def cluster_tokens(features: TokenVectors, factor: int) -> TokenVectors:
    """Return a `factor`-th of each input's vectors: the normalised means of clusters.

    Ward's linkage over the rows of the matrix of cosine distances, cut to at most max(length // factor, 1)
    clusters, as ColPali's HierarchicalTokenPooler does it (arXiv 2407.01449 and its code). Without gradients.
    """
    if factor == 1:
        return features
    groups = torch.split(features.vectors.detach(), features.lengths.tolist())
    pooled = [_clustered(group, max(len(group) // factor, 1)) for group in groups]
    lengths = torch.tensor([len(group) for group in pooled], device=features.lengths.device)
    return TokenVectors(torch.cat(pooled), lengths)


def _clustered(vectors: Tensor, count: int) -> Tensor:
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(vectors) <= 1:
        return vectors
    known = vectors.float().cpu()
    distances = 1 - known @ known.T
    labels = fcluster(
        linkage(distances.numpy(), metric="euclidean", method="ward"), t=count, criterion="maxclust"
    )
    clusters = torch.from_numpy(labels).long() - 1
    sums = torch.zeros(int(clusters.max()) + 1, known.shape[1]).index_add_(0, clusters, known)
    return functional.normalize(sums, dim=-1).to(vectors)


class _Normed(nn.Module):
    """A block behind a normalisation of its input, in the layout of the keys of NV-Embed's checkpoints."""

    def __init__(self, block: nn.Module, width: int, context_width: int | None = None) -> None:
        super().__init__()
        self.fn = block
        self.norm = nn.LayerNorm(width)
        self.norm_context = None if context_width is None else nn.LayerNorm(context_width)


class _CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, states: Tensor, context: Tensor) -> Tensor:
        keys, values = self.to_kv(context).chunk(2, dim=-1)
        queries, keys, values = (self._by_head(each) for each in (self.to_q(states), keys, values))
        found = functional.scaled_dot_product_attention(queries, keys, values)
        out: Tensor = self.to_out(found.transpose(-3, -2).flatten(-2))
        return out

    def _by_head(self, vectors: Tensor) -> Tensor:
        return vectors.reshape(*vectors.shape[:-1], self.heads, -1).transpose(-3, -2)


class _GatedGelu(nn.Module):
    def forward(self, states: Tensor) -> Tensor:
        values, gates = states.chunk(2, dim=-1)
        return values * functional.gelu(gates)


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 8 * width), _GatedGelu(), nn.Linear(4 * width, width))

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.net(states)
        return out


class LatentAttention(nn.Module):
    """NV-Embed's pooling (arXiv 2405.17428, section 3.1): tokens are queries, trained latents are keys and values.

    A residual cross-attention and a residual feed-forward block, each behind a LayerNorm, then the mean over the
    tokens that are neither padding nor instruction. Keys of the weights are those of the public checkpoint's
    `latent_attention_model`. There, H = 4,096, 512 latents, 8 heads of 4,096 each; here heads share H by default.
    """

    def __init__(self, width: int, latents: int = 512, heads: int = 8, head_width: int | None = None) -> None:
        super().__init__()
        attention = _CrossAttention(width, heads, head_width or max(1, width // heads))
        self.cross_attend_blocks = nn.ModuleList(
            [_Normed(attention, width, width), _Normed(_FeedForward(width), width)]
        )
        self.latents = nn.Parameter(torch.randn(latents, width))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return vectors [B, H] of states [B, L, H]; `mask` bool [B, L] is true for the tokens that are averaged."""
        return masked_mean(self.attended(states), mask)

    def attended(self, states: Tensor) -> Tensor:
        """Return what is averaged, [B, L, H] of states [B, L, H]: each token by itself, behind both blocks."""
        attend, feed = self.cross_attend_blocks
        latents = self.latents.expand(len(states), -1, -1)
        states = attend.fn(attend.norm(states), attend.norm_context(latents)) + states  # type: ignore[operator]
        fed: Tensor = feed.fn(feed.norm(states)) + states  # type: ignore[operator]
        return fed

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "LatentAttention":
        """Build the module that a state dict is of; raises `InputError` if it is of none.

        The number of heads is not in it: 8, as the paper has it.
        """
        try:
            latents, width = state["latents"].shape
            inner = state["cross_attend_blocks.0.fn.to_q.weight"].shape[0]
            module = cls(width, latents, heads=8, head_width=inner // 8)
            module.load_state_dict(state)
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"the weights of latent attention do not fit NV-Embed's layout ({reason})."
            ) from error
        return module


class Pooling(nn.Module):
    """A pooling by name, with what weights it has, for states of one model.

    `instruction` counts the tokens that `latent-attention` leaves out of its mean.
    """

    def __init__(self, name: str, width: int, latent: LatentAttention | None = None) -> None:
        super().__init__()
        self.family, self.factor = parse_pooling(name)
        self.width, self.latent = width, latent

    def forward(self, states: Tensor, mask: Tensor, instruction: int = 0, cluster: bool = False) -> Features:
        """Return float32 [B, D], or `TokenVectors`, of states [B, L, H] and `mask` bool [B, L].

        Only with `cluster` are tokens clustered: pages' are, queries' are not.
        """
        if self.family == "tokens":
            return cluster_tokens(token_vectors(states, mask, self.width), self.factor if cluster else 1)
        if self.latent is not None:
            pooled: Tensor = self.latent(states, without_first(mask, instruction))
        else:
            pooled = (last_token if self.family == "last" else masked_mean)(states, mask)
        return pooled[..., : self.width].float()

    @property
    def averages(self) -> bool:
        """Whether one vector is the mean of its tokens' (`of_tokens`)."""
        return self.family in ("mean", LATENT_ATTENTION)

    def of_tokens(self, states: Tensor) -> Tensor:
        """Return float32 [B, L, D] of states [B, L, H]: each token's vector, of which one is pooled or the mean is."""
        each = states if self.latent is None else self.latent.attended(states)
        return each[..., : self.width].float()
