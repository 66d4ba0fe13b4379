"""One placed scan on disk as a BIDS derivative: an image and its JSON sidecar."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from uncus.data.cohorts.scans import Scan
from uncus.data.errors import BadInput
from uncus.data.files import read_json, sha256, write_json
from uncus.data.imageio.gzip_stream import RawFile
from uncus.data.imageio.volume import Volume
from uncus.data.imageio.writer import write_nifti
from uncus.data.json_schema import VALUE, fault, integer, mapping, number, record, row
from uncus.data.space import LABELS, Grid, Placed

# Increase it when the same source and options give other voxels: all results are then redone.
SCHEMA = 1
REMEDY = "run `uncus prepare` on the cohort again"
MEASURES = mapping(VALUE, 100)
MATRIX = row(*[row(*[VALUE] * 4)] * 4)
POSITIVE = number(0, 1e6)
ORIGIN = record(
    spacing=row(POSITIVE, POSITIVE, POSITIVE),
    shape=row(*[integer(1, 1 << 20)] * 3),
    brightness=number(-1e30, 1e30),
)


@dataclass(frozen=True)
class Entry:
    """The record of one placed scan.

    Parameters
    ----------
    name: "sub-S" or "sub-S_ses-T".
    source: path of the source file, relative to the source cohort.
    source_sha256: hash of the source's bytes.
    voxel_hash: hash of the source's voxels in RAS+.
    key: SHA-256 of all inputs of the result: equal keys mean equal results.
    derivative, derivative_sha256: path of the image, relative to the prepared cohort, and its hash.
    contact: see uncus.data.space.Placed.
    warnings: see uncus.data.space.Placed.
    """

    name: str
    source: str
    source_sha256: str
    voxel_hash: str
    key: str
    derivative: str
    derivative_sha256: str
    contact: tuple[float, ...]
    warnings: tuple[str, ...]

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Entry":
        """The inverse of ``dataclasses.asdict`` through JSON."""
        lists = {name: tuple(value[name]) for name in ("contact", "warnings")}
        return cls(**{**value, **lists})


def source_sha256(files: Sequence[RawFile], series: str = "") -> str:
    """SHA-256 of all files of an image, and of ``series``, since a DICOM folder has several."""
    hashes = [file.sha256() for file in files] + ([series] if series else [])
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def result_key(source_hash: str, grid: Grid, space: str) -> str:
    """The key of the result of placing a source on ``grid`` by ``space``, see :class:`Entry`."""
    inputs = [SCHEMA, source_hash, grid.as_dict(), space]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def derivative_path(scan: Scan, space: str) -> Path:
    """Path of a scan's image relative to the prepared cohort (BIDS derivative names)."""
    session = f"ses-{scan.session}" if scan.session else ""
    name = f"{scan.name}_space-{LABELS[space]}_desc-preproc_T1w.nii.gz"
    return Path(f"sub-{scan.subject}", session, "anat", name)


def sidecar_path(image: Path) -> Path:
    """Path of an image's JSON sidecar."""
    return image.with_name(image.name.removesuffix(".nii.gz") + ".json")


def save(
    root: Path, scan: Scan, placed: Placed, grid: Grid, space: str, source: str, source_hash: str
) -> Entry:
    """Write image and sidecar atomically, the sidecar last, and return the scan's entry.

    Voxels are rounded to float16, as in the memory-mapped array, so that the array can be rebuilt
    from the images bit by bit.
    """
    relative = derivative_path(scan, space)
    image = root / relative
    sidecar_path(image).unlink(missing_ok=True)  # never an old sidecar with a new image
    write_nifti(image, placed.array.astype(np.float16).astype(np.float32), grid.affine)
    entry = Entry(
        name=scan.name,
        source=source,
        source_sha256=source_hash,
        voxel_hash=placed.volume.voxel_hash,
        key=result_key(source_hash, grid, space),
        derivative=relative.as_posix(),
        derivative_sha256=sha256(image),
        contact=tuple(round(share, 4) for share in placed.contact),
        warnings=placed.warnings,
    )
    bids = {
        "Sources": [f"bids:raw:{source}"],
        "SpatialReference": {"grid": grid.as_dict()},
        # Scan mm -> grid mm (RAS+), and measures of its quality.
        "Transform": placed.to_grid.tolist(),
        "Registration": dict(placed.quality),
        "Origin": origin(placed.volume),
    }
    write_json(sidecar_path(image), {**bids, "Intensity": "z-score", "Uncus": asdict(entry)})
    return entry


def origin(volume: Volume) -> dict[str, Any]:
    """What tells of the scanner: voxel size (mm), voxels, and median bright intensity, as stored.

    Nothing of it reaches a network; an audit asks whether it goes with the class.
    """
    sample = volume.array[::2, ::2, ::2]
    bright = sample[sample > sample.mean()]
    return {
        "spacing": [round(size, 4) for size in volume.spacing],
        "shape": list(volume.array.shape),
        "brightness": float(np.median(bright)) if bright.size else 0.0,
    }


def read_origin(image: Path) -> dict[str, Any]:
    """An image's ``origin``, from its sidecar; empty for cohorts prepared before it was kept.

    Raises
    ------
    BadInput: it is malformed.
    """
    path = sidecar_path(image)
    match read_json(path):
        case {"Origin": known}:
            if isinstance(known, dict) and not fault(known, ORIGIN):
                return known
            raise BadInput(path, "has a malformed Origin", REMEDY)
    return {}


def load_entry(root: Path, scan: Scan, space: str, key: str) -> Entry | None:
    """Load the entry of a finished result with this key and an intact image, or None."""
    image = root / derivative_path(scan, space)
    try:
        sidecar = json.loads(sidecar_path(image).read_text(encoding="utf-8"))
        entry = Entry.from_dict(sidecar["Uncus"])
        intact = entry.key == key and sha256(image) == entry.derivative_sha256
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return entry if intact and entry.name == scan.name else None


def read_voxels(root: Path, entry: Entry, grid: Grid) -> NDArray[np.float16]:
    """Read the voxels float16 [X, Y, Z] of a derivative; raises BadInput if it was changed."""
    image = root / entry.derivative
    if not image.is_file() or sha256(image) != entry.derivative_sha256:
        raise BadInput(image, "is missing or was changed after it was prepared", REMEDY)
    try:
        stored = nib.Nifti1Image.from_filename(image)
        if stored.shape == grid.shape:
            return np.asarray(stored.dataobj).astype(np.float16)
    except Exception as error:  # whatever nibabel raises for bytes that are no image
        raise BadInput(image, f"cannot be read ({error})", REMEDY) from error
    raise BadInput(image, f"has shape {stored.shape}, not {grid.shape}", REMEDY)


def read_registration(image: Path) -> dict[str, float]:
    """The measures of an image's registration, from its sidecar; raises BadInput for others."""
    path = sidecar_path(image)
    match read_json(path):
        case {"Registration": dict(measures)} if not fault(measures, MEASURES):
            return measures
    raise BadInput(path, "has no measures of a registration", REMEDY)


def read_transform(image: Path) -> NDArray[np.float64]:
    """The matrix [4, 4] from the scan's mm to the grid's (RAS+), from an image's sidecar.

    Raises
    ------
    BadInput: it has none.
    """
    path = sidecar_path(image)
    match read_json(path):
        case {"Transform": list(matrix)} if not fault(matrix, MATRIX):
            return np.array(matrix, dtype=np.float64)
    raise BadInput(path, "has no transform", REMEDY)
