"""FreeSurfer's folders: T1.mgz or orig.mgz is the scan, a segmentation never is."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.nifti_files import AFFINE, voxels
from uncus.data.errors import BadInput
from uncus.data.imageio.freesurfer import is_segmentation
from uncus.data.imageio.volume import load_files, read_volume


@pytest.mark.parametrize(
    "name",
    [
        "aseg.mgz",
        "aparc+aseg.mgz",
        "aparc.a2009s+aseg.mgz",
        "aseg.auto_noCCseg.mgz",
        "wm.mgz",
        "lh.ribbon.mgz",
        "wmparc.mgz",
        "sub-1_desc-aseg_dseg.nii.gz",
        "APARC.mgh",
    ],
)
def test_segmentations_are_no_scans(name: str, tmp_path: Path) -> None:
    assert is_segmentation(name)
    with pytest.raises(BadInput, match="a segmentation by its name, not a scan; give the T1"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["T1.mgz", "orig.mgz", "nu.mgz", "brain.mgz", "sub-1_T1w.nii.gz", "sub-aseg1_T1w.nii"]
)
def test_other_names_are(name: str) -> None:
    assert not is_segmentation(name)


def test_the_folder_of_a_subject_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "bert" / "mri"
    folder.mkdir(parents=True)
    for value, name in enumerate(("aseg.mgz", "orig.mgz", "T1.mgz")):
        image = nib.MGHImage(voxels(np.float32) + value, AFFINE)
        nib.save(image, folder / name)
        if value:
            for given in (folder, folder.parent, folder / name):
                np.testing.assert_array_equal(read_volume(given).array, voxels() + value)
                assert [file.path for file in load_files(given)] == [folder / name]
