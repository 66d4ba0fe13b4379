"""Headers of NIfTI-1/2 and Analyze images, checked before any voxels are allocated.

nibabel loads many broken files without a warning (NaN affines, sizes beyond the file), so its
header classes only parse the fields, which are validated here.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from uncus.data.errors import BadInput
from uncus.data.imageio.header import RE_EXPORT, Layout, check_affine, join_numbers, voxel_shape

TEXT_BYTES = bytes([9, 10, 13, *range(32, 127), *range(128, 256)])  # no control characters
HEAD_BYTES = 544  # the longest header (NIfTI-2, 540 bytes) and its extension flag
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI: unknown, meter, millimeter, micrometer
NUMERIC = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"} | {
    1024: "i8",
    1280: "u8",
}
UNSUPPORTED_TYPES = {
    1: "1-bit",
    32: "complex",
    128: "RGB",
    1536: "128-bit float",
    1792: "complex",
    2048: "complex",
    2304: "RGBA",
}
LONGEST_QUATERNION = 1.01  # a length beyond is no rounding error
# A slope outside this range underflows or overflows float32.
SLOPE_RANGE = (1e-15, 1e15)


@np.errstate(all="ignore")  # NaN and infinity are found below, without numpy's line on stderr
def read_nifti_layout(path: Path, head: bytes) -> Layout:
    """Read the layout of a NIfTI-1/2 or Analyze image from the first bytes of its header file.

    Raises
    ------
    BadInput: neither format, or an invalid field in the header.
    """
    if not head.translate(None, TEXT_BYTES):
        raise BadInput(path, "a text file, not an image", RE_EXPORT)
    if len(head) < 348:
        raise BadInput(path, f"truncated header ({len(head)} of 348 bytes)", RE_EXPORT)
    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    if 540 in sizes:
        if len(head) < 540:
            raise BadInput(path, f"truncated header ({len(head)} of 540 bytes)", RE_EXPORT)
        kind: Any = nib.Nifti2Header
        single, pair, magic = b"n+2\0", b"ni2\0", head[4:8]
    elif 348 in sizes:
        kind = nib.Nifti1Header
        single, pair, magic = b"n+1\0", b"ni1\0", head[344:348]
    else:
        raise BadInput(path, "not a NIfTI image", RE_EXPORT)
    header = kind.from_fileobj(io.BytesIO(head[: kind.sizeof_hdr]), check=False)
    is_single = not path.name.endswith(".hdr")
    if magic not in {single, pair}:
        if is_single:
            raise BadInput(path, f"no NIfTI signature (magic is {magic!r})", RE_EXPORT)
        return _analyze(path, head)
    if (magic == single) != is_single:
        raise BadInput(path, f"its signature {magic!r} does not match its extension", RE_EXPORT)
    return _nifti(path, header, is_single)


def _nifti(path: Path, header: Any, is_single: bool) -> Layout:
    warnings: list[str] = []
    shape = voxel_shape(path, header["dim"])
    dtype = _dtype(path, header, warnings)
    slope, intercept = _scaling(path, header, warnings)
    offset = _offset(path, header, is_single, warnings)
    unit = MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if unit is None:
        warnings.append("The spatial unit is unknown; millimeters are assumed.")
        unit = 1.0
    elif unit != 1.0:
        warnings.append("The spatial unit is not millimeters; the affine was converted.")
    scale = np.diag([unit, unit, unit, 1.0])
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not np.isfinite(zooms).all() or (zooms == 0).any():
        raise BadInput(path, f"invalid voxel size ({join_numbers(zooms)} mm in pixdim)", RE_EXPORT)
    if (zooms < 0).any():
        warnings.append(
            f"Voxel sizes are negative ({join_numbers(zooms)} mm); their absolute values are used."
        )
        header["pixdim"][1:4] = np.abs(zooms)
    header["pixdim"][0] = -1.0 if header["pixdim"][0] < 0 else 1.0  # the standard reads 0 as 1
    header["dim"][0] = 3
    header["dim"][4:] = 1
    q_code, s_code = int(header["qform_code"]), int(header["sform_code"])
    sform = header.get_sform() if s_code > 0 else None
    qform = None
    if q_code > 0:
        # As the NIfTI library does: a quaternion that is longer than 1 by rounding is made a unit.
        quaternion = np.array([float(header[f"quatern_{axis}"]) for axis in "bcd"])
        length = float(np.linalg.norm(quaternion))
        if 1 < length < LONGEST_QUATERNION:
            for axis, value in zip("bcd", quaternion / length, strict=True):
                header[f"quatern_{axis}"] = value
        try:
            qform = header.get_qform()
        except (ValueError, nib.spatialimages.HeaderDataError):
            if sform is None:
                raise BadInput(path, "its qform is not a rotation", RE_EXPORT) from None
            warnings.append("The qform is not a rotation; the sform is used.")
        if sform is not None and qform is not None and not np.isfinite(qform).all():
            warnings.append("The qform has NaN or infinity; the sform is used.")
            qform = None
    if sform is not None:
        affine = sform
        check_affine(path, scale @ affine)
        if qform is not None and _max_distance(qform, sform, shape) > 0.5:
            warnings.append("The qform and the sform disagree; the sform is used.")
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.allclose(sizes, np.abs(zooms), rtol=0.02) and qform is None:
            warnings.append(
                f"The voxel sizes of pixdim ({join_numbers(zooms)}) and of the sform "
                f"({join_numbers(sizes)}) disagree; the sform is used."
            )
    elif qform is not None:
        affine = qform
    else:
        affine = header.get_base_affine()
        warnings.append(
            "The qform and sform codes are 0: orientation unknown, left and right may be swapped."
        )
    check_affine(path, scale @ affine)
    return Layout(
        shape=shape,
        dtype=dtype,
        offset=offset,
        slope=slope,
        intercept=intercept,
        affine=scale @ affine,
        qform=(None if qform is None else scale @ qform, q_code if qform is not None else 0),
        sform=(None if sform is None else scale @ sform, s_code if sform is not None else 0),
        warnings=tuple(warnings),
    )


def _analyze(path: Path, head: bytes) -> Layout:
    """Read an Analyze 7.5 header, with SPM's scale factor and origin if set."""
    header = nib.Spm2AnalyzeImage.header_class.from_fileobj(io.BytesIO(head[:348]), check=False)
    warnings = ["Analyze has no orientation: orientation unknown, left and right may be swapped."]
    shape = voxel_shape(path, header["dim"])
    dtype = _dtype(path, header, warnings)
    slope = float(header["scl_slope"])
    if slope == 0 or not math.isfinite(slope):
        slope = 1.0  # plain Analyze has no slope, so no warning
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not np.isfinite(zooms).all() or (zooms == 0).any():
        raise BadInput(path, f"invalid voxel size ({join_numbers(zooms)} mm in pixdim)", RE_EXPORT)
    header["pixdim"][1:4] = np.abs(zooms)
    header["dim"][0] = 3
    header["dim"][4:] = 1
    offset = float(header["vox_offset"])
    if not math.isfinite(offset) or offset < 0 or offset != int(offset):
        raise BadInput(path, f"invalid data offset ({offset})", RE_EXPORT)
    affine = header.get_best_affine()
    check_affine(path, affine)
    return Layout(shape, dtype, int(offset), slope, 0.0, affine, warnings=tuple(warnings))


