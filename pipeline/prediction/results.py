"""What a run computes about one scan: its prediction, and the explanation of a prediction."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uncus import NOTICE
from uncus.data.errors import BadInput
from uncus.data.geometry.grid import Grid
from uncus.data.imageio.volume import Volume
from uncus.data.segmentation.segmentation import Segmentation
from uncus.data.space import Placed
from uncus.pipeline.saliency.registry import SALIENCY
from uncus.pipeline.saliency.structure import NO_STRUCTURE, lacks_structure
from uncus.pipeline.trust.domain import Verdict
from uncus.pipeline.trust.judgement import Judgement

Map = NDArray[np.float32]


class Refused(BadInput):
    """A scan that was read and then rejected.

    Parameters
    ----------
    error: why.
    volume, segmentation: what a picture shows the reason in.
    """

    def __init__(
        self, error: BadInput, volume: Volume, segmentation: Segmentation | None = None
    ) -> None:
        super().__init__(error.value, error.cause, error.remedy)
        self.volume, self.segmentation = volume, segmentation

    def without_scan(self) -> BadInput:
        """The same error, which keeps no voxels in memory."""
        return BadInput(self.value, self.cause, self.remedy)


@dataclass(frozen=True)
class Prediction:
    """The prediction for one scan.

    Parameters
    ----------
    scan: name of the scan's file or folder.
    probabilities, values: mean over the run's networks: of each class for a classification, of each
        column, in the target's units, for a regression; the other one is empty.
    spread: standard deviation over the networks.
    members: each network's own probabilities or values.
    judgement: how far they can be trusted: the calibration, and whether a class is named.
    covariates: those used besides the scan; None where unknown, so the training mean was used.
    warnings: quality control findings and others.
    model: identifies the run and its networks.
    volumes: the measured volumes, see :func:`uncus.data.segmentation.measures.measure`; empty
        without a segmentation.
    placed: the scan as given to the networks.
    segmentation: the scan's, if it was segmented.
    feature_maps: each network's last feature map [1, C, x, y, z].
    domain: whether the scan is of the run's domain.
    brain_age: see :meth:`uncus.pipeline.trust.brain_age.BrainAge.answer`; empty without any.
    predicted_volumes: those that a built-in model predicts, in ml.
    """

    scan: str
    probabilities: Mapping[str, float]
    values: Mapping[str, float]
    spread: Mapping[str, float]
    members: tuple[Mapping[str, float], ...]
    covariates: Mapping[str, float | None]
    warnings: tuple[str, ...]
    model: Mapping[str, Any]
    judgement: Judgement = field(repr=False)
    placed: Placed = field(repr=False)
    volumes: Mapping[str, Any] = field(default_factory=dict)
    segmentation: Segmentation | None = field(default=None, repr=False)
    feature_maps: tuple[Map, ...] = field(default=(), repr=False)
    domain: Verdict = field(default=Verdict(None), repr=False)
    brain_age: Mapping[str, Any] = field(default_factory=dict)
    predicted_volumes: Mapping[str, float] = field(default_factory=dict)

    @property
    def most_probable(self) -> str | None:
        """The most probable class; None for a regression."""
        return max(self.probabilities, key=self.probabilities.__getitem__, default=None)

    @property
    def abstains(self) -> str:
        """Why no class is named, and no value stands; "" where one does."""
        return self.domain.abstains or self.judgement.abstains

    @property
    def label(self) -> str | None:
        """The class that is named: the only one that fits or, without sets, the most probable.

        None for a regression, and where :attr:`abstains` says why none is named.
        """
        if self.abstains:
            return None
        return self.judgement.fits[0] if self.judgement.fits else self.most_probable

    @property
    def image(self) -> dict[str, Any]:
        """The scan itself: "voxels" along x, y, z (RAS+), their size "mm", its "series" if any."""
        volume = self.placed.volume
        facts: dict[str, Any] = {
            "voxels": list(volume.array.shape),
            "mm": [round(step, 3) for step in volume.spacing],
        }
        series = volume.demographics.get("series", "")
        return {**facts, "series": series} if series else facts

    def as_dict(self) -> dict[str, Any]:
        """The content of prediction.json."""
        answer: dict[str, Any] = {"scan": self.scan}
        if self.probabilities:
            answer |= {"class": self.label, "label": self.label}
            answer["probabilities"] = dict(self.probabilities)
        else:
            answer |= {"values": dict(self.values)}
        return answer | {
            **({"abstains": self.abstains} if self.abstains else {}),
            "domain": self.domain.as_dict(),
            **self.judgement.as_dict(),
            "spread": dict(self.spread),
            "members": [dict(member) for member in self.members],
            **({"covariates": dict(self.covariates)} if self.covariates else {}),
            **({"volumes": dict(self.volumes)} if self.volumes else {}),
            **({"brain_age": dict(self.brain_age)} if self.brain_age else {}),
            **(
                {"predicted_volumes": dict(self.predicted_volumes)}
                if self.predicted_volumes
                else {}
            ),
            "image": self.image,
            "warnings": list(self.warnings),
            "model": dict(self.model),
            "notice": NOTICE,
        }


@dataclass(frozen=True)
class Explanation:
    """A saliency map that explains a prediction.

    Parameters
    ----------
    prediction: the prediction explained.
    method: a key of ``SALIENCY``.
    name: the class, or column of a regression, explained.
    saliency: [X, Y, Z] on ``grid``.
    grid: the run's grid.
    warning: what the run's check found wrong with the method, if anything.
    check: the check's verdict on the method, in a sentence.
    """

    prediction: Prediction
    method: str
    name: str
    saliency: Map = field(repr=False)
    grid: Grid = field(repr=False)
    warning: str = ""
    check: str = ""

    @cached_property
    def has_structure(self) -> bool:
        """Whether the map says where: a map that is the same everywhere is not shown."""
        return not lacks_structure(self.saliency, self.prediction.placed.mask)

    def opposite(self) -> "Explanation | None":
        """The map of the other of two classes, where it is this one's with its sign turned.

        Evidence for one is evidence against the other: their log-odds differ in sign alone.
        """
        names = list(self.prediction.probabilities)
        if len(names) != 2 or not SALIENCY[self.method].signed:
            return None
        other = names[1 - names.index(self.name)]
        return replace(self, name=other, saliency=-self.saliency)

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why not to trust the map, one sentence each."""
        return tuple(filter(None, ("" if self.has_structure else NO_STRUCTURE, self.warning)))

    @cached_property
    def on_scan(self) -> Map:
        """The map on the scan's own voxels [X, Y, Z], in RAS+ order as ``Volume.array``."""
        to_scan = self.prediction.placed.to_scan
        assert to_scan is not None
        return to_scan(self.saliency)
