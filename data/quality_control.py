"""Is this a scan that the networks may judge? Refusals and warnings, each with its reason.

A network answers for anything that fits its input: a knee, a CT, noise. So every scan is first
compared with what the TRAINING scans looked like on the same grid; the limits come from how much
the training scans differ among themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uncus.data.errors import BadInput
from uncus.data.imageio.volume import Volume
from uncus.data.space import Placed

FACES = ("left", "right", "back", "front", "bottom", "top")
MEND = "give a T1-weighted scan of a head, prepared as the training scans were"
# Limits in robust standard deviations of the training scans' similarity (Fisher's z).
WARN_BELOW, REFUSE_BELOW = 4.0, 8.0
REFUSE_AT_MOST = 0.4  # correlation
FEW, FEW_WARN = 5, 0.6  # training scans, correlation
LEAST_SPREAD = 0.05  # of Fisher's z; few or much alike training scans must not refuse everybody
# Shares of the brain.
REFUSE_MISSING = 0.5
MARGIN = 0.1  # beyond the worst training scan


@dataclass(frozen=True)
class Reference:
    """What the training scans look like on the grid, and how much they vary.

    Parameters
    ----------
    mean: float32 [X, Y, Z], their mean image.
    region: bool [X, Y, Z], where at least half of them show brain.
    ever: bool [X, Y, Z], where at least one in twenty does.
    similarity: float [N], correlation of each within the region with the mean of all others.
    missing: float [N], share of the region that each leaves empty.
    extra: float [N], share of each one's brain that lies outside ``ever``.
    contact: float [6], the most that a face of the field of view cut off one; 1 where unknown.
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
        """Learn from the training scans alone.

        Parameters
        ----------
        volumes: [N, X, Y, Z], as prepared: z-scores inside the brain, 0 outside. They are read one
            by one, so a memory map may be larger than memory.
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
            similarity.append(_with_rest(image.reshape(-1)[inside].astype(np.float64), summed))
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
        """Similarities below which a scan is warned of, and refused.

        In Fisher's z = artanh(r), with the training scans' median m and robust standard deviation
        s (1.4826 * median absolute deviation, at least 0.05): a warning below m - 4 s and below
        every training scan; a refusal below m - 8 s, below half the z of every training scan and
        below r = 0.4, and in any case where r is not positive. The most atrophied brains are the
        least similar ones, so the limits stand well clear of the worst training scan. Fewer than
        five training scans say little of the spread: then r = 0.6 is warning enough.
        """
        z = np.arctanh(np.clip(self.similarity, -0.999, 0.999))
        middle, worst = float(np.median(z)), float(z.min())
        spread = max(LEAST_SPREAD, 1.4826 * float(np.median(np.abs(z - middle))))
        warn = float(np.tanh(min(middle - WARN_BELOW * spread, worst)))
        if len(z) < FEW:
            warn = min(warn, FEW_WARN)
        refuse = float(np.tanh(min(middle - REFUSE_BELOW * spread, worst / 2)))
        return warn, max(0.0, min(refuse, REFUSE_AT_MOST))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Images as plain arrays, and the rest as JSON-able values."""
        images: dict[str, NDArray[Any]] = {
            "mean": self.mean,
            "region": self.region.astype(np.uint8),
            "ever": self.ever.astype(np.uint8),
        }
        names = ("similarity", "missing", "extra", "contact")
        return images, {name: getattr(self, name).round(6).tolist() for name in names}

    @classmethod
    def from_state(cls, images: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]) -> "Reference":
        """The inverse of :meth:`state`; raises ValueError where it is none."""
        try:
            reference = cls(
                mean=np.asarray(images["mean"], np.float32),
                region=np.asarray(images["region"]).astype(bool),
                ever=np.asarray(images["ever"]).astype(bool),
                similarity=np.asarray(rest["similarity"], float),
                missing=np.asarray(rest["missing"], float),
                extra=np.asarray(rest["extra"], float),
                contact=np.asarray(rest["contact"], float),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a reference of training scans: {error}") from error
        if not reference.mean.shape == reference.region.shape == reference.ever.shape:
            raise ValueError(f"not a reference of training scans: mean {reference.mean.shape}")
        return reference


def judge(placed: Placed, reference: Reference) -> tuple[str, ...]:
    """Warnings about a placed scan; raises BadInput where the networks must not judge it."""
    path, array = placed.volume.native.path, placed.array
    if array.shape != reference.mean.shape:
        raise ValueError(f"scan on a grid of {array.shape}, reference on {reference.mean.shape}")
    if looks_like_ct(placed.volume):
        raise BadInput(path, "looks like a CT (air near -1000)", MEND)
    if not np.any(array):
        raise BadInput(path, "is constant inside the brain", MEND)
    warnings: list[str] = []
    unseen = _share(reference.region & ~placed.seen, reference.region)
    missing = _share(reference.region & ~placed.mask, reference.region)
    if unseen > REFUSE_MISSING:
        raise BadInput(
            path,
            f"{unseen:.0%} of where the training scans have brain lies outside its field of view",
            "is its affine right, and is it in the same space as the training scans?",
        )
    if missing > max(REFUSE_MISSING, float(reference.missing.max()) + MARGIN):
        raise BadInput(
            path, f"{missing:.0%} of where the training scans have brain is empty in it", MEND
        )
    similarity = correlation(array, reference.mean, reference.region)
    warn, refuse = reference.limits()
    measured = f"similarity {similarity:.2f}, training scans {np.median(reference.similarity):.2f}"
    if similarity < refuse:
        cause = "does not look like the training scans: not a brain, not T1-weighted, or displaced"
        if similarity < -0.2:
            cause = "has light and dark reversed, as T2 or FLAIR scans have"
        raise BadInput(path, f"{cause} ({measured})", MEND)
    if similarity < warn:
        warnings.append(
            f"It looks unlike the training scans ({measured}): perhaps not T1-weighted, badly "
            "disturbed, or out of place."
        )
    cut = [
        name
        for name, share, most in zip(FACES, placed.contact, reference.contact, strict=False)
        if share > most + MARGIN
    ]
    if cut:
        warnings.append(f"The brain is cut off at the edge of the image: {', '.join(cut)}.")
    elif unseen > MARGIN:
        warnings.append(f"{unseen:.0%} of the brain lies outside the scan's field of view.")
    extra = _share(placed.mask & ~reference.ever, placed.mask)
    if extra > float(reference.extra.max()) + MARGIN:
        warnings.append(
            f"{extra:.0%} of it lies where training scans have no brain: perhaps a whole head "
            "where they are skull-stripped."
        )
    if missing - unseen > float(reference.missing.max()) + MARGIN:
        warnings.append(
            f"{missing:.0%} of where the training scans show something is empty: perhaps "
            "skull-stripped where they are whole heads."
        )
    return tuple(warnings)


def looks_like_ct(volume: Volume) -> bool:
    """Whether intensities look like Hounsfield units: much air near -1000 and bone above 300."""
    sample = volume.array[::2, ::2, ::2]
    low, high = np.percentile(sample, (2, 99.5))
    air = (sample > -1100) & (sample < -900)
    return bool(low < -900 and high > 200 and air.mean() > 0.05)


def correlation(one: NDArray[Any], two: NDArray[Any], region: NDArray[np.bool_]) -> float:
    """Pearson's correlation of two images within ``region``; 0 where one is constant there."""
    a, b = one[region].astype(np.float64), two[region].astype(np.float64)
    if a.size == 0:
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def _with_rest(image: NDArray[np.float64], summed: NDArray[np.float64]) -> float:
    """Correlation of one image [V] with the sum of all images less itself; 0 where it is alone."""
    image = image - image.mean()
    rest = summed - summed.mean() - image
    own, other = float(image @ image), float(rest @ rest)
    # All that is left of a sum of one is rounding.
    if own == 0 or other <= 1e-12 * own:
        return 0.0
    return float(image @ rest) / float(np.sqrt(own * other))


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return int(part.sum()) / max(int(whole.sum()), 1)
