"""The new site as a network meets it: its scans, and the labels that may be seen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from uncus.data.augment import Augment
from uncus.data.scan_dataset import ScanDataset
from uncus.data.transforms.augmentation import Augmentation
from uncus.models.base import Classifier
from uncus.pipeline.training.head_refit import pooled
from uncus.pipeline.training.task import Devices
from uncus.pipeline.trust.calibration import Calibration

Array = np.ndarray[Any, Any]
HIDDEN = -1
"""The label of a scan whose class may not be seen."""


@dataclass(frozen=True)
class Site:
    """What a network is adapted to.

    Attributes
    ----------
    scans: N scans of the new site, none of a subject that the network will be tested on; labels
        int [N], HIDDEN where they may not be seen.
    source: labelled scans that the network was trained on; None where they are not at hand.
    shares: float [K], the share of each class in the data that the network was trained on.
    calibration: of the source run's probabilities, if it has one.
    batch_size: of the source run's training.
    flip: whether an answer is the mean over a scan and its mirror image.
    augment, spacing: random changes to training volumes, and their voxels (mm).
    seed: fixes order and augmentation.
    """

    scans: ScanDataset
    source: ScanDataset | None
    shares: Array
    calibration: Calibration | None
    batch_size: int
    flip: bool
    augment: Augment
    spacing: tuple[float, ...]
    devices: Devices
    seed: int

    @property
    def classes(self) -> int:
        """K."""
        return len(self.shares)

    @property
    def shown(self) -> Array:
        """Positions of the scans whose labels may be seen."""
        return np.flatnonzero(self.scans.labels != HIDDEN)

    def labelled(self) -> ScanDataset:
        """The scans whose labels may be seen."""
        return take(self.scans, self.shown)

    def without(self, scans: Array) -> "Site":
        """The same site without the ``scans`` that a bool [N] marks."""
        return replace(self, scans=take(self.scans, np.flatnonzero(~scans)))

    def augmentation(self) -> list[Any]:
        """Random changes to training volumes."""
        return [Augmentation.of(self.augment, self.spacing, self.seed)]


def take(scans: ScanDataset, positions: Array, labels: Array | None = None) -> ScanDataset:
    """Some of the scans, with other ``labels`` if given."""
    rows: Sequence[int] = np.asarray(scans.rows)[positions].tolist()
    known = scans.labels[positions] if labels is None else labels
    return ScanDataset(scans.volumes, rows, known, scans.covariates[positions])


def logits(network: Classifier, scans: ScanDataset, flip: bool) -> Array:
    """The network's outputs before the softmax, float64 [N, K]."""
    features = torch.from_numpy(pooled(network, scans, flip))
    with torch.no_grad():
        output = features @ network.head.weight.double().T + network.head.bias.double()
        return network.adjust(output, torch.from_numpy(scans.covariates)).numpy()
