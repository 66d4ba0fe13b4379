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
from uncus.data.imageio.volume import read_volume
from uncus.data.space import GRIDS, SPACES, Grid, place
from uncus.pipeline.preparation import quality_page
from uncus.pipeline.preparation.cohort_grid import MEASURES, Measure, common_grid, measure
from uncus.pipeline.preparation.dask_cluster import Cluster, connected
from uncus.pipeline.preparation.workers import (
    Failure,
    for_each,
    in_processes,
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
        """Measure, agree on a grid, place, join."""
        root, workers = self.options.cohort, self.options.workers
        space, shown = self.options.space, self._shown(root)
        jobs = [(self._shown(s.path), shown, space, self._series(s)) for s in self.scans]
        measures = for_each("measure", measure, jobs, workers, self.cluster)
        failures = {i: m for i, m in measures.items() if isinstance(m, Failure)}
        known = {i: m for i, m in measures.items() if isinstance(m, Measure)}
        self._refuse_if_none(known, failures)
        grid = self._own_grid() or common_grid(list(known.values()), self._spacing())
        finished: dict[int, Entry] = {}
        blank: dict[int, Entry] = {}
        for index, found in known.items():
            scan = self.scans[index]
            blank[index] = self._blank(scan, found, grid)
            entry = bids_derivatives.load_entry(root, scan, self.options.space, blank[index].key)
            if entry is not None:
                finished[index] = entry
        todo = [index for index in known if index not in finished]
        if not todo and self._is_current(grid, finished):
            self._report(failures)
            self._show(grid, finished, failures)
            _say(f"{root} is up to date: {len(finished)} scans, nothing to do")
            return 1 if failures else 0
        # From here on the folder changes, and until the end it is no finished cohort.
        (root / prepared_cohort.MANIFEST).unlink(missing_ok=True)
        arguments = [(shown, self._sent(self.scans[i]), grid, space, blank[i]) for i in todo]
        for place_of, result in for_each("place", _place, arguments, workers, self.cluster).items():
            if isinstance(result, Failure):
                failures[todo[place_of]] = result
            else:
                finished[todo[place_of]] = result
        self._refuse_if_none(finished, failures)
        self._join(grid, dict(sorted(finished.items())))
        self._report(failures)
        self._show(grid, finished, failures)
        size = " x ".join(map(str, grid.shape))
        done = f"{len(todo) - sum(i in failures for i in todo)} new, {len(finished)} in all"
        _say(f"{root}: {done}, each {size} voxels of {_listed(grid.spacing)} mm")
        return 1 if failures else 0

    def _shown(self, path: Path) -> Path:
        """A path as the workers see it: those of a cluster start in folders of their own."""
        return path.absolute() if self.cluster else path

    def _sent(self, scan: Scan) -> Scan:
        """A scan as the workers need it."""
        return replace(scan, path=self._shown(scan.path), series=self._series(scan))

    def _series(self, scan: Scan) -> str:
        """Which DICOM series a scan is: the reader knows, or the user says."""
        return scan.series or (self.options.series if reader.is_dicom(scan.path) else "")

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

    def _blank(self, scan: Scan, measure: Measure, grid: Grid) -> Entry:
        """The part of a scan's entry that is known before it is placed."""
        return Entry(
            name=scan.name,
            source=_relative(scan.path, self.source),
            source_sha256=measure.source_sha256,
            voxel_hash=measure.voxel_hash,
            key=bids_derivatives.result_key(measure.source_sha256, grid, self.options.space),
            derivative="",
            derivative_sha256="",
            contact=(),
            warnings=(),
        )

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
            scan = self.scans[index]
            rows.append((scan.name, _relative(scan.path, self.source), failure.reason))
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


def _place(root: Path, scan: Scan, grid: Grid, space: str, blank: Entry) -> Entry:
    """Place one scan and save it."""
    placed = place(read_volume(scan.path, series=scan.series), grid, space)
    if bids_derivatives.source_sha256(scan.path, scan.series) != blank.source_sha256:
        raise BadInput(scan.path, "changed while it was being prepared", "start again")
    return bids_derivatives.save(root, scan, placed, grid, space, blank)


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
    ours = (prepared_cohort.MANIFEST, MEASURES, ".lock")
    if root.is_dir() and any(root.iterdir()) and not any((root / name).exists() for name in ours):
        raise BadInput(root, "holds other files", "choose an empty folder or a prepared cohort")


def _relative(path: Path, root: Path) -> str:
    base = root if root.is_dir() else root.parent
    return Path(os.path.relpath(path, base)).as_posix()


def _listed(values: Iterable[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _say(line: str) -> None:
    print(f"uncus prepare: {line}", file=sys.stderr)
