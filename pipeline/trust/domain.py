"""The domain of a run: what its networks were trained on, and whether a new scan is like that.

A network answers for any scan. So a scan is compared with the training scans: by what is known of
both (age, scanner, slab or whole head), and by Mahalanobis distances of statistics of the image and
of the networks' features (Lee 2018, arXiv 1807.03888) with a shrunk covariance (Ledoit and Wolf
2004). The limits are quantiles over the training scans, each measured by the network that was not
trained on it: at most `ALARMS` of scans like these are taken for scans of another domain.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uncus.data.cohorts.scanner_columns import FIELD_STRENGTHS, MANUFACTURERS
from uncus.data.tables import clean, read_number

Array = NDArray[Any]

ALARMS = 0.05
"""Share of scans of the domain itself that may be taken for scans of another."""
FEWEST = math.ceil(1 / ALARMS) - 1
"""Fewer scans cannot show that false alarms are as rare."""
PARTS = {
    "regions": "the brightness of regions",
    "brain": "the intensities and the shape of the brain",
    "features": "the networks' features",
}
FARTHEST = 4.0
"""Standard deviations at which a single statistic is cut off, so that no one of them decides."""
UNKNOWN = "an earlier version made the run"
SYNTHETIC = "the run was trained on synthetic phantoms: its results say nothing of people"
"""A warning with every result of such a run."""
STARTED = "the run's weights started from a run that was trained on synthetic phantoms"
"""A warning with every result of a run on people, with such a pre-training."""
SLAB_MM = 80.0
"""A scan that is thinner is a slab: no whole brain fits into it."""
AGE_MARGIN = 5.0
"""Years beyond the youngest and the oldest subject."""
SCANNER = {"field strength": FIELD_STRENGTHS, "manufacturer": MANUFACTURERS}
"""What is known of scanners, with the names of its columns."""


@dataclass(frozen=True)
class Gaussian:
    """A multivariate normal distribution of standardized statistics.

    Parameters
    ----------
    mean, scale: float32 [D]; a statistic that never varied has an infinite scale.
    precision: float32 [D, D], the inverse of the shrunk covariance of the standardized statistics.
    """

    mean: Array
    scale: Array
    precision: Array

    @classmethod
    def fit(cls, rows: Array) -> "Gaussian":
        """Fit it to ``rows`` [N, D]."""
        from sklearn.covariance import LedoitWolf

        rows = rows.astype(np.float64)
        mean, scale = rows.mean(0), rows.std(0)
        scale[scale < 1e-6 * np.maximum(1, abs(mean))] = np.inf
        standard = np.clip((rows - mean) / scale, -FARTHEST, FARTHEST)
        precision = LedoitWolf().fit(standard).precision_
        return cls(*(part.astype(np.float32) for part in (mean, scale, precision)))

    def distance(self, rows: Array) -> Array:
        """Mahalanobis distances [N] of ``rows`` [N, D] from the mean."""
        standard = np.clip((rows - self.mean) / self.scale, -FARTHEST, FARTHEST).astype(np.float64)
        squared = ((standard @ self.precision.astype(np.float64)) * standard).sum(1)
        return np.asarray(np.sqrt(np.maximum(squared, 1e-12)))


def limits(distances: Array, alarms: float = ALARMS) -> Array:
    """The limits [P] that at most a share ``alarms`` of new scans exceeds in any of P parts.

    A conformal quantile of the largest standardized logarithm, so that no part alone sets off most
    of the alarms.

    Parameters
    ----------
    distances: [N, P] of scans that the distances were not fitted to, at least `FEWEST` of them.
    """
    logs = np.log(distances)
    middle, spread = np.median(logs, 0), np.maximum(logs.std(0), 1e-6)
    rank = math.ceil((1 - alarms) * (len(logs) + 1))
    quantile = np.sort(((logs - middle) / spread).max(1))[min(rank, len(logs)) - 1]
    return np.asarray(np.exp(middle + quantile * spread) * (1 + 1e-9))  # its own scan is within


@dataclass(frozen=True)
class Scan:
    """What is known of a scan besides its voxels; None where it is not.

    Parameters
    ----------
    size: of its field of view along each axis (mm).
    age: years.
    synthetic: whether it is a phantom.
    scanner: a key of `SCANNER` -> its value, where it is known; field strengths in tesla.
    """

    size: tuple[float, ...]
    age: float | None = None
    synthetic: bool | None = None
    scanner: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """Whether a scan is of the run's domain.

    Parameters
    ----------
    inside: None where that was not checked.
    reasons: why it is not, or was not checked.
    ratios: part -> its distance, with the limit as the unit.
    """

    inside: bool | None
    reasons: tuple[str, ...] = ()
    ratios: Mapping[str, float] = field(default_factory=dict)

    @property
    def abstains(self) -> str:
        """Why no class is named; "" where one may be."""
        if self.inside is not False:
            return ""
        return f"the scan is of another domain than the run's: {'; '.join(self.reasons)}"

    def as_dict(self) -> dict[str, Any]:
        """The key "domain" of prediction.json."""
        ratios = {name: round(ratio, 3) for name, ratio in self.ratios.items()}
        return {"inside": self.inside, "reasons": list(self.reasons), "distance": ratios}


@dataclass(frozen=True)
class Domain:
    """The domain of a run.

    Parameters
    ----------
    known: what is known of the training scans, the key "domain" of the model card: "scans", their
        number, "scanner" and, where known, "synthetic" and "slab". If `FEWEST` or more are tested,
        "limits": part -> the distance, "tested": the scans that these are from, "false_alarms": of
        those, by limits from the other folds, unless there is one fold only.
    networks: of each fold's network, part -> the distribution of its training scans.
    ages: of the youngest and the oldest subject (years), if they are known.
    """

    known: Mapping[str, Any]
    networks: Sequence[Mapping[str, Gaussian]] = ()
    ages: tuple[float, float] | None = None

    def tensors(self) -> dict[str, Array]:
        """The distributions by name, for a file."""
        return {
            f"{fold}.{part}.{name}": array
            for fold, gaussians in enumerate(self.networks)
            for part, gaussian in gaussians.items()
            for name, array in vars(gaussian).items()
        }

    @classmethod
    def of(
        cls,
        known: Mapping[str, Any],
        tensors: Mapping[str, Array],
        sizes: Sequence[Mapping[str, int]],
        ages: tuple[float, float] | None = None,
    ) -> "Domain":
        """The inverse of :meth:`tensors`.

        Parameters
        ----------
        sizes: of each fold's network, part -> the number of its statistics.

        Raises
        ------
        ValueError: a distribution is missing, of another size, or not finite.
        """
        networks = []
        for fold, parts in enumerate(sizes):
            gaussians = {}
            for part, size in parts.items():
                names = {name: f"{fold}.{part}.{name}" for name in ("mean", "scale", "precision")}
                if missing := set(names.values()) - tensors.keys():
                    raise ValueError(f"has no {min(missing)}")
                gaussian = Gaussian(**{name: tensors[key] for name, key in names.items()})
                shapes = [array.shape for array in vars(gaussian).values()]
                finite = np.isfinite(gaussian.mean).all() and np.isfinite(gaussian.precision).all()
                if shapes != [(size,), (size,), (size, size)] or not finite:
                    raise ValueError(f"{fold}.{part} does not fit the networks")
                gaussians[part] = gaussian
            networks.append(gaussians)
        return cls(known, networks, ages)

    def check(self, scan: Scan, statistics: Sequence[Mapping[str, Array]]) -> Verdict:
        """Compare a scan with the training scans.

        Parameters
        ----------
        statistics: of each of ``networks``, part -> the scan's statistics.
        """
        reasons, ratios = self.differences(scan), {}
        for part, limit in self.known.get("limits", {}).items():
            pairs = zip(self.networks, statistics, strict=True)
            distances = [gaussians[part].distance(own[part][None]) for gaussians, own in pairs]
            ratios[part] = float(np.mean(distances)) / limit
        far = [
            f"{ratio:.1f} times the limit in {PARTS[n]}" for n, ratio in ratios.items() if ratio > 1
        ]
        if far:
            scans = f"scans of {self.people}" if self.people else "scans"
            reasons.append(f"it is unlike the run's {scans}: {', '.join(far)}")
        if not reasons and not ratios:
            return Verdict(None, (f"the run was tested on fewer than {FEWEST} scans",))
        return Verdict(not reasons, tuple(reasons), ratios)

    def differences(self, scan: Scan) -> list[str]:
        """How a scan differs from all training scans by what is known of both."""
        known, found = self.known, []
        synthetic = known.get("synthetic")
        if synthetic is not None and scan.synthetic not in (None, synthetic):
            here = "a synthetic phantom" if scan.synthetic else "not a phantom of uncus"
            found.append(f"it is {here}, and the run was trained on {self.people}")
        if "slab" in known and is_slab(scan.size) != known["slab"]:
            forms = ("a whole head", "a slab")
            found.append(
                f"it is {forms[is_slab(scan.size)]} ({min(scan.size):.0f} mm in its shortest "
                f"direction), and the run was trained on {forms[known['slab']].split(' ', 1)[1]}s"
            )
        if self.ages and scan.age is not None:
            low, high = self.ages
            if not low - AGE_MARGIN <= scan.age <= high + AGE_MARGIN:
                found.append(f"an age of {scan.age:g}, and the run's are {low:g} to {high:g} years")
        for name, values in known["scanner"].items():
            here = same_scanner(scan.scanner.get(name, ""))
            if here and here not in values:
                found.append(f"{name} {here}, and the run's scans have {' or '.join(values)}")
        return found

    @property
    def people(self) -> str:
        """Whom the run was trained on, in words; "" where that is not known."""
        synthetic = self.known.get("synthetic")
        return "" if synthetic is None else ("people", "synthetic phantoms")[synthetic]

    def __str__(self) -> str:
        """In words: ``120 scans, synthetic phantoms, whole heads, 57 to 89 years``."""
        known = self.known
        parts = [
            f"{known['scans']} scans",
            self.people,
            ("whole heads", "slabs")[known["slab"]] if "slab" in known else "",
        ]
        if self.ages:
            parts.append(f"{self.ages[0]:.0f} to {self.ages[1]:.0f} years")
        parts += [f"{name} {' or '.join(values)}" for name, values in known["scanner"].items()]
        return ", ".join(filter(None, parts))


def in_words(card: Mapping[str, Any]) -> str:
    """The domain of a run by its model card."""
    known, ages = card.get("domain"), card["training"].get("age_years")
    if known is None:
        return "not known"
    return str(Domain(known, ages=ages and (ages["min"], ages["max"])))


def domain_limits(card: Mapping[str, Any]) -> str:
    """What becomes of scans of another domain, and how often of the run's own, as a sentence."""
    known = card.get("domain", {})
    if "limits" not in known:
        return "It is not checked whether a scan is like those that the run was trained on."
    own = "How many of the run's own scans are taken for others is not known."
    if "false_alarms" in known:
        own = (
            f"Of the run's own scans, {known['false_alarms']} of {known['tested']} were taken for "
            "others, by limits from other folds."
        )
    return (
        "A scan that is unlike those that the run was trained on gets no answer, but not all such "
        f"scans are recognized. {own}"
    )


