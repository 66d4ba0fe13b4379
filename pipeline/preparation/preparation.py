"""Prepare a cohort in its folder: place the scans that are new or changed, join the results."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uncus.data import bids_derivatives, prepared_cohort
from uncus.data.bids_derivatives import Entry
from uncus.data.cohorts.scans import Scan
from uncus.data.dicom import reader
from uncus.data.errors import BadInput
from uncus.data.phantom.recipe import is_synthetic
from uncus.data.space import GRIDS, Grid
from uncus.data.tables import write_table
from uncus.data.text import grouped, shorten
from uncus.pipeline.preparation import quality_page
from uncus.pipeline.preparation.cohort_grid import common_grid, measure
from uncus.pipeline.preparation.dask_cluster import Cluster
from uncus.pipeline.preparation.placement import place_scan
from uncus.pipeline.preparation.refusals import FOLDER, forget
from uncus.pipeline.preparation.workers import (
    Failure,
    for_each,
    in_processes,
    on_this_machine,
    process_count,
)
from uncus.pipeline.progress_bars import progress_bar

FAILED = "failed.tsv"


@dataclass(frozen=True)
class Preparation:
    """One run of ``uncus prepare``, while the folder is locked.

    Parameters
    ----------
    root: folder of the prepared cohort.
    source: folder or table of the scans.
    scans, table: the scans and their rows in the source's table.
    left_out: what the source names without a scan -> why, as recorded in the manifest.
    options: those that the result depends on, as recorded in the manifest.
    grid: the grid to use, if it is given.
    workers: number of local processes; 0 is one per core.
    cluster: its workers are used instead, if given.
    """

    root: Path
    source: Path
    scans: Sequence[Scan]
    table: pd.DataFrame
    options: Mapping[str, Any]
    left_out: Mapping[str, str] = field(default_factory=dict)
    grid: Grid | None = None
    workers: int = 0
    cluster: Cluster | None = None

    def run(self) -> int:
        """Choose the grid, place every scan on it, join the results."""
        root = self.worker_path(self.root)
        local = on_this_machine(self.workers)
        run_tasks = self.cluster.run_tasks if self.cluster else local
        scans = {index: self.worker_scan(scan) for index, scan in enumerate(self.scans)}
        hashes = dict.fromkeys(scans, "")
        failures: dict[int, Failure] = {}
        forget(self.root)
        grid = self.template_grid()
        if grid is None:  # it depends on the brains of all scans
            arguments = {index: (root, scan) for index, scan in scans.items()}
            measures, failures = for_each("measure", measure, arguments, run_tasks)
            self.require(measures, failures)
            grid = common_grid(list(measures.values()), self.spacing)
            hashes = {index: found.source_sha256 for index, found in measures.items()}
        jobs = {
            index: (root, scans[index], self.source_path(index), grid, self.space, known_hash)
            for index, known_hash in hashes.items()
        }
        results, unplaced = for_each("place", place_scan, jobs, run_tasks)
        failures |= unplaced
        entries: dict[int, Entry] = {index: entry for index, (entry, _) in results.items()}
        new = sum(is_new for _, is_new in results.values())
        self.require(entries, failures)
        current = not new and self.is_current(grid, entries)
        if not current:
            # From here to the end, the folder is not a finished cohort.
            (self.root / prepared_cohort.MANIFEST).unlink(missing_ok=True)
            self.join(grid, entries)
        self.report_failures(failures)
        self.update_page(grid, entries, failures)
        if current:
            log(f"{self.root} is up to date: {len(entries)} scans, nothing to do")
        else:
            shape, spacing = (" x ".join(f"{n:g}" for n in v) for v in (grid.shape, grid.spacing))
            count = f"{new} new, {len(entries)} in total"
            log(f"{self.root}: {count}, each {shape} voxels of {spacing} mm")
        return 1 if failures else 0

    @property
    def space(self) -> str:
        return str(self.options["space"])

    @property
    def spacing(self) -> NDArray[np.float64]:
        """Voxel size in mm along x, y, z."""
        return np.broadcast_to(np.asarray(self.options["spacing"], np.float64), (3,))

    def template_grid(self) -> Grid | None:
        """The given grid, or that of the space's template; None if it depends on the scans."""
        if self.grid:
            return self.grid
        make = GRIDS.get(self.space)
        return make(self.spacing) if make else None

    @cached_property
    def paths(self) -> Counter[Path]:
        """How many scans each path has."""
        return Counter(scan.path for scan in self.scans)

    def worker_path(self, path: Path) -> Path:
        """A path for the workers: those of a cluster start in other folders."""
        return path.absolute() if self.cluster else path

    def worker_scan(self, scan: Scan) -> Scan:
        """A scan for the workers, with its DICOM series: the user's choice, else the reader's.

        Only the reader's choice distinguishes two sessions in one folder.
        """
        series, chosen = scan.series, self.options["series"]
        alone = not series or self.paths[scan.path] == 1
        if chosen and alone and reader.is_dicom(scan.path):
            series = chosen
        return replace(scan, path=self.worker_path(scan.path), series=series)

    def source_path(self, index: int) -> str:
        """A scan's path relative to the source."""
        base = self.source if self.source.is_dir() else self.source.parent
        return Path(os.path.relpath(self.scans[index].path, base)).as_posix()

    def is_current(self, grid: Grid, entries: Mapping[int, Entry]) -> bool:
        """Whether the folder is a finished cohort of exactly these results."""
        try:
            cohort = prepared_cohort.PreparedCohort.open(self.root)
        except ValueError:
            return False
        rows = list(entries.values())
        table = prepared_cohort.scans_table(self.table.iloc[list(entries)], rows)
        # Compared as text: a missing cell is n/a in the file, "" in memory.
        same_table = list(table.columns) == list(cohort.table.columns) and np.array_equal(
            table.to_numpy(str), cohort.table.to_numpy(str)
        )
        content = [dict(self.options), grid.as_dict(), list(map(asdict, rows)), dict(self.left_out)]
        stored = [
            cohort.manifest.get(name, {}) for name in ("options", "grid", "scans", "left_out")
        ]
        return same_table and json.loads(json.dumps(content)) == stored

    def join(self, grid: Grid, entries: Mapping[int, Entry]) -> None:
        """Write the array, the table and the manifest; remove results of other scans."""
        rows = list(entries.values())
        remove_leftovers(self.root, {entry.derivative for entry in rows})
        voxels = in_processes(
            process_count(self.workers, len(rows)),
            bids_derivatives.read_voxels,
            [(self.root, entry, grid) for entry in rows],
        )
        with progress_bar() as bar:
            prepared_cohort.write_volumes(
                self.root, grid, bar.track(voxels, len(rows), description="join")
            )
        table = self.table.iloc[list(entries)]
        synthetic = is_synthetic(self.source)
        prepared_cohort.finish(self.root, self.options, grid, table, rows, self.left_out, synthetic)
        for warning in repeated_voxels(rows):
            log(f"warning: {warning}")
        warnings = ((row.name, warning) for row in rows for warning in row.warnings)
        log_groups("warning", warnings, len(rows))

    def update_page(
        self, grid: Grid, entries: Mapping[int, Entry], failures: Mapping[int, Failure]
    ) -> None:
        """Update the quality control page of registered scans; remove that of an earlier cohort."""
        page = self.root / quality_page.PAGE
        if self.space not in GRIDS:
            page.unlink(missing_ok=True)
            return
        failed = [(self.scans[i].name, failure.reason) for i, failure in sorted(failures.items())]
        quality_page.write_page(self.root, grid, list(entries.values()), failed, self.workers)
        log(f"check the registrations: {page}")

    def report_failures(self, failures: Mapping[int, Failure]) -> None:
        """List failed scans in failed.tsv and on stderr."""
        path = self.root / FAILED
        if not failures:
            path.unlink(missing_ok=True)
            return
        rows = []
        for index, failure in sorted(failures.items()):
            rows.append((self.scans[index].name, self.source_path(index), failure.reason))
        causes = [(self.scans[i].name, failure.cause) for i, failure in sorted(failures.items())]
        log_groups("failed", causes, len(self.scans), {name: reason for name, _, reason in rows})
        write_table(path, pd.DataFrame(rows, columns=["scan", "source", "reason"], dtype=object))
        pictures = f" and {self.root / FOLDER}" if (self.root / FOLDER).is_dir() else ""
        log(f"{len(failures)} of {len(self.scans)} scans failed; see {path}{pictures}")

    def require(self, usable: Mapping[int, Any], failures: Mapping[int, Failure]) -> None:
        """Report the failures and raise BadInput if no scan is usable."""
        if usable:
            return
        self.report_failures(failures)
        if grid := self.template_grid():
            self.update_page(grid, {}, failures)
        reason = failures[min(failures)].reason
        raise BadInput(self.source, f"none of its {len(self.scans)} scans is usable", reason)


