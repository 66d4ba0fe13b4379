"""The scans of a prepared cohort, on the grid of a run."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from uncus.data import files
from uncus.data.bids_derivatives import Entry, sidecar_path
from uncus.data.errors import BadInput
from uncus.data.geometry import resample
from uncus.data.imageio.volume import read_volume
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.space import Grid, Placed, normalize
from uncus.data.tables import clean
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.prediction.results import Prediction

RESAMPLED = (
    "the cohort's grid is not the run's: its volumes were resampled a second time, which blurs them"
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
) -> Prediction:
    """The prediction for one scan of a cohort; covariates not given are those of its table.

    Raises
    ------
    BadInput: the scan fails quality control, or a covariate is not a number.
    """
    entry = Entry.from_dict(cohort.manifest["scans"][row])
    cells = {name: clean(cohort.table[name].iloc[row]) for name in cohort.table}
    known = {name: cells[name] for name in predictor.covariates if cells.get(name)}
    placed = place(cohort, row, entry, predictor.grid)
    return predictor.of_placed(entry.name, placed, {**known, **covariates}, entry.voxel_hash)


def place(cohort: PreparedCohort, row: int, entry: Entry, grid: Grid) -> Placed:
    """A scan as it was prepared, or resampled from the cohort's grid to ``grid``."""
    image = cohort.path / entry.derivative
    volume = read_volume(image)
    array, warnings = np.asarray(cohort.volumes[row], np.float32), entry.warnings
    mask, in_view = array != 0, np.ones(grid.shape, bool)
    if cohort.grid != grid:
        in_view = resample.field_of_view(volume, grid)
        array, mask = resample.masked(volume, mask, grid)
        if np.count_nonzero(mask) < 2:
            raise BadInput(image, "lies outside the run's grid", "check that it is in its space")
        array, warnings = normalize(array, mask), (*warnings, RESAMPLED)
    return Placed(
        array=array,
        mask=mask,
        volume=volume,
        in_field_of_view=in_view,
        contact=entry.contact,
        warnings=warnings,
        quality=files.read_json(sidecar_path(image))["Registration"],
    )
