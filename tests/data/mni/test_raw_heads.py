"""Predictions for a real raw head: the same for every form of the scan, on its own voxels."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.raw_heads import three_forms
from uncus.data.geometry.image import Image, points
from uncus.data.imageio.volume import read_volume
from uncus.data.mni.registration import register
from uncus.data.mni.template import load_template
from uncus.pipeline.cli import main

MRI = Path(__file__).parents[4] / "shared" / "mri"
HEADS = MRI / "heads"


@pytest.mark.skipif(not HEADS.is_dir(), reason="../shared/mri/heads is absent")
@pytest.mark.slow
def test_a_head_its_dicom_and_its_brain_get_the_same_answer(mni_run: Path, tmp_path: Path) -> None:
    """The whole head as NIfTI (LIA) and as a DICOM series, and its brain alone."""
    head = nib.load(HEADS / "aomic-0001_T1w.nii.gz")
    scans = three_forms(*(HEADS / f"aomic-0001_{n}.nii.gz" for n in ("T1w", "aseg")), tmp_path)
    out = tmp_path / "out"
    assert main(["predict", str(mni_run), *map(str, scans), "--out", str(out)]) == 0
    folders = [out / name for name in ("whole_T1w", "dicom", "brain_T1w")]
    answers = [json.loads((folder / "prediction.json").read_text()) for folder in folders]
    shares = [answer["probabilities"]["AD"] for answer in answers]
    assert shares[1] == pytest.approx(shares[0], abs=1e-4)
    assert shares[2] == pytest.approx(shares[0], abs=0.02)
    saliency = nib.load(folders[0] / "saliency.nii.gz")
    assert saliency.shape == head.shape
    np.testing.assert_allclose(saliency.affine, head.affine, atol=1e-4)
    rows = pd.read_csv(folders[0] / "atlas.tsv", sep="\t").set_index("region")
    assert rows["saliency_share"].between(0, 1).all() and rows["saliency_share"].sum() <= 1.001
    assert answers[0]["atlas"].startswith("Neuromorphometrics")


@pytest.mark.slow
@pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
@pytest.mark.parametrize("name", ["NC05", "NC22"])
def test_a_shrunken_brain_is_not_taken_for_its_skull(name: str) -> None:
    """Two people of 95 and 92 years with wide fluid around the brain."""
    folder = MRI / "elderly-heads"
    volume = read_volume(folder / f"sub-{name}_T1w.nii.gz")
    labels = nib.as_closest_canonical(nib.load(folder / f"sub-{name}_dseg.nii.gz"))
    known = np.asarray(labels.dataobj) > 0
    to_mni = register(volume).to_mni
    at = to_mni[:3, :3] @ points(known.shape, volume.affine) + to_mni[:3, 3:]
    brain = Image(load_template().brain.astype(np.float32), load_template().affine)
    mapped = brain.at(at).reshape(known.shape) > 0.5
    assert 2 * (mapped & known).sum() / (mapped.sum() + known.sum()) > 0.9
