"""A run's domain: its own out-of-fold scans are inside, other heads get no answer, in red."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.conftest import AFFINE, TRAIN, small_brain, write_source
from tests.pipeline.training.runs import small_task
from uncus.data.errors import BadInput
from uncus.data.files import read_json, write_json
from uncus.data.prepared_cohort import PreparedCohort
from uncus.pipeline.cli import main
from uncus.pipeline.predict import Predictor
from uncus.pipeline.prediction.scan_report import ScanReport
from uncus.pipeline.prediction.scan_report_pdf import pdf
from uncus.pipeline.runs import Run
from uncus.pipeline.training.domain import facts
from uncus.pipeline.trust.domain import ALARMS, Scan, domain_limits, in_words
from uncus.pipeline.trust.statistics import feature_statistics, image_statistics


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort of 30 small brains, and a run of two folds on it."""
    root = tmp_path_factory.mktemp("wide")
    source = write_source(root / "source", 30)
    assert main(["prepare", str(source), str(root / "cohort"), "--spacing", "4"]) == 0
    assert main(["train", str(root / "cohort"), str(root / "run"), *TRAIN]) == 0
    return root


def write_scan(path: Path, other: bool) -> Path:
    """A new small brain, or one of another scanner: noisier."""
    image = small_brain(77, ill=False)
    inside = image > 0
    if other:
        image[inside] += np.random.default_rng(0).normal(0, 20, inside.sum())
    nib.save(nib.Nifti1Image(image, AFFINE), path)
    return path


def test_a_thin_grid_in_mni_does_not_make_scans_slabs(cohort: Path, tmp_path: Path) -> None:
    task = small_task(cohort, tmp_path / "run")  # its grid is 56 mm wide
    assert facts(task)["slab"] is True
    assert "slab" not in facts(replace(task, cohort=replace(task.cohort, space="mni")))


def test_out_of_fold_scans_are_inside(wide: Path) -> None:
    run, cohort = Run(wide / "run"), PreparedCohort.open(wide / "cohort")
    predictor, splits = Predictor(run.path, segment=None), run.splits()
    known = run.card["domain"]
    assert known["scans"] == known["tested"] == 30 and known["synthetic"] is False
    assert known["slab"] and known["false_alarms"] <= 5 and "domain.safetensors" in run.verify()
    assert in_words(run.card) == "30 scans, people, slabs, 60 to 89 years"
    assert f"{known['false_alarms']} of 30 were taken" in domain_limits(run.card)
    assert predictor.domain is not None
    outside = 0
    for row, name in enumerate(run.scans()["participant_id"]):
        (fold,) = (k for k in range(2) if name in splits.subjects(k, "test"))
        array = np.asarray(cohort.volumes[row], np.float32)
        features = feature_statistics(predictor.networks[fold], torch.from_numpy(array)[None, None])
        gaussians = predictor.domain.networks[fold]
        statistics = {**image_statistics(array), "features": features}
        ratios = [
            g.distance(statistics[n][None])[0] / known["limits"][n] for n, g in gaussians.items()
        ]
        outside += max(ratios) > 1
    assert outside <= ALARMS * 30
    verdict = predictor.domain.check(Scan((64, 64, 64)), [statistics] * 2)
    assert verdict.inside is not None and set(verdict.ratios) == set(known["limits"])


def test_one_fold_does_not_state_false_alarms(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None were counted, which is not the same as none of six."""
    monkeypatch.setattr("uncus.pipeline.training.domain.FEWEST", 5)
    run = tmp_path / "run"
    assert main(["train", str(wide / "cohort"), str(run), *TRAIN, "--folds", "1"]) == 0
    assert Run(run).card["domain"]["tested"] == 6
    assert "are taken for others is not known." in domain_limits(Run(run).card)


def test_another_scanner_gets_no_answer(
    wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = [write_scan(tmp_path / f"{k}_T1w.nii.gz", bool(k)) for k in (0, 1)]
    command = ["predict", str(wide / "run"), *map(str, scans), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    own, other = (read_json(tmp_path / f"out/{k}_T1w/prediction.json") for k in (0, 1))
    assert own["domain"]["inside"] is True and "domain" not in own.get("abstains", "")
    assert other["domain"]["inside"] is False and other["class"] is other["label"] is None
    (reason,) = other["domain"]["reasons"]
    assert "it is unlike the run's scans of people" in reason and reason in other["abstains"]
    text = capsys.readouterr().out
    assert text.count("Like the scans that the run was trained on") == 1
    assert text.count("no answer is given") == 1 and "1_T1w.nii.gz: no answer" in text
    first, second = (tmp_path / "out/predictions.tsv").read_text().splitlines()[1:]
    assert "Another domain" not in first and "Another domain" in second
    picture = (tmp_path / "out/1_T1w/saliency.png").read_bytes()
    html, own_html = (ScanReport(a, "m", "AD", picture).html() for a in (other, own))
    assert (
        "class=alarm" in html
        and "probability" not in html
        and "Evidence" not in html
        and "class=alarm" not in own_html
    )
    assert len(pdf(ScanReport(other, "m", "AD", picture))) > 1000


def test_damaged_and_early_runs(wide: Path, tmp_path: Path) -> None:
    shutil.copytree(wide / "run", tmp_path / "run")
    run = Run(tmp_path / "run")
    content = run.domain_path.read_bytes()
    run.domain_path.write_bytes(content[:1000])
    run.seal()
    with pytest.raises(BadInput, match=r"domain\.safetensors: cannot be read"):
        Predictor(run.path)
    run.domain_path.unlink()
    run.seal()
    with pytest.raises(BadInput, match=r"does not list domain\.safetensors"):
        Predictor(run.path)
    card = read_json(run.card_path)
    del card["domain"]
    write_json(run.card_path, card)
    run.seal()
    scan = write_scan(tmp_path / "new_T1w.nii.gz", other=True)
    answer = Predictor(run.path, segment=None)(scan).as_dict()
    assert answer["domain"]["inside"] is None and "domain" not in answer.get("abstains", "")
    assert answer["domain"]["reasons"] == ["an earlier version made the run"]
    assert in_words(card) == "not known" and "not checked" in domain_limits(card)
    assert json.dumps(answer)
