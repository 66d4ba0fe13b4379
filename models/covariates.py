"""Covariates of the subject, such as age, as a term added to the network's output."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Covariates(nn.Module):
    """``W z`` added to a network's output, ``z_p = (v_p - mean_p) / spread_p``.

    A linear term, as in the analysis of covariance: a brain is judged relative to age. It leaves
    the part of the output that depends on the scan unchanged, and so its saliency maps. An unknown
    value (NaN) counts as the mean, z = 0.

    Parameters
    ----------
    count: P, covariates of each subject.
    classes: K, columns of the output.
    degree: of the polynomials of each, 1 for linear terms.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, count: int, classes: int, degree: int = 1) -> None:
        super().__init__()
        self.degree = degree
        self.weight = nn.Parameter(torch.zeros(classes, count * degree))
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))

    def standardize(self, values: Tensor) -> None:
        """Set mean and spread from ``values`` [N, P] of the training subjects, ignoring NaN.

        Raises
        ------
        ValueError: a column with fewer than two distinct values.
        """
        for p, column in enumerate(values.double().unbind(1)):
            known = column[torch.isfinite(column)]
            if not len(known) or known.min() == known.max():
                raise ValueError(f"covariate {p + 1} is constant or missing in all scans")
            self.mean[p], self.spread[p] = known.mean(), known.std(correction=0)

    def z(self, values: Tensor) -> Tensor:
        """``values`` [N, P] in standard deviations from the mean, and their powers; 0 if unknown.

        Returns
        -------
        [N, P ``degree``], all of a power before those of the next.
        """
        z = torch.nan_to_num((values.to(self.mean) - self.mean) / self.spread, nan=0.0)
        return torch.cat([z**power for power in range(1, self.degree + 1)], 1)

    def forward(self, values: Tensor) -> Tensor:
        """``values`` [N, P] in their own units -> [N, K]."""
        return F.linear(self.z(values), self.weight)

    def extra_repr(self) -> str:
        return f"{len(self.mean)}, {len(self.weight)}, degree={self.degree}"
