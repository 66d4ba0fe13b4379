"""The phantom's ground truth is what its images show."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import nibabel
import numpy as np
import pytest

from uncus.data.cohorts.readers import read_cohort
from uncus.data.errors import BadInput
from uncus.data.phantom.anatomy import Anatomy, load_anatomy
from uncus.data.phantom.subject import (
    CONTROL_SPACING,
    MIN_DISPLACEMENT,
    ONE_TO_ONE,
    best_accuracy,
    brain_points,
    draw_parameters,
    flow,
    image_grid,
    make_subject,
)
from uncus.pipeline.phantom import MakePhantom, make_cohort

SPACING = 5.0


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return load_anatomy(SPACING)


def test_structures_have_plausible_volumes_and_positions(anatomy):
    hippocampi, ventricles = anatomy.structures.values
    x = anatomy.structures.origin[0] + np.arange(hippocampi.shape[0])
    left, right = (hippocampi[side].sum() / 1000 for side in (x < 0, x > 0))
    assert 3 < left < 7 and left == pytest.approx(right, rel=0.05)  # ml; adults: 3 to 5 each
    assert 12 < ventricles.sum() / 1000 < 30  # young adults
    assert hippocampi.max() <= 1 and not np.any((hippocampi > 0.5) & (ventricles > 0.5))


def test_a_field_has_its_own_values_on_its_lattice(anatomy):
    field = anatomy.motion["ventricles"]
    voxels = np.array([[10, 31, 44], [20, 50, 3], [30, 40, 25]])
    points = (field.origin[:, None] + field.spacing * voxels).astype(np.float32)
    np.testing.assert_allclose(field.at(points), field.values[:, *voxels], atol=1e-4)
    assert not field.at(np.full((3, 2), 1e3, dtype=np.float32)).any()


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_atrophy_grows_with_severity(anatomy, index):
    params = draw_parameters(5, index)
    subjects = [make_subject(params, anatomy, SPACING, severity) for severity in (0, 0.25, 0.5, 1)]
    ventricles = [subject.ventricles for subject in subjects]
    hippocampi = [subject.hippocampi for subject in subjects]
    masks = [subject.atrophy for subject in subjects]
    assert np.all(np.diff(ventricles) > 0) and np.all(np.diff(hippocampi) < 0)
    assert 1.5 < ventricles[-1] / ventricles[0] < 3.5
    assert 0.5 < hippocampi[-1] / hippocampi[0] < 0.85
    assert not masks[0].any()
    for smaller, larger in pairwise(masks):
        assert larger.sum() > smaller.sum()
        assert not np.any(smaller & ~larger & (subjects[-1].image > 0))
    brain = subjects[-1].image > 0
    assert masks[-1][brain].mean() < 0.2 and not np.any(masks[-1] & ~brain)


def test_the_mask_contains_what_disease_changes(anatomy):
    """The same subject with and without disease, same noise: they differ inside the mask."""
    for index in range(4):
        params = draw_parameters(9, index, ("AD",))
        quiet = replace(params, noise=0.0)
        with_disease = make_subject(quiet, anatomy, SPACING)
        without = make_subject(quiet, anatomy, SPACING, severity=0)
        change = np.abs(with_disease.image.astype(float) - without.image)
        both = (with_disease.image > 0) & (without.image > 0)
        inside = change[both & with_disease.atrophy].sum() / change[both].sum()
        assert inside > 0.85, f"only {inside:.2f} of the change is in the mask"


def test_tissue_is_not_torn_or_folded(anatomy):
    """Jacobian determinants of the whole mapping to the template are positive, with disease."""
    shape, affine = image_grid(SPACING)
    for index in range(3):
        params = draw_parameters(2, index, ("AD",))
        inside, points = brain_points(params, anatomy, shape, affine)
        healthy = flow(points, anatomy, params.disease)
        moved = np.full((3, *shape), np.nan)
        moved[:, inside] = flow(healthy, anatomy, params.shape)
        jacobian = np.stack([np.gradient(moved[i], SPACING) for i in range(3)])
        matrices = np.moveaxis(jacobian, (0, 1), (-2, -1))
        determinants = np.linalg.det(matrices[np.isfinite(matrices).all(axis=(-2, -1))])
        assert determinants.size > 5_000
        assert determinants.min() > 0.05 and determinants.max() < 8
        assert np.abs(params.controls).max() <= ONE_TO_ONE * CONTROL_SPACING


def test_mask_follows_its_definition(anatomy):
    """Where disease moves a point by more than MIN_DISPLACEMENT mm, in the head's position."""
    params = draw_parameters(3, 0, ("AD",))
    shape, affine = image_grid(SPACING)
    inside, points = brain_points(params, anatomy, shape, affine)
    amounts = {name: params.severity * amount for name, amount in params.disease.items()}
    moved = np.linalg.norm(flow(points, anatomy, amounts) - points, axis=0)
    subject = make_subject(params, anatomy, SPACING)
    assert np.array_equal(
        subject.atrophy[inside], (moved > MIN_DISPLACEMENT) & (subject.image[inside] > 0)
    )


