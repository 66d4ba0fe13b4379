"""A prepared cohort opens as it was prepared, or not at all; only the array may be rebuilt."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.json_values import put
from uncus.data.errors import BadInput
from uncus.data.files import sha256
from uncus.data.prepared_cohort import (
    MANIFEST,
    TABLE,
    VOLUMES,
    PreparedCohort,
    _fingerprint,
    write_volumes,
)
from uncus.data.tables import read_table, write_table


@pytest.fixture
def copy(cohort: Path, tmp_path: Path) -> Path:
    """A copy of the small cohort that a test may damage."""
    return Path(shutil.copytree(cohort, tmp_path / "cohort"))


def test_opens_with_table_array_and_grid(cohort: Path) -> None:
    opened = PreparedCohort.open(cohort)
    assert len(opened) == 12 and opened.space == "keep"
    assert isinstance(opened.volumes, np.memmap) and not opened.volumes.flags.writeable
    assert opened.volumes.dtype == np.float16
    assert opened.volumes.shape == (12, *opened.grid.shape)
    columns = ["participant_id", "session_id", "voxel_hash", "source_sha256"]
    assert list(opened.table.columns) == [*columns, "sex", "age", "diagnosis"]
    assert opened.table.participant_id.tolist() == [f"sub-{i:02d}" for i in range(12)]
    assert opened.table.age[3] == "" and opened.table.age[4] == "64"
    assert opened.contacts.shape == (12, 6)
    assert opened.manifest["versions"]["nibabel"] == nib.__version__


def test_the_fingerprint_depends_on_the_content_alone(copy: Path, cohort: Path) -> None:
    assert PreparedCohort.open(copy).fingerprint == PreparedCohort.open(cohort).fingerprint


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_array_is_rebuilt_with_a_warning(damage: str, copy: Path) -> None:
    path = copy / VOLUMES
    intact = path.read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(intact[:-100])
    else:
        path.write_bytes(intact[:500] + bytes([intact[500] ^ 4]) + intact[501:])
    with pytest.warns(UserWarning, match="rebuilt from the derivatives"):
        opened = PreparedCohort.open(copy)
    assert path.read_bytes() == intact
    assert opened.volumes.shape[0] == 12


def damage_cohort(path: Path, how: str) -> str:
    """Damage a finished cohort; returns the expected error."""
    image = next(path.glob("sub-05/anat/*.nii.gz"))
    manifest = json.loads((path / MANIFEST).read_text())
    match how:
        case "derivative changed":
            content = bytearray(gzip.decompress(image.read_bytes()))
            content[4000] ^= 1
            image.write_bytes(gzip.compress(content))
            return "was changed"
        case "derivative gone":
            image.unlink()
            return "is missing"
        case "table changed":
            table = read_table(path / TABLE)
            table.loc[0, "diagnosis"] = "AD"
            write_table(path / TABLE, table)
            return r"scans\.tsv: is missing or was changed"
        case "unfinished":
            (path / MANIFEST).unlink()
            return "not a finished prepared cohort"
        case "newer":
            (path / MANIFEST).write_text(json.dumps({**manifest, "schema": 99}))
            return "schema 99"
        case "manifest changed":
            manifest["scans"][0]["source_sha256"] = "0" * 64
            (path / MANIFEST).write_text(json.dumps(manifest))
            return r"manifest\.json: was changed"
        case "not JSON":
            (path / MANIFEST).write_text("{")
            return "JSON"
        case "other JSON":
            (path / MANIFEST).write_text("[1]")
            return "not a manifest"
    raise AssertionError(how)


DAMAGES = [
    "derivative changed",
    "derivative gone",
    "table changed",
    "unfinished",
    "newer",
    "manifest changed",
    "not JSON",
    "other JSON",
]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_changed_cohort_is_rejected(how: str, copy: Path) -> None:
    cause = damage_cohort(copy, how)
    with pytest.raises(BadInput, match=cause):
        PreparedCohort.open(copy)


class Payload:
    """A pickle of it makes the file ``ran`` in the current folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path("ran").touch, ()


def sealed_again(path: Path, change: Any = None) -> Path:
    """Write the hashes of what is there, after a ``change`` of the manifest."""
    manifest = json.loads((path / MANIFEST).read_text())
    for name in (TABLE, VOLUMES):
        key = f"{name.partition('.')[0]}_sha256".replace("scans", "table")
        if (path / name).is_file():
            manifest[key] = sha256(path / name)
    for entry in manifest["scans"]:
        entry["derivative_sha256"] = sha256(path / entry["derivative"])
    if change:
        put(manifest, *change)
    (path / MANIFEST).write_text(json.dumps({**manifest, "fingerprint": _fingerprint(manifest)}))
    return path


