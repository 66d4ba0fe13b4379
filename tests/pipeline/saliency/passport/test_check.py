"""The whole check on small runs: what passes, what fails, what is stored."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import AFFINE
from uncus.data.prepared_cohort import PreparedCohort
from uncus.models.base import Classifier
from uncus.pipeline.cli import main
from uncus.pipeline.predict import Predictor
from uncus.pipeline.prediction.trained_networks import read_networks
from uncus.pipeline.runs import Run
from uncus.pipeline.saliency import Saliency, Score
from uncus.pipeline.saliency.passport.cases import balanced, choose, lesion_masks, lesion_on_grid
from uncus.pipeline.saliency.passport.check import Check, Networks, coarser, make_case
from uncus.pipeline.saliency.passport.measures import Effort, measure
from uncus.pipeline.saliency.passport.verdict import judge


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of what differs between the classes of small brains: a shell around the centre."""
    out = tmp_path_factory.mktemp("lesions")
    radius = np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0)
    shell = ((radius >= 2) & (radius < 4)).astype(np.uint8)
    for subject in range(12):
        path = out / f"sub-{subject:02d}" / f"sub-{subject:02d}_desc-shell_mask.nii.gz"
        path.parent.mkdir()
        nib.save(nib.Nifti1Image(shell, AFFINE), path)
    return out


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """A run of its own, to write a passport to."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def voxels(
    model: Classifier, volume: Tensor, score: Score, feature_map: Tensor | None = None
) -> Tensor:
    """The scan itself: a map that rests on nothing the network learned."""
    return volume[0, 0].abs()


def test_a_map_of_the_scan_itself_fails_and_one_of_the_evidence_passes(
    run: Path, cohort: Path, lesions: Path
) -> None:
    opened, prepared = Run(run), PreparedCohort.open(cohort)
    config, networks = read_networks(opened, torch.device("cpu"))
    chosen = choose(opened, prepared, 6, True, 0)
    masks = lesion_masks(lesions, [one.name for one in chosen if one.output == 1])
    methods = {
        "voxels": Saliency(voxels, "", gradient=False, signed=False),
        "occlusion": coarser("occlusion", quick=True),
    }
    effort = Effort(methods, stages=1, steps=4, orders=2)
    scans = [
        measure(make_case(one, prepared, Networks(config, networks), False, masks), effort)
        for one in chosen
    ]
    found = judge(scans)["methods"]
    assert found["voxels"]["verdict"] == "failed"
    assert found["voxels"]["tests"]["weights"]["value"] == pytest.approx(1)
    assert found["voxels"]["tests"]["weights"]["reference"] == pytest.approx(1)
    assert found["occlusion"]["tests"]["order"]["passed"]
    one = make_case(chosen[0], prepared, Networks(config, networks), False, masks)
    assert measure(one, effort) == scans[0]  # reproducible


def test_scans_are_of_test_subjects_one_each_and_balanced(run: Path, cohort: Path) -> None:
    opened, prepared = Run(run), PreparedCohort.open(cohort)
    chosen = choose(opened, prepared, 6, False, 0)
    splits, members = opened.splits(), opened.card["members"]
    subjects = [one.name.removeprefix("sub-") for one in chosen]
    assert len(set(subjects)) == 6
    for one, subject in zip(chosen, subjects, strict=True):
        fold = members[one.member]["fold"]
        assert subject in {n.removeprefix("sub-") for n in splits.subjects(fold, "test")}
        assert prepared.table["participant_id"][one.row].removeprefix("sub-") == subject


def test_classes_take_turns_and_lesions_come_first() -> None:
    output = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    assert sorted(output[balanced(output, 2, 6, False)]) == [0, 0, 0, 1, 1, 1]
    assert sorted(output[balanced(output, 2, 6, True)]) == [0, 1, 1, 1, 1, 1]
    assert len(balanced(output, 2, 99, True)) == 12


def test_a_check_is_stored_shown_and_not_repeated(
    own: Path, lesions: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["explain", "--check", str(own), "--quick", "--lesions", str(lesions)]
    command += ["--methods", "grad_cam", "gradient"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "grad_cam: " in printed and "not done: labels randomized" in printed
    passport = json.loads((own / "passport.json").read_text())
    assert passport["subjects"] == 6 and set(passport["methods"]) == {"grad_cam", "gradient"}
    lesion = passport["methods"]["gradient"]["lesion"]
    assert 1 <= lesion["scans"] <= 5 and 0 <= lesion["auc"] <= 1
    page = (own / "passport.html").read_text()
    assert "Known lesions" in page and "<script" not in page and "Research use only" in page
    cases = sorted((own / "passport").glob("*.json"))
    assert len(cases) == 6
    # What is measured is not measured again: the stored numbers count.
    changed = json.loads(cases[0].read_text())
    changed["measured"]["methods"]["gradient"]["structure"] = False
    cases[0].write_text(json.dumps(changed))
    cases[1].unlink()
    cases[2].write_text("{")
    assert main(command) == 0
    again = json.loads((own / "passport.json").read_text())
    assert again["methods"]["gradient"]["without_structure"] == 1
    assert again["methods"]["grad_cam"] == passport["methods"]["grad_cam"]
    Predictor(own)  # reads it


def test_a_network_on_shuffled_labels_is_trained_once(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["explain", "--check", str(own), "--quick", "--methods", "gradient", "--shuffled"]
    assert main(command) == 0
    assert "not done: labels" not in capsys.readouterr().out
    passport = json.loads((own / "passport.json").read_text())
    test = passport["methods"]["gradient"]["tests"]["labels"]
    assert test["scans"] == 6 and test["value"] != test["reference"]
    weights = list((own / "passport").rglob("model/*.safetensors"))
    assert len(weights) == 1
    before = weights[0].stat().st_mtime_ns
    assert main(command) == 0
    assert weights[0].stat().st_mtime_ns == before
    assert "shuffled labels" in (own / "passport.html").read_text()


def test_a_regression_by_one_network(
    cohort: Path, lesions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "age"
    options = ["--target", "age", "--regression", "--backbone", "tiny", "--width", "16"]
    options += ["--folds", "1", "--epochs", "1", "--validation", "0", "--accelerator", "cpu"]
    assert main(["train", str(cohort), str(run), *options]) == 0
    command = ["explain", "--check", str(run), "--quick", "--methods", "gradient"]
    assert main([*command, "--lesions", str(lesions)]) == 0
    printed = capsys.readouterr().out
    assert "not judged" in printed and "lesion's sign" in printed and "noisy copy" in printed
    assert "a noisy copy" in (run / "passport.html").read_text()


def test_a_method_that_failed_is_marked_and_not_chosen(own: Path, scan: Path) -> None:
    run = Run(own)
    before = Predictor(own, segment=None)
    prediction = before(scan)
    usual = before.method(prediction)
    assert before.explain(prediction, usual).doubts == ()
    passport = {
        "weights": run.weights_sums(),
        "methods": {
            usual: {"verdict": "failed", "reasons": ["it is blind"]},
            "occlusion": {"verdict": "passed", "reasons": []},
        },
    }
    run.passport_path.write_text(json.dumps(passport))
    after = Predictor(own, segment=None)
    assert after.method(prediction) == "occlusion"
    assert after.method(prediction, usual) == usual
    (doubt,) = after.explain(prediction, usual).doubts
    assert doubt == "This method did not pass the check of this run: it is blind."
    assert after.explain(prediction).doubts == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quick"], "add --check"),
        (["--check", "--out", "x"], "give a RUN, no scan and no --out"),
        (["--check", "--methods", "magic"], "unknown saliency method 'magic'"),
        (["--check", "--subjects", "0"], "at least 1"),
        (["--check", "--lesions", "nowhere"], "has no mask of sub-"),
        ([], "no scan given; name one: [RUN] SCAN"),
    ],
)
def test_options_that_do_not_fit(
    own: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(own), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_cohort_that_was_moved_is_to_be_named(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"cohort": "gone"}))
    assert main(["explain", "--check", str(own)]) == 2
    assert "gone: is no longer the cohort of the run; name it with --cohort" in (
        capsys.readouterr().err
    )


def test_another_cohort_and_a_damaged_passport_are_refused(
    own: Path, mni_cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--check", str(own), "--cohort", str(mni_cohort)]) == 2
    assert "is not the cohort that" in capsys.readouterr().err
    (own / "passport.json").write_text('{"methods": 3}')
    assert main(["predict", str(own), str(mni_cohort)]) == 2
    assert "is not a passport" in capsys.readouterr().err


def test_a_lesion_is_carried_to_the_grid_as_its_scan_was(
    mni_source: Path, mni_cohort: Path
) -> None:
    """Most of the atrophy mask lies in the brain, and keeps its volume (ml)."""
    prepared = PreparedCohort.open(mni_cohort)
    names = [entry["name"] for entry in prepared.manifest["scans"]]
    masks = lesion_masks(mni_source / "derivatives", names)
    assert set(masks) == set(names)
    largest = max(names, key=lambda n: np.asanyarray(nib.load(masks[n]).dataobj).sum())
    row = names.index(largest)
    found = lesion_on_grid(masks[largest], prepared, row)
    assert found.shape == prepared.grid.shape
    assert (found & (np.asarray(prepared.volumes[row]) != 0)).sum() > 0.8 * found.sum()
    truth = np.asanyarray(nib.load(masks[largest]).dataobj).sum() * 4**3
    assert 0.6 * truth < found.sum() * 8**3 < 1.4 * truth


def test_two_masks_of_a_scan_are_refused(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        (tmp_path / f"sub-1_desc-{kind}_mask.nii.gz").touch()
    with pytest.raises(ValueError, match="two masks of sub-1"):
        lesion_masks(tmp_path, ["sub-1"])


def test_a_quick_check_takes_fewer_gradients() -> None:
    quick, full = (Check(("integrated_gradients",), 6, quick).effort for quick in (True, False))
    assert quick.stages < full.stages and quick.steps < full.steps