def _dtype(path: Path, header: Any, warnings: list[str]) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in NUMERIC:
        name = UNSUPPORTED_TYPES.get(code, "unknown")
        raise BadInput(
            path,
            f"{name} datatype (code {code})",
            "give an image of real numbers",
        )
    dtype = np.dtype(NUMERIC[code]).newbyteorder(header.endianness)
    if int(header["bitpix"]) != dtype.itemsize * 8:
        warnings.append(
            f"bitpix is {int(header['bitpix'])}, not {dtype.itemsize * 8}; bitpix is ignored."
        )
    return dtype


def _scaling(path: Path, header: Any, warnings: list[str]) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        warnings.append(f"The intensity slope is {slope:g}; 1 is used.")
        return 1.0, 0.0  # by the standard, slope 0 means no intercept either
    if math.isnan(intercept):
        warnings.append("The intensity intercept is NaN; 0 is used.")
        intercept = 0.0
    low, high = SLOPE_RANGE
    if not low <= abs(slope) <= high or abs(intercept) > high:
        raise BadInput(
            path,
            f"implausible intensity scaling (slope {slope:g}, intercept {intercept:g})",
            RE_EXPORT,
        )
    return slope, intercept


def _offset(path: Path, header: Any, is_single: bool, warnings: list[str]) -> int:
    offset = float(header["vox_offset"])
    minimum = int(header["sizeof_hdr"]) + 4 if is_single else 0
    if offset == 0 and is_single:
        warnings.append(f"The data offset is 0; {minimum} is used.")
        return minimum
    if not math.isfinite(offset) or offset != int(offset) or offset < minimum:
        raise BadInput(
            path,
            f"invalid data offset ({offset:g}): an integer of at least {minimum} bytes is expected",
            RE_EXPORT,
        )
    return int(offset)


def _max_distance(
    one: NDArray[np.float64], two: NDArray[np.float64], shape: Sequence[int]
) -> float:
    """The largest distance (mm) between the positions of an image corner under two affines."""
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    corners[:, :3] *= np.asarray(shape) - 1
    return float(np.linalg.norm((one - two)[:3] @ corners.T, axis=0).max())