def test_a_subject_depends_on_seed_and_index_only():
    one, again, other = draw_parameters(1, 7), draw_parameters(1, 7), draw_parameters(2, 7)
    assert one.age == again.age and np.array_equal(one.controls, again.controls)
    assert not np.array_equal(one.controls, other.controls)
    assert not np.array_equal(one.controls, draw_parameters(1, 8).controls)


def test_classes_are_balanced_and_graded():
    cohort = [draw_parameters(0, i, ("CN", "MCI", "AD")) for i in range(60)]
    by_class = {
        name: [p.severity for p in cohort if p.diagnosis == name] for name in ("CN", "MCI", "AD")
    }
    assert {len(values) for values in by_class.values()} == {20}
    assert max(by_class["CN"]) < min(by_class["AD"])
    assert np.std(by_class["AD"]) > 0.1  # graded
    assert np.mean(by_class["CN"]) < np.mean(by_class["MCI"]) < np.mean(by_class["AD"])


@pytest.mark.parametrize(
    ("classes", "overlap", "expected"),
    [(("CN", "AD"), 0.0, 1.0), (("CN", "AD"), 0.2, 0.893), (("CN", "MCI"), 0.0, 0.929)],
)
def test_no_threshold_on_severity_beats_the_best_accuracy(classes, overlap, expected):
    assert best_accuracy(classes, overlap) == pytest.approx(expected, abs=1e-3)
    cohort = [draw_parameters(0, i, classes, overlap=overlap) for i in range(2000)]
    severity = np.array([p.severity for p in cohort])
    patients = np.array([p.diagnosis == classes[1] for p in cohort])
    accuracy = [np.mean((severity > t) == patients) for t in np.linspace(0, 1, 101)]
    assert max(accuracy) == pytest.approx(expected, abs=0.02)


def test_confounders_are_related_to_the_diagnosis_only_on_request():
    def gap(column, **options):
        cohort = [draw_parameters(0, i, **options) for i in range(150)]
        value = [float(p.site == "B") if column == "site" else p.age for p in cohort]
        patients = np.array([p.diagnosis == "AD" for p in cohort])
        return np.mean(np.array(value)[patients]) - np.mean(np.array(value)[~patients])

    assert abs(gap("site")) < 0.2 and abs(gap("age")) < 2
    assert gap("site", confounder="site") == 1
    assert 0.3 < gap("site", confounder="site", strength=0.5) < 0.7
    assert 9 < gap("age", confounder="age") < 14


