"""Read a scan as an array in RAS+ with its affine in mm."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from uncus.data.dicom import reader
from uncus.data.errors import BadInput
from uncus.data.file_tree import is_pointer, list_files
from uncus.data.imageio import gzip_stream
from uncus.data.imageio.freesurfer import SCANS, find_scan, is_segmentation
from uncus.data.imageio.gzip_stream import RawFile
from uncus.data.imageio.header import Layout, check_affine
from uncus.data.imageio.mgh import read_mgh_layout
from uncus.data.imageio.nifti import HEAD_BYTES, read_nifti_layout

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".mgz", ".mgh")
FETCH = "fetch it, for example with datalad get or git lfs pull"
MAX_LOADED = 256 << 20  # bytes; larger files stay on disk


@dataclass(frozen=True)
class Limits:
    """Limits on what is read, and thresholds of warnings.

    Parameters
    ----------
    voxels: maximum number of voxels of a scan.
    trailing_bytes: maximum number of bytes after the voxels (footers, padding).
    bad_share: maximum share of NaN or infinite voxels, which are replaced by 0.
    slice_mm: slice thickness above which a warning is given.
    """

    voxels: int = 512**3
    trailing_bytes: int = 1 << 20
    bad_share: float = 0.001
    slice_mm: float = 5.0


@dataclass(frozen=True)
class Native:
    """The grid of the file: all that is needed to write a map on it.

    Parameters
    ----------
    shape: voxels per stored axis.
    affine: float64 [4, 4], stored voxel index -> mm, RAS+.
    axcodes: anatomical directions of the stored axes, for example "LIA".
    qform, sform: the affines of the two NIfTI transforms with their codes.
    """

    path: Path
    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    axcodes: str
    qform: tuple[NDArray[np.float64] | None, int]
    sform: tuple[NDArray[np.float64] | None, int]


@dataclass(frozen=True)
class Volume:
    """A scan in RAS+.

    Parameters
    ----------
    array: float32 [X, Y, Z]; x to the right, y anterior, z superior.
    affine: float64 [4, 4], voxel index -> mm, RAS+; contains the rotation of oblique scans.
    native: the grid of the file.
    warnings: about the file, one sentence each.
    demographics: from a DICOM header, "" if absent: "age" in years, "sex", "series" (its
        description), "manufacturer" and "magneticfieldstrength" (T).
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    native: Native
    warnings: tuple[str, ...] = ()
    demographics: Mapping[str, str] = field(default_factory=dict)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along x, y, z."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @cached_property
    def voxel_hash(self) -> str:
        """SHA-256 of shape and RAS+ voxels, independent of file format and storage order."""
        digest = hashlib.sha256(repr(self.array.shape).encode())
        digest.update(np.ascontiguousarray(self.array + np.float32(0)).data)  # +0: -0 becomes 0
        return digest.hexdigest()


def read_volume(
    path: Path, limits: Limits = Limits(), series: str = "", files: Sequence[RawFile] = ()
) -> Volume:
    """Read a NIfTI-1/2, Analyze or MGZ file, a DICOM folder, zip or file, or the folder of one of
    FreeSurfer's subjects, into RAS+.

    Nothing is allocated or inflated before the header is checked against the file's size and
    ``limits``.

    Parameters
    ----------
    series: chooses one of several DICOM series, see :func:`uncus.data.dicom.reader.read_series`.
    files: the scan's files if already loaded, see :func:`load_files`.

    Raises
    ------
    BadInput: the file cannot be read; the message has the file, the cause and a remedy.
    """
    path = Path(path)
    path = find_scan(path) or path
    if is_segmentation(path.name):
        cause = "a segmentation by its name, not a scan"
        raise BadInput(path, cause, f"give the T1-weighted image (FreeSurfer: {', '.join(SCANS)})")
    if not path.name.lower().endswith(SUFFIXES) and reader.is_dicom(path):
        return read_dicom((path,), limits, series)
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise BadInput(
            path,
            "unsupported image format",
            f"give one of {', '.join(SUFFIXES)}, or a DICOM folder, zip or file",
        )
    files = files or [RawFile(part) for part in source_files(path)]
    for file in files:
        _check_file(file, compressed=suffix in {".nii.gz", ".mgz"})
    head = gzip_stream.read_head(files[0], HEAD_BYTES)
    is_mgh = suffix in {".mgz", ".mgh"}
    layout = read_mgh_layout(path, head) if is_mgh else read_nifti_layout(files[0].path, head)
    array, warnings = _read_voxels(files[-1], layout, limits, footer=is_mgh)
    return _to_ras(path, array, layout, layout.warnings + warnings)


def read_scan(paths: Sequence[Path], limits: Limits = Limits(), series: str = "") -> Volume:
    """Read one scan from its file or folder, or from its DICOM files."""
    if len(paths) == 1:
        return read_volume(paths[0], limits, series)
    return read_dicom(paths, limits, series)


