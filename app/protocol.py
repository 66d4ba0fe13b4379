"""The messages between the page and its worker process: one JSON object per line."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from uncus.pipeline.trust.conformal import ERROR_LEVEL

Covariates = dict[str, float | str | None]


@dataclass(frozen=True)
class Message:
    """A message that is sent as one line of JSON."""

    def to_line(self) -> str:
        """The message as a line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Self:
        """The message of a line; raises ValueError for anything else."""
        values = json.loads(line)
        if not isinstance(values, dict) or not values.keys() <= {f.name for f in fields(cls)}:
            raise ValueError(f"not a {cls.__name__}: {line[:80]!r}")
        return cls(**values)


@dataclass(frozen=True)
class Request(Message):
    """Predict a scan, unless the worker still has its prediction, and explain it.

    Attributes
    ----------
    token: identifies the scan. With ``forget`` the worker drops its prediction, and nothing else.
    run, source: folder of the run, and what was uploaded.
    name: the name of the scan in the prediction.
    series: one of several DICOM series; "" for the only one.
    covariates: ``{"age": 72.0}``; None where unknown.
    prevalence, error_level: as of :class:`uncus.pipeline.trust.reliability.Setting`.
    method, target: saliency method ("" for none) and the class or column to explain ("" for auto).
    folder: folder for the map's files.
    keep: whether the worker keeps the prediction, for another map.
    """

    token: str
    forget: bool = False
    run: str = ""
    source: str = ""
    name: str = ""
    series: str = ""
    covariates: Covariates = field(default_factory=dict)
    prevalence: dict[str, float] = field(default_factory=dict)
    error_level: float = ERROR_LEVEL
    method: str = ""
    target: str = ""
    folder: str = ""
    keep: bool = True


@dataclass(frozen=True)
class Reply(Message):
    """What the worker reports; None where there is nothing new.

    Attributes
    ----------
    methods: name -> summary of each saliency method, once the networks are loaded.
    person: with it, whether scans are segmented, so that age and sex give centiles of volumes.
    failure: why the networks cannot be loaded.
    step: the step that begins.
    prediction: as in prediction.json.
    map: the map's facts for the viewer, with "method", "name" and "regions".
    error: why the request failed. ``series``: the DICOM series to choose from in that case.
    timings: name of a step -> "seconds" and "processor" (s); the request is finished.
    """

    methods: dict[str, str] | None = None
    person: bool | None = None
    failure: str | None = None
    step: str | None = None
    prediction: dict[str, Any] | None = None
    map: dict[str, Any] | None = None
    error: str | None = None
    series: list[dict[str, Any]] | None = None
    timings: dict[str, dict[str, float]] | None = None
