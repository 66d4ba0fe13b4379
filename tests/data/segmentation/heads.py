"""The segmented heads in ../shared/mri, in our classes."""

from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from uncus.data.segmentation.labels import DLMUSE, convert
from uncus.data.segmentation.segmentation import Segmentation

MRI = Path(__file__).parents[4] / "shared" / "mri"
needs_heads = pytest.mark.skipif(not MRI.is_dir(), reason="../shared/mri is absent")
COLUMNS = {
    "left hippocampus": "hippocampus_left",
    "right hippocampus": "hippocampus_right",
    "left lateral ventricle": "ventricle_left",
    "right lateral ventricle": "ventricle_right",
    "brain": "brain",
    "intracranial space": "icv",
}


@cache
def people() -> list[tuple[pd.Series, Segmentation]]:
    """Everybody's row of participants.tsv and segmentation."""
    found = []
    for folder in ("elderly-heads", "ixi-heads"):
        for _, row in pd.read_csv(MRI / folder / "participants.tsv", sep="\t").iterrows():
            image = nib.load(MRI / folder / f"{row['participant_id']}_dseg.nii.gz")
            image = nib.as_closest_canonical(image)
            labels = convert(np.asarray(image.dataobj), image.affine, DLMUSE)
            found.append((row, Segmentation.from_labels(labels, image.affine, "DLMUSE")))
    return found


def dlmuse_volumes(row: pd.Series) -> dict[str, float]:
    """Region -> DLMUSE's own ml."""
    return {region: row[column] / 1000 for region, column in COLUMNS.items()}