def read_dicom(paths: Sequence[Path], limits: Limits = Limits(), series: str = "") -> Volume:
    """Read the DICOM folders, zips or files of one scan into RAS+."""
    decoded = reader.read_series(paths, series, limits.voxels)
    path, array, affine = reader.source_path(paths), decoded.array, decoded.affine
    check_affine(path, affine)
    x, y, z = array.shape
    layout = Layout(
        (x, y, z), array.dtype, 0, 1.0, 0.0, affine, qform=(affine, 1), sform=(affine, 1)
    )
    warnings = list(decoded.warnings)
    array = _scale(path, array, layout, limits, warnings)
    return replace(_to_ras(path, array, layout, tuple(warnings)), demographics=decoded.demographics)


def _to_ras(
    path: Path, array: NDArray[np.float32], layout: Layout, warnings: tuple[str, ...]
) -> Volume:
    """Reorient voxels as stored to the closest axes of RAS+."""
    affine = layout.affine
    orientation = nib.io_orientation(affine)
    ras = nib.apply_orientation(array, orientation)
    ras_affine = affine @ nib.orientations.inv_ornt_aff(orientation, layout.shape)
    native = Native(
        path=path,
        shape=layout.shape,
        affine=affine,
        axcodes="".join(nib.aff2axcodes(affine)),
        qform=layout.qform,
        sform=layout.sform,
    )
    return Volume(np.ascontiguousarray(ras), ras_affine, native, warnings)


def source_files(path: Path) -> tuple[Path, ...]:
    """The files of an image: one, the two of a .hdr/.img pair, or all in a DICOM folder."""
    path = find_scan(path) or path
    if path.is_dir() and not path.name.lower().endswith(SUFFIXES):
        return tuple(sorted(list_files(path, {})))
    if path.suffix.lower() in {".hdr", ".img"}:
        return path.with_suffix(".hdr"), path.with_suffix(".img")
    return (path,)


def load_files(path: Path) -> tuple[RawFile, ...]:
    """Read the files of an image into memory, so that its hash and voxels come from the same bytes.

    DICOM files, which a child process reads, and files over MAX_LOADED bytes stay on disk.
    """
    path = find_scan(path) or path
    load = path.name.lower().endswith(SUFFIXES)
    return tuple(
        RawFile(part, part.read_bytes() if load and part.stat().st_size <= MAX_LOADED else None)
        for part in source_files(path)
    )


def _check_file(file: RawFile, compressed: bool) -> None:
    path = file.path
    if not path.is_file():
        cause = "not a file" if path.exists() else "no such file"
        if path.is_symlink():
            raise BadInput(path, "a link to a file that is missing", FETCH)
        raise BadInput(path, cause, "check the path")
    if file.size == 0:
        raise BadInput(path, "empty file", "copy or download it again")
    if is_pointer(gzip_stream.read_head(file, 200)):
        raise BadInput(path, "a pointer of git-annex or Git LFS, without the content", FETCH)
    if compressed != gzip_stream.is_gzip(file):
        cause = "not gzip data, despite its name" if compressed else "gzip data"
        remedy = (
            f"rename it without {path.suffix}" if compressed else f"rename it to {path.name}.gz"
        )
        raise BadInput(path, cause, remedy)


def _read_voxels(
    file: RawFile, layout: Layout, limits: Limits, footer: bool
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Read the voxels in stored order, scaled, as float32, and warnings about them."""
    path, voxels = file.path, math.prod(layout.shape)
    size = " x ".join(map(str, layout.shape))
    if voxels > limits.voxels:
        raise BadInput(
            path, f"{size} voxels, over the limit of {limits.voxels:,}", "resample the scan first"
        )
    expected = layout.offset + layout.data_bytes
    if expected > gzip_stream.max_content_size(file):
        raise BadInput(
            path,
            f"truncated file: its header declares {size} voxels from byte {layout.offset} on, "
            f"{expected:,} bytes, more than the file can contain",
            "copy or download it again",
        )
    content, trailing = gzip_stream.read_content(file, expected, limits.trailing_bytes)
    warnings = []
    if trailing and not footer:  # MGH files end with scan parameters
        warnings.append(f"{trailing:,} bytes follow the voxels; they were ignored.")
    stored = np.frombuffer(content, dtype=layout.dtype, count=voxels, offset=layout.offset)
    stored = stored.reshape(layout.shape, order="F")
    return _scale(path, stored, layout, limits, warnings), tuple(warnings)


def _scale(
    path: Path, stored: NDArray[Any], layout: Layout, limits: Limits, warnings: list[str]
) -> NDArray[np.float32]:
    # In float64: large integers would lose digits in float32 before the intercept is added.
    identity = layout.slope == 1 and layout.intercept == 0
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = stored if identity else stored.astype(np.float64) * layout.slope + layout.intercept
        array = scaled.astype(np.float32)
    bad = ~np.isfinite(array)
    count = int(bad.sum())
    if count > limits.bad_share * array.size:
        raise BadInput(
            path,
            f"{count / array.size:.1%} of its voxels are NaN or infinite",
            "export the scan again",
        )
    if count:
        warnings.append(f"{count:,} NaN or infinite voxels were set to 0.")
        array[bad] = 0
    if array.min() == array.max():
        raise BadInput(
            path, f"constant image: every voxel is {array.flat[0]:g}", "give another scan"
        )
    thickest = float(np.linalg.norm(layout.affine[:3, :3], axis=0).max())
    if thickest > limits.slice_mm:
        warnings.append(f"Slices are {thickest:.1f} mm thick; fine structures are lost.")
    return array