def log_groups(
    kind: str,
    texts: Iterable[tuple[str, str]],
    total: int,
    alone: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Log the ten most frequent texts about scans, the names of the scans below each.

    ``alone``: name of a scan -> its text where no other scan has the same.
    """
    groups = grouped(texts, total)
    for text, names in groups[:10]:
        if len(names) == 1 and names[0] in alone:
            log(f"{kind}: {alone[names[0]]}")
        else:
            log(f"{kind}: {text}")
            print(f"    {shorten(names, 20)}", file=sys.stderr)
    if len(groups) > 10:
        log(f"{kind}: and {len(groups) - 10} more")


def repeated_voxels(entries: Iterable[Entry]) -> list[str]:
    """A warning for each group of scans with the same voxels."""
    owners: dict[str, list[str]] = {}
    for entry in entries:
        owners.setdefault(entry.voxel_hash, []).append(entry.name)
    return [
        f"{' and '.join(names)} have the same voxels"
        + ("; splits will reject them" if len({n.partition("_ses-")[0] for n in names}) > 1 else "")
        for names in owners.values()
        if len(names) > 1
    ]


def remove_leftovers(root: Path, wanted: set[str]) -> None:
    """Remove derivatives of scans that left the cohort, and temporary files of a killed run."""
    for leftover in root.rglob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    for image in root.glob("sub-*/**/*_desc-preproc_T1w.nii.gz"):
        if image.relative_to(root).as_posix() not in wanted:
            image.unlink()
            bids_derivatives.sidecar_path(image).unlink(missing_ok=True)


def log(line: str) -> None:
    """Print a line on stderr."""
    print(f"uncus prepare: {line}", file=sys.stderr)
