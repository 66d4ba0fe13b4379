"""What the header of an image file says, checked before anything of its size is allocated.

nibabel loads many broken files without a word (NaN affines, sizes beyond the file), so the fields
are read with nibabel's header classes and judged here.
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
from uncus.data.imageio.header import AGAIN, Layout, check_affine, listed, voxel_shape

TEXT_BYTES = bytes([9, 10, 13, *range(32, 127), *range(128, 256)])  # UTF-8: no control characters
HEAD_BYTES = 544  # the longest header (NIfTI-2, 540 bytes) and its extension flag
MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # NIfTI: unknown, metre, millimetre, micron
NUMERIC = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"} | {
    1024: "i8",
    1280: "u8",
}
REFUSED_TYPES = {
    1: "1-bit",
    32: "complex",
    128: "RGB",
    1536: "128-bit float",
    1792: "complex",
    2048: "complex",
    2304: "RGBA",
}
# Stored numbers times a slope outside these lose all digits or overflow float32.
SLOPE_RANGE = (1e-15, 1e15)


def read_layout(path: Path, head: bytes) -> Layout:
    """Layout of a NIfTI-1/2 or Analyze image from the first bytes of its header file.

    Raises BadInput where a field makes no sense.
    """
    if not head.translate(None, TEXT_BYTES):
        raise BadInput(path, "is text, not an image", AGAIN)
    if len(head) < 348:
        raise BadInput(path, f"its header is truncated ({len(head)} of 348 bytes)", AGAIN)
    sizes = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    if 540 in sizes:
        if len(head) < 540:
            raise BadInput(path, f"its header is truncated ({len(head)} of 540 bytes)", AGAIN)
        kind: Any = nib.Nifti2Header
        single, pair, magic = b"n+2\0", b"ni2\0", head[4:8]
    elif 348 in sizes:
        kind = nib.Nifti1Header
        single, pair, magic = b"n+1\0", b"ni1\0", head[344:348]
    else:
        raise BadInput(path, "is not a NIfTI image", AGAIN)
    header = kind.from_fileobj(io.BytesIO(head[: kind.sizeof_hdr]), check=False)
    is_single = not path.name.endswith(".hdr")
    if magic not in {single, pair}:
        if is_single:
            raise BadInput(path, f"has no NIfTI signature (found {magic!r})", AGAIN)
        return _analyze(path, head)
    if (magic == single) != is_single:
        raise BadInput(path, f"its signature {magic!r} does not fit its name", AGAIN)
    return _nifti(path, header, is_single)


def _nifti(path: Path, header: Any, is_single: bool) -> Layout:
    warnings: list[str] = []
    shape = voxel_shape(path, header["dim"])
    dtype = _dtype(path, header, warnings)
    slope, intercept = _scaling(path, header, warnings)
    offset = _offset(path, header, is_single, warnings)
    unit = MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if unit is None:
        warnings.append("The spatial unit is unknown; millimetres are assumed.")
        unit = 1.0
    elif unit != 1.0:
        warnings.append("Positions are not stored in millimetres; they were converted.")
    scale = np.diag([unit, unit, unit, 1.0])
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not np.isfinite(zooms).all() or (zooms == 0).any():
        raise BadInput(path, f"its voxel size is {listed(zooms)} mm (pixdim)", AGAIN)
    if (zooms < 0).any():
        warnings.append(f"Voxel sizes are negative ({listed(zooms)} mm); taken as positive.")
        header["pixdim"][1:4] = np.abs(zooms)
    header["pixdim"][0] = -1.0 if header["pixdim"][0] < 0 else 1.0  # 0 means 1 by the standard
    header["dim"][0] = 3
    header["dim"][4:] = 1
    q_code, s_code = int(header["qform_code"]), int(header["sform_code"])
    sform = header.get_sform() if s_code > 0 else None
    qform = None
    if q_code > 0:
        try:
            qform = header.get_qform()
        except (ValueError, nib.spatialimages.HeaderDataError):
            if sform is None:
                raise BadInput(path, "its qform is not a rotation", AGAIN) from None
            warnings.append("The qform is not a rotation; the sform is used.")
    if sform is not None:
        affine = sform
        check_affine(path, scale @ affine)
        if qform is not None and _apart(qform, sform, shape) > 0.5:
            warnings.append("The qform and the sform disagree; the sform is used.")
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        if not np.allclose(sizes, np.abs(zooms), rtol=0.02) and qform is None:
            warnings.append(
                f"Voxel sizes by pixdim ({listed(zooms)}) and by sform ({listed(sizes)}) "
                "disagree; the sform is used."
            )
    elif qform is not None:
        affine = qform
    else:
        affine = header.get_base_affine()
        warnings.append("Both orientation codes are 0: orientation unknown, left and right unsure.")
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
    """Analyze 7.5, with SPM's scale factor and origin where they are set."""
    header = nib.Spm2AnalyzeImage.header_class.from_fileobj(io.BytesIO(head[:348]), check=False)
    warnings = ["Analyze images carry no orientation: orientation unknown, left and right unsure."]
    shape = voxel_shape(path, header["dim"])
    dtype = _dtype(path, header, warnings)
    slope = float(header["scl_slope"])
    if slope == 0 or not math.isfinite(slope):
        slope = 1.0  # a plain Analyze file has no slope at all, so this is no fault
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not np.isfinite(zooms).all() or (zooms == 0).any():
        raise BadInput(path, f"its voxel size is {listed(zooms)} mm (pixdim)", AGAIN)
    header["pixdim"][1:4] = np.abs(zooms)
    header["dim"][0] = 3
    header["dim"][4:] = 1
    offset = float(header["vox_offset"])
    if not math.isfinite(offset) or offset < 0 or offset != int(offset):
        raise BadInput(path, f"its data offset is {offset}", AGAIN)
    affine = header.get_best_affine()
    check_affine(path, affine)
    return Layout(shape, dtype, int(offset), slope, 0.0, affine, warnings=tuple(warnings))


