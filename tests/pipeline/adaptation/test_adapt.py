"""uncus adapt: a run meets a new site."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.adaptation.conftest import ABROAD, HOME
from uncus.data.errors import BadInput
from uncus.data.files import read_json, sha256
from uncus.data.text import counted
from uncus.pipeline.adaptation.adapt import Adapt, adapt
from uncus.pipeline.audit.audit import audit
from uncus.pipeline.cli import main
from uncus.pipeline.evaluate import evaluate
from uncus.pipeline.evaluation.metrics import auc
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.runs import Run


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line that a refused command prints."""
    capsys.readouterr()
    assert main(["adapt", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def weights(run: Path) -> list[str]:
    return [sha256(path) for path in sorted((run / "model").glob("fold-*.safetensors"))]


@pytest.fixture(scope="session")
def adapted(run: Path, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The head adapted with ten labels of each class."""
    return adapt(run, site, tmp_path_factory.mktemp("adapted") / "out", method="head", labels=10)


def test_an_adapted_run_is_a_run_like_any_other(
    run: Path, site: Path, adapted: Path, tmp_path: Path
) -> None:
    made = Run(adapted)
    assert made.verify_results() == ""
    assert len(made.card["members"]) == 2 and made.card["init_from"] == "run"
    known = made.card["adapted"]
    assert (known["run"], known["cohort"], known["method"]) == ("run", "site", "head")
    assert known["labels"] == 10 and "10 labels a class" in known["summary"]
    assert counted(1, "label") == "1 label"
    assert "adapted to site by head" in made.model_card_path.read_text()
    copy = Path(shutil.copytree(adapted, tmp_path / "copy"))
    report = evaluate(copy, draws=100)
    assert report["counts"]["subjects"] == ABROAD - HOME - 20, "labelled subjects are in no test"
    assert "adapted to site" in report["run"]["adapted"]
    scan = next((site.parent / "source").glob("*/anat/*.nii.gz"))
    prediction = Predictor(adapted, segment=None)(scan)
    assert set(prediction.probabilities) == {"CN", "AD"}
    assert "calibration" in made.card, "fitted to cross-validated answers of labelled subjects"


def test_labelled_subjects_are_trained_on_and_the_others_tested_once(adapted: Path) -> None:
    splits, tested = Run(adapted).splits(), Run(adapted).predictions()
    assert tested["participant_id"].is_unique
    everywhere = splits.subjects(0, "train") & splits.subjects(1, "train")
    assert len(everywhere) == 20
    assert not everywhere & set(tested["participant_id"])


def test_the_same_seed_gives_the_same_weights(
    run: Path, site: Path, tmp_path: Path, adapted: Path
) -> None:
    again = adapt(run, site, tmp_path / "again", method="head+norms", labels=2, seed=3)
    same = adapt(run, site, tmp_path / "same", method="head+norms", labels=2, seed=3)
    other = adapt(run, site, tmp_path / "other", method="head+norms", labels=2, seed=4)
    assert weights(again) == weights(same)
    assert weights(again) != weights(other)


def test_an_interrupted_adaptation_goes_on(
    run: Path, site: Path, adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(adapted, tmp_path / "copy"))
    made = Run(copy)
    made.seal_path.unlink()
    assert main(["evaluate", str(copy)]) == 2
    assert "finish the run with uncus adapt" in capsys.readouterr().err
    (copy / "model" / "fold-1.safetensors").unlink()
    made.card_path.unlink()
    assert main(["evaluate", str(copy)]) == 2
    assert "is not finished; continue it with uncus adapt" in capsys.readouterr().err
    adapt(run, site, copy, method="head", labels=10)
    assert weights(copy) == weights(adapted)
    options = ["--method", "head", "--labels", "10"]
    assert "contains a run; choose a new folder" in error_of(capsys, run, site, copy, *options)
    made.seal_path.unlink()
    assert "contains a run" in error_of(capsys, run, site, copy, "--method", "none")
    assert main(["train", str(copy), "--resume"]) == 2
    assert "continue it with uncus adapt" in capsys.readouterr().err


def test_shared_subjects_are_refused(
    run: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = error_of(capsys, run, cohort, out, "--method", "none")
    assert "same voxels" in line and "sub-00" in line and not out.exists()


def test_the_adapted_run_knows_whom_it_was_trained_on(
    run: Path, site: Path, cohort: Path, adapted: Path, tmp_path: Path
) -> None:
    for known in (cohort, site):
        with pytest.raises(ValueError, match="same voxels"):
            evaluate(adapted, on=known, out=tmp_path / "report")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "hed"], "did you mean 'head'"),
        (["--method", "head"], "needs labels of the new site; add --labels 10"),
        (["--method", "head", "--labels", "14"], "must be tested; give 13 at most"),
        (["--where", "age < 74", "--labels", "1"], "1 labelled subject of CN, and at least"),
        (
            ["--where", "age < 73"],
            "site: 1 subject to test of 1, and 2 folds need 2 of 4; add",
        ),
        (["--method", "statistics"], "keep no running statistics: there is nothing to estimate"),
        (["--target", "site"], "site"),
        (["--classes", "CN=CN"], "--classes"),
        (["--labels", "-1"], "must not be negative"),
    ],
)
def test_unsuitable_options_are_refused(
    run: Path,
    site: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert message in error_of(capsys, run, site, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_a_site_without_labels(
    run: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Path(shutil.copytree(site.parent / "source", tmp_path / "source"))
    (source / "participants.tsv").unlink()
    options = ["--spacing", "4", "--workers", "1"]
    assert main(["prepare", str(source), str(tmp_path / "site"), *options]) == 0
    out = adapt(run, tmp_path / "site", tmp_path / "out", method="coral")
    assert Run(out).card["not_calibrated"]
    assert set(Run(out).predictions()["true"]) == {""}
    assert "uncus evaluate" not in capsys.readouterr().out
    for robust in (False, True):
        with pytest.raises(BadInput, match="no test scan has a diagnosis: there is nothing to"):
            evaluate(out, robust=robust)
    found = {one["check"]: one["status"] for one in audit(out)["findings"]}
    assert found["duplicates"] == "passed"
    assert {found[name] for name in ("confounders", "probes", "label-errors")} == {"not checked"}


def test_too_few_tested_subjects_for_a_probe(adapted: Path, tmp_path: Path) -> None:
    found = audit(adapted, out=tmp_path)["findings"]
    verdicts = {one["check"]: one["verdict"] for one in found if one["status"] == "not checked"}
    assert verdicts["probes"] == "A class has 4 tested subjects; a probe needs 10 of each."
    assert "10 tested subjects of each class" in verdicts["shuffled"]


def test_a_model_without_its_run(
    run: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(run / "model", tmp_path / "model"))
    line = error_of(capsys, model, site, tmp_path / "none", "--method", "coral")
    assert "its training scans are not at hand" in line and "name the whole run" in line
    assert "scans.tsv says which they are" in line and "--source" not in line
    out = adapt(model, site, tmp_path / "out", method="head", labels=3)
    assert "of the training subjects are not known here" in capsys.readouterr().out
    assert len(Run(out).card["members"]) == 2


def test_labels_are_drawn_nested(run: Path, site: Path, tmp_path: Path) -> None:
    few, more = (
        Run(adapt(run, site, tmp_path / str(count), method="prototypes", labels=count)).splits()
        for count in (1, 5)
    )
    drawn = [one.subjects(0, "train") & one.subjects(1, "train") for one in (few, more)]
    assert len(drawn[0]) == 2 and drawn[0] < drawn[1] and len(drawn[1]) == 10


def test_a_domain_that_few_tests_cannot_show_is_warned_of(
    run: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for labels, warned in ((1, False), (5, True)):
        out = adapt(run, site, tmp_path / str(labels), method="prototypes", labels=labels)
        said = "fewer than 19 scans are tested" in capsys.readouterr().out
        assert said == warned == ("limits" not in Run(out).card["domain"])


def test_auto_says_what_it_chose_and_how(run: Path, site: Path, tmp_path: Path) -> None:
    blind = read_json(adapt(run, site, tmp_path / "blind") / "model" / "card.json")["adapted"]
    assert blind["chosen_by"] == "mutual information, without labels"
    assert set(blind["scores"]) == {"none", "coral"}, "group norm keeps no statistics"
    assert blind["method"] == max(blind["scores"], key=blind["scores"].get)
    seen = read_json(adapt(run, site, tmp_path / "seen", labels=4) / "model" / "card.json")
    assert seen["adapted"]["chosen_by"] == "log likelihood, cross-validated"
    assert {"head", "head+norms", "network", "prototypes"} < set(seen["adapted"]["scores"])


def test_labels_of_tested_subjects_change_nothing(run: Path, site: Path, tmp_path: Path) -> None:
    from uncus.data.prepared_cohort import PreparedCohort
    from uncus.pipeline.adaptation.plan import plan
    from uncus.pipeline.evaluation.external import ExternalScans

    scans = ExternalScans(PreparedCohort.open(site))
    todo = plan(Run(run), scans, 3, 0, "cpu", None, False)
    hidden = todo.site(todo.members[0]).scans.labels
    assert (hidden >= 0).sum() == 6 and (hidden == -1).sum() == len(hidden) - 6


def accuracy(run: Path) -> float:
    table = Run(run).predictions()
    true = (table["true"] == "AD").to_numpy()
    return float(auc(true, table["p_AD"].to_numpy(), np.ones((1, len(table))))[0])


def test_labels_mend_what_the_scanner_spoilt(run: Path, site: Path, tmp_path: Path) -> None:
    before = accuracy(adapt(run, site, tmp_path / "before", method="none", labels=8))
    after = accuracy(adapt(run, site, tmp_path / "after", method="head+norms", labels=8))
    assert after > max(before, 0.9)


def test_only_classes(cohort: Path, site: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a folder is missing"):
        Adapt().run()
