"""Methods that change the linear head alone, exactly; the trunk stays as it is, to the bit.

Features are the pooled ones that the head gets, each channel standardized over the scans of the new
site (``z``). What is found there is folded into the head's weights and biases, so that the
head remains the linear layer that class activation maps need.
"""

import numpy as np
import torch
from scipy.linalg import sqrtm
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.model_selection import StratifiedKFold

from uncus.models.base import Classifier
from uncus.pipeline.adaptation.norms import PRIOR
from uncus.pipeline.adaptation.site import Array, Site, logits
from uncus.pipeline.training.head_refit import pooled

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Inverse L2 penalties on the change of the head, the strictest first."""
PARTS = 5
"""Of the labelled scans, at most, to choose among them."""
FEWEST = 3
"""Labelled scans of a class; with fewer, the strictest is taken."""
STEPS = 1000
"""Of expectation maximization, at most."""
LEAST = 1e-6
"""The least change of a share that another step is made for, and a trace of a penalty."""


def refit(network: Classifier, site: Site) -> None:
    """Multinomial logistic regression on the labelled scans, which keeps close to the old head.

    The summed cross-entropy plus ``|change of the weights|^2 / (2 c)``: the old head is the mean of
    a normal prior (Chelba & Acero 2006, "Adaptation of maximum entropy capitalizer"). c is found by
    cross-validation inside the labelled scans: the strictest within a standard error of the best
    (Breiman 1984), so that few labels change little. The offsets carry no penalty.
    """
    shown, labels = site.shown, site.labelled().labels
    z = standardized(network, site)[shown]
    before = logits(network, site.scans, site.flip)[shown]

    def losses(c: float) -> Array:
        found = np.zeros(len(z))
        for fitted, tested in divide.split(z, labels):
            weight, bias = change(z[fitted], before[fitted], labels[fitted], c)
            logs = log_softmax(before[tested] + z[tested] @ weight.T + bias, axis=1)
            found[tested] = -logs[np.arange(len(tested)), labels[tested]]
        return found

    fewest = int(np.bincount(labels, minlength=site.classes).min())
    c = PENALTIES[0]
    if fewest >= FEWEST:
        divide = StratifiedKFold(min(PARTS, fewest), shuffle=True, random_state=site.seed)
        tried = {one: losses(one) for one in PENALTIES}
        best = min(tried.values(), key=np.mean)
        limit = best.mean() + best.std(ddof=1) / len(best) ** 0.5
        c = next(one for one in PENALTIES if tried[one].mean() <= limit)
    add(network, site, *change(z, before, labels, c))


def change(z: Array, before: Array, labels: Array, c: float) -> tuple[Array, Array]:
    """Weights [K, C] on z [N, C] and offsets [K] to add to outputs [N, K] that were ``before``."""
    classes, channels = before.shape[1], z.shape[1]
    truth = np.eye(classes)[labels]

    def loss(values: Array) -> tuple[float, Array]:
        weight, bias = np.split(values.reshape(classes, channels + 1), [channels], axis=1)
        output = before + z @ weight.T + bias[:, 0]
        error = softmax(output, axis=1) - truth
        total = -(log_softmax(output, axis=1) * truth).sum() + (weight**2).sum() / (2 * c)
        slope = np.concatenate([error.T @ z + weight / c, error.sum(0)[:, None]], axis=1)
        # Offsets of all classes alike change nothing: a trace of a penalty fixes them.
        slope[:, -1] += LEAST * bias[:, 0]
        return float(total + LEAST * (bias**2).sum() / 2), slope.ravel()

    found = minimize(loss, np.zeros(classes * (channels + 1)), jac=True, method="L-BFGS-B").x
    weight, bias = np.split(found.reshape(classes, channels + 1), [channels], axis=1)
    return weight, bias[:, 0]


def prototypes(network: Classifier, site: Site) -> None:
    """The nearest class mean of the labelled scans (Snell 2017, "Prototypical networks").

    ``-|z - mean_k|^2 / t`` is linear in z but for a term that all classes share. t is the mean
    distance of the site's scans from their nearest mean, which needs no labels.
    """
    z, labels = standardized(network, site), site.scans.labels
    means = np.stack([z[labels == k].mean(0) for k in range(site.classes)])
    distances = ((z[:, None] - means) ** 2).sum(2)
    t = max(float(distances.min(1).mean()), LEAST)
    replace(network, site, 2 * means / t, -(means**2).sum(1) / t)


def coral(network: Classifier, site: Site) -> None:
    """Features of the new site with the mean and the covariance of the source's (CORAL, Sun 2016).

    ``z' = (z - mean_new) (cov_new + 1)^-1/2 (cov_source + 1)^1/2 + mean_source``, before the old
    head. As the means are aligned too, the classes should have like shares at both sites.
    """
    assert site.source is not None
    spread, _ = scale(network, site)
    alive = np.isfinite(spread)
    new, old = (
        pooled(network, some, site.flip)[:, alive] / spread[alive]
        for some in (site.scans, site.source)
    )
    whiten, color = (
        sqrtm(np.cov(some, rowvar=False) + np.eye(some.shape[1])).real for some in (new, old)
    )
    head = network.head.weight.detach().double().numpy().copy()
    own = head[:, alive] * spread[alive]
    weight = own @ color @ np.linalg.inv(whiten)
    head[:, alive] = weight / spread[alive]
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(head))
        network.head.bias.add_(torch.from_numpy(own @ old.mean(0) - weight @ new.mean(0)))


def calibration(network: Classifier, site: Site) -> None:
    """The classes' shares at the new site, by expectation maximization (Saerens et al. 2002).

    Assumes that each class looks as it did and only their shares differ: the offsets of the head
    change, which shifts probabilities and leaves the order of the scans. The run's own calibration
    is applied to find the shares, since uncalibrated probabilities mislead (Alexandari 2020). The
    old shares count as 16 scans (a Dirichlet prior): where a class looks otherwise than it did, the
    maximum of the likelihood can be a share of none.
    """
    probabilities = softmax(logits(network, site.scans, site.flip), axis=1)
    before = site.shares
    if site.calibration:
        probabilities, before = site.calibration(probabilities), site.calibration.prevalence
    shares = before
    for _ in range(STEPS):
        shifted = probabilities * shares / before
        counts = (shifted / shifted.sum(1, keepdims=True)).sum(0) + PRIOR * before
        shares, last = counts / counts.sum(), shares
        if abs(shares - last).max() < LEAST:
            break
    with torch.no_grad():
        network.head.bias.add_(torch.from_numpy(np.log(shares / before)))


def scale(network: Classifier, site: Site) -> tuple[Array, Array]:
    """Spread and mean [C] of the pooled features over the site's scans; a dead channel has inf."""
    features = pooled(network, site.scans, site.flip)
    mean, spread = features.mean(0), features.std(0)
    spread = np.maximum(spread, network.least_spread * np.median(spread))
    spread[spread < 1e-6 * np.abs(mean).max(initial=1e-6)] = np.inf
    return spread, mean


def standardized(network: Classifier, site: Site) -> Array:
    """The pooled features z of the site's scans, [N, C], with mean 0 and spread 1."""
    spread, mean = scale(network, site)
    return np.asarray((pooled(network, site.scans, site.flip) - mean) / spread)


@torch.no_grad()
def add(network: Classifier, site: Site, weight: Array, bias: Array) -> None:
    """Add ``weight`` [K, C] on z and ``bias`` [K] to the head."""
    spread, mean = scale(network, site)
    network.head.weight.add_(torch.from_numpy(weight / spread))
    network.head.bias.add_(torch.from_numpy(bias - weight @ (mean / spread)))


@torch.no_grad()
def replace(network: Classifier, site: Site, weight: Array, bias: Array) -> None:
    """Replace the head; covariates no longer count."""
    for layer in filter(None, (network.head, network.covariates)):
        for parameter in layer.parameters():
            parameter.zero_()
    add(network, site, weight, bias)
