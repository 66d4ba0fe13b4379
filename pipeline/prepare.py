"""``uncus prepare``: from a folder or table of scans to a cohort on one grid, ready to train on."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro
from numpy.typing import NDArray

from uncus.data import bids_derivatives, prepared_cohort
from uncus.data.bids_derivatives import Entry
from uncus.data.cohorts.readers import read_cohort
from uncus.data.cohorts.scans import Scan, write_table
from uncus.data.design.row_filter import select
from uncus.data.dicom import reader
from uncus.data.errors import BadInput
from uncus.data.files import locked
from uncus.data.space import GRIDS, SPACES, Grid
from uncus.pipeline.preparation import quality_page
from uncus.pipeline.preparation.cohort_grid import MEASURES, common_grid, measure
from uncus.pipeline.preparation.dask_cluster import Cluster, connected
from uncus.pipeline.preparation.placement import place_scan
from uncus.pipeline.preparation.workers import (
    Failure,
    for_each,
    in_processes,
    on_this_machine,
    process_count,
)
from uncus.pipeline.progress_bars import progress_bar


@dataclass(frozen=True)
class Prepare:
    """Bring every scan of a cohort onto one grid: RAS+, resampled, normalized inside the brain.

    Interrupt it whenever you like: started again, it goes on where it was, and makes anew exactly
    what a changed scan or option touches.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Where the scans are: a BIDS or CAPS folder, a plain folder, a folder of DICOM series with
    one folder a person, or a .csv or .tsv with paths."""
    cohort: Annotated[Path, tyro.conf.Positional]
    """The folder to make or to bring up to date."""
    reader: str = "auto"
    """How to read the source: auto, bids, table, caps, folder or dicom."""
    space: str = "keep"
    """How scans are placed: keep leaves each where its affine puts it, mni registers whole heads
    and stripped brains to the ICBM152 template."""
    spacing: tuple[float, ...] = (1.5,)
    """Voxel size of the grid in mm: one number, or three for x (right), y (front), z (up)."""
    workers: int = 0
    """Processes to use; 0 takes one for each core."""
    cluster: str = ""
    """Use the workers of this Dask scheduler instead, on any machines: tcp://host:8786; needs the
    extra cluster. See docs/cluster.md."""
    series: str = ""
    """Which DICOM series of a person's several: words of its description, for example MPRAGE."""
    where: str = ""
    """Take only scans for which this holds, for example "age >= 60 and sex == 'F'"."""

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
        """Make the cohort; 0 when every scan is in it, 1 when some failed."""
        cohort = read_cohort(self.source, self.reader)
        for warning in cohort.warnings:
            _say(f"warning: {warning}")
        table = select(cohort.table(), self.where)
        scans = [cohort.scans[row] for row in table.index]
        _check_target(self.cohort, cohort.root)
        with (
            locked(self.cohort, "prepared cohort"),
            connected(self.cluster, self.cohort) as cluster,
        ):
            return Preparation(self, cohort.root, scans, table, cluster).run()


