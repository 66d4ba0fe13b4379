"""The networks that judge a scan, undisturbed and disturbed, or attacked for each of them."""

from collections.abc import Callable, Mapping
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
from uncus.pipeline.saliency.score import VOXELS_AT_ONCE

EPS = (0.01, 0.02, 0.05, 0.1)
"""Largest change of a voxel, in standard deviations of the brain."""
Attack = Callable[[Loss, Tensor, Tensor], Tensor]
ATTACKS: Mapping[str, Attack] = {"fgsm": fgsm, "pgd": pgd}
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

    def raw(self, volumes: Tensor, covariates: Tensor) -> Tensor:
        """Logits or standardized values [N, K] of one scan's volumes [N, 1, X, Y, Z],
        differentiable; as ``uncus.models.inference.predict`` has it for one volume."""
        both = [volumes, volumes.flip(2)] if self.flip else [volumes]
        outputs = [self.network.classify(self.network.features(one)).float() for one in both]
        mean = torch.stack(outputs).mean(0)
        return self.network.adjust(mean, covariates.expand(len(volumes), -1))

    @torch.no_grad()
    def outputs(self, volumes: Tensor, covariates: Tensor) -> list[list[float]]:
        """Class probabilities, or values in their units, [N][K]."""
        raw = torch.cat(
            [self.raw(some, covariates) for some in torch.split(volumes, at_once(volumes))]
        )
        if not self.regression:
            return [[float(share) for share in row] for row in raw.softmax(1)]
        mean, std = np.asarray(self.member["mean"]), np.asarray(self.member["std"])
        return [[float(value) for value in row] for row in raw.cpu().numpy() * std + mean]

    def loss(self, label: NDArray[Any], covariates: Tensor) -> Loss:
        """Volumes [N, 1, X, Y, Z] of a scan -> [N]: cross-entropy with the scan's class, or squared
        error in the values known."""
        device = covariates.device
        if not self.regression:
            known = torch.as_tensor(label, device=device)
            return lambda x: F.cross_entropy(
                self.raw(x, covariates), known.expand(len(x)), reduction="none"
            )
        mean, std = np.asarray(self.member["mean"]), np.asarray(self.member["std"])
        true = torch.as_tensor((label - mean) / std, dtype=torch.float32, device=device)
        there = torch.isfinite(true)
        return lambda x: (self.raw(x, covariates)[:, there] - true[there]).square().sum(1)

    def attacked(self, attack: Attack, scan: "Scan") -> list[list[float]]:
        """The outputs for the scan's volume attacked with each eps."""
        loss, size = self.loss(scan.label, scan.covariates), at_once(scan.volume)
        found = []
        every = torch.tensor(EPS, device=scan.volume.device).view(-1, 1, 1, 1, 1)
        for eps in torch.split(every, size):
            volumes = scan.volume.expand(len(eps), *scan.volume.shape[1:])
            found += self.outputs(attack(loss, volumes, eps), scan.covariates)
        return found


def at_once(volumes: Tensor) -> int:
    """How many volumes are computed in one batch; outputs differ by rounding alone."""
    return max(1, VOXELS_AT_ONCE // volumes[0].numel())


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
    covariates, device = scan.covariates, scan.volume.device
    found = {UNDISTURBED: [judge.outputs(scan.volume, covariates)[0] for judge in judges]}
    every: dict[str, list[list[list[float]]]] = {}
    for name, one in DISTURBANCES.items():
        volume = scan.volume.cpu()
        changed = [one(volume, level, scan.seed, scan.spacing) for level in one.levels]
        volumes = torch.cat(changed).to(device)
        every[name] = [judge.outputs(volumes, covariates) for judge in judges]
    for name, attack in ATTACKS.items():
        every[name] = [judge.attacked(attack, scan) for judge in judges]
    for name, outputs in every.items():
        for k, level in enumerate(levels()[name]):
            found[key(name, level)] = [by_level[k] for by_level in outputs]
    return found
