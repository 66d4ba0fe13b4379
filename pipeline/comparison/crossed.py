"""Estimates over test subjects and seeds, which are crossed: every network tests every subject.

A cell's metric, or its difference from another cell's, has a value ``x[s, i]`` for seed ``s`` and
subject ``i`` (jackknife pseudovalues, which for a share or a mean are the subject's own value):

    x[s, i] = mean + subject_i + seed_s + rest_si

the mixed model of multi-reader multi-case studies, with seeds for readers (Dorfman, Berbaum and
Metz 1992, Invest Radiol 27:723). The standard error of the mean follows from the mean squares, and
its degrees of freedom from theirs, as Satterthwaite 1946 (Biometrics Bull 2:110) adds them and
Hillis 2007 (Stat Med 26:596) uses them here. The mean square of few seeds is often far too small by
chance; its expected value is never below that of what is left, so neither is it taken to be.
Resampling seeds instead makes intervals too narrow: its spread is that of 3 values, without
Student's t.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from uncus.pipeline.evaluation.bootstrap import LEVEL, plain
from uncus.pipeline.evaluation.metrics import Array, Values

POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error and degrees of freedom (NaN where it is undefined)."""

    value: float
    error: float
    freedom: float

    @property
    def interval(self) -> dict[str, float | None]:
        """Value and 95% interval, as in the bootstrap of ``uncus evaluate``."""
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.freedom)) * self.error
        low, high = plain(self.value - half), plain(self.value + half)
        return {"value": plain(self.value), "low": low, "high": high}

    @property
    def p(self) -> float:
        """Of no difference, two-sided."""
        return float(2 * stats.t.sf(ratio(abs(self.value), self.error), self.freedom))

    def p_equal(self, margin: float) -> float:
        """Of a difference of ``margin`` or more: two one-sided tests (Schuirmann 1987)."""
        return float(stats.t.sf(ratio(margin - abs(self.value), self.error), self.freedom))

    def detectable(self, alpha: float) -> float:
        """The smallest difference that is found with a power of 0.8, tested at ``alpha``."""
        return float(sum(stats.t.ppf((1 - alpha / 2, POWER), self.freedom)) * self.error)


@dataclass(frozen=True)
class Components:
    """Variances of one subject, one network, and their interaction (with what is left)."""

    subject: float
    network: float
    rest: float

    def estimate(self, value: float, subjects: float, folds: int, seeds: int) -> Estimate:
        """The expected estimate for other numbers of subjects, folds and seeds."""
        return from_squares(
            value,
            seeds * self.subject + self.rest,
            subjects * self.network / folds + self.rest,
            self.rest,
            subjects,
            seeds,
        )


def pseudovalues(measure: Callable[[Array], Values], subjects: Array) -> Values:
    """Jackknife pseudovalues, ``n x all - (n - 1) x all but the subject`` (Quenouille, Tukey).

    Parameters
    ----------
    measure: weights float [D, N] -> metric -> [D].
    subjects: [N], the subject of each scan; its scans are left out together.

    Returns
    -------
    metric -> float64 [n], by the subjects' names.
    """
    names, index = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    n, parts = len(names), []
    whole = measure(np.ones((1, len(index))))
    for some in np.array_split(np.arange(n), max(1, n * len(index) // 1_000_000)):
        parts.append(measure((index[None] != some[:, None]).astype(np.float64)))
    return {
        metric: n * whole[metric] - (n - 1) * np.concatenate([part[metric] for part in parts])
        for metric in whole
    }


def estimate(values: Array, share: bool = False) -> Estimate:
    """The estimate from ``values`` [seeds, subjects]; of one seed, over subjects alone.

    The difference of a ``share`` over few subjects often has no spread by chance, as where both
    networks are right about all of them. Therefore its error is that with two more subjects, which
    differ by +1 and -1 (after Bonett and Price 2012, J Educ Behav Stat 37:479).
    """
    seeds, subjects = values.shape
    value = float(values.mean())
    if subjects < 2:
        return Estimate(value, np.nan, np.nan)
    subject, seed, rest = mean_squares(values)
    if seeds < 2:
        found = Estimate(value, float(np.sqrt(subject / subjects)), subjects - 1)
    else:
        found = from_squares(value, subject, seed, rest, subjects, seeds)
    return with_discordant(found, subjects) if share else found


def with_discordant(found: Estimate, subjects: int) -> Estimate:
    """An estimate with two more subjects, which differ by +1 and -1, in its error alone."""
    error = float(np.hypot(found.error, np.sqrt(2 / (subjects * (subjects - 1)))))
    freedom = subjects - 1 if np.isnan(found.freedom) else found.freedom
    return Estimate(found.value, error, freedom)


def components(values: Array, folds: int) -> Components | None:
    """The variances behind ``values`` [seeds, subjects]; None for one seed or subject.

    The networks of a seed are as many as ``folds``, so a seed varies ``folds`` times less.
    """
    if min(values.shape) < 2 or not np.isfinite(values).all():
        return None
    seeds, subjects = values.shape
    subject, seed, rest = mean_squares(values)
    network = folds * max(0.0, seed - rest) / subjects
    return Components(max(0.0, subject - rest) / seeds, network, rest)


def mean_squares(values: Array) -> tuple[float, float, float]:
    """Mean squares of subjects, of seeds, and of what is left, of ``values`` [seeds, subjects].

    Of one seed the last two are NaN.
    """
    seeds, subjects = values.shape
    by_seed, by_subject = values.mean(axis=1), values.mean(axis=0)
    subject = seeds * float(by_subject.var(ddof=1))
    if seeds < 2:
        return subject, np.nan, np.nan
    left = values - by_seed[:, None] - by_subject + values.mean()
    rest = float((left**2).sum() / ((seeds - 1) * (subjects - 1)))
    return subject, subjects * float(by_seed.var(ddof=1)), rest


def from_squares(
    value: float, subject: float, seed: float, rest: float, subjects: float, seeds: int
) -> Estimate:
    """The estimate from mean squares."""
    seed = max(seed, rest)
    total = seed + max(0.0, subject - rest)
    parts = seed**2 / (seeds - 1) + subject**2 / (subjects - 1)
    freedom = total**2 / parts if parts else np.nan
    return Estimate(value, float(np.sqrt(total / (subjects * seeds))), freedom)


def ratio(value: float, error: float) -> float:
    """``value / error``; NaN where there is no error: no spread at all is evidence of nothing."""
    return value / error if error else np.nan


def adjusted(p: Sequence[float], true: int) -> list[float]:
    """p values of a family, by Holm 1979; at most ``true`` of its hypotheses can be true at once.

    Of two differences' tests, for being zero and for being large, one alone can be true (Shaffer
    1986, J Am Stat Assoc 81:826).
    """
    result, highest = [1.0] * len(p), 0.0
    for rank, k in enumerate(np.argsort(p)):
        highest = max(highest, min(1.0, p[k] * min(true, len(p) - rank)))
        result[k] = highest
    return result
