"""The demo: its measure of saliency, its folder, and the whole path on a handful of subjects."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from uncus.data.errors import BadInput
from uncus.data.tables import read_table
from uncus.pipeline import demo
from uncus.pipeline.cli import main
from uncus.pipeline.demo import Demo, concentration, start_over


def grid():
    brain = np.zeros((10, 10, 10), dtype=bool)
    brain[2:8, 2:8, 2:8] = True  # 216 of 1000 voxels
    atrophy = np.zeros_like(brain)
    atrophy[3:6, 3:5, 3:6] = True  # 18 voxels
    return atrophy, brain


def test_an_even_map_scores_one():
    atrophy, brain = grid()
    assert concentration(np.ones(brain.shape), atrophy, brain)["times_volume"] == pytest.approx(1)
    assert concentration(brain * 2.0, atrophy, brain)["times_brain"] == pytest.approx(1)


def test_saliency_outside_the_brain_or_against_the_class_earns_nothing():
    atrophy, brain = grid()
    exact = concentration(atrophy * 1.0, atrophy, brain)
    assert exact["share"] == 1 and exact["times_brain"] == pytest.approx(216 / 18)
    outside = np.where(brain, 0.0, 1.0)
    outside[atrophy] = 1
    assert concentration(outside, atrophy, brain)["share"] == pytest.approx(18 / (784 + 18))
    against = np.where(atrophy, -5.0, 0.0)
    against[2, 2, 2] = 1
    assert concentration(against, atrophy, brain)["share"] == 0
    assert concentration(np.zeros(brain.shape), atrophy, brain)["times_brain"] == 0


def test_only_a_folder_of_the_demo_is_emptied(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(BadInput, match="holds no demo"):
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


def test_new_scans_are_no_subjects_of_the_cohort():
    for subjects in (9, 10):
        one = Demo(subjects=subjects)
        assert one.newcomers().first >= one.cohort().subjects
        assert one.newcomers().seed == one.cohort().seed


def test_the_demo_trains_as_it_says():
    train = Demo().training()
    assert train.model.norm == "group" and train.optimization.batch_size == 2


def test_bad_options_are_refused(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "new"), "--subjects", "2"]) == 2
    assert "at least 8 subjects" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The whole demo on eight subjects at 6 mm: it learns nothing, but every step runs."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "NEW_SPACING", 6.0)
        options = ["--subjects", "8", "--spacing", "6", "--epochs", "1", "--jobs", "1"]
        assert main(["demo", "--out", str(out), *options]) == 0
    return out


def test_the_demo_leaves_what_it_promises(finished):
    found = json.loads((finished / "demo.json").read_text())
    assert 0 <= found["auc"]["value"] <= 1 and found["subjects"] == 8
    assert set(found["new"]) == {"CN", "AD"} and len(found["seconds"]) == 5
    assert 0 <= found["saliency"]["share"] <= 1
    report = json.loads((finished / "run" / "report.json").read_text())
    assert found["auc"] == report["metrics"]["auc"]


def test_new_scans_are_registered_and_have_regions(finished):
    """A run in the standard space takes scans that lie as a scanner leaves them."""
    assert json.loads((finished / "run" / "model" / "card.json").read_text())["space"] == "mni"
    for answer in (finished / "predictions").glob("*/prediction.json"):
        regions = {row["region"] for row in json.loads(answer.read_text())["regions"]}
        for name in ("Hippocampus", "Lateral Ventricle"):
            assert {f"Left {name}", f"Right {name}"} <= regions


def test_the_page_stands_alone_and_says_what_it_is_not(finished):
    page = (finished / "index.html").read_text()
    assert "Research use only, not a medical device." in page
    assert page.count("data:image/png;base64,") == 2 and "<svg" in page
    assert 'src="http' not in page and "<script" not in page
    assert (finished / "run" / "report.html").exists()
    width, height = Image.open(finished / "demo.png").size
    assert width > 800 and height > 400
    assert (finished / "demo.png").stat().st_size < 400_000


def test_new_subjects_were_never_trained_on(finished):
    trained = set(read_table(finished / "run" / "scans.tsv")["participant_id"])
    new = set(read_table(finished / "new" / "participants.tsv")["participant_id"])
    assert len(trained) == 8 and len(new) == 2 and not trained & new
    for answer in (finished / "predictions").glob("*/prediction.json"):
        assert "trained on this scan" not in answer.read_text()


def test_the_saliency_measured_is_the_one_on_disk(finished):
    options = replace(Demo(finished), subjects=8, spacing=6.0)
    found = json.loads((finished / "demo.json").read_text())
    again = options.measure(found["seconds"])
    assert again["saliency"] == found["saliency"]
