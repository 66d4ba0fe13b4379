"""A prepared cohort on disk: BIDS derivatives, and one memory-mapped array for training.

COHORT/
  dataset_description.json  scans.tsv  failed.tsv (if scans failed)
  sub-S/[ses-T/]anat/sub-S[_ses-T]_space-keep_desc-preproc_T1w.{nii.gz,json}
  volumes.npy     float16 [N, X, Y, Z], rows as in scans.tsv
  manifest.json   hashes of all the above, written last: without it the cohort is unfinished
"""

import hashlib
import json
import platform
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uncus.data.bids_derivatives import REMEDY, SCHEMA, Entry, read_voxels
from uncus.data.errors import BadInput
from uncus.data.files import read_json, sha256, write_atomically, write_json
from uncus.data.json_schema import GRID, HASH, MAX_SCANS, array, fault, number, record, row
from uncus.data.space import SPACES, Grid
from uncus.data.tables import need_column, read_table, write_table

MANIFEST, TABLE, VOLUMES = "manifest.json", "scans.tsv", "volumes.npy"
TEXT = {"type": "string"}
ENTRY = record(
    name={**TEXT, "pattern": r"\Asub-[\w.+-]{1,300}\Z"},
    source=TEXT,
    source_sha256=HASH,
    voxel_hash=TEXT,
    key=TEXT,
    derivative={
        **TEXT,
        "pattern": r"\Asub-[\w.+-]+/(ses-[\w.+-]+/)?anat/[\w.+-]+\.nii\.gz\Z",
    },
    derivative_sha256=HASH,
    contact=row(*[number(0, 1)] * 6),
    warnings=array(TEXT, 1000, least=0),
)
CONTENT = record(
    grid=GRID,
    options=record(space={"enum": sorted(SPACES)}),
    table_sha256=HASH,
    volumes_sha256=HASH,
    scans=array({**ENTRY, "additionalProperties": False}, MAX_SCANS),
)
"""What a manifest contains: no name or path leads outside the cohort."""


@dataclass(frozen=True)
class PreparedCohort:
    """A prepared cohort, verified against its manifest.

    Parameters
    ----------
    path: its folder.
    table: one row per scan in array order: participant_id, session_id, voxel_hash, source_sha256,
        then the columns of the source's tables; all strings, "" if missing.
    volumes: memory-mapped float16 [N, X, Y, Z], z-scores inside the brain, 0 outside.
    grid: the grid of every volume, RAS+, mm.
    space: the space in which scans were placed, a key of uncus.data.space.SPACES.
    contacts: float [N, 6], see uncus.data.space.Placed.
    fingerprint: SHA-256 of all contents.
    manifest: as stored.
    """

    path: Path
    table: pd.DataFrame
    volumes: np.memmap[Any, np.dtype[np.float16]]
    grid: Grid
    space: str
    contacts: NDArray[np.float64]
    fingerprint: str
    manifest: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def synthetic(self) -> bool | None:
        """Whether its scans are phantoms; None if an earlier version prepared it."""
        value = self.manifest.get("synthetic")
        return value if isinstance(value, bool) else None

    @classmethod
    def open(cls, path: Path) -> "PreparedCohort":
        """Open the cohort in folder ``path``.

        Every file is compared with its hash in the manifest. Only ``volumes.npy`` may be damaged or
        missing: it is rebuilt from the derivatives, with a warning. Raises BadInput if the cohort
        is unfinished, of another version, or was changed.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        if not (path / TABLE).is_file() or sha256(path / TABLE) != manifest["table_sha256"]:
            raise BadInput(path / TABLE, "is missing or was changed after it was prepared", REMEDY)
        grid = Grid.from_dict(manifest["grid"])
        entries = [Entry.from_dict(value) for value in manifest["scans"]]
        for entry in entries:
            image = path / entry.derivative
            if not image.is_file() or sha256(image) != entry.derivative_sha256:
                raise BadInput(image, "is missing or was changed after it was prepared", REMEDY)
        volumes = path / VOLUMES
        if not volumes.is_file() or sha256(volumes) != manifest["volumes_sha256"]:
            warnings.warn(
                f"{volumes} was damaged or missing; it was rebuilt from the derivatives",
                stacklevel=2,
            )
            write_volumes(path, grid, (read_voxels(path, entry, grid) for entry in entries))
            if sha256(volumes) != manifest["volumes_sha256"]:
                raise BadInput(volumes, "cannot be rebuilt as it was", REMEDY)
        table = read_table(path / TABLE)
        for column in ("participant_id", "session_id", "voxel_hash"):
            need_column(table, column, path / TABLE)
        if len(table) != len(entries):
            cause = f"has {len(table)} rows, the manifest {len(entries)} scans"
            raise BadInput(path / TABLE, cause, REMEDY)
        return cls(
            path=path,
            table=table,
            volumes=open_volumes(volumes, (len(entries), *grid.shape)),
            grid=grid,
            space=manifest["options"]["space"],
            contacts=np.array([entry.contact for entry in entries]),
            fingerprint=manifest["fingerprint"],
            manifest=manifest,
        )


def open_volumes(path: Path, shape: tuple[int, ...]) -> Any:
    """Memory-map float16 volumes; raises BadInput for any other array, or Python objects."""
    try:
        volumes = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError) as error:
        raise BadInput(path, f"is not an array ({error})", REMEDY) from error
    if volumes.dtype != np.float16 or volumes.shape != shape:
        cause = f"is {volumes.dtype} {list(volumes.shape)}, not float16 {list(shape)}"
        raise BadInput(path, cause, REMEDY)
    return volumes


def write_volumes(root: Path, grid: Grid, volumes: Iterable[NDArray[np.float16]]) -> int:
    """Write ``volumes.npy`` from arrays float16 [X, Y, Z], one by one; returns their number."""
    count = 0

    def write(temporary: Path) -> None:
        # Not a memory map, which kills the process when the disk is full, where a write raises.
        nonlocal count
        with temporary.open("wb") as stream:
            _write_header(stream, 0, grid)
            for volume in volumes:
                stream.write(np.ascontiguousarray(volume, np.float16).data)
                count += 1
            stream.seek(0)
            _write_header(stream, count, grid)

    write_atomically(root / VOLUMES, write)
    return count


def _write_header(stream: Any, count: int, grid: Grid) -> None:
    # The format pads the header to 64 bytes, with room for a longer first dimension.
    header = {"descr": "<f2", "fortran_order": False, "shape": (count, *grid.shape)}
    np.lib.format.write_array_header_1_0(stream, header)


def scans_table(fields: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """Add the hashes of ``entries`` to the source's table, row by row."""
    table = fields.drop(columns=["voxel_hash", "source_sha256"], errors="ignore")
    table.insert(2, "voxel_hash", [entry.voxel_hash for entry in entries])
    table.insert(3, "source_sha256", [entry.source_sha256 for entry in entries])
    return table