@dataclass(frozen=True)
class Preparation:
    """One run of the verb, while the folder is locked."""

    options: Prepare
    source: Path
    scans: Sequence[Scan]
    table: pd.DataFrame
    cluster: Cluster | None = None

    def run(self) -> int:
        """Choose the grid, place every scan on it, join the results."""
        root, folder = self.options.cohort, self._shown(self.options.cohort)
        local = on_this_machine(self.options.workers)
        run_tasks = self.cluster.run_tasks if self.cluster else local
        scans = {i: self._sent(scan) for i, scan in enumerate(self.scans)}
        hashes = dict.fromkeys(scans, "")
        failures: dict[int, Failure] = {}
        grid = self._own_grid()
        if grid is None:  # it follows from the brains of all scans
            files = {i: (scan.path, folder, scan.series) for i, scan in scans.items()}
            measures, failures = for_each("measure", measure, files, run_tasks)
            self._refuse_if_none(measures, failures)
            grid = common_grid(list(measures.values()), self._spacing())
            hashes = {i: found.source_sha256 for i, found in measures.items()}
        jobs = {
            i: (folder, scans[i], self._source(i), grid, self.options.space, known)
            for i, known in hashes.items()
        }
        results, unplaced = for_each("place", place_scan, jobs, run_tasks)
        failures |= unplaced
        finished: dict[int, Entry] = {i: entry for i, (entry, _) in results.items()}
        new = sum(is_new for _, is_new in results.values())
        self._refuse_if_none(finished, failures)
        current = not new and self._is_current(grid, finished)
        if not current:
            # Until the end the folder is not a finished cohort.
            (root / prepared_cohort.MANIFEST).unlink(missing_ok=True)
            self._join(grid, finished)
        self._report(failures)
        self._show(grid, finished, failures)
        if current:
            _say(f"{root} is up to date: {len(finished)} scans, nothing to do")
        else:
            size = " x ".join(map(str, grid.shape))
            done = f"{new} new, {len(finished)} in all"
            _say(f"{root}: {done}, each {size} voxels of {_listed(grid.spacing)} mm")
        return 1 if failures else 0

    def _shown(self, path: Path) -> Path:
        """A path as the workers see it: those of a cluster start in folders of their own."""
        return path.absolute() if self.cluster else path

    def _sent(self, scan: Scan) -> Scan:
        """A scan as the workers need it."""
        return replace(scan, path=self._shown(scan.path), series=self._series(scan))

    def _series(self, scan: Scan) -> str:
        """Which DICOM series a scan is: as the reader determined, or as the user chose."""
        chosen = self.options.series
        return scan.series or (chosen if chosen and reader.is_dicom(scan.path) else "")

    def _own_grid(self) -> Grid | None:
        """The grid that the space brings; None where it follows from the scans."""
        make = GRIDS.get(self.options.space)
        return make(self._spacing()) if make else None

    def _show(self, grid: Grid, finished: dict[int, Entry], failures: dict[int, Failure]) -> None:
        """Bring the page of pictures up to date, in spaces that register scans."""
        root = self.options.cohort
        if self.options.space not in GRIDS:
            (root / quality_page.PAGE).unlink(
                missing_ok=True
            )  # of an earlier cohort in this folder
            return
        told = [(self.scans[i].name, f.reason) for i, f in sorted(failures.items())]
        entries = [finished[i] for i in sorted(finished)]
        quality_page.write_page(root, grid, entries, told, self.options.workers)
        _say(f"look at {root / quality_page.PAGE}")

    def _spacing(self) -> NDArray[np.float64]:
        return np.broadcast_to(np.asarray(self.options.spacing, np.float64), (3,))

    def _source(self, index: int) -> str:
        """A scan's path relative to the source."""
        base = self.source if self.source.is_dir() else self.source.parent
        return Path(os.path.relpath(self.scans[index].path, base)).as_posix()

    def _options(self) -> dict[str, Any]:
        """The options that the result depends on."""
        chosen = asdict(self.options)
        return {name: chosen[name] for name in ("reader", "space", "spacing", "series", "where")}

    def _is_current(self, grid: Grid, finished: dict[int, Entry]) -> bool:
        """Whether the folder already holds exactly this."""
        root = self.options.cohort
        try:
            cohort = prepared_cohort.PreparedCohort.open(root)
        except ValueError:
            return False
        entries = [finished[index] for index in sorted(finished)]
        wanted = prepared_cohort.scans_table(self.table.iloc[sorted(finished)], entries)
        # Compared as it would be read back: a missing cell is n/a in the file, "" in memory.
        same_table = list(wanted.columns) == list(cohort.table.columns) and np.array_equal(
            wanted.to_numpy(str), cohort.table.to_numpy(str)
        )
        made = json.loads(json.dumps([self._options(), grid.as_dict(), list(map(asdict, entries))]))
        kept = [cohort.manifest[name] for name in ("options", "grid", "scans")]
        return same_table and made == kept

    def _join(self, grid: Grid, finished: dict[int, Entry]) -> None:
        """Write the array, the table and the manifest; drop what no longer belongs."""
        root, entries = self.options.cohort, list(finished.values())
        _drop_strangers(root, {entry.derivative for entry in entries})
        voxels = in_processes(
            process_count(self.options.workers, len(entries)),
            bids_derivatives.read_voxels,
            [(root, entry, grid) for entry in entries],
        )
        with progress_bar() as bar:
            prepared_cohort.write_volumes(
                root, grid, bar.track(voxels, len(entries), description="join")
            )
        prepared_cohort.finish(
            root, self._options(), grid, self.table.iloc[list(finished)], entries
        )
        for warning in repeated_voxels(entries):
            _say(f"warning: {warning}")
        told = Counter(warning for entry in entries for warning in entry.warnings)
        for warning, count in told.most_common(10):
            _say(f"warning: {count} of {len(entries)} scans: {warning}")

    def _report(self, failures: dict[int, Failure]) -> None:
        """List failed scans in failed.tsv and on stderr."""
        path = self.options.cohort / "failed.tsv"
        if not failures:
            path.unlink(missing_ok=True)
            return
        rows = []
        for index, failure in sorted(failures.items()):
            rows.append((self.scans[index].name, self._source(index), failure.reason))
            _say(f"failed: {failure.reason}")
        write_table(path, pd.DataFrame(rows, columns=["scan", "source", "reason"], dtype=object))
        _say(f"{len(failures)} of {len(self.scans)} scans failed; they are listed in {path}")

    def _refuse_if_none(self, usable: dict[int, Any], failures: dict[int, Failure]) -> None:
        if not usable:
            self._report(failures)
            if own := self._own_grid():
                self._show(own, {}, failures)
            first = failures[min(failures)].reason
            raise BadInput(
                self.options.source, f"none of its {len(self.scans)} scans is usable", first
            )


def repeated_voxels(entries: Iterable[Entry]) -> list[str]:
    """A warning for each image that several subjects share."""
    owners: dict[str, list[str]] = {}
    for entry in entries:
        owners.setdefault(entry.voxel_hash, []).append(entry.name)
    return [
        f"{' and '.join(names)} have the same voxels"
        + ("; splits will refuse them" if len({n.split("_")[0] for n in names}) > 1 else "")
        for names in owners.values()
        if len(names) > 1
    ]


def _drop_strangers(root: Path, wanted: set[str]) -> None:
    """Remove derivatives of scans that are no longer in the cohort, and what a kill left."""
    for leftover in root.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    for image in root.glob("sub-*/**/*_desc-preproc_T1w.nii.gz"):
        if image.relative_to(root).as_posix() not in wanted:
            image.unlink()
            bids_derivatives.sidecar_path(image).unlink(missing_ok=True)


def _check_target(root: Path, source: Path) -> None:
    """Refuse to work in a folder that holds something else."""
    if root.resolve() == source.resolve():
        raise BadInput(root, "is where the scans are", "choose another folder for the cohort")
    if root.exists() and not root.is_dir():
        raise BadInput(root, "is a file", "choose a folder")
    ours = (prepared_cohort.MANIFEST, MEASURES, "failed.tsv", ".lock")
    if root.is_dir() and any(root.iterdir()) and not any((root / name).exists() for name in ours):
        raise BadInput(root, "holds other files", "choose an empty folder or a prepared cohort")


def _listed(values: Iterable[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _say(line: str) -> None:
    print(f"uncus prepare: {line}", file=sys.stderr)
