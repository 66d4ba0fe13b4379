"""Volumes in RAS+ from every format."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.nifti_files import AFFINE, INF, NAN, ORIENTATIONS, SHAPE, reoriented, save, voxels
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import read_volume

MRI = Path(__file__).parents[4] / "shared" / "mri"


def test_a_valid_file_gives_no_warning(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "scan.nii.gz"))
    assert volume.warnings == ()
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, voxels())
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert volume.spacing == (2, 2, 3)


def test_rejects_gzip_data_named_nii_and_suggests_a_name(tmp_path: Path) -> None:
    save(tmp_path / "scan.nii.gz").rename(tmp_path / "scan.nii")
    with pytest.raises(BadInput, match=r"gzip data; rename it to scan\.nii\.gz"):
        read_volume(tmp_path / "scan.nii")


def test_rejects_other_extensions_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"give one of \.nii\.gz"):
        read_volume(tmp_path / "scan.png")
    with pytest.raises(BadInput, match="no such file"):
        read_volume(tmp_path / "scan.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(BadInput, match="not a file"):
        read_volume(tmp_path / "folder.nii")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_few_non_finite_voxels_become_zero_and_many_are_rejected(
    value: float, tmp_path: Path
) -> None:
    array = np.random.default_rng(0).normal(5, 1, (20, 20, 20)).astype(np.float32)
    array[0, 0, :8] = value  # exactly 0.1 %
    volume = read_volume(save(tmp_path / "few.nii.gz", array))
    assert [w for w in volume.warnings if w.startswith("8 NaN or infinite voxels")]
    assert (volume.array == 0).sum() == 8 and np.isfinite(volume.array).all()
    array[0, 1, 0] = value
    with pytest.raises(BadInput, match="NaN or infinite"):
        read_volume(save(tmp_path / "many.nii.gz", array))


def test_rejects_a_constant_image(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="constant image: every voxel is 7"):
        read_volume(save(tmp_path / "scan.nii.gz", np.full(SHAPE, 7, np.int16)))


def test_warns_of_thick_slices(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "scan.nii.gz", affine=np.diag([1.0, 1, 6, 1])))
    assert volume.warnings == ("Slices are 6.0 mm thick; fine structures are lost.",)


FORMATS: dict[str, Callable[..., Any]] = {
    "nifti2.nii": nib.Nifti2Image,
    "nifti2.nii.gz": nib.Nifti2Image,
    "pair.hdr": nib.Nifti1Pair,
    "pair2.hdr": nib.Nifti2Pair,
}


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats_agree_with_nibabel(name: str, tmp_path: Path) -> None:
    affine = np.array([[0, 0, 2.0, -8], [-2, 0, 0, 11], [0, 3, 0, 5], [0, 0, 0, 1]])
    array = voxels(np.float32) - 20
    FORMATS[name](array, affine).to_filename(tmp_path / name)
    volume = read_volume(tmp_path / name)
    expected = nib.as_closest_canonical(nib.load(tmp_path / name))
    np.testing.assert_allclose(volume.array, expected.get_fdata(), atol=1e-4)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)
    assert volume.warnings == ()


def test_a_header_without_its_img_file_is_rejected(tmp_path: Path) -> None:
    nib.Nifti1Pair(voxels(), AFFINE).to_filename(tmp_path / "scan.hdr")
    (tmp_path / "scan.img").unlink()
    with pytest.raises(BadInput, match=r"scan\.img: no such file"):
        read_volume(tmp_path / "scan.hdr")


@pytest.mark.parametrize("axcodes", ORIENTATIONS)
def test_every_orientation_gives_the_same_volume(axcodes: str, tmp_path: Path) -> None:
    plain = read_volume(save(tmp_path / "ras.nii.gz"))
    other = read_volume(reoriented(tmp_path / "reoriented.nii.gz", voxels(), AFFINE, axcodes))
    assert other.native.axcodes == axcodes
    np.testing.assert_array_equal(other.array, plain.array)
    np.testing.assert_allclose(other.affine, plain.affine, atol=1e-5)
    assert other.voxel_hash == plain.voxel_hash


def test_the_voxel_hash_distinguishes_images(tmp_path: Path) -> None:
    one = read_volume(save(tmp_path / "one.nii.gz"))
    array = voxels()
    array[3, 3, 3] += 1
    other = read_volume(save(tmp_path / "other.nii.gz", array))
    assert one.voxel_hash != other.voxel_hash
    assert one.voxel_hash == read_volume(save(tmp_path / "same.nii", voxels(np.float64))).voxel_hash


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.mgz"])
def test_random_damage_raises_only_bad_input(name: str, tmp_path: Path) -> None:
    """Files with random bytes changed or cut are read, or rejected in one line."""
    path = tmp_path / name
    nib.save(nib.load(save(tmp_path / "valid.nii")), path)
    valid = bytearray(
        gzip.decompress(path.read_bytes()) if name.endswith("z") else path.read_bytes()
    )
    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        content = bytearray(valid)
        for index in rng.integers(0, 352, rng.integers(1, 6)):
            content[index] = rng.integers(0, 256)
        if rng.random() < 0.2:
            del content[rng.integers(0, len(content)) :]
        path.write_bytes(gzip.compress(content, 1) if name.endswith("z") else content)
        try:
            volume = read_volume(path)
        except BadInput as error:
            rejected += 1
            assert str(path) in str(error)
        else:
            assert np.isfinite(volume.array).all() and np.isfinite(volume.affine).all()
    assert rejected > 40


@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
@pytest.mark.parametrize(
    ("name", "axcodes"),
    [
        ("heads/aomic-0001_T1w.nii.gz", "LIA"),
        ("heads/ixi-012_T1w.nii.gz", "PSR"),
        ("oasis1-slab/sub-OAS10001/ses-1/anat/sub-OAS10001_ses-1_T1w.nii.gz", "RAS"),
    ],
)
def test_real_scans_agree_with_nibabel(name: str, axcodes: str) -> None:
    volume = read_volume(MRI / name)
    expected = nib.as_closest_canonical(nib.load(MRI / name))
    assert volume.native.axcodes == axcodes and volume.warnings == ()
    assert np.abs(volume.array - np.asarray(expected.dataobj, np.float32)).max() < 1e-3
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-6)


@pytest.mark.parametrize(
    "content",
    [b"/annex/objects/MD5E-s9--a.nii.gz\n", b"version https://git-lfs.github.com/spec/v1"],
)
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.mgz"])
def test_pointers_and_broken_links_name_the_remedy(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        BadInput, match=r"a pointer of git-annex or Git LFS.*; fetch it.*datalad get"
    ):
        read_volume(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("gone")
    with pytest.raises(BadInput, match=r"a link to a file that is missing; fetch it.*datalad get"):
        read_volume(tmp_path / name)
