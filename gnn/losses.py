"""Losses that more than one model uses."""

import torch
from torch import Tensor


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
    return torch.nn.functional.softplus(negative - positive).mean()


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
