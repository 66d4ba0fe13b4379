"""The networks that judge a scan, undisturbed and disturbed, or attacked for each of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uncus.data.transforms.disturbances import DISTURBANCES
from uncus.models.adversarial import Loss, fgsm, pgd
from uncus.models.base import Classifier
from uncus.models.inference import predict

EPS = (0.01, 0.02, 0.05, 0.1)
"""Largest change of a voxel, in standard deviations of the brain."""
ATTACKS = {"fgsm": fgsm, "pgd": pgd}
TITLES = {"fgsm": "adversarial (FGSM)", "pgd": "adversarial (PGD)"}
UNDISTURBED = "undisturbed"


def levels() -> dict[str, tuple[float, ...]]:
    """Name of each disturbance and attack -> its levels."""
    return {n: one.levels for n, one in DISTURBANCES.items()} | dict.fromkeys(ATTACKS, EPS)


def titles() -> dict[str, tuple[str, str]]:
    """Name of each -> its title and the unit of its levels."""
    known = {name: (one.title, one.unit) for name, one in DISTURBANCES.items()}
    return known | {name: (title, "SD") for name, title in TITLES.items()}


def key(name: str, level: float) -> str:
    """``blur 4``: what the outputs at a level are stored as."""
    return f"{name} {level:g}"


@dataclass(frozen=True)
class Judge:
    """A network of a run.

    Attributes
    ----------
    flip: whether outputs are averaged over the volume and its mirror image.
    member: its entry in the model card.
    """

    network: Classifier
    flip: bool
    regression: bool
    member: Mapping[str, Any]

    def raw(self, volume: Tensor, covariates: Tensor) -> Tensor:
        """Logits or standardized values [1, K] of a volume [1, 1, X, Y, Z], differentiable."""

        def trunk(volumes: Tensor) -> Tensor:
            return torch.cat([self.network.features(one[None]) for one in volumes])

        return predict(self.network, volume, self.flip, covariates, trunk)[0]

    @torch.no_grad()
    def output(self, volume: Tensor, covariates: Tensor) -> list[float]:
        """Class probabilities, or values in their units, [K]."""
        raw = self.raw(volume, covariates)[0].cpu()
        if not self.regression:
            return [float(share) for share in raw.softmax(0)]
        mean, std = np.asarray(self.member["mean"]), np.asarray(self.member["std"])
        return [float(value) for value in raw.numpy() * std + mean]

    def loss(self, label: NDArray[Any], covariates: Tensor) -> Loss:
        """Volume -> cross-entropy with the scan's class, or squared error in the values known."""
        device = covariates.device
        if not self.regression:
            known = torch.as_tensor(label, device=device).reshape(1)
            return lambda x: F.cross_entropy(self.raw(x, covariates), known, reduction="none")
        mean, std = np.asarray(self.member["mean"]), np.asarray(self.member["std"])
        true = torch.as_tensor((label - mean) / std, dtype=torch.float32, device=device)
        there = torch.isfinite(true)
        return lambda x: (self.raw(x, covariates)[:, there] - true[there]).square().sum(1)


@dataclass(frozen=True)
class Scan:
    """A scan to judge.

    Attributes
    ----------
    volume: float32 [1, 1, X, Y, Z] on the run's grid.
    covariates: float32 [1, P], NaN where unknown.
    label: a class, [], or values [K], NaN where unknown.
    seed: of the disturbances' directions.
    spacing: mm.
    """

    volume: Tensor
    covariates: Tensor
    label: NDArray[Any]
    seed: int
    spacing: tuple[float, ...]


def judged(scan: Scan, judges: list[Judge]) -> dict[str, list[list[float]]]:
    """Each judge's output [judges][K], for each disturbance and level, and undisturbed."""

    def answers(volume: Tensor) -> list[list[float]]:
        return [judge.output(volume, scan.covariates) for judge in judges]

    found = {UNDISTURBED: answers(scan.volume)}
    for name, disturbance in DISTURBANCES.items():
        for level in disturbance.levels:
            changed = disturbance(scan.volume.cpu(), level, scan.seed, scan.spacing)
            found[key(name, level)] = answers(changed.to(scan.volume.device))
    losses = [judge.loss(scan.label, scan.covariates) for judge in judges]
    for name, attack in ATTACKS.items():
        for eps in EPS:
            found[key(name, eps)] = [
                judge.output(attack(loss, scan.volume, eps), scan.covariates)
                for judge, loss in zip(judges, losses, strict=True)
            ]
    return found