def test_site_changes_the_image_beyond_its_scale(anatomy):
    """Otherwise normalization would remove the confounder."""
    contrast = {}
    for params in (draw_parameters(4, i, confounder="site") for i in range(12)):
        image = make_subject(params, anatomy, SPACING, severity=0.3).image.astype(float)
        values = image[image > 0]
        z = (values - values.mean()) / values.std()
        contrast.setdefault(params.site, []).append(np.mean(np.abs(z) ** 3))
    assert set(contrast) == {"A", "B"}
    spread = np.std(contrast["A"]) + np.std(contrast["B"])
    assert abs(np.mean(contrast["A"]) - np.mean(contrast["B"])) > spread / 2


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "tree"
    make_cohort(MakePhantom(out, subjects=8, spacing=SPACING, seed=3, workers=2))
    return out


def test_the_tree_is_bids(tree):
    description = json.loads((tree / "dataset_description.json").read_text())
    assert description["BIDSVersion"] and description["DatasetType"] == "raw"
    cohort = read_cohort(tree)
    assert len(cohort.scans) == 8 and not cohort.warnings
    table = cohort.table()
    described = json.loads((tree / "participants.json").read_text())
    assert set(described) <= set(table.columns)
    assert set(table["diagnosis"]) == {"CN", "AD"}
    orientations = set()
    for scan in cohort.scans:
        image = nibabel.load(scan.path)
        mask = nibabel.load(
            tree / f"derivatives/atrophy/{scan.name}/anat/{scan.name}_desc-atrophy_mask.nii.gz"
        )
        orientations.add("".join(nibabel.aff2axcodes(image.affine)))
        assert image.get_data_dtype() == np.int16 and mask.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(image.affine, mask.affine)
        np.testing.assert_array_equal(image.affine, image.get_qform())
        voxels = np.asanyarray(image.dataobj)
        litres = (voxels > 0).sum() * SPACING**3 / 1e6
        assert 1.1 < litres < 2.2 and voxels[0].max() == voxels[:, :, -1].max() == 0
        assert not np.any((np.asanyarray(mask.dataobj) > 0) & (voxels == 0))
    assert orientations == {"RAS", "LAS"}


def test_flipped_storage_keeps_the_position_of_every_voxel(tree):
    table = read_cohort(tree).table()
    flipped = 0
    for index, name in enumerate(table["participant_id"]):
        params = draw_parameters(3, index)
        flipped += params.flipped
        subject = make_subject(params, load_anatomy(SPACING), SPACING)
        stored = nibabel.as_closest_canonical(
            nibabel.load(tree / name / "anat" / f"{name}_T1w.nii.gz")
        )
        np.testing.assert_allclose(stored.affine, subject.affine)
        np.testing.assert_array_equal(np.asanyarray(stored.dataobj), subject.image)
    assert flipped


def test_the_same_seed_writes_the_same_bytes_and_more_subjects_change_none(tree, tmp_path):
    out = tmp_path / "again"
    make_cohort(MakePhantom(out, subjects=3, spacing=SPACING, seed=3, workers=1))
    fewer = {k: v for k, v in digests(out).items() if "sub-" in k}
    assert len(fewer) == 6 and fewer.items() <= digests(tree).items()
    make_cohort(MakePhantom(out, subjects=8, spacing=SPACING, seed=3))  # extended in place
    assert digests(out) == digests(tree)


def test_another_cohort_is_not_mixed_in(tree, tmp_path):
    with pytest.raises(BadInput, match="another cohort"):
        make_cohort(MakePhantom(tree, subjects=8, spacing=SPACING, seed=4))
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(BadInput, match="not empty"):
        make_cohort(MakePhantom(tmp_path, subjects=1, spacing=SPACING))


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"subjects": 0}, "at least one subject"),
        ({"spacing": 0.0}, "0.5 to 12 mm"),
        ({"spacing": float("nan")}, "0.5 to 12 mm"),
        ({"strength": 2.0}, "0 to 1"),
        ({"classes": ("CN", "FTD")}, "unknown classes FTD"),
        ({"classes": ("CN", "CN")}, "once"),
    ],
)
def test_bad_options_are_rejected(tmp_path, options, cause):
    with pytest.raises(ValueError, match=cause):
        MakePhantom(tmp_path, **options)
