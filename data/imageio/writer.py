"""Write images as NIfTI, and maps in the voxel order of the scan that they belong to."""

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from uncus.data.files import write_atomically
from uncus.data.imageio.volume import Native, Volume


def native_array(volume: Volume, array: NDArray[Any]) -> NDArray[Any]:
    """Reorient ``array`` [X, Y, Z] from RAS+ to the voxel order of the scan's file."""
    native = nib.io_orientation(volume.native.affine)
    ras = nib.orientations.axcodes2ornt("RAS")
    transform = nib.orientations.ornt_transform(ras, native)
    return np.ascontiguousarray(nib.apply_orientation(array, transform))


def write_native(path: Path, array: NDArray[Any], native: Native) -> None:
    """Write ``array``, in the voxel order of the scan's file, as .nii.gz, atomically.

    The affines and their codes are the scan's, so that any viewer overlays the map correctly.
    """
    if tuple(array.shape) != native.shape:
        raise ValueError(f"the array has shape {array.shape}, the grid {native.shape}")
    write_nifti(path, array, native.affine, native.qform, native.sform)


def write_nifti(
    path: Path,
    array: NDArray[Any],
    affine: NDArray[np.float64],
    qform: tuple[NDArray[np.float64] | None, int] | None = None,
    sform: tuple[NDArray[np.float64] | None, int] | None = None,
) -> None:
    """Write ``array`` [X, Y, Z] with its affine (mm, RAS+) as .nii.gz, byte for byte reproducibly.

    ``qform`` and ``sform`` default to the affine with code 2 (aligned).
    """
    image = nib.Nifti1Image(array, affine)
    q_affine, q_code = qform if qform is not None else (affine, 2)
    s_affine, s_code = sform if sform is not None else (affine, 2)
    image.set_sform(s_affine if s_affine is not None else affine, s_code)
    image.set_qform(q_affine if q_affine is not None else affine, q_code)
    image.header.set_xyzt_units("mm")
    content = gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, write)
