"""Regions are on their side of the brain; their shares of a map are of the scan's own voxels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uncus.data.atlas import GROUPS, full_name, group, load_atlas, regions, why_no_regions
from uncus.data.imageio.volume import Native, Volume
from uncus.data.phantom.anatomy import find_hippocampi, load_template
from uncus.data.space import Placed

SHAPE = (60, 70, 56)
AFFINE = np.diag([3.0, 3, 3, 1])
AFFINE[:3, 3] = -90, -126, -72
NATIVE = Native(Path("scan.nii.gz"), SHAPE, AFFINE, "RAS", (None, 0), (AFFINE, 1))


def placed(to_grid: np.ndarray) -> Placed:
    """A scan that ``to_grid`` registers to MNI152."""
    volume = Volume(np.ones(SHAPE, np.float32), np.linalg.inv(to_grid) @ AFFINE, NATIVE)
    whole = np.ones(SHAPE, bool)
    array = np.ones(SHAPE, np.float32)
    return Placed(array, whole, volume, whole, to_grid=to_grid, quality={"overlap": 0.95})


def test_hippocampi_and_ventricles_are_on_their_sides() -> None:
    atlas = load_atlas()
    labels = {name: label for label, name in atlas.names.items()}
    for name in ("Hippocampus", "Lateral Ventricle", "Inf Lat Vent", "Amygdala"):
        for side, sign in (("Left", -1), ("Right", 1)):
            index = np.argwhere(atlas.labels == labels[f"{side} {name}"])
            x = (atlas.affine[:3, :3] @ index.T + atlas.affine[:3, 3:])[0]
            assert (np.sign(x) == sign).mean() > 0.95


def test_hippocampi_overlap_those_segmented_in_the_template() -> None:
    _, grey, _, affine = load_template()
    segmented = find_hippocampi(grey, affine)
    atlas = load_atlas()
    names = {label for label, name in atlas.names.items() if name.endswith("Hippocampus")}
    labelled = np.isin(atlas.on(grey.shape, affine), list(names))
    assert 2 * (labelled & segmented).sum() / (labelled.sum() + segmented.sum()) > 0.65


def test_shares_on_the_scans_own_voxels() -> None:
    scan = placed(np.eye(4))
    atlas = load_atlas()
    on_scan = atlas.on(SHAPE, AFFINE)
    names = {name: label for label, name in atlas.names.items()}
    left, right = (on_scan == names[f"{side} Hippocampus"] for side in ("Left", "Right"))
    saliency = np.where(left, 3.0, 0) / left.sum() - np.where(right, 1.0, 0) / right.sum()
    rows = {row["region"]: row for row in regions(scan, saliency)}
    assert rows["Left Hippocampus"]["saliency_share"] == pytest.approx(0.75, abs=1e-5)
    assert rows["Right Hippocampus"]["saliency_share"] == pytest.approx(0.25, abs=1e-5)
    assert next(iter(rows)) == "Left Hippocampus"
    assert rows["Left Hippocampus"]["net_share"] == pytest.approx(0.75, abs=1e-5)
    assert rows["Right Hippocampus"]["net_share"] == pytest.approx(-0.25, abs=1e-5)


@pytest.mark.parametrize(
    ("region", "name", "where"),
    [
        ("Left MTG middle temporal gyrus", "left middle temporal gyrus", "Temporal lobe"),
        ("Right Ent entorhinal area", "right entorhinal area", "Memory structures"),
        ("Left Inf Lat Vent", "left inferior horn of the lateral ventricle", "Fluid and vessels"),
        ("Left FRP frontal pole", "left frontal pole", "Frontal lobe"),
        ("Left AnG angular gyrus", "left angular gyrus", "Parietal lobe"),
        ("Left OFuG occipital fusiform gyrus", "left occipital fusiform gyrus", "Occipital lobe"),
        ("CSF", "other cerebrospinal fluid", "Fluid and vessels"),
    ],
)
def test_full_names_and_groups(region: str, name: str, where: str) -> None:
    assert (full_name(region), group(region)) == (name, where)
    every = load_atlas().names.values()
    assert region in every and {group(one) for one in every} == set(GROUPS)
    assert len({full_name(one) for one in every}) == len(every)


def test_an_empty_map_and_a_scan_without_registration() -> None:
    scan = placed(np.eye(4))
    assert all(row["saliency_share"] == 0 for row in regions(scan, np.zeros(SHAPE)))
    assert why_no_regions(scan) == "" and "--space mni" in why_no_regions(replace(scan, quality={}))