def _dtype(path: Path, header: Any, warnings: list[str]) -> np.dtype[Any]:
    code = int(header["datatype"])
    if code not in NUMERIC:
        name = REFUSED_TYPES.get(code, "unknown")
        raise BadInput(
            path,
            f"its datatype is {name} (code {code})",
            "give a scan of real numbers, not colours",
        )
    dtype = np.dtype(NUMERIC[code]).newbyteorder(header.endianness)
    if int(header["bitpix"]) != dtype.itemsize * 8:
        warnings.append(f"bitpix is {int(header['bitpix'])}, not {dtype.itemsize * 8}; ignored.")
    return dtype


def _scaling(path: Path, header: Any, warnings: list[str]) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        warnings.append(f"The intensity slope is {slope:g}; taken as 1.")
        return 1.0, 0.0  # by the standard, a slope of 0 switches the intercept off too
    if math.isnan(intercept):
        warnings.append("The intensity intercept is NaN; taken as 0.")
        intercept = 0.0
    low, high = SLOPE_RANGE
    if not low <= abs(slope) <= high or abs(intercept) > high:
        raise BadInput(
            path,
            f"its intensity scaling is absurd (slope {slope:g}, intercept {intercept:g})",
            AGAIN,
        )
    return slope, intercept


def _offset(path: Path, header: Any, is_single: bool, warnings: list[str]) -> int:
    offset = float(header["vox_offset"])
    least = int(header["sizeof_hdr"]) + 4 if is_single else 0
    if offset == 0 and is_single:
        warnings.append(f"The data offset is 0; taken as {least}.")
        return least
    if not math.isfinite(offset) or offset != int(offset) or offset < least:
        raise BadInput(
            path, f"its data offset is {offset:g}, below {least} bytes or no number", AGAIN
        )
    return int(offset)


def _apart(one: NDArray[np.float64], two: NDArray[np.float64], shape: Sequence[int]) -> float:
    """The largest distance (mm) between the places two affines give to a corner of the image."""
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    corners[:, :3] *= np.asarray(shape) - 1
    return float(np.linalg.norm((one - two)[:3] @ corners.T, axis=0).max())