HOSTILE: list[tuple[str, Any]] = [
    *((name, None) for name in ("grid", "options", "table_sha256", "volumes_sha256", "scans")),
    *(("scans.0." + name, None) for name in ("name", "derivative", "contact", "warnings")),
    *((name, []) for name in ("grid", "options", "table_sha256", "scans", "scans.3")),
    ("options.space", "../x"),
    ("scans.0.name", "../../x"),
    ("scans.0.name", "sub-1/../../x"),
    ("scans.0.derivative", "/etc/passwd"),
    ("scans.0.derivative", "sub-00/../../../etc/passwd"),
    ("scans.0.contact", [0, 0, 0, 0, 0, 1e308]),
    ("scans.0.more", 1),
    ("grid.shape", [10**9] * 3),
    ("grid.affine", [[0] * 4] * 4),
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_hostile_manifest_is_one_error(change: tuple[str, Any], copy: Path) -> None:
    with pytest.raises(BadInput, match=r"manifest\.json: is not a manifest: "):
        PreparedCohort.open(sealed_again(copy, change))


@pytest.mark.parametrize("kind", ["objects", "float64", "fewer", "flat", "text", "a zip"])
def test_a_hostile_array_is_one_error(
    kind: str, copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    path = copy / VOLUMES
    array: Any = np.load(path)
    match kind:
        case "text":
            path.write_text("no array")
        case "a zip":
            with path.open("wb") as stream:
                np.savez(stream, a=array)
        case _:
            changed = {"float64": array.astype(float), "fewer": array[1:], "flat": array.ravel()}
            objects = np.array([Payload()], dtype=object)
            np.save(path, changed.get(kind, objects), allow_pickle=True)
    with pytest.raises(BadInput, match=r"volumes\.npy: is "):
        PreparedCohort.open(sealed_again(copy))
    assert not Path("ran").exists()


@pytest.mark.parametrize("change", ["fewer rows", "a column missing"])
def test_a_table_that_does_not_fit_is_one_error(change: str, copy: Path) -> None:
    table = read_table(copy / TABLE)
    table = table.iloc[1:] if change == "fewer rows" else table.drop(columns="session_id")
    write_table(copy / TABLE, table)
    with pytest.raises(BadInput, match=r"scans\.tsv: (has 11 rows|no column 'session_id')"):
        PreparedCohort.open(sealed_again(copy))


def test_an_array_is_not_rebuilt_from_what_is_no_image(copy: Path) -> None:
    (copy / VOLUMES).unlink()
    for image in copy.glob("*/anat/*.nii.gz"):
        image.write_text("no image")
    with (
        pytest.warns(UserWarning, match="rebuilt"),
        pytest.raises(BadInput, match=r"T1w\.nii\.gz: cannot be read"),
    ):
        PreparedCohort.open(sealed_again(copy))


def test_an_array_is_not_rebuilt_from_a_changed_derivative(copy: Path) -> None:
    (copy / VOLUMES).unlink()
    cause = damage_cohort(copy, "derivative changed")
    with pytest.raises(BadInput, match=cause):
        PreparedCohort.open(copy)
    assert not (copy / VOLUMES).exists()


def test_a_missing_folder_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run `uncus prepare`"):
        PreparedCohort.open(tmp_path / "nowhere")


def test_the_array_is_written_volume_by_volume(cohort: Path, tmp_path: Path) -> None:
    grid = PreparedCohort.open(cohort).grid
    many = np.random.default_rng(0).random((1234, *grid.shape)).astype(np.float16)[:1234]
    assert write_volumes(tmp_path, grid, iter(many)) == 1234
    np.testing.assert_array_equal(np.load(tmp_path / VOLUMES), many)


def test_a_failure_midway_leaves_the_old_array(cohort: Path, tmp_path: Path) -> None:
    grid = PreparedCohort.open(cohort).grid
    (tmp_path / VOLUMES).write_bytes(b"old")

    def volumes() -> Any:
        yield np.zeros(grid.shape, np.float16)
        raise OSError(28, "No space left on device")

    with pytest.raises(BadInput, match="No space left"):
        write_volumes(tmp_path, grid, volumes())
    assert (tmp_path / VOLUMES).read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == [VOLUMES]
