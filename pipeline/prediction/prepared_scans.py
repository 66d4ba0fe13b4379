"""The scans of a prepared cohort, on the grid of a run."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch

from uncus.data.bids_derivatives import Entry, read_registration
from uncus.data.design.covariates import to_row
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import read_volume
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.space import Placed
from uncus.data.tables import clean
from uncus.data.transforms.checks import CheckQuality
from uncus.data.transforms.path import ScanPipeline
from uncus.data.transforms.resampling import ToGrid
from uncus.data.transforms.scan_tensor import to_tensor, with_voxels
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.prediction.results import Prediction
from uncus.pipeline.trust.domain import scanner_of
from uncus.pipeline.trust.reliability import DEFAULT, Setting

RESAMPLED = (
    "the cohort's grid is not the run's: its volumes were resampled a second time, which blurs "
    "them; uncus prepare --like RUN prepares them on the run's"
)


def check_space(cohort: PreparedCohort, predictor: Predictor) -> None:
    """Raise BadInput for a cohort in another space than the run's."""
    space = predictor.card["space"]
    if cohort.space != space:
        spacing = " ".join(f"{step:g}" for step in predictor.grid.spacing)
        raise BadInput(
            cohort.path,
            f"is in space {cohort.space}, the run in {space}",
            f"prepare it with --space {space} --spacing {spacing}",
        )


def predict_prepared(
    predictor: Predictor,
    cohort: PreparedCohort,
    row: int,
    covariates: Mapping[str, str | float | None] = MappingProxyType({}),
    setting: Setting = DEFAULT,
) -> Prediction:
    """The prediction for one scan of a cohort; covariates not given are those of its table.

    Raises
    ------
    BadInput: the scan fails quality control, or a covariate is not a number.
    """
    to_row(covariates, predictor.accepted)
    entry = Entry.from_dict(cohort.manifest["scans"][row])
    cells = {name: clean(cohort.table[name].iloc[row]) for name in cohort.table}
    known: dict[str, str | float | None] = {
        name: cells[name] for name in predictor.accepted if cells.get(name)
    }
    known |= scanner_of({str(name): cell for name, cell in cells.items()})
    placed = place(cohort, row, entry, predictor.pipeline)
    return predictor.of_placed(
        entry.name,
        placed,
        {**known, **covariates},
        entry.voxel_hash,
        setting=setting,
        synthetic=cohort.synthetic,
    )


def place(cohort: PreparedCohort, row: int, entry: Entry, pipeline: ScanPipeline) -> Placed:
    """A scan as it was prepared, or resampled from the cohort's grid to the run's."""
    path = cohort.path / entry.derivative
    array = np.asarray(cohort.volumes[row], np.float32)
    volume, mask = read_volume(path), torch.from_numpy(array != 0)[None]
    same_grid = pipeline.grid == cohort.grid
    image = with_voxels(
        to_tensor(volume),
        array,
        volume.affine,
        mask=mask,
        in_field_of_view=torch.ones_like(mask),
        contact=np.array(entry.contact),
        registration=read_registration(path),
        warnings="\n".join(entry.warnings if same_grid else (*entry.warnings, RESAMPLED)),
    )
    return pipeline.place(image, first=CheckQuality if same_grid else ToGrid)
