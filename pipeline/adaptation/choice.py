"""Which method to use, and how far its answers are calibrated, by the labels that may be seen."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.model_selection import StratifiedGroupKFold

from uncus.models.base import Classifier
from uncus.pipeline.adaptation.norms import with_statistics
from uncus.pipeline.adaptation.registry import ADAPTATIONS
from uncus.pipeline.adaptation.site import Array, Site, logits
from uncus.pipeline.progress_bars import track

PARTS = 5
"""Of the labelled subjects, at most, for the cross-validation."""
FEWEST = 3
"""Labelled subjects of a class; with fewer, labels choose nothing."""
Network = Callable[[], Classifier]
"""Makes the source's network anew."""


def choose(network: Network, site: Site, subjects: Array) -> tuple[str, dict[str, float], str]:
    """The best method, the score of each (higher is better), and what the score is.

    With at least 3 labelled subjects of each class: minus the mean log loss of labelled scans by
    networks that were adapted without their subjects' scans (cross-validation). Otherwise, among
    the methods without labels, the mutual information of scan and answer, entropy of the mean
    answer minus mean entropy of the answers (Shi & Sha 2012, "Information-theoretical learning of
    discriminative clusters"), which needs no label.

    Parameters
    ----------
    subjects: the subject of each of the site's scans.
    """
    labelled = enough(site, subjects)
    names = [
        name
        for name, method in ADAPTATIONS.items()
        if method.candidate
        and (labelled or not method.labels)
        and (site.source is not None or not method.source)
        and (name != "statistics" or with_statistics(network()))
    ]
    scores = {}
    for name in track(names, "choosing"):
        if labelled:
            logs = log_softmax(cross_validated(name, network, site, subjects), axis=1)
            scores[name] = float(logs[np.arange(len(logs)), site.labelled().labels].mean())
        else:
            adapted = network()
            ADAPTATIONS[name].apply(adapted, site)
            scores[name] = information(softmax(logits(adapted, site.scans, site.flip), axis=1))
    by = "log likelihood, cross-validated" if labelled else "mutual information, without labels"
    return max(scores, key=lambda name: scores[name]), scores, by


def cross_validated(name: str, network: Network, site: Site, subjects: Array) -> Array:
    """Outputs [n, K] for the labelled scans, each by a network that met no scan of its subject."""
    outputs = np.zeros((len(site.shown), site.classes))
    for tested in parts(site, subjects):
        adapted, held_out = network(), np.isin(subjects, subjects[site.shown[tested]])
        ADAPTATIONS[name].apply(adapted, site.without(held_out))
        outputs[tested] = logits(adapted, site.labelled(), site.flip)[tested]
    return outputs


def parts(site: Site, subjects: Array) -> Iterator[Array]:
    """Positions among the labelled scans, part by part, which share no subject."""
    labels, groups = site.labelled().labels, subjects[site.shown]
    count = min(PARTS, fewest(site, subjects))
    divide = StratifiedGroupKFold(count, shuffle=True, random_state=site.seed)
    for _, tested in divide.split(labels, labels, groups):
        yield tested


def fewest(site: Site, subjects: Array) -> int:
    """Labelled subjects of the class that has the fewest."""
    labels = site.scans.labels
    return min(len(set(subjects[labels == k])) for k in range(site.classes))


def enough(site: Site, subjects: Array) -> bool:
    """Whether there are labels enough to choose by."""
    return fewest(site, subjects) >= FEWEST


def information(probabilities: Array) -> float:
    """Mutual information (nats) of scan and answer, of probabilities [N, K]."""

    def entropy(p: Array) -> Array:
        return np.asarray(-(p * np.log(np.maximum(p, 1e-12))).sum(-1))

    return float(entropy(probabilities.mean(0)) - entropy(probabilities).mean())
