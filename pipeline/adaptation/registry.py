"""The methods of ``uncus adapt``: to add one, a function in this folder and an entry here."""

from collections.abc import Callable
from dataclasses import dataclass

from uncus.models.base import Classifier
from uncus.pipeline.adaptation import heads, norms, tuning
from uncus.pipeline.adaptation.site import Site


@dataclass(frozen=True)
class Adaptation:
    """A method: ``apply(network, site)`` changes a network in place.

    Attributes
    ----------
    summary: one line, for the model card.
    labels: whether it needs labels of the new site.
    source: whether it needs scans that the network was trained on.
    candidate: whether ``auto`` may choose it. Methods that train on the network's own answers are
        none, since a choice without labels looks at these answers too; nor is one that leaves the
        order of the scans.
    """

    apply: Callable[[Classifier, Site], None]
    summary: str
    labels: bool = False
    source: bool = False
    candidate: bool = False


def unchanged(network: Classifier, site: Site) -> None:
    """The network as it is."""


def head(network: Classifier, site: Site) -> None:
    """The head refitted, after the norms' statistics."""
    norms.statistics(network, site)
    heads.refit(network, site)


def prototypes(network: Classifier, site: Site) -> None:
    """Prototypes as the head, after the norms' statistics."""
    norms.statistics(network, site)
    heads.prototypes(network, site)


ADAPTATIONS: dict[str, Adaptation] = {
    "none": Adaptation(unchanged, "the networks as they were", candidate=True),
    "statistics": Adaptation(
        norms.statistics, "running statistics of the norms (Li 2016)", candidate=True
    ),
    "entropy": Adaptation(tuning.entropy, "norms by the answers' entropy (Tent, Wang 2021)"),
    "pseudo": Adaptation(tuning.pseudo, "head and norms by pseudo-labels (Lee 2013)"),
    "coral": Adaptation(
        heads.coral, "features aligned (CORAL, Sun 2016)", source=True, candidate=True
    ),
    "dann": Adaptation(tuning.adversarial, "adversarial features (DANN, Ganin 2016)", source=True),
    "calibration": Adaptation(heads.calibration, "shares of the classes (Saerens 2002)"),
    "head": Adaptation(head, "the head, refitted", labels=True, candidate=True),
    "head+norms": Adaptation(
        tuning.head_and_norms, "head and norms, tuned", labels=True, candidate=True
    ),
    "network": Adaptation(tuning.whole, "all weights, tuned", labels=True, candidate=True),
    "joint": Adaptation(
        tuning.joint,
        "all weights, tuned with the source's scans too (Saito 2019)",
        labels=True,
        source=True,
        candidate=True,
    ),
    "prototypes": Adaptation(
        prototypes, "nearest class mean (Snell 2017)", labels=True, candidate=True
    ),
}
