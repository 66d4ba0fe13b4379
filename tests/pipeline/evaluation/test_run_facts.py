"""What a report says of the run."""

import html
import shutil
from pathlib import Path

import pytest

from uncus.data.errors import BadInput
from uncus.models.build import ModelConfig
from uncus.pipeline.cli import main
from uncus.pipeline.evaluation.run_facts import norm_text, run_facts
from uncus.pipeline.runs import Run


def test_a_report_says_how_the_run_was_trained(run: Path, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run, tmp_path / "run")))
    assert main(["evaluate", str(copy.path)]) == 0
    facts = copy.report()["run"]
    assert facts["network"] == "tiny, 16 channels at first" and facts["norm"] == "group"
    assert (facts["epochs"], facts["folds"], facts["seeds"]) == (3, 2, "0")
    assert (facts["cohort"], facts["subjects"]) == ("small", "12, with 12 scans")
    page = html.unescape(copy.report_page.read_text())
    for name, value in facts.items():
        assert name in page and str(value) in page


def test_a_model_without_its_run_says_what_it_knows(run: Path, tmp_path: Path) -> None:
    alone = run_facts(Run(Path(shutil.copytree(run / "model", tmp_path / "adni"))))
    assert alone["network"].startswith("tiny") and "epochs" not in alone
    assert run_facts(Run(tmp_path)) == {}


@pytest.mark.parametrize("content", ["{}", '{"optimization": 5}', '{"seeds": 1000000000}', "[]"])
def test_options_that_are_none_are_one_error(content: str, run: Path, tmp_path: Path) -> None:
    copy = Run(Path(shutil.copytree(run, tmp_path / "run")))
    copy.config_path.write_text(content)
    if content == "{}":
        assert run_facts(copy)["epochs"] == 50  # the defaults
    else:
        with pytest.raises(BadInput, match=r"config\.json: "):
            run_facts(copy)


def test_norms_are_told_with_their_groups() -> None:
    assert norm_text(ModelConfig(groups=4)) == "group, 4 groups"
    assert norm_text(ModelConfig(channels_per_group=16)) == "group, 16 channels a group"
