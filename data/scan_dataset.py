"""The scans of a memory-mapped cohort as a dataset for MONAI's and torch's loaders."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.data.dataset import Dataset
from monai.data.meta_tensor import MetaTensor

Item = dict[str, Any]
"""``volume`` [1, X, Y, Z] float32, ``label`` int64 or [K] float32, ``covariates`` [P] float32 with
NaN where missing (P may be 0), ``scan``, the position in the cohort."""


class ScanDataset(Dataset):
    """N scans of a cohort, with their labels. MONAI's caches are not needed: nothing is computed.

    Parameters
    ----------
    volumes: [M, X, Y, Z], memory-mapped.
    rows: positions [N] of the scans in ``volumes``.
    labels: class indices [N] or standardized values [N, K], NaN where missing.
    covariates: [N, P] in their units, NaN where missing; no covariates when left out.
    affine: of the cohort's grid, for MetaTensors; plain tensors, which are faster, when left out.
    transform: applied to each item, for example a MONAI dictionary transform.
    """

    def __init__(
        self,
        volumes: np.ndarray,
        rows: Sequence[int],
        labels: np.ndarray,
        covariates: np.ndarray | None = None,
        affine: np.ndarray | None = None,
        transform: Callable[[Item], Any] | None = None,
    ) -> None:
        super().__init__(list(rows), transform)
        assert len(rows) == len(labels)
        if covariates is None:
            covariates = np.zeros((len(rows), 0), np.float32)
        assert len(rows) == len(covariates)
        self.volumes, self.labels, self.covariates = volumes, labels, covariates
        self.affine = affine

    @property
    def rows(self) -> list[int]:
        """Positions of the scans in the cohort."""
        return list(self.data)

    def _transform(self, index: int) -> Any:
        item = {
            "volume": self.volume(index),
            "label": torch.as_tensor(self.labels[index]),
            "covariates": torch.from_numpy(self.covariates[index]),
            "scan": torch.tensor(self.rows[index]),
        }
        return self.transform(item) if self.transform else item

    def volume(self, index: int) -> torch.Tensor:
        """The volume [1, X, Y, Z] of an item."""
        voxels = np.asarray(self.volumes[self.rows[index]], dtype=np.float32)
        volume = torch.from_numpy(voxels).unsqueeze(0)
        return volume if self.affine is None else MetaTensor(volume, torch.tensor(self.affine))
