"""The audit of phantoms: planted faults are named, and where there are none, none is found."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tests.pipeline.audit.phantoms import disguise, make, prepare
from uncus.data import files
from uncus.models.build import ModelConfig
from uncus.pipeline.audit import audit as audit_module
from uncus.pipeline.audit.audit import audit
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run
from uncus.pipeline.train import train
from uncus.pipeline.training.optimization import Optimization
from uncus.pipeline.training.task import Devices

QUICK: dict[str, Any] = {
    "target": ("diagnosis",),
    "model": ModelConfig(backbone="tiny", width=16),
    "optimization": Optimization(epochs=1, lr=0.01),
    "devices": Devices(accelerator="cpu"),
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("clean") / "phantom", 24, "--seed", "3")


@pytest.fixture(scope="module")
def clean(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(scans, tmp_path_factory.mktemp("clean") / "cohort")


def status(found: dict[str, Any]) -> dict[str, str]:
    return {one["check"]: one["status"] for one in found["findings"]}


def verdict(found: dict[str, Any], check: str) -> str:
    return next(str(one["verdict"]) for one in found["findings"] if one["check"] == check)


def faults(found: dict[str, Any]) -> set[str]:
    return {check for check, what in status(found).items() if what == "fault"}


def test_a_faultless_cohort_gets_no_fault(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(clean), "--target", "diagnosis"]) == 0
    found = files.read_json(Run(clean).audit_path)
    assert isinstance(found, dict)
    assert faults(found) == set()
    checked = {check for check, what in status(found).items() if what != "not checked"}
    assert checked >= {
        *("duplicates", "sessions", "conflicts", "fitted", "site", "sex", "age", "shuffled"),
        *("probe-age-sex", "probe-site", "probe-voxel-size", "probe-head-position"),
        *("probe-outside-the-brain", "probe-brain-mask", "probe-histogram"),
        "probe-intensity-units",
    }
    page = Run(clean).audit_page.read_text()
    assert "No fault in" in page and "http" not in page
    assert "no fault in" in capsys.readouterr().out


def test_small_matrices_are_computed_by_one_thread(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    report = audit_module.report

    def watched(*given: Any) -> dict[str, Any]:
        threads.extend(one["num_threads"] for one in threadpool_info())
        return report(*given)

    monkeypatch.setattr(audit_module, "report", watched)
    with threadpool_limits(limits=2):
        assert max(one["num_threads"] for one in threadpool_info()) == 2
        audit(clean, target=("diagnosis",))
    assert set(threads) == {1}


@pytest.mark.slow
def test_one_person_under_two_names_is_found(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = shutil.ignore_patterns("sub-P001[3-9]", "sub-P002?", "derivatives")
    shutil.copytree(scans, tmp_path / "scans", ignore=others)
    disguise(tmp_path / "scans", "sub-P0004", "sub-X01")
    out = tmp_path / "page"
    assert main(["audit", str(tmp_path / "scans"), "--out", str(out)]) == 1
    found = Run(out).audit()
    assert found is not None and faults(found) == {"duplicates"}
    duplicates = next(one for one in found["findings"] if one["check"] == "duplicates")
    assert [pair[:2] for pair in duplicates["details"]["pairs"]] == [["sub-P0004", "sub-X01"]]
    assert "sub-P0004 = sub-X01" in capsys.readouterr().out
    assert not (tmp_path / "scans" / "audit.json").exists()


def test_a_run_is_audited(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    found = audit(tmp_path / "run")
    assert status(found)["parts"] == "passed"
    assert found["hashes"]["fold-0.safetensors"] == Run(run).card["members"][0]["sha256"]
    assert Run(tmp_path / "run").audit() == found


def test_a_site_tied_to_the_class_is_found(tmp_path: Path) -> None:
    confounded = make(tmp_path / "site", 24, "--seed", "5", "--confounder", "site")
    found = audit(prepare(confounded, tmp_path / "cohort"), target=("diagnosis",))
    assert faults(found) == {"site", "probe-intensity-units"}
    assert "site goes with the class: " in verdict(found, "site")


def test_an_age_tied_to_the_class_is_found(tmp_path: Path) -> None:
    confounded = make(tmp_path / "age", 32, "--seed", "5", "--confounder", "age")
    found = audit(prepare(confounded, tmp_path / "cohort"), target=("diagnosis",))
    assert faults(found) == {"age"}
    assert "age goes with the class: means" in verdict(found, "age")


def test_a_copy_of_a_test_subject_in_the_pretraining_is_found(
    scans: Path, clean: Path, tmp_path: Path
) -> None:
    before = make(tmp_path / "before", 12, "--seed", "9", "--first", "100")
    disguise(scans, "sub-P0002", "sub-X02", into=before)
    pretraining = prepare(before, tmp_path / "pretraining")
    train(pretraining, tmp_path / "start", **QUICK, folds=1, validation=0.0)
    train(clean, tmp_path / "run", **QUICK, folds=2, init_from=tmp_path / "start")
    found = audit(tmp_path / "run")
    assert faults(found) == {"pretraining"}
    assert "sub-P0002 = sub-X02" in verdict(found, "pretraining")


def test_folds_are_rebuilt_from_the_certificate(
    run: Path, cohort: Path, clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = str(Run(run).certificate_path)
    command = ["--rebuild", certificate, "--out", str(tmp_path)]
    assert main(["audit", str(cohort), *command]) == 0
    assert Run(tmp_path).splits_path.read_bytes() == Run(run).splits_path.read_bytes()
    assert "folds: the same" in capsys.readouterr().out
    assert main(["audit", str(clean), *command]) == 2
    assert "has 0 of the 12 subjects" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "COHORT or RUN is missing"),
        (["nowhere"], "does not exist"),
        (["{scans}"], "is not prepared; add --out"),
        (["{clean}", "--target", "dx"], "'dx'"),
        (["{clean}", "--target", "diagnosis", "--columns", "iq"], "iq"),
        (["{clean}", "--cohort", "{clean}"], "is no run"),
        (["{run}", "--target", "diagnosis"], "a run knows its target"),
        (["{run}", "--cohort", "{clean}"], "is not the cohort of the run"),
        (["{clean}", "--classes", "A=1"], "--classes needs --target"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    part: str,
    scans: Path,
    clean: Path,
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"scans": scans, "clean": clean, "run": run}
    assert main(["audit", *(one.format(**places) for one in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and part in error
