"""Fitting the linear head exactly, on features of a trunk that is no longer trained."""

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from uncus.data.design.targets import Target
from uncus.models.base import Classifier
from uncus.pipeline.training.data_loading import ScanDataset

UNPENALIZED = 30.0
"""Factor on covariates in the fit, which leaves a 900th of the penalty on their weights."""


def refit(
    model: Classifier,
    scans: ScanDataset,
    target: Target,
    c: float,
    *,
    flip: bool = False,
    balance: bool = False,
) -> None:
    """Replace the head's weights by the minimum of a convex problem over ``scans``.

    Multinomial logistic regression, or ridge regression, on the pooled features with each channel
    standardized over ``scans``; the standardization is folded into the weights, so that the head
    stays the linear layer that class activation maps read.

    Covariates take part without a penalty, as what is to be adjusted for does by convention; their
    term's weights are replaced too.

    Stochastic steps on a frozen trunk stop short of this minimum: pooled features vary little
    beside their mean, and few scans mean few steps (Kumar 2022, "Fine-tuning can distort pretrained
    features", fits the head the same way).

    Parameters
    ----------
    c: the L2 penalty is ``|w|^2 / (2 c)`` beside the summed loss (scikit-learn's ``C``).
    flip: take the mean of each scan's features and its left-right mirror's, as predictions do.
    balance: weight the scans so that every class counts the same.

    Raises
    ------
    ValueError: a class has no scan.
    """
    features = pooled(model, scans, flip)
    mean, spread = features.mean(0), features.std(0)
    spread[spread < 1e-6 * np.abs(mean).max(initial=1e-6)] = np.inf  # a dead channel says nothing
    standardized = (features - mean) / spread
    if model.covariates:
        known = model.covariates.z(torch.from_numpy(scans.covariates)).double().numpy()
        standardized = np.concatenate([standardized, UNPENALIZED * known], axis=1)
    if target.is_classification:
        weight, bias = logistic(standardized, scans.labels, c, len(target.names), balance)
    else:
        weight, bias = ridge(standardized, scans.labels, c)
    weight, beside = weight[:, : len(mean)], UNPENALIZED * weight[:, len(mean) :]
    bias = bias - weight @ (mean / spread)
    with torch.no_grad():
        if model.covariates:
            model.covariates.weight.copy_(torch.from_numpy(beside))
        model.head.weight.copy_(torch.from_numpy(weight / spread))
        model.head.bias.copy_(torch.from_numpy(bias))


@torch.inference_mode()
def pooled(model: Classifier, scans: ScanDataset, flip: bool) -> np.ndarray[Any, Any]:
    """What the head reads of each scan, [N, C] float64."""
    model.eval()
    rows = []
    for i in range(len(scans)):
        volume = scans[i]["volume"].unsqueeze(0)
        both = [volume, volume.flip(2)] if flip else [volume]
        maps = [model.features(one).mean((2, 3, 4))[0].double() for one in both]
        rows.append(torch.stack(maps).mean(0))
    return torch.stack(rows).numpy()


def logistic(
    features: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    c: float,
    classes: int,
    balance: bool,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weights [K, C] and biases [K] of the softmax over classes."""
    absent = sorted(set(range(classes)) - set(labels.tolist()))
    if absent:
        raise ValueError(f"--refit-head: class number {absent[0]} has no training scan")
    weights = "balanced" if balance else None
    fitted = LogisticRegression(C=c, class_weight=weights, max_iter=10_000, tol=1e-8)
    fitted.fit(features, labels)
    weight, bias = fitted.coef_, fitted.intercept_
    if classes == 2:  # scikit-learn gives the log-odds of the second
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def ridge(
    features: np.ndarray[Any, Any], values: np.ndarray[Any, Any], c: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Weights [K, C] and biases [K], each column from the scans that have its value."""
    fits = []
    for k in range(values.shape[1]):
        there = np.isfinite(values[:, k])
        fits.append(Ridge(alpha=1 / c).fit(features[there], values[there, k]))
    return np.stack([f.coef_ for f in fits]), np.array([f.intercept_ for f in fits])
