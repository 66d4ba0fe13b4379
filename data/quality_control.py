"""Quality control: reject scans that are unlike the training scans, or warn about them.

A network gives an output for anything of the right shape: a knee, a CT, noise. So every scan is
first compared with the training scans on the same grid; the limits follow from how much the
training scans differ among themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uncus.data.errors import BadInput
from uncus.data.space import Placed

FACES = ("left", "right", "posterior", "anterior", "inferior", "superior")
REMEDY = "give a T1-weighted scan of a head, prepared as the training scans were"
# Limits in robust standard deviations of the training scans' similarity (Fisher's z).
WARN_BELOW, REJECT_BELOW = 4.0, 8.0
REJECT_AT_MOST = 0.4  # correlation
FEW, FEW_WARN = 5, 0.6  # training scans, correlation
LEAST_SPREAD = (
    0.05  # of Fisher's z: few or very similar training scans must not reject every other scan
)
# Shares of the brain.
REJECT_MISSING = 0.5
MARGIN = 0.1  # beyond the worst training scan
MASKS, NUMBERS = ("region", "ever"), ("similarity", "missing", "extra", "contact")


@dataclass(frozen=True)
class Reference:
    """The average training scan on the grid, and how much the training scans vary.

    Parameters
    ----------
    mean: float32 [X, Y, Z], their mean image.
    region: bool [X, Y, Z], where at least half of them have brain.
    ever: bool [X, Y, Z], where at least one in twenty has brain.
    similarity: float [N], correlation of each within the region with the mean of all others.
    missing: float [N], share of the region that is empty in each.
    extra: float [N], share of each scan's brain that lies outside ``ever``.
    contact: float [6], the largest contact of each face with any of them (1 if unknown), see
        uncus.data.space.Placed.
    """

    mean: NDArray[np.float32]
    region: NDArray[np.bool_]
    ever: NDArray[np.bool_]
    similarity: NDArray[np.float64]
    missing: NDArray[np.float64]
    extra: NDArray[np.float64]
    contact: NDArray[np.float64]

    @classmethod
    def fit(cls, volumes: NDArray[Any], contacts: NDArray[Any] | None = None) -> "Reference":
        """Compute the reference from the training scans.

        Parameters
        ----------
        volumes: [N, X, Y, Z], as prepared: z-scores inside the brain, 0 outside. They are read one
            by one, so that a memory map may exceed the memory.
        contacts: [N, 6], see uncus.data.space.Placed.
        """
        count = len(volumes)
        if count == 0:
            raise ValueError("a reference needs at least 1 training scan, got 0")
        total = np.zeros(volumes.shape[1:], np.float64)
        filled = np.zeros(volumes.shape[1:], np.int64)
        for volume in volumes:
            total += volume
            filled += volume != 0
        region, ever = 2 * filled >= count, 20 * filled >= count
        inside = np.flatnonzero(region)
        summed = total.reshape(-1)[inside]
        similarity, missing, extra = [], [], []
        for volume in volumes:
            image = np.asarray(volume)
            similarity.append(
                _correlation_with_rest(image.reshape(-1)[inside].astype(np.float64), summed)
            )
            shown = image != 0
            missing.append(_share(region & ~shown, region))
            extra.append(_share(shown & ~ever, shown))
        return cls(
            mean=(total / count).astype(np.float32),
            region=region,
            ever=ever,
            similarity=np.array(similarity),
            missing=np.array(missing),
            extra=np.array(extra),
            contact=np.ones(6) if contacts is None else np.asarray(contacts, float).max(axis=0),
        )

    def limits(self) -> tuple[float, float]:
        """Similarities below which a scan gets a warning, and below which it is rejected.

        In Fisher's z = artanh(r), with the training scans' median m and robust standard deviation
        s (1.4826 * median absolute deviation, at least 0.05): a warning below m - 4 s and below
        every training scan; rejection below m - 8 s, below half the z of every training scan and
        below r = 0.4, and always for r <= 0. The most atrophied brains are the least similar ones,
        so the limits leave a margin below the worst training scan. Fewer than five training scans
        tell little about the spread: then there is no warning above r = 0.6.
        """
        z = np.arctanh(np.clip(self.similarity, -0.999, 0.999))
        middle, worst = float(np.median(z)), float(z.min())
        spread = max(LEAST_SPREAD, 1.4826 * float(np.median(np.abs(z - middle))))
        warn = float(np.tanh(min(middle - WARN_BELOW * spread, worst)))
        if len(z) < FEW:
            warn = min(warn, FEW_WARN)
        reject = float(np.tanh(min(middle - REJECT_BELOW * spread, worst / 2)))
        return warn, max(0.0, min(reject, REJECT_AT_MOST))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """The images as plain arrays, and the rest as values for JSON."""
        masks = {name: getattr(self, name).astype(np.uint8) for name in MASKS}
        rest = {name: getattr(self, name).round(6).tolist() for name in NUMBERS}
        return {"mean": self.mean, **masks}, rest

    @classmethod
    def from_state(cls, images: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]) -> "Reference":
        """The inverse of :meth:`state`; raises ValueError for anything else."""
        try:
            reference = cls(
                mean=np.asarray(images["mean"], np.float32),
                **{name: np.asarray(images[name]).astype(bool) for name in MASKS},
                **{name: np.asarray(rest[name], float) for name in NUMBERS},
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a reference of training scans: {error}") from error
        if not reference.mean.shape == reference.region.shape == reference.ever.shape:
            raise ValueError(f"not a reference of training scans: mean {reference.mean.shape}")
        return reference


def check_quality(placed: Placed, reference: Reference) -> tuple[str, ...]:
    """Compare a placed scan with the training scans and return warnings.

    Raises BadInput for a scan that the networks must not be applied to.
    """
    path, array = placed.volume.native.path, placed.array
    if array.shape != reference.mean.shape:
        raise ValueError(f"scan on a grid of {array.shape}, reference on {reference.mean.shape}")
    if not np.any(array):
        raise BadInput(path, "is constant inside the brain", REMEDY)
    warnings: list[str] = []
    outside = _share(reference.region & ~placed.in_field_of_view, reference.region)
    missing = _share(reference.region & ~placed.mask, reference.region)
    if outside > REJECT_MISSING:
        raise BadInput(
            path,
            f"{outside:.0%} of the training scans' brain region lies outside its field of view",
            "check its affine, and that it is in the same space as the training scans",
        )
    if missing > max(REJECT_MISSING, float(reference.missing.max()) + MARGIN):
        raise BadInput(
            path, f"{missing:.0%} of the training scans' brain region is empty in it", REMEDY
        )
    similarity = correlation(array, reference.mean, reference.region)
    warn, reject = reference.limits()
    measured = f"similarity {similarity:.2f}, training scans {np.median(reference.similarity):.2f}"
    if similarity < reject:
        cause = "does not look like the training scans: not a brain, not T1-weighted, or displaced"
        if similarity < -0.2:
            cause = "has reversed contrast, as T2 or FLAIR scans have"
        raise BadInput(path, f"{cause} ({measured})", REMEDY)
    if similarity < warn:
        warnings.append(
            f"The scan looks unlike the training scans ({measured}): perhaps not T1-weighted, full "
            "of artifacts, or displaced."
        )
    cut = [
        name
        for name, share, most in zip(FACES, placed.contact, reference.contact, strict=False)
        if share > most + MARGIN
    ]
    if cut:
        warnings.append(f"The brain is cut off at the edge of the image: {', '.join(cut)}.")
    elif outside > MARGIN:
        warnings.append(f"{outside:.0%} of the brain lies outside the scan's field of view.")
    extra = _share(placed.mask & ~reference.ever, placed.mask)
    if extra > float(reference.extra.max()) + MARGIN:
        warnings.append(
            f"{extra:.0%} of the scan lies where training scans have no brain: perhaps it is a "
            "whole head and they are skull-stripped."
        )
    if missing - outside > float(reference.missing.max()) + MARGIN:
        warnings.append(
            f"{missing:.0%} of the training scans' head region is empty: perhaps the scan is "
            "skull-stripped and they are whole heads."
        )
    return tuple(warnings)


def correlation(one: NDArray[Any], two: NDArray[Any], region: NDArray[np.bool_]) -> float:
    """Pearson's correlation of two images within ``region``; 0 if one is constant there."""
    a, b = one[region].astype(np.float64), two[region].astype(np.float64)
    if a.size == 0:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def _correlation_with_rest(image: NDArray[np.float64], summed: NDArray[np.float64]) -> float:
    """Correlation of one image [V] with the sum of all other images; 0 if there is no other."""
    image = image - image.mean()
    rest = summed - summed.mean() - image
    own, other = float(image @ image), float(rest @ rest)
    # A sum of one image less itself is rounding error.
    if own == 0 or other <= 1e-12 * own:
        return 0.0
    return float(image @ rest) / float(np.sqrt(own * other))


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return int(part.sum()) / max(int(whole.sum()), 1)
