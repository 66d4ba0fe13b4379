"""A run that was adapted is adapted again: its source is what the first run was trained on."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_source
from tests.pipeline.adaptation.conftest import ABROAD
from uncus.data.prepared_cohort import PreparedCohort
from uncus.data.tables import read_table, write_table
from uncus.pipeline.adaptation.adapt import adapt
from uncus.pipeline.adaptation.plan import Plan, plan
from uncus.pipeline.adaptation.source import shares
from uncus.pipeline.cli import main
from uncus.pipeline.evaluation.external import ExternalScans
from uncus.pipeline.model_card.summary import trained_on
from uncus.pipeline.runs import Run


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 subjects of a third site."""
    folder = tmp_path_factory.mktemp("third")
    source = write_source(folder / "source", subjects=ABROAD + 8)
    for number in range(ABROAD):
        shutil.rmtree(source / f"sub-{number:02d}")
    table = read_table(source / "participants.tsv").iloc[ABROAD:]
    write_table(source / "participants.tsv", table)
    options = ["--spacing", "4", "--workers", "1"]
    assert main(["prepare", str(source), str(folder / "third"), *options]) == 0
    return folder / "third"


@pytest.fixture(scope="module")
def unlabelled(run: Path, site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run adapted to a site whose table has no labels."""
    folder = tmp_path_factory.mktemp("unlabelled")
    source = Path(shutil.copytree(site.parent / "source", folder / "source"))
    (source / "participants.tsv").unlink()
    options = ["--spacing", "4", "--workers", "1"]
    assert main(["prepare", str(source), str(folder / "site"), *options]) == 0
    return adapt(run, folder / "site", folder / "adapted", method="none")


def planned(run: Path, site: Path, source: bool = False) -> Plan:
    scans = ExternalScans(PreparedCohort.open(site))
    return plan(Run(run), scans, 0, 0, "cpu", None, source)


def test_the_source_is_that_of_the_first_run(run: Path, unlabelled: Path, third: Path) -> None:
    first, again = planned(run, third), planned(unlabelled, third, source=True)
    for member in again.members:
        site, home = again.site(member), first.site(member)
        assert np.array_equal(site.shares, [0.5, 0.5]) and site.source and home.source
        assert list(site.source.rows) == list(home.source.rows)
        assert np.array_equal(site.source.labels, home.source.labels)
    facts = Run(unlabelled).card["adapted"]["source"]
    assert (facts["run"], facts["classes"]) == ("run", {"CN": 6, "AD": 6})


def test_a_run_that_has_gone_is_no_source(
    run: Path, site: Path, third: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    out = adapt(moved, site, tmp_path / "out", method="none")
    shutil.rmtree(moved)
    assert main(["adapt", str(out), str(third), str(tmp_path / "x"), "--method", "coral"]) == 2
    line = capsys.readouterr().err
    assert "the run moved that it was adapted from has gone; put that one back" in line


def test_no_class_has_a_share_of_none(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Run(run)
    monkeypatch.setitem(made.card["training"], "classes", {"CN": 0, "AD": 0})
    assert np.array_equal(shares(made), [0.5, 0.5])


def test_the_card_names_both_trainings(run: Path, site: Path, tmp_path: Path) -> None:
    made = Run(adapt(run, site, tmp_path / "out", method="head", labels=2, seed=3))
    card = " ".join(made.model_card_path.read_text().replace("\\", "").split())
    assert "| trained on: run | run |" in card and "| trained on: cohort | small |" in card
    assert "| trained on: scans labelled CN | 6 |" in card
    assert "| adapted to: cohort | site |" in card
    assert "| adapted to: scans | 28 | | adapted to: labels seen of CN | 2 |" in card
    assert "Trained on 12 subjects of another cohort and adapted to 28 of this one" in card
    assert "scans without a label are adapted to, and in no result" in card
    assert "2 folds, seed 3; subjects whose label was seen are in no test" in card
    assert "epochs" not in card and "validation" not in card
    assert trained_on(made.card).endswith("6 Alzheimer's-type dementia; adapted to 28 people")
