"""Losses that more than one model uses."""

import torch
from torch import Tensor
from torch.nn import functional


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking: the mean of -ln sigma(positive - negative), as a softplus.

    Args:
        positive: (n,) scores of items that the users have.
        negative: (n,) scores of items that they do not have.

    Source:
        Rendle et al., UAI 2009, section 4.1.

    Deviations:
        Mean over the batch where the paper sums, so that the learning rate does not depend on the batch size.
    """
    return functional.softplus(negative - positive).mean()


def half_squared_norm(*tables: Tensor) -> Tensor:
    """Half the squared norm of the rows of a batch, averaged over the batch: 1/(2n) * sum of |x|^2.

    Args:
        tables: each (n, d).

    Source:
        He et al., SIGIR 2020 (LightGCN), equation 15, the regulariser as the released code divides it.

    Deviations:
        None.
    """
    return torch.stack([table.square().sum() for table in tables]).sum() / (2 * len(tables[0]))


def regularised_bpr(final: Tensor, first: Tensor, l2: float) -> Tensor:
    """BPR of a batch of triplets, and the squared norm of what their vectors were made from.

    Args:
        final: (3, n, d) vectors of the users, their positive and their negative items.
        first: (3, n, d') what is regularised, e.g. their layer-0 embeddings.
        l2: weight of the regulariser.

    Source:
        Rendle et al., UAI 2009, section 4.1, with dot products as scores; He et al., SIGIR 2020, equation 15.

    Deviations:
        Mean over the batch where the papers sum.
    """
    user, positive, negative = final
    return bpr((user * positive).sum(1), (user * negative).sum(1)) + l2 * half_squared_norm(*first)


def info_nce(view: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Tell each node's second view from those of all other nodes: the mean of -ln softmax_j(cos(z_i, z'_j) / tau)_ii.

    Args:
        view: (n, d) one view of n nodes.
        other: (n, d) another view of the same nodes.
        temperature: tau, > 0, no unit.

    Source:
        Yu et al., TKDE 2023 (XSimGCL), equation 3; cosines as Coder-Yu/SELFRec 5b02294.

    Deviations:
        Mean over the nodes where the paper sums, so that the weight of the loss does not depend on the batch size.
    """
    view, other = (functional.normalize(table, dim=1) for table in (view, other))
    same = torch.arange(len(view), device=view.device)
    return functional.cross_entropy(view @ other.T / temperature, same)


def distance_correlation(vectors: Tensor) -> Tensor:
    """Sum of the distance correlations of all pairs of vectors, their coordinates taken as samples.

    a_jk = |x_j - x_k|, doubly centred; dCov(x, y)^2 = mean of a * b; dCor = dCov(x, y) / sqrt(dCov(x, x) dCov(y, y))

    Args:
        vectors: (n, d); memory grows with n * d^2.

    Source:
        Székely and Rizzo, Annals of Applied Statistics 2009, definition 3; Wang et al., WWW 2021 (KGIN), equations 4
        and 5.

    Deviations:
        Each pair counts once (KGIN's sum counts it twice). 1e-12 below the roots, whose slope at 0 is infinite.
    """
    distance = (vectors[:, :, None] - vectors[:, None, :]).abs()
    by_row, by_column = distance.mean(2, keepdim=True), distance.mean(1, keepdim=True)
    centred = (distance - by_row - by_column + distance.mean((1, 2), keepdim=True)).flatten(1)
    covariance = (centred @ centred.T / centred.shape[1]).clamp_min(0) + 1e-12
    own = covariance.diagonal()
    correlation = torch.sqrt(covariance / torch.sqrt(own[:, None] * own[None, :]))
    return torch.triu(correlation, diagonal=1).sum()
