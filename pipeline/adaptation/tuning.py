"""Methods that train on the new site, by the training step that trained the network."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import softmax
from torch import Tensor, nn
from torch.utils.data import ConcatDataset

from uncus.data.scan_dataset import ScanDataset
from uncus.models.base import Classifier
from uncus.pipeline.adaptation import heads
from uncus.pipeline.adaptation.norms import affine, statistics
from uncus.pipeline.adaptation.site import HIDDEN, Array, Site, logits, take
from uncus.pipeline.training.data_loading import EpochSampler, loader
from uncus.pipeline.training.learner import Learner
from uncus.pipeline.training.member import Termination, fit, plain_trainer, quiet_lightning
from uncus.pipeline.training.optimization import Optimization

STEPS = 200
"""Updates of the weights, about."""
BATCH = 4
"""Labelled scans in a step."""
LR = 1e-3
"""Peak learning rate."""
SURE = 0.4
"""Share of the largest entropy that a scan's may have to be learned from (Niu 2022, EATA)."""
TOGETHER = 16
"""Scans whose gradients of the entropy are averaged at least."""
ROUNDS = 3
"""Times that pseudo-labels are drawn anew."""
ADVERSARY = 64
"""Units of the network that tells source from new site."""


class SiteLearner(Learner):
    """A training in which the network computes as it predicts.

    Running statistics stay those estimated before: a step of a few scans would spoil them. There is
    no dropout.
    """

    def on_train_epoch_start(self) -> None:
        self.model.eval()


class EntropyLearner(SiteLearner):
    """The mean entropy of the answers, over those that are not too unsure to be trusted."""

    def training_loss(self, output: Tensor, label: Tensor, step: int) -> tuple[Tensor, int]:
        logs = output.float().log_softmax(1)
        entropy = -(logs.exp() * logs).sum(1)
        sure = (entropy < SURE * math.log(output.shape[1])).float()
        return (entropy * sure).mean(), len(label)


class AdversarialLearner(SiteLearner):
    """Cross-entropy on the source's scans, and on all of them that of telling the sites apart.

    The network's output is [N, K + 1], see :class:`WithAdversary`.
    """

    def training_loss(self, output: Tensor, label: Tensor, step: int) -> tuple[Tensor, int]:
        own = (label != HIDDEN).float()
        site = F.binary_cross_entropy_with_logits(output[:, -1].float(), own)
        if not own.any():
            return site, len(label)
        return self.loss(output[own.bool(), :-1], label[own.bool()]) + site, len(label)


