"""The model card: every number is from a file of the run, and what is missing is said."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.pipeline.run_files.cards import CARD, seal
from uncus.data import files
from uncus.pipeline.cli import main
from uncus.pipeline.model_card.card import header, text, write
from uncus.pipeline.model_card.claim import TITLES
from uncus.pipeline.model_card.evidence import Evidence
from uncus.pipeline.runs import Run

NUMBER = re.compile(r"(?<![\w.])−?\d+(?:\.\d+)*(?:e-\d+)?%?")
STATED = re.compile(r"ICBM152|SHA-256|T1-weighted|3D|R²|Mongan 2020|2024 update")
"""Numbers in names."""


@pytest.fixture(scope="module")
def whole(sure_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was evaluated, audited and checked."""
    run = tmp_path_factory.mktemp("card") / "run"
    shutil.copytree(sure_run, run)
    assert main(["evaluate", str(run), "--baseline", "age", "--draws", "100"]) == 0
    assert main(["audit", str(run)]) in (0, 1)
    methods = ["--methods", "gradient", "grad_cam"]
    assert main(["explain", str(run), "--check", "--quick", *methods]) == 0
    return Run(run)


def known(value: Any) -> Iterator[str]:
    """Every scalar in JSON content."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from known(item)
    elif isinstance(value, list):
        for item in value:
            yield from known(item)
    else:
        yield repr(value) if isinstance(value, float) else str(value)


def numbers_of(run: Run) -> tuple[set[str], list[float]]:
    """The numbers in a run's files: those within texts, and the values."""
    found: set[str] = set()
    values: list[float] = []
    paths = [run.card_path, run.report_path, run.audit_path, run.passport_path]
    for path in [*paths, run.config_path, run.environment_path]:
        content = files.read_json(path)
        if path == run.card_path:
            del content["reference"], content["results"]
        for one in known(content):
            found |= set(NUMBER.findall(one.replace("-", "−"))) | set(NUMBER.findall(one))
            if re.fullmatch(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", one):
                values.append(float(one))
    sites = run.scans().get("site", pd.Series(dtype=str)).value_counts()
    return found, [*values, *map(float, sites)]


def unfounded(card: str, run: Run) -> list[str]:
    """The numbers of a card that are in no file of its run."""
    texts, values = numbers_of(run)
    hashes = set(run.verify().values()) | set(known(run.card))
    body = re.sub(r"^\| (\d+) \| (?=.* \| (?:open|partly|filled) \|)", "| ", card, flags=re.M)
    body = STATED.sub("", body.replace("\\", ""))
    body = " ".join(word for word in body.split() if word not in hashes)
    strange = []
    for number in NUMBER.findall(body):
        plain = number.replace("−", "-")
        digits = len(plain.rstrip("%").partition(".")[2])
        scale = 100 if plain.endswith("%") else 1
        if number in texts or plain in texts or plain.count(".") > 1:
            continue
        value = float(plain.rstrip("%"))
        if not any(abs(scale * v - value) <= 0.5 * 10**-digits + 1e-9 for v in values):
            strange.append(number)
    return strange


def test_every_number_is_in_a_file_of_the_run(whole: Run) -> None:
    card = whole.model_card_path.read_text(encoding="utf-8")
    assert len(NUMBER.findall(card)) > 200
    assert unfounded(card, whole) == []
    assert unfounded(f"{card}\n\nAUC 0.98765 on 4711 scans", whole) == ["0.98765", "4711"]


def test_figures_follow_the_files(whole: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(whole.path, tmp_path / "run")))
    report = run.report()
    report["metrics"]["auc"] = {"value": 0.1234, "low": 0.0234, "high": 0.2234}
    report["headline"] |= {"metric": "auc", "name": "AUC", "adjusted_for": []}
    files.write_json(run.report_path, report)
    write(run)
    card = run.model_card_path.read_text(encoding="utf-8")
    assert "AUC 0.123 (0.023 to 0.223) on 40 scans of 40 subjects" in card


def test_sections_and_evidence(whole: Run) -> None:
    card = whole.model_card_path.read_text(encoding="utf-8")
    first, _, rest = card.removeprefix("---\n").partition("\n---\n")
    header = dict(line.split(": ", 1) for line in first.splitlines())
    results = json.loads(header["model-index"])[0]["results"][0]
    assert {m["type"]: m["value"] for m in results["metrics"]}["auc"] == (
        whole.report()["metrics"]["auc"]["value"]
    )
    assert "Research use only, not a medical device" in rest.split("##")[0]
    assert "| scans labelled AD | 20 |" in rest and "| sex | F 20, M 20 |" in rest
    for verdict in whole.verdicts().methods:
        assert f"| {verdict.replace('_', ' ')} | " in rest
    assert whole.audit() and "| check | status | verdict |" in rest
    assert "best baseline: age" in rest and "after calibration" in rest
    assert "of 40 were taken for others" in rest
    for number, title in enumerate(TITLES, start=1):
        assert f"| {number} | {title} | " in rest
    assert len(TITLES) == 44


