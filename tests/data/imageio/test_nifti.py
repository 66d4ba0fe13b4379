"""NIfTI and Analyze headers: invalid ones are rejected, unusual ones get a warning."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.nifti_files import (
    AFFINE,
    BITPIX,
    DATATYPE,
    DIM,
    INF,
    NAN,
    OFFSET,
    PIXDIM,
    QFORM,
    QUATERN,
    SLOPE,
    SROW,
    UNITS,
    assert_rejected,
    patched,
    voxels,
)
from uncus.data.errors import BadInput
from uncus.data.imageio.volume import read_volume

IN_METERS = (
    (PIXDIM + 4, "3f", (0.002, 0.002, 0.003)),
    (SROW, "12f", (0.002, 0, 0, -0.008, 0, 0.002, 0, -0.011, 0, 0, 0.003, 0.005)),
)
INVALID: dict[str, tuple[tuple[tuple[int, str, Any], ...], str]] = {
    "dims larger than the file": (((DIM, "8h", (3, 500, 500, 500, 1, 1, 1, 1)),), "truncated"),
    "unknown datatype": (((DATATYPE, "h", 77),), "unknown datatype (code 77)"),
    "complex": (((DATATYPE, "h", 32), (BITPIX, "h", 64)), "complex"),
    "RGB": (((DATATYPE, "h", 128), (BITPIX, "h", 24)), "RGB"),
    "huge slope": (((SLOPE, "f", 1e30),), "implausible"),
    "infinite slope": (((SLOPE, "f", INF),), "implausible"),
    "infinite intercept": (((SLOPE, "2f", (1.0, INF)),), "implausible"),
    "offset NaN": (((OFFSET, "f", NAN),), "offset"),
    "offset inside the header": (((OFFSET, "f", 100.0),), "offset"),
    "offset huge": (((OFFSET, "f", 1e9),), "truncated"),
    "pixdim zero": (((PIXDIM + 4, "f", 0.0),), "voxel size"),
    "pixdim NaN": (((PIXDIM + 8, "f", NAN),), "voxel size"),
    "no signature": (((344, "4s", b"abc\0"),), "signature"),
    "signature of a pair": (((344, "4s", b"ni1\0"),), "signature"),
    "no rotation": (((QFORM, "2h", (1, 0)), (QUATERN, "3f", (0.0, 1.1, 0.0))), "not a rotation"),
    "not NIfTI": (((0, "i", 1234),), "not a NIfTI"),
}


@pytest.mark.parametrize("fault", INVALID)
def test_rejects_an_invalid_header(fault: str, tmp_path: Path) -> None:
    edits, cause = INVALID[fault]
    assert_rejected(patched(tmp_path / "scan.nii", *edits), cause)


UNUSUAL: dict[str, tuple[tuple[tuple[int, str, Any], ...], str]] = {
    "slope 0": (((SLOPE, "f", 0.0),), "slope is 0"),
    "slope NaN": (((SLOPE, "f", NAN),), "slope is nan"),
    "intercept NaN": (((SLOPE, "2f", (1.0, NAN)),), "intercept is NaN"),
    "both codes 0": (((QFORM, "2h", (0, 0)),), "orientation unknown"),
    "transforms disagree": (((QFORM, "h", 1), (QUATERN + 12, "f", 50.0)), "disagree"),
    "pixdim disagrees": (((PIXDIM + 4, "f", 5.0),), "disagree"),
    "negative pixdim": (((PIXDIM + 4, "f", -2.0),), "negative"),
    "bitpix": (((BITPIX, "h", 32),), "bitpix"),
    "offset 0": (((OFFSET, "f", 0.0),), "offset is 0"),
    "qform NaN": (((QFORM, "h", 1), (QUATERN + 16, "f", NAN)), "qform has NaN"),
    "meters": (((UNITS, "B", 1), *IN_METERS), "millimeters"),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_warns_of_an_unusual_header(case: str, tmp_path: Path) -> None:
    edits, text = UNUSUAL[case]
    volume = read_volume(patched(tmp_path / "scan.nii", *edits))
    assert [w for w in volume.warnings if text in w], volume.warnings
    assert len(volume.warnings) == 1
    np.testing.assert_array_equal(np.sort(volume.array.ravel()), np.sort(voxels().ravel()))


def test_the_sform_takes_precedence_over_the_qform(tmp_path: Path) -> None:
    edits, _ = UNUSUAL["transforms disagree"]
    volume = read_volume(patched(tmp_path / "scan.nii", *edits))
    np.testing.assert_allclose(volume.affine, AFFINE)


@pytest.mark.parametrize("sform_code", [0, 1])
@pytest.mark.parametrize("excess", [1e-7, 3e-7, 1e-6, 1e-5, 1e-3])
def test_a_quaternion_over_1_by_rounding_is_made_a_unit(
    excess: float, sform_code: int, tmp_path: Path
) -> None:
    """Half a turn, whose quaternion has no room for rounding: (0, 0, 1, 0)."""
    codes = (QFORM, "2h", (1, sform_code))
    turned = np.diag([-2.0, 2, -3, 1])
    rows = (SROW, "12f", tuple(turned[:3].ravel()))
    exact, longer = (
        read_volume(patched(tmp_path / f"{length}.nii", codes, rows, (QUATERN, "6f", quaternion)))
        for length in (1, 1 + excess)
        for quaternion in [(0.0, length, 0.0, 0.0, 0.0, 0.0)]
    )
    np.testing.assert_allclose(longer.native.affine, turned, atol=1e-6)
    np.testing.assert_array_equal(longer.affine, exact.affine)
    assert longer.warnings == exact.warnings == ()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("codes", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("value", [NAN, INF, -INF, 3e38, 1e-45])
def test_odd_affines_are_one_line(value: float, codes: tuple[int, int], tmp_path: Path) -> None:
    """numpy says nothing on stderr beside the error."""
    for offset in (*range(SROW, SROW + 48, 8), *range(QUATERN, QUATERN + 24, 4), PIXDIM + 4):
        for unit in (1, 2):
            edits = (QFORM, "2h", codes), (UNITS, "B", unit), (offset, "f", value)
            with suppress(BadInput):
                volume = read_volume(patched(tmp_path / "scan.nii", *edits))
                assert np.isfinite(volume.affine).all()
                assert volume.native.qform[0] is None or np.isfinite(volume.native.qform[0]).all()


def test_affines_in_meters_become_millimeters(tmp_path: Path) -> None:
    volume = read_volume(patched(tmp_path / "scan.nii", (UNITS, "B", 1), *IN_METERS))
    np.testing.assert_allclose(volume.affine, AFFINE, rtol=1e-6)


def test_rejects_text_named_nii(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_text("not a scan\n")
    with pytest.raises(BadInput, match="a text file"):
        read_volume(tmp_path / "scan.nii")


def test_slope_and_intercept_are_applied_once(tmp_path: Path) -> None:
    volume = read_volume(patched(tmp_path / "scan.nii", (SLOPE, "2f", (0.5, -10.0))))
    np.testing.assert_allclose(volume.array, voxels() * 0.5 - 10)


TYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", TYPES)
def test_every_real_datatype_in_both_byte_orders(code: str, order: str, tmp_path: Path) -> None:
    array = np.minimum(voxels(), 100).astype(order + code)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(array.dtype)
    nib.save(nib.Nifti1Image(array, AFFINE, header), tmp_path / "scan.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii").array, array)


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage])
def test_analyze_is_read_with_a_warning(kind: Any, tmp_path: Path) -> None:
    kind(voxels(), None).to_filename(tmp_path / "scan.img")
    for mat in tmp_path.glob("*.mat"):
        mat.unlink()
    volume = read_volume(tmp_path / "scan.img")
    expected = nib.as_closest_canonical(nib.load(tmp_path / "scan.img"))
    np.testing.assert_allclose(volume.array, expected.get_fdata())
    np.testing.assert_allclose(volume.affine, expected.affine)
    assert len(volume.warnings) == 1 and "orientation unknown" in volume.warnings[0]
