"""Derivatives: the voxels of the array, loaded again only if intact and of the same inputs."""

import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from uncus.data.bids_derivatives import Entry, load_entry, sidecar_path
from uncus.data.cohorts.scans import Scan
from uncus.data.prepared_cohort import PreparedCohort


def test_every_derivative_equals_its_row_of_the_array(cohort: Path) -> None:
    opened = PreparedCohort.open(cohort)
    for row, entry in zip(opened.volumes, opened.manifest["scans"], strict=True):
        image = nib.load(cohort / entry["derivative"])
        np.testing.assert_array_equal(np.asarray(image.dataobj), row)
        np.testing.assert_allclose(image.affine, opened.grid.affine)
        sidecar = json.loads(sidecar_path(cohort / entry["derivative"]).read_text())
        assert sidecar["Uncus"] == entry
        assert len(entry["source_sha256"]) == 64


def test_a_result_is_loaded_only_by_its_key_and_if_intact(cohort: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(cohort, tmp_path / "cohort"))
    manifest = PreparedCohort.open(copy).manifest
    entry = Entry.from_dict(manifest["scans"][5])
    scan = Scan("05", "", Path("unused"), {})
    assert load_entry(copy, scan, "keep", entry.key) == entry
    assert load_entry(copy, scan, "keep", hashlib.sha256(b"other").hexdigest()) is None
    assert load_entry(copy, Scan("99", "", Path("unused"), {}), "keep", entry.key) is None
    sidecar = sidecar_path(copy / entry.derivative)
    whole = sidecar.read_text()
    sidecar.write_text(whole[:-20])
    assert load_entry(copy, scan, "keep", entry.key) is None
    sidecar.write_text(whole)
    image = copy / entry.derivative
    image.write_bytes(image.read_bytes()[:-1])
    assert load_entry(copy, scan, "keep", entry.key) is None