class Reversal(torch.autograd.Function):
    """The identity, whose gradient is reversed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class WithAdversary(nn.Module):
    """A network and, on its pooled features, one that tells the sites apart: output [N, K + 1]."""

    def __init__(self, network: Classifier, seed: int) -> None:
        super().__init__()
        self.network, self.covariates = network, network.covariates
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            channels = network.head.in_features
            adversary = nn.Sequential(
                nn.Linear(channels, ADVERSARY), nn.ReLU(), nn.Linear(ADVERSARY, 1)
            )
        self.head = nn.ModuleList([network.head, adversary])

    def forward(self, x: Tensor, covariates: Tensor | None = None) -> Tensor:
        features = self.network.features(x)
        output = self.network.adjust(self.network.classify(features), covariates)
        reverse: Any = Reversal.apply
        pooled = reverse(self.network.gain * features.mean((2, 3, 4)))
        return torch.cat([output, self.head[1](pooled)], 1)


def head_and_norms(network: Classifier, site: Site) -> None:
    """Head and norms on the labelled scans, from the refitted head on (Kumar 2022)."""
    statistics(network, site)
    heads.refit(network, site)
    tune(network, site, site.labelled(), [*network.head.parameters(), *affine(network)])


def whole(network: Classifier, site: Site) -> None:
    """All weights on the labelled scans, from the refitted head on (Kumar 2022)."""
    statistics(network, site)
    heads.refit(network, site)
    tune(network, site, site.labelled(), network.parameters())


def joint(network: Classifier, site: Site) -> None:
    """All weights on the labelled scans and on the source's, half a step each ("S+T", Saito 2019,
    arXiv 1904.06487): the source's many scans say what the classes are, while the few new ones
    say how they look here.
    """
    assert site.source is not None
    statistics(network, site)
    heads.refit(network, site)
    shown = site.labelled()
    times = max(1, round(len(site.source) / len(shown)))
    scans: Any = ConcatDataset([site.source, *[shown] * times])
    tune(
        network,
        site,
        scans,
        network.parameters(),
        lr=2 * LR,
        steps=2 * STEPS,
        batch=2 * BATCH,
    )


def entropy(network: Classifier, site: Site) -> None:
    """Norms' weights and offsets by the entropy of the answers (Tent, Wang 2021, arXiv 2006.10726).

    Safe at batch size 1: running statistics are those of the whole site, not of a batch; gradients
    are averaged over 16 scans; scans with a large entropy, whose gradients drive the network to a
    single class (Niu 2022 and 2023), count for nothing.
    """
    statistics(network, site)
    size = site.batch_size
    tune(
        network,
        site,
        site.scans,
        affine(network),
        batch=size,
        steps=STEPS // 4,
        accumulate=math.ceil(TOGETHER / size),
        kind=EntropyLearner,
    )


def pseudo(network: Classifier, site: Site) -> None:
    """The network's own answers as labels (Lee 2013, "Pseudo-label"), for head and norms.

    In each of 3 rounds the surest half of each class is learned, by the classes' shares at the
    source, so that no class takes over. Labels that may be seen are used as they are.
    """
    statistics(network, site)
    for _ in range(ROUNDS):
        labels = pseudo_labels(softmax(logits(network, site.scans, site.flip), axis=1), site)
        chosen = np.flatnonzero(labels != HIDDEN)
        scans = take(site.scans, chosen, labels[chosen])
        parameters = [*network.head.parameters(), *affine(network)]
        tune(network, site, scans, parameters, steps=STEPS // ROUNDS)


def pseudo_labels(probabilities: Array, site: Site) -> Array:
    """int [N]: the class of the surest half of each class's share, HIDDEN for the others."""
    labels, best = site.scans.labels.copy(), np.zeros(len(probabilities))
    for k, share in enumerate(site.shares):
        count = max(1, round(share * len(probabilities) / 2))
        surest = np.argsort(-probabilities[:, k], kind="stable")[:count]
        # Of two classes that claim a scan, the more probable has it.
        for i in surest[(site.scans.labels == HIDDEN)[surest]]:
            if probabilities[i, k] > best[i]:
                labels[i], best[i] = k, probabilities[i, k]
    return labels


def adversarial(network: Classifier, site: Site) -> None:
    """Features by which the sites cannot be told apart (DANN, Ganin 2016), by gradient reversal."""
    assert site.source is not None
    statistics(network, site)
    both = WithAdversary(network, site.seed)
    new = take(site.scans, np.arange(len(site.scans)), np.full(len(site.scans), HIDDEN))
    scans: Any = ConcatDataset([site.source, new])
    tune(both, site, scans, both.parameters(), lr=LR / 3, batch=2 * BATCH, kind=AdversarialLearner)


def tune(
    network: nn.Module,
    site: Site,
    scans: ScanDataset,
    parameters: Iterable[nn.Parameter],
    *,
    lr: float = LR,
    steps: int | None = None,
    batch: int = BATCH,
    accumulate: int = 1,
    kind: type[SiteLearner] = SiteLearner,
) -> None:
    """Train some of the ``parameters`` of a network in place; the others keep every bit."""
    chosen = {id(parameter) for parameter in parameters}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    in_epoch = math.ceil(len(scans) / batch / accumulate)
    how = Optimization(
        epochs=max(1, math.ceil((steps or STEPS) / in_epoch)),
        batch_size=batch,
        accumulate=accumulate,
        lr=lr,
        weight_decay=0,
        keep="last",
    )
    learner: Any = kind

    def name_scans(rows: Sequence[int]) -> str:
        return ", ".join(f"number {row} of the cohort" for row in rows)

    learner = learner(network, how, site.augmentation(), site.seed, None, None, name_scans)
    batches = loader(scans, batch, sampler=EpochSampler(len(scans), site.seed))
    with quiet_lightning():
        fit(plain_trainer(how, site.devices, [Termination()]), learner, batches, None, None)
    network.cpu().eval()
    for parameter in network.parameters():
        parameter.requires_grad_(True)