def synthetic_warning(card: Mapping[str, Any]) -> list[str]:
    """`SYNTHETIC` where a model card says that training scans are phantoms, `STARTED` where those
    of the pre-training alone are, else nothing.
    """
    if card.get("domain", {}).get("synthetic"):
        return [SYNTHETIC]
    return [STARTED] if card.get("training", {}).get("started_on_phantoms") else []


def is_slab(size: Sequence[float]) -> bool:
    """Whether a field of view of ``size`` (mm) is too thin for a whole brain."""
    return min(size) < SLAB_MM


def scanner_of(fields: Mapping[str, object]) -> dict[str, str]:
    """The keys of `SCANNER` that ``fields`` know, from columns, a sidecar or a DICOM header."""
    known = {name.casefold(): same_scanner(cell) for name, cell in fields.items()}
    found = {what: [known[n] for n in names if known.get(n)] for what, names in SCANNER.items()}
    return {what: values[0] for what, values in found.items() if values}


def same_scanner(cell: object) -> str:
    """A manufacturer's first word, or a field strength as it is called, in tesla: 2.89 is 3.

    "" where it is missing.
    """
    text = clean(cell).casefold()
    value = read_number(text.removesuffix("t").strip()) if text else None
    if value:
        tesla = value / 10_000 if value > 100 else value  # old headers are in gauss
        return f"{round(2 * tesla) / 2:g}"
    return "ge" if text.startswith("general electric") else text.split(" ")[0]
