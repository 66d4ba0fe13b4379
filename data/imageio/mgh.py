"""Headers of FreeSurfer MGH and MGZ images."""

import struct
from pathlib import Path

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader

from uncus.data.errors import BadInput
from uncus.data.imageio.header import RE_EXPORT, Layout, check_affine, join_numbers, voxel_shape

GOOD_RAS = 28  # offset of goodRASFlag
# What FreeSurfer takes where goodRASFlag is 0, coronal slices: the flag, then big-endian voxel
# sizes (mm), the directions of the axes (L, I, A) and the center. nibabel's default is L, S, P.
DEFAULT_RAS = struct.pack(">h15f", 1, 1, 1, 1, -1, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0)


@np.errstate(all="ignore")  # NaN and infinity are found below, without numpy's line on stderr
def read_mgh_layout(path: Path, head: bytes) -> Layout:
    """Read the layout of an MGH/MGZ image from the first bytes of its content.

    Raises
    ------
    BadInput: not an MGH header, or an invalid field in it.
    """
    if len(head) < 284:
        raise BadInput(path, f"truncated header ({len(head)} of 284 bytes)", RE_EXPORT)
    if int.from_bytes(head[:4], "big") != 1:
        raise BadInput(path, "not an MGH image", "check the file and its extension")
    warnings = []
    if int.from_bytes(head[GOOD_RAS : GOOD_RAS + 2], "big", signed=True) <= 0:
        head = head[:GOOD_RAS] + DEFAULT_RAS + head[GOOD_RAS + len(DEFAULT_RAS) :]
        warnings.append(
            "No orientation is stored: orientation unknown, left and right may be swapped."
        )
    header = MGHHeader(head[:284], check=False)
    dims = [int(value) for value in header["dims"]]
    shape = voxel_shape(path, [4 if dims[3] > 1 else 3, *dims])
    code = int(header["type"])
    if code not in {0, 1, 3, 4}:  # uint8, int32, float32, int16
        raise BadInput(path, f"unknown datatype (code {code})", RE_EXPORT)
    zooms = np.asarray(header["delta"], dtype=np.float64)
    if not np.isfinite(zooms).all() or (zooms <= 0).any():
        raise BadInput(path, f"invalid voxel size ({join_numbers(zooms)} mm)", RE_EXPORT)
    affine = header.get_affine()
    check_affine(path, affine)
    dtype = header.get_data_dtype().newbyteorder(">")
    return Layout(shape, dtype, 284, 1.0, 0.0, affine, sform=(affine, 1), warnings=tuple(warnings))
