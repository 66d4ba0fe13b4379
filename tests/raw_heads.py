"""One real head in three forms: whole, as a DICOM series, and skull-stripped."""

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from tests.dicom_files import save, series


def three_forms(head: Path, labels: Path, folder: Path) -> tuple[Path, Path, Path]:
    """Write the head to ``folder`` as NIfTI, as DICOM, and skull-stripped.

    The brain is where ``labels`` (FreeSurfer's, on the head's grid) are above 0, closed by 3 voxels
    and filled.
    """
    image = nib.load(head)
    stored = np.rint(np.asarray(image.dataobj)).astype(np.int16)
    ball = ndimage.generate_binary_structure(3, 1)
    inside = np.asarray(nib.load(labels).dataobj) > 0
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(inside, ball, iterations=3))
    whole, brain = folder / "whole_T1w.nii.gz", folder / "brain_T1w.nii.gz"
    nib.save(nib.Nifti1Image(stored, image.affine), whole)
    nib.save(nib.Nifti1Image(np.where(inside, stored, 0), image.affine), brain)
    return whole, save(folder / "dicom", series(stored, image.affine)), brain