def test_no_subject_is_named(whole: Run) -> None:
    audit = files.read_json(whole.audit_path)
    audit["findings"][0] |= {"verdict": "2 labels are contradicted: sub-01 (AD, 0.02)."}
    files.write_json(whole.audit_path, audit)
    write(whole)
    card = whole.model_card_path.read_text(encoding="utf-8")
    assert "names subjects: see audit.html" in card
    assert not any(name in card for name in whole.scans()["participant_id"])


def test_what_is_missing_is_said(run: Path, tmp_path: Path) -> None:
    """A run that was only trained; and one of an early version."""
    card = Run(run).model_card_path.read_text(encoding="utf-8")
    for missing in ("Not evaluated", "Not audited: uncus audit RUN", "Not calibrated"):
        assert missing in card
    early = Run(tmp_path / "early")
    early.model_folder.mkdir(parents=True)
    seal(early)
    card = text(Evidence.of(early))
    assert "| kind | not recorded |" in card and "an earlier version made the run" in card
    write(Run(early.model_folder))  # a model folder alone has no place for it
    assert not list(early.path.rglob("MODEL_CARD.md"))


def test_a_regression(tmp_path: Path) -> None:
    run, both = Run(tmp_path / "run"), ["age", "nwbv"]
    run.model_folder.mkdir(parents=True)
    member = {**CARD["members"][0], "mean": [60.0, 0.7], "std": [9.0, 0.1]}
    target = {"columns": both, "classes": {}, "regression": True}
    seal(run, target=target, members=[member])
    evidence = Evidence.of(run)
    card = text(evidence)
    assert "age and nwbv from a T1-weighted scan" in card and "pipeline_tag" not in header(evidence)
    assert "| filled | Regression by" in card and "a class is named" not in card


def test_a_damaged_file_is_named_and_the_rest_is_told(whole: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(whole.path, tmp_path / "run")))
    run.audit_path.write_text("{")
    run.passport_path.write_text("[1]")
    card = text(Evidence.of(run))
    assert "Not used for this card: audit.json" in card.replace("\\", "")
    assert "Not used for this card: passport.json" in card.replace("\\", "")
    assert "Not audited" in card and "were not checked" in card and "| AUC | " in card


def test_files_of_another_form_are_named_and_the_rest_is_told(whole: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(whole.path, tmp_path / "run")))
    report, audit = files.read_json(run.report_path), files.read_json(run.audit_path)
    for report_part, audit_part, named in (
        ({"counts": {}}, {"findings": None}, ["the report is damaged", "the audit is damaged"]),
        ({"headline": []}, {}, ["the report is damaged"]),
        ({"run": 1}, {"hashes": [1]}, ["about another training", "about other weights"]),
    ):
        files.write_json(run.report_path, report | report_part)
        files.write_json(run.audit_path, audit | audit_part)
        write(run)
        card = run.model_card_path.read_text()
        assert "## Training data" in card and card.count("Not used for this card") == len(named)
        assert all(name in card for name in named)


def test_an_audit_of_other_weights_is_not_this_runs(whole: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(whole.path, tmp_path / "run")))
    audit = files.read_json(run.audit_path)
    audit["hashes"]["fold-0.safetensors"] = "0" * 64
    files.write_json(run.audit_path, audit)
    card = text(Evidence.of(run))
    assert "is about other weights" in card and "Not audited" in card


def test_a_report_of_another_training_is_not_this_runs(whole: Run, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(whole.path, tmp_path / "run")))
    report = files.read_json(run.report_path)
    assert "| AUC | " in text(Evidence.of(run))
    report["run"]["made"] = "2020-01-01T00:00:00+00:00"
    files.write_json(run.report_path, report)
    card = text(Evidence.of(run))
    assert "is about another training" in card and "| AUC | " not in card


def test_synthetic_scans_are_never_called_people(mni_run: Path) -> None:
    evidence = Evidence.of(Run(mni_run))
    card = text(evidence)
    assert evidence.synthetic and "Trained on synthetic brains" in card.split("##")[0]
    assert "| kind | synthetic: phantoms |" in card
    assert "synthetic-data" in header(evidence)
    assert "people" not in card.split("## Intended use")[0]
    assert "| people" not in card and "6 synthetic subjects" in card
