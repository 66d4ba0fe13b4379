"""The demo: its folder, and the whole path on a few subjects."""

import html
import json
from dataclasses import replace

import pytest
from PIL import Image

from uncus.data.errors import BadInput
from uncus.data.tables import read_table
from uncus.pipeline import demo
from uncus.pipeline.cli import main
from uncus.pipeline.demo import Demo, start_over


def test_only_a_folder_of_the_demo_is_emptied(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(BadInput, match="neither empty nor the folder of a demo"):
        start_over(mine)
    assert (mine / "thesis.txt").read_text() == "precious"
    with pytest.raises(BadInput, match="is a file"):
        start_over(mine / "thesis.txt")
    own = tmp_path / "own"
    start_over(own)
    (own / "run").mkdir()
    (own / "run" / "config.json").write_text("{}")
    (own / "elsewhere").symlink_to(mine)
    start_over(own)
    assert not (own / "run").exists() and not (own / "elsewhere").exists()
    assert (mine / "thesis.txt").exists()


def test_new_scans_are_not_in_the_cohort():
    for subjects in (9, 10):
        one = Demo(subjects=subjects)
        assert one.new_subjects().first >= one.cohort().subjects
        assert one.new_subjects().seed == one.cohort().seed


def test_the_demo_trains_with_group_norm_at_batch_size_two():
    train = Demo().training()
    assert train.model.norm == "group" and train.optimization.batch_size == 2


def test_invalid_options_raise(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "new"), "--subjects", "2"]) == 2
    assert "at least 8 subjects" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole demo on eight subjects at 6 mm: too few to learn from, but every step runs."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "NEW_SPACING", 3.0)
        options = ["--subjects", "8", "--spacing", "6", "--epochs", "1", "--jobs", "1"]
        assert main(["demo", "--out", str(out), *options]) == 0
    return out


def test_the_results_of_the_demo(finished):
    results = json.loads((finished / "demo.json").read_text())
    assert 0 <= results["auc"]["value"] <= 1 and results["subjects"] == 8
    assert set(results["new"]) == {"CN", "AD"} and len(results["seconds"]) == 7
    assert "checks" in results["audit"]
    for name, answer in results["answers"].items():
        assert "at least 10 are needed" in answer, "eight subjects are too few to be calibrated"
        assert html.escape(answer) in (finished / "index.html").read_text(), name
    assert f"Audit: {results['audit']}" in (finished / "index.html").read_text()
    assert 0 <= results["saliency"]["share"] <= 1
    report = json.loads((finished / "run" / "report.json").read_text())
    assert results["auc"] == report["metrics"]["auc"]
    assert results["headline"] == report["headline"]


def test_the_run_has_a_model_card(finished):
    assert 'href="run/MODEL_CARD.md"' in (finished / "index.html").read_text()
    card = (finished / "run" / "MODEL_CARD.md").read_text()
    assert "Trained on synthetic brains" in card.split("##")[0]
    assert "hippocampi" in card and "Not audited" not in card and "were not checked" not in card


def test_new_scans_are_registered_and_have_regions(finished):
    """A run in space mni accepts scans in scanner space."""
    assert json.loads((finished / "run" / "model" / "card.json").read_text())["space"] == "mni"
    for answer in (finished / "predictions").glob("*/prediction.json"):
        regions = {row["region"] for row in json.loads(answer.read_text())["regions"]}
        for name in ("Hippocampus", "Lateral Ventricle"):
            assert {f"Left {name}", f"Right {name}"} <= regions


def test_the_page_is_self_contained_and_has_the_notice(finished):
    page = (finished / "index.html").read_text()
    assert "Research use only, not a medical device." in page
    assert page.count("data:image/png;base64,") == 2 and "<svg" in page
    assert 'src="http' not in page and "<script" not in page
    assert (finished / "run" / "report.html").exists()
    width, height = Image.open(finished / "demo.png").size
    assert width > 800 and height > 400
    assert (finished / "demo.png").stat().st_size < 400_000


def test_the_saliency_methods_were_checked(finished):
    passport = json.loads((finished / "run" / "passport.json").read_text())
    verdicts = {method: one["verdict"] for method, one in passport["methods"].items()}
    assert verdicts == json.loads((finished / "demo.json").read_text())["passport"]
    assert set(verdicts) == {"grad_cam", "integrated_gradients", "gradient"} and passport["quick"]
    assert 'href="run/passport.html"' in (finished / "index.html").read_text()


def test_every_result_says_that_the_run_is_of_phantoms(finished):
    said = "synthetic phantoms: its results say nothing of people"
    run = finished / "run"
    assert said in (run / "report.html").read_text() and said in (run / "report.json").read_text()
    assert "synthetic" in (run / "MODEL_CARD.md").read_text()
    for answer in (finished / "predictions").glob("*/prediction.json"):
        assert said in answer.read_text()


def test_new_subjects_were_never_trained_on(finished):
    trained = set(read_table(finished / "run" / "scans.tsv")["participant_id"])
    new = set(read_table(finished / "new" / "participants.tsv")["participant_id"])
    assert len(trained) == 8 and len(new) == 2 and not trained & new
    for answer in (finished / "predictions").glob("*/prediction.json"):
        assert "trained on this scan" not in answer.read_text()


def test_the_saliency_measured_is_the_one_on_disk(finished):
    options = replace(Demo(finished), subjects=8, spacing=6.0)
    results = json.loads((finished / "demo.json").read_text())
    again = options.measure(results["seconds"])
    assert again["saliency"] == results["saliency"]
