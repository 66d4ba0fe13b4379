"""``uncus prepare``: bring a folder or table of scans onto one grid, ready for training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from uncus.data.cohorts.labels import add_labels
from uncus.data.cohorts.readers import read_cohort
from uncus.data.design.row_filter import select, undecided
from uncus.data.errors import BadInput
from uncus.data.files import locked
from uncus.data.geometry.grid import Grid
from uncus.data.prepared_cohort import MANIFEST, PreparedCohort
from uncus.data.space import SPACES
from uncus.data.tables import limit_warnings
from uncus.pipeline.builtin.catalog import named_run
from uncus.pipeline.preparation.cohort_grid import MEASURES
from uncus.pipeline.preparation.dask_cluster import connected
from uncus.pipeline.preparation.preparation import FAILED, Preparation, log
from uncus.pipeline.runs import Run, check_free

RECORDED = ("reader", "space", "spacing", "series", "where")
"""The options that the result depends on."""


@dataclass(frozen=True)
class Prepare:
    """Bring every scan of a cohort onto one grid: RAS+, resampled, normalized inside the brain.

    It can be interrupted at any time: run again, it continues, and redoes only what a changed scan
    or option affects.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """The scans: a BIDS or CAPS folder, FreeSurfer's subjects, a plain folder, a folder with one
    folder of DICOM series per subject, or a .csv or .tsv with paths."""
    cohort: Annotated[Path, tyro.conf.Positional]
    """Folder of the prepared cohort; created, or updated if it exists."""
    reader: str = "auto"
    """How to read the source: auto, bids, table, caps, folder, dicom or freesurfer."""
    space: str = "keep"
    """How to place scans: keep leaves each where its affine puts it, mni registers whole heads and
    skull-stripped brains to the ICBM152 template."""
    spacing: tuple[float, ...] = (1.5,)
    """Voxel size of the grid in mm: one number, or three for x (left-right), y
    (posterior-anterior) and z (inferior-superior)."""
    like: Annotated[Path | None, tyro.conf.arg(metavar="RUN|COHORT")] = None
    """Use the space and the grid of a run, a built-in model or another prepared cohort: the run
    then predicts the scans as they are prepared, for uncus evaluate --on."""
    workers: int = 0
    """Number of processes; 0 is one per core."""
    cluster: str = ""
    """Address of a Dask scheduler (tcp://host:8786) to use its workers, on any machines, instead
    of local processes; requires the extra cluster. See docs/cluster.md."""
    series: str = ""
    """Which of several DICOM series of a subject to use: words of its description, for example
    MPRAGE."""
    where: str = ""
    """Use only the scans that match a condition, for example "age >= 60 and sex == 'F'"."""
    labels: Path | None = None
    """A .csv or .tsv with a column participant_id (and session_id) whose other columns, such as
    diagnosis and age, are added to the scans; they replace those of the source."""
    strict: bool = False
    """Refuse a source in which subjects, sessions or rows have no scan; by default they are left
    out, with a warning."""

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise BadInput(
                f"--space {self.space}", "is unknown", f"choose one of {', '.join(SPACES)}"
            )
        if len(self.spacing) not in {1, 3} or not all(0.1 <= step <= 20 for step in self.spacing):
            raise BadInput(
                f"--spacing {' '.join(map(str, self.spacing))}",
                "is not one or three sizes of 0.1 to 20 mm",
                "give for example --spacing 1.5",
            )
        if self.workers < 0:
            raise BadInput(f"--workers {self.workers}", "is negative", "give 0 or more")

    def run(self) -> int:
        """Prepare the cohort; returns 0 if every scan is in it, 1 if some failed."""
        cohort = read_cohort(self.source, self.reader)
        cohort = add_labels(cohort, self.labels) if self.labels else cohort
        table = cohort.table()
        left_out = cohort.left_out_texts()
        if self.strict and left_out:
            raise BadInput(self.source, "; ".join(left_out), "add the scans, or leave out --strict")
        left_out = [f"left out: {one}" for one in left_out]
        missing = [f"--where leaves out scans: {one}" for one in undecided(table, self.where)]
        limits = limit_warnings(dict(table.items()))
        for warning in (*cohort.warnings, *left_out, *limits, *missing):
            log(f"warning: {warning}")
        table = select(table, self.where)
        scans = [cohort.scans[row] for row in table.index]
        check_target(self.cohort, cohort.root)
        check_free(self.cohort, but="a prepared cohort")
        options = {name: getattr(self, name) for name in RECORDED}
        grid = None
        if self.like:
            space, grid = space_and_grid(self.like)
            options |= {"space": space, "spacing": grid.spacing}
        with (
            locked(self.cohort, "prepared cohort"),
            connected(self.cluster, self.cohort) as cluster,
        ):
            return Preparation(
                root=self.cohort,
                source=cohort.root,
                scans=scans,
                table=table,
                left_out=cohort.left_out,
                options=options,
                grid=grid,
                workers=self.workers,
                cluster=cluster,
            ).run()


def space_and_grid(path: Path) -> tuple[str, Grid]:
    """Those of a prepared cohort, a run or a built-in model; raises BadInput for other folders."""
    if (path / MANIFEST).is_file():
        cohort = PreparedCohort.open(path)
        return cohort.space, cohort.grid
    card = Run(named_run(path) or path).card
    return card["space"], Grid.from_dict(card["grid"])


def check_target(root: Path, source: Path) -> None:
    """Raise BadInput if the folder ``root`` contains anything but a prepared cohort."""
    if root.resolve() == source.resolve():
        raise BadInput(root, "is the folder of the scans", "choose another one for the cohort")
    if root.exists() and not root.is_dir():
        raise BadInput(root, "is a file", "choose a folder")
    ours = (MANIFEST, MEASURES, FAILED, ".lock")
    if root.is_dir() and any(root.iterdir()) and not any((root / name).exists() for name in ours):
        raise BadInput(root, "contains other files", "choose an empty folder or a prepared cohort")
