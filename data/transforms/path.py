"""The whole path of a scan from its file to the input of the networks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.inverse import InvertibleTransform
from numpy.typing import NDArray

from uncus.data.errors import BadInput
from uncus.data.imageio.volume import Volume
from uncus.data.quality_control import Reference
from uncus.data.space import SPACES, Grid, Placed
from uncus.data.transforms.checks import CheckImage, CheckQuality
from uncus.data.transforms.normalization import NormalizeBrain
from uncus.data.transforms.placing import MaskBrain, PlaceInMNI
from uncus.data.transforms.reading import ReadScan
from uncus.data.transforms.resampling import ToGrid
from uncus.data.transforms.scan_tensor import (
    affine_of,
    to_placed,
    to_tensor,
    to_volume,
    voxels,
    with_voxels,
)

PLACING: dict[str, type[Any]] = {"MaskBrain": MaskBrain, "PlaceInMNI": PlaceInMNI}


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise the error of a step as it is, where MONAI raises a RuntimeError that names the step."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, ValueError | OSError | MemoryError):
            raise error.__cause__ from None
        raise


class ScanPipeline(Compose):
    """MONAI's Compose of the steps from a scan's file to the input of the networks."""

    def __init__(self, steps: Sequence[Any]) -> None:
        # Of a list of DICOM files, Compose would make a scan each.
        super().__init__(steps, map_items=False)

    def __call__(  # type: ignore[override]
        self, input_: Any, start: int = 0, end: int | None = None, **options: Any
    ) -> Any:
        """Apply the steps ``start`` to ``end``; see MONAI's Compose."""
        with plain_errors():
            return super().__call__(input_, start, end, **options)

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Carry a map back to the input of the first step.

        Step by step, as MONAI's Compose does, which would import all of MONAI for it.
        """
        for step in reversed(self.transforms):
            if isinstance(step, InvertibleTransform):
                data = step.inverse(data)
        return data

    @property
    def grid(self) -> Grid:
        """The grid of the networks."""
        return next(step.grid for step in self.transforms if isinstance(step, ToGrid))

    def read(self, source: Any) -> MetaTensor:
        """The first step: read a scan, see :class:`ReadScan`."""
        image: MetaTensor = self(source, end=1)
        return image

    def place(self, scan: MetaTensor, first: type[Any] | None = None) -> Placed:
        """Apply all other steps, or those from ``first`` on, to a scan as read."""
        kinds = [type(step) for step in self.transforms]
        start = kinds.index(first) if first else 1
        image: MetaTensor = self(scan, start=start)

        def to_scan(array: NDArray[np.float32]) -> NDArray[np.float32]:
            mapped = with_voxels(image, array, affine_of(image))
            return voxels(ScanPipeline(self.transforms[start:]).inverse(mapped))

        return replace(to_placed(to_volume(scan), image), to_scan=to_scan)

    def describe(self) -> list[dict[str, Any]]:
        """The steps with their parameters, for JSON; the inverse is :func:`rebuild`."""
        return [
            {"step": type(step).__name__, **getattr(step, "parameters", dict)()}
            for step in self.transforms
        ]


def scan_pipeline(space: str, grid: Grid, reference: Reference | None = None) -> ScanPipeline:
    """The path of a scan onto ``grid``; with a ``reference``, it is compared with training scans.

    Raises BadInput for an unknown space.
    """
    if space not in SPACES:
        raise BadInput(f"space {space!r}", "is unknown", f"choose one of {', '.join(SPACES)}")
    steps = [
        ReadScan(),  # any format -> voxels in RAS+, affine in mm
        CheckImage(),  # not a CT; noise, ghosting
        PLACING[SPACES[space]](),  # where the brain is, and the affine to the space
        ToGrid(grid),  # the only interpolation
        NormalizeBrain(),  # z-scores inside the brain
    ]
    return ScanPipeline(steps + ([CheckQuality(reference)] if reference else []))


def rebuild(description: Sequence[Mapping[str, Any]], default: ScanPipeline) -> ScanPipeline:
    """The pipeline that ``describe`` described: the steps of ``default`` with its parameters.

    Raises
    ------
    KeyError, TypeError, ValueError: other steps, or unsuitable parameters.
    """
    steps = []
    for step, entry in zip(default.transforms, description, strict=True):
        parameters = dict(entry)
        if (name := parameters.pop("step")) != type(step).__name__:
            raise ValueError(f"{name} where {type(step).__name__} is expected")
        # A reference is not described: the run has it in files of its own.
        steps.append(type(step)(**parameters) if parameters else step)
    pipeline = ScanPipeline(steps)
    if pipeline.grid != default.grid:
        raise ValueError("its grid is not the networks'")
    return pipeline


def place(volume: Volume, grid: Grid, space: str = "keep") -> Placed:
    """Place a scan that is already read on ``grid``; raises BadInput as the steps do."""
    return scan_pipeline(space, grid).place(to_tensor(volume))
