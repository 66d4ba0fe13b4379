"""Fitting the linear head exactly, on the features of a frozen trunk."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from uncus.data.design.targets import Target
from uncus.data.scan_dataset import ScanDataset
from uncus.models.base import Classifier
from uncus.models.weights import trunk_hash

KNOWN: dict[str, dict[tuple[bytes, bool], torch.Tensor]] = {}
"""Pooled features by a trunk's hash and a volume's: all folds of a frozen trunk have the same."""
LEAST_NORMAL = 15
UNPENALIZED = 30.0
"""Factor on covariates in the fit, which divides the penalty on their weights by 900."""


@dataclass(frozen=True)
class AgeNorms:
    """What is expected of normal subjects at each age.

    Parameters
    ----------
    scans: of normal training subjects; their age is the only covariate.
    weight, bias: float64 [M, C] and [M], the head of a regression on the same features: M measures.
    """

    scans: ScanDataset
    weight: np.ndarray[Any, Any]
    bias: np.ndarray[Any, Any]


def refit_normed(
    model: Classifier,
    scans: ScanDataset,
    target: Target,
    c: float,
    norms: AgeNorms,
    *,
    flip: bool = False,
    balance: bool = False,
) -> None:
    """Fit the head to what measures of the scan are beyond those of normal subjects of that age.

    The measures are those of ``norms``. Each is regressed on age, by a polynomial, in normal
    subjects of all ages; logistic regression is fitted to the standardized residuals. Age is thus
    a norm for anatomy alone: how class and age go together in ``scans`` is never seen. All of it is
    linear in the features, and is folded into the head and the term of the covariates.

    Raises
    ------
    ValueError: a class has no scan, or fewer normal subjects than the norms need.
    """
    assert model.covariates
    normal = pooled(model, norms.scans, flip) @ norms.weight.T + norms.bias
    known = np.isfinite(norms.scans.covariates[:, 0])
    design = age_design(model, norms.scans)[known]
    if len(design) < LEAST_NORMAL:
        raise ValueError(
            f"--age-norms: {len(design)} normal scans of known age; at least "
            f"{LEAST_NORMAL} are needed"
        )
    expected, *_ = np.linalg.lstsq(design, normal[known], rcond=None)
    spread = (normal[known] - design @ expected).std(0, ddof=design.shape[1])
    measures = pooled(model, scans, flip) @ norms.weight.T + norms.bias
    beyond = (measures - age_design(model, scans) @ expected) / spread
    weight, bias = logistic(beyond, scans.labels, c, len(target.names), balance)
    weight = weight / spread
    with torch.no_grad():
        model.covariates.weight.copy_(torch.from_numpy(-weight @ expected[1:].T))
        model.head.weight.copy_(torch.from_numpy(weight @ norms.weight))
        model.head.bias.copy_(torch.from_numpy(bias + weight @ (norms.bias - expected[0])))


def age_design(model: Classifier, scans: ScanDataset) -> np.ndarray[Any, Any]:
    """1 and the powers of standardized age, float64 [N, 1 + degree]."""
    assert model.covariates
    z = model.covariates.z(torch.from_numpy(scans.covariates)).double().numpy()
    return np.hstack([np.ones((len(z), 1)), z])


def refit(
    model: Classifier,
    scans: ScanDataset,
    target: Target,
    c: float,
    *,
    flip: bool = False,
    balance: bool = False,
) -> None:
    """Replace the head's weights with the minimum of a convex problem over ``scans``.

    The problem is multinomial logistic regression, or ridge regression, on the pooled features,
    each channel standardized over ``scans``. The standardization is folded into the weights, so
    that the head remains the linear layer that class activation maps need.

    Covariates are fitted too, practically without a penalty, as usual for confounders.

    Stochastic gradient descent does not reach this minimum: pooled features vary little relative
    to their mean, and few scans mean few steps. Kumar 2022, "Fine-tuning can distort pretrained
    features", fits the head in the same way.

    Parameters
    ----------
    c: scikit-learn's ``C``: the L2 penalty ``|w|^2 / (2 c)`` is added to the summed loss.
    flip: average each scan's features with those of its left-right mirror image.
    balance: weight the scans so that every class has the same total.

    Raises
    ------
    ValueError: a class has no scan.
    """
    features = pooled(model, scans, flip)
    mean, spread = features.mean(0), features.std(0)
    spread = np.maximum(spread, model.least_spread * np.median(spread))
    spread[spread < 1e-6 * np.abs(mean).max(initial=1e-6)] = np.inf  # a dead channel
    standardized = (features - mean) / spread
    if model.covariates:
        known = model.covariates.z(torch.from_numpy(scans.covariates)).double().numpy()
        standardized = np.concatenate([standardized, UNPENALIZED * known], axis=1)
    if target.is_classification:
        weight, bias = logistic(standardized, scans.labels, c, len(target.names), balance)
    else:
        weight, bias = ridge(standardized, scans.labels, c)
    weight, covariates = weight[:, : len(mean)], UNPENALIZED * weight[:, len(mean) :]
    bias = bias - weight @ (mean / spread)
    with torch.no_grad():
        if model.covariates:
            model.covariates.weight.copy_(torch.from_numpy(covariates))
        model.head.weight.copy_(torch.from_numpy(weight / spread))
        model.head.bias.copy_(torch.from_numpy(bias))


@torch.inference_mode()
def pooled(model: Classifier, scans: ScanDataset, flip: bool) -> np.ndarray[Any, Any]:
    """What the head gets of each scan, float64 [N, C]."""
    model.eval()
    known = KNOWN.setdefault(trunk_hash(model), {})
    rows = []
    for i in range(len(scans)):
        volume = scans[i]["volume"].unsqueeze(0)
        key = (hashlib.sha256(volume.numpy().tobytes()).digest(), flip)
        if key not in known:
            variants = [volume, volume.flip(2)] if flip else [volume]
            maps = [model.features(variant) for variant in variants]
            means = [model.gain * one.mean((2, 3, 4))[0].double() for one in maps]
            known[key] = torch.stack(means).mean(0)
        rows.append(known[key])
    return torch.stack(rows).numpy()


def logistic(
    features: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    c: float,
    classes: int,
    balance: bool,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weights [K, C] and biases [K] of multinomial logistic regression."""
    absent = sorted(set(range(classes)) - set(labels.tolist()))
    if absent:
        raise ValueError(f"--refit-head: class number {absent[0]} has no training scan")
    weights = "balanced" if balance else None
    fitted = LogisticRegression(C=c, class_weight=weights, max_iter=10_000, tol=1e-8)
    fitted.fit(features, labels)
    weight, bias = fitted.coef_, fitted.intercept_
    if classes == 2:  # scikit-learn returns the log-odds of the second
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def ridge(
    features: np.ndarray[Any, Any], values: np.ndarray[Any, Any], c: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weights [K, C] and biases [K] of ridge regression, each column without missing values."""
    fits = []
    for k in range(values.shape[1]):
        known = np.isfinite(values[:, k])
        fits.append(Ridge(alpha=1 / c).fit(features[known], values[known, k]))
    return np.stack([f.coef_ for f in fits]), np.array([f.intercept_ for f in fits])
