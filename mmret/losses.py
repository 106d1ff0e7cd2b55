"""Losses as pure functions on tensors; what gathers across devices or holds parameters lives in `methods`."""

import torch
import torch.nn.functional as F
from torch import Tensor


def symmetric_contrastive(first: Tensor, second: Tensor, scale: Tensor | float) -> Tensor:
    """CLIP's objective: the mean of both directions' cross-entropy over a batch of matching pairs.

    Args:
        first, second: L2-normalised features [B, D]; row i of one belongs to row i of the other, every other
            row is a negative.
        scale: The factor on cosine similarities (the inverse temperature).

    Returns:
        A scalar. (Radford et al., arXiv 2103.00020, figure 3.)
    """
    logits = scale * first @ second.T
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The normalised-temperature cross-entropy: each row finds its partner among all 2·B − 1 others of both sides.

    Unlike `symmetric_contrastive`, rows of the same side are negatives too. It is the cross-entropy over the
    2·B × 2·B logits with −inf on the diagonal, which is stable where exponentials of cosines / temperature are not, and
    is computed in float32 under automatic mixed precision too: at τ = .07 a cosine's last place in bfloat16 is .06 of a
    logit.

    Args:
        first, second: [B, D], of any length (they are normalised here); row i of one belongs to row i of the other.
        temperature: τ, that cosines are divided by.

    Returns:
        A scalar: the mean over all 2·B rows; 0 for B = 1, which has no negatives. (Chen et al., SimCLR, arXiv
        2002.05709; SEARLE's distillation of pseudo-words, arXiv 2303.15247; RTD, arXiv 2406.09188.)
    """
    with torch.autocast(first.device.type, enabled=False):
        rows = F.normalize(torch.cat([first, second]).float(), dim=-1)
        logits = (rows @ rows.T / temperature).fill_diagonal_(-torch.inf)
        return F.cross_entropy(logits, torch.arange(len(rows), device=rows.device).roll(len(first)))


def contrastive(queries: Tensor, targets: Tensor, scale: Tensor | float) -> Tensor:
    """One direction of it: each query among the targets of the batch, as composed retrieval trains.

    Args:
        queries, targets: L2-normalised features [B, D]; row i of one belongs to row i of the other.
        scale: The factor on cosine similarities.

    Returns:
        A scalar. (GeneCIS's and CLIP4Cir's combiners, with a scale of 100.)
    """
    labels = torch.arange(len(queries), device=queries.device)
    return F.cross_entropy(scale * queries @ targets.T, labels)


def cosines(queries: Tensor, pages: Tensor) -> Tensor:
    """Cosine similarities float32 [Q, N] of features [Q, D] and [N, D], also under automatic mixed precision."""
    with torch.autocast(queries.device.type, enabled=False):
        return F.normalize(queries.float(), dim=-1) @ F.normalize(pages.float(), dim=-1).T


def late_interaction(queries: Tensor, pages: Tensor) -> Tensor:
    """Each query's mean, over its vectors, of the best cosine with a page's: float32 [Q, N].

    It is MaxSim by query length, so that a temperature means the same for long and short queries (as ColPali's code
    has it with `normalize_scores`). One query is compared at a time: the cosines of all vectors with all, [Q, N, S, T],
    are never held, and their gradient needs the places of the best alone.

    Args:
        queries: [Q, S, D]; a row of zeros stands for none.
        pages: [N, T, D]; likewise.
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries, pages = F.normalize(queries.float(), dim=-1), F.normalize(pages.float(), dim=-1)
        absent = ~pages.any(dim=-1)
        rows = []
        for query in queries:
            vectors = query[query.any(dim=-1)]
            found = torch.einsum("sd,ntd->nst", vectors, pages).masked_fill(absent[:, None], -torch.inf)
            rows.append(found.max(dim=-1).values.mean(dim=-1))
        return torch.stack(rows)


def info_nce(similarities: Tensor, own: Tensor, temperature: float, left_out: Tensor | None = None) -> Tensor:
    """The mean cross-entropy of finding one's own page: −log softmax(similarities / τ), in float32.

    Args:
        similarities: [Q, N], cosines or the like.
        own: int64 [Q], the column of each row's own page.
        temperature: τ.
        left_out: bool [Q, N], true for pages that are no negatives of a query; never for its own.

    Returns:
        A scalar. (van den Oord et al., arXiv 1807.03748; DSE, arXiv 2406.11251, equation 2.)
    """
    with torch.autocast(similarities.device.type, enabled=False):
        logits = similarities.float() / temperature
        if left_out is not None:
            logits = logits.masked_fill(left_out, -torch.inf)
        return F.cross_entropy(logits, own)


def suspects(similarities: Tensor, own: Tensor, threshold: float) -> Tensor:
    """Pages too similar to a query to be negatives of it: bool [Q, N], never its own page.

    They are those above `threshold` × the similarity with the own page; where that is not positive there are none: a
    share of a negative number bounds nothing. (TopK-PercPos of NV-Retriever, arXiv 2407.15831, there when mining.)

    Args:
        similarities: [Q, N], un-scaled.
        own: int64 [Q], the column of each row's own page.
        threshold: A share, such as .95.
    """
    with torch.no_grad():
        positive = similarities.gather(1, own[:, None])
        above = (similarities > threshold * positive) & (positive > 0)
        return above.scatter(1, own[:, None], False)


def masked_reconstruction(masked: Tensor, original: Tensor) -> Tensor:
    """LinCIR's self-masking loss: the mean squared error between **un-normalised** text features [B, D].

    `masked` is the caption with its keywords replaced by the pseudo-word, `original` the caption as it was.
    (Gu et al., arXiv 2312.01998; the official code compares projected, un-normalised features.)
    """
    return F.mse_loss(masked, original)