def finish(
    root: Path,
    options: Mapping[str, Any],
    grid: Grid,
    fields: pd.DataFrame,
    entries: Sequence[Entry],
    left_out: Mapping[str, str] = MappingProxyType({}),
    synthetic: bool = False,
) -> None:
    """Write the table, the description and, last, the manifest; ``volumes.npy`` must exist."""
    write_table(root / TABLE, scans_table(fields, entries))
    description = {
        "Name": "Prepared T1-weighted scans",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "uncus", "Version": version("uncus")}],
    }
    write_json(root / "dataset_description.json", description)
    versions = {name: version(name) for name in ("uncus", "nibabel", "numpy", "scipy")}
    manifest = {
        "schema": SCHEMA,
        "versions": {"python": platform.python_version(), **versions},
        "options": dict(options),
        "grid": grid.as_dict(),
        "table_sha256": sha256(root / TABLE),
        "volumes_sha256": sha256(root / VOLUMES),
        "scans": [asdict(entry) for entry in entries],
        "left_out": dict(left_out),
        "synthetic": synthetic,
    }
    write_json(root / MANIFEST, {**manifest, "fingerprint": _fingerprint(manifest)})


def _read_manifest(path: Path) -> dict[str, Any]:
    if not (path / MANIFEST).is_file():
        raise BadInput(
            path, "is not a finished prepared cohort", "run `uncus prepare` to create one"
        )
    manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise BadInput(path / MANIFEST, "is not a manifest of a prepared cohort", REMEDY)
    if manifest["schema"] != SCHEMA:
        raise BadInput(
            path / MANIFEST, f"has schema {manifest['schema']}, this uncus has {SCHEMA}", REMEDY
        )
    if manifest.get("fingerprint") != _fingerprint(manifest):
        raise BadInput(path / MANIFEST, "was changed after it was prepared", REMEDY)
    if wrong := fault(manifest, CONTENT):
        raise BadInput(path / MANIFEST, f"is not a manifest: {wrong}", REMEDY)
    return manifest


def _fingerprint(manifest: Mapping[str, Any]) -> str:
    content = {name: value for name, value in manifest.items() if name != "fingerprint"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
