"""The core of uncus evaluate, on studies made up here."""

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.pipeline.run_files.cards import seal
from uncus.data import files
from uncus.data.design.splits import Splits, make_splits
from uncus.data.design.targets import Target
from uncus.data.errors import BadInput
from uncus.data.tables import read_table, write_table
from uncus.pipeline.cli import main
from uncus.pipeline.evaluate import Evaluate
from uncus.pipeline.evaluation.assessment import assess
from uncus.pipeline.evaluation.baselines import choose, features, predict_baseline
from uncus.pipeline.evaluation.metrics import auc
from uncus.pipeline.evaluation.predictions import Study, model_outputs
from uncus.pipeline.runs import Run

CN_AD = Target.parse(["dx"], ["CN=CN", "AD=AD"])


def people(n: int = 90, classes: tuple[str, ...] = ("CN", "AD"), sessions: int = 1) -> pd.DataFrame:
    """n people whose class goes with age, and more with the column volume."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % len(classes)
    one = pd.DataFrame(
        {
            "participant_id": [f"sub-{k:03}" for k in range(n)],
            "dx": [classes[k] for k in label],
            "age": [f"{a:.1f}" for a in 65 + 4 * label + rng.normal(0, 6, n)],
            "sex": rng.choice(["F", "M"], n),
            "volume": [f"{v:.3f}" for v in rng.normal(0, 1, n) - 1.2 * label],
            "site": rng.choice(["A", "B", ""], n),
        }
    )
    parts = [one.assign(session_id=f"ses-{k + 1}" if sessions > 1 else "") for k in range(sessions)]
    return pd.concat(parts).sort_values(["participant_id", "session_id"], kind="stable")


def predictions(
    scans: pd.DataFrame, splits: Splits, target: Target, seeds: int = 1, skill: float = 2.0
) -> pd.DataFrame:
    """What networks that know something of the label would have said."""
    study = Study.of(scans, target, splits)
    rng = np.random.default_rng(1)
    rows = []
    for fold in range(splits.folds):
        for part in ("test", "holdout"):
            names = splits.subjects(fold, part)
            for place, scan in study.scans.iterrows():
                if scan["participant_id"] not in names:
                    continue
                for seed in range(seeds):
                    row = {"fold": fold, "seed": seed, "part": part}
                    row |= {key: scan[key] for key in ("participant_id", "session_id")}
                    label = study.labels[place]
                    if target.regression:
                        for name, true in zip(target.columns, label, strict=True):
                            row |= {f"true_{name}": true, f"pred_{name}": true + rng.normal(0, 5)}
                    else:
                        logits = rng.normal(0, 1, len(target.names))
                        logits[max(label, 0)] += skill
                        p = np.exp(logits) / np.exp(logits).sum()
                        row["true"] = target.names[label] if label >= 0 else ""
                        row |= {f"p_{n}": x for n, x in zip(target.names, p, strict=True)}
                    rows.append(row)
    return pd.DataFrame(rows)


def case(
    target: Target = CN_AD, holdout: int = 0, folds: int = 3, **options: object
) -> tuple[Study, pd.DataFrame]:
    scans = people(**options)  # type: ignore[arg-type]
    names = sorted(set(scans["participant_id"]))
    splits = make_splits(scans, folds=folds, holdout=names[:holdout])
    return Study.of(scans, target, splits), predictions(scans, splits, target)


def test_report_holds_what_others_rely_on() -> None:
    study, said = case()
    report = assess(study, said, ["volume"], draws=200).report
    for entry in (
        report["metrics"],
        *report["baselines"].values(),
        *report["differences"].values(),
    ):
        for metric in ("auc", "balanced_accuracy", "sensitivity", "specificity", "brier", "ece"):
            assert set(entry[metric]) == {"value", "low", "high"}
    assert set(report["baselines"]) == {"majority", "age+sex", "volume"}
    assert report["counts"] == {"scans": 90, "subjects": 90, "classes": {"CN": 45, "AD": 45}}
    assert report["notice"] == "Research use only, not a medical device."
    assert report["rule"] == "AD if its probability exceeds 0.5"
    assert np.sum(report["confusion"]) == 90
    json.dumps(report, allow_nan=False)


def test_values_are_those_of_the_pooled_predictions() -> None:
    study, said = case()
    report = assess(study, said, draws=100).report
    positive = (said["true"] == "AD").to_numpy()
    pooled = auc(positive, said["p_AD"].to_numpy(), np.ones((1, len(said))))[0]
    assert report["metrics"]["auc"]["value"] == pytest.approx(pooled)
    within = []
    for fold, some in said.groupby("fold"):
        positive, score = (some["true"] == "AD").to_numpy(), some["p_AD"].to_numpy()
        within.append(auc(positive, score, np.ones((1, len(some))))[0])
        assert report["folds"][int(str(fold))]["score"] == pytest.approx(within[-1])
    assert report["within_folds"]["mean"] == pytest.approx(np.mean(within))
    assert report["within_folds"]["sd"] == pytest.approx(np.std(within, ddof=1))


def test_same_seed_same_report_and_order_of_rows_is_of_no_matter() -> None:
    study, said = case()
    first = assess(study, said, draws=100, seed=5).report
    assert assess(study, said, draws=100, seed=5).report == first
    assert assess(study, said, draws=100, seed=6).report["metrics"] != first["metrics"]
    shuffled = assess(study, said.sample(frac=1, random_state=0), draws=100).report["metrics"]
    for metric, found in shuffled.items():
        assert found["value"] == pytest.approx(first["metrics"][metric]["value"], abs=1e-12)


def test_baselines_never_see_the_test_subjects_labels() -> None:
    study, said = case(n=60)
    rows = model_outputs(study, said).rows
    before = predict_baseline(study, rows, ["volume", "site"])
    for fold in range(study.splits.folds):
        tested = study.scans["participant_id"].isin(study.splits.subjects(fold, "test")).to_numpy()
        labels = np.where(tested, 1 - study.labels, study.labels)
        flipped = Study(study.scans, study.target, labels, study.splits)
        here = (rows["fold"] == fold).to_numpy()
        after = predict_baseline(flipped, rows, ["volume", "site"])
        np.testing.assert_array_equal(before[here], after[here])
        assert np.abs(before[~here] - after[~here]).max() > 0.01


def test_baselines_do_what_they_should() -> None:
    study, said = case(n=120)
    report = assess(study, said, ["volume", "age"], draws=100).report
    assert list(report["baselines"]) == ["majority", "age+sex", "volume", "age", "volume+age"]
    value = {name: found["auc"]["value"] for name, found in report["baselines"].items()}
    assert value["majority"] == 0.5  # and not less: one constant for all folds
    assert value["volume"] > 0.7
    assert value["volume+age"] > value["age"]


def test_baseline_of_the_target_or_of_no_column_is_refused() -> None:
    study, _ = case()
    with pytest.raises(BadInput, match="is the target itself"):
        choose(study, ["dx"])
    with pytest.raises(BadInput, match="no column 'volum'"):
        choose(study, ["volum"])


def test_age_is_no_baseline_for_age() -> None:
    target = Target.parse(["age"], regression=True)
    study, said = case(target)
    report = assess(study, said, ["volume"], draws=100).report
    assert set(report["baselines"]) == {"mean", "sex", "volume"}
    assert set(report["metrics"]) == {"mae", "r2", "pearson_r"}
    assert report["baselines"]["mean"]["r2"]["value"] == pytest.approx(0, abs=0.01)
    assert report["confusion"] is None
    assert report["metrics"]["mae"]["value"] == pytest.approx(5 * np.sqrt(2 / np.pi), rel=0.2)


def test_missing_features_become_the_training_mean() -> None:
    scans = pd.DataFrame({"a": ["1", "3", "", "100"], "s": ["x", "y", "", "z"]})
    train = np.array([True, True, False, False])
    x = features(scans, ["a", "s"], train)
    np.testing.assert_allclose(x[:, 0], [-1, 1, 0, 98])
    np.testing.assert_allclose(x[:, 1], [-1, 1, 0, -1])  # y against x; z was never seen


def test_seeds_are_averaged() -> None:
    scans = people(30)
    splits = make_splits(scans, folds=2)
    study = Study.of(scans, CN_AD, splits)
    said = predictions(scans, splits, CN_AD, seeds=3)
    outputs = model_outputs(study, said)
    assert len(outputs.rows) == 30
    first = said[said["participant_id"] == outputs.rows["participant_id"][0]]
    assert outputs.values["model"][0, 1] == pytest.approx(first["p_AD"].mean())


def test_holdout_is_told_apart_and_averaged_over_folds() -> None:
    study, said = case(holdout=24)
    report = assess(study, said, draws=100).report
    assert report["counts"]["subjects"] == 66
    assert report["holdout"]["counts"]["subjects"] == report["holdout"]["counts"]["scans"] == 24
    held = (
        said[said["part"] == "holdout"]
        .groupby("participant_id")
        .agg({"p_AD": "mean", "true": "first"})
    )
    expected = auc((held["true"] == "AD").to_numpy(), held["p_AD"].to_numpy(), np.ones((1, 24)))
    assert report["holdout"]["metrics"]["auc"]["value"] == pytest.approx(expected[0])
    assert set(report["holdout"]["baselines"]) == set(report["baselines"])
    assert "holdout" not in assess(*case(), draws=100).report


def test_three_classes() -> None:
    target = Target.parse(["dx"], ["CN=CN", "MCI=MCI", "AD=AD"])
    report = assess(*case(target, classes=("CN", "MCI", "AD")), ["volume"], draws=100).report
    each = [report["metrics"][f"auc_{name}"]["value"] for name in target.names]
    assert report["metrics"]["auc"]["value"] == pytest.approx(np.mean(each))
    assert report["rule"] == "the class of the highest probability"
    assert np.shape(report["confusion"]) == (3, 3)


def test_sessions_give_test_retest_even_where_a_label_is_missing() -> None:
    scans = people(60, sessions=2)
    second = (scans["session_id"] == "ses-2").to_numpy()
    scans.loc[second & (scans["age"].astype(float) > 65).to_numpy(), "dx"] = ""
    splits = make_splits(scans, folds=3)
    study = Study.of(scans, CN_AD, splits)
    report = assess(study, predictions(scans, splits, CN_AD), draws=100).report
    unlabelled = int((scans["dx"] == "").sum())
    assert unlabelled > 0
    assert report["counts"]["scans"] == 120 - unlabelled
    found = report["test_retest"]
    assert found["subjects"] == 60 and set(found["of"]) == {"AD"}
    assert found["of"]["AD"]["n"] == 60
    assert 0 <= found["same_class"] <= 1
    assert assess(*case(), draws=100).report["test_retest"] is None


def test_intervals_are_wider_where_people_have_two_scans() -> None:
    scans = people(60, sessions=2)
    splits = make_splits(scans, folds=3)
    said = predictions(scans, splits, CN_AD)
    for key in ("p_CN", "p_AD"):  # the second session says the same as the first
        said[key] = said.groupby("participant_id")[key].transform("first")
    twice = assess(Study.of(scans, CN_AD, splits), said, draws=300).report["metrics"]["auc"]
    first = scans[scans["session_id"] == "ses-1"]
    one = said[said["session_id"] == "ses-1"]
    once = assess(Study.of(first, CN_AD, splits), one, draws=300).report["metrics"]["auc"]
    assert twice["value"] == pytest.approx(once["value"])
    assert twice["high"] - twice["low"] == pytest.approx(once["high"] - once["low"], rel=0.02)


@pytest.mark.parametrize(
    ("break_it", "cause"),
    [
        (lambda t: t.drop(columns="p_AD"), "no column 'p_AD'"),
        (lambda t: t.assign(p_AD=np.nan), "is empty or not finite"),
        (lambda t: t.iloc[:0], "empty"),
        (lambda t: t.assign(p_AD=t["p_AD"] + 0.5), "do not sum to 1"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "lists a scan twice"),
        (lambda t: t.assign(fold=(t["fold"] + 1) % 3), r"sub-\d+ is not a test subject of fold"),
        (lambda t: t.assign(true=t["true"].map({"AD": "CN", "CN": "AD"})), "label that differs"),
        (lambda t: t.assign(fold=t["fold"].replace(1, 7)), "fold 7 is not in splits.tsv"),
        (lambda t: t.assign(part="train"), "part train is not in splits.tsv"),
        (lambda t: t.assign(session_id="ses-9"), r"sub-\d+_ses-9 is not in scans.tsv"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(break_it: object, cause: str) -> None:
    study, said = case(n=30)
    with pytest.raises(BadInput, match=cause):
        assess(study, break_it(said), draws=100)  # type: ignore[operator]


def test_the_verb_reads_a_run_and_writes_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, said = case(n=60)
    run = Run(tmp_path / "run")
    (run.path / "fold-0").mkdir(parents=True)
    write_table(run.scans_path, study.scans)
    write_table(run.predictions_path, said)
    study.splits.save(run.splits_path)
    (run.path / "fold-0" / "metrics.csv").write_text("epoch,loss,score\n0,0.7,0.6\n1,0.5,0.8\n")
    seal(run, target=study.target.as_dict())
    assert Evaluate(run.path, ("volume",), draws=100).run() == 0
    report = json.loads((run.path / "report.json").read_text())
    assert report["metrics"]["auc"]["low"] < report["metrics"]["auc"]["value"]
    expected = assess(study, said, ["volume"], draws=100).report
    assert report["metrics"]["auc"]["value"] == pytest.approx(expected["metrics"]["auc"]["value"])
    printed = capsys.readouterr().out
    assert "volume" in printed and "AUC" in printed and "not a medical device" in printed
    page = (run.path / "report.html").read_text()
    assert "loss and validation score" in page and page.count("<svg") >= 5


def test_the_verb_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RUN is missing"):
        Evaluate().run()
    with pytest.raises(BadInput, match=r"is not a run|is missing"):
        Evaluate(tmp_path).run()
    for name, value in (("draws", 3), ("seed", -1)):
        with pytest.raises(ValueError, match=f"{name}={value}"):
            Evaluate(tmp_path, **{name: value})


def with_ages(study: Study, change: dict[int, str]) -> Study:
    """The same study, with the ages of some rows replaced."""
    scans = study.scans.copy()
    for row, cell in change.items():
        scans.loc[row, "age"] = cell
    return Study(scans, study.target, study.labels, study.splits)


def test_one_age_that_is_a_limit_or_text_changes_nothing_else() -> None:
    study, said = case()
    change = {5: "89+", 6: "unknown"}
    report = assess(with_ages(study, change), said, draws=100).report
    same = assess(with_ages(study, {5: "89", 6: ""}), said, draws=100).report
    assert report["baselines"] == same["baselines"]
    assert report["subgroups"] == same["subgroups"]
    assert not any(line.startswith("age ") for line in same["warnings"])
    assert [line for line in report["warnings"] if line not in same["warnings"]] == [
        "age has 1 cell that is not a number, taken as missing: unknown",
        "age 89+ is read as 89",
    ]


def test_age_and_sex_are_found_in_any_case() -> None:
    study, said = case()
    shouted = study.scans.rename(columns={"age": "AGE", "sex": "Sex"})
    same = Study(shouted, study.target, study.labels, study.splits)
    reports = [assess(one, said, draws=100).report for one in (study, same)]
    assert reports[0]["subgroups"] == reports[1]["subgroups"]
    assert reports[0]["baselines"]["age+sex"] == reports[1]["baselines"]["AGE+Sex"]


@pytest.mark.parametrize("other", ["constant sex", "ages as text", "sex alone, constant"])
def test_no_baseline_that_was_not_asked_for_stops_a_report(other: str) -> None:
    study, said = case()
    scans = study.scans.copy()
    if "sex" in other:
        scans["sex"] = "F"
    if "alone" in other:
        scans["age"] = ""
    if other == "ages as text":
        scans["age"] = [f"about {age}" for age in scans["age"]]
    study = Study(scans, study.target, study.labels, study.splits)
    report = assess(study, said, draws=100).report
    names = {"constant sex": "age+sex", "ages as text": "sex", "sex alone, constant": "sex"}
    assert list(report["baselines"]) == ["majority", names[other]]
    warned = [line for line in report["warnings"] if "no baseline" in line]
    assert len(warned) == (other == "ages as text")
    adjusted = {"constant sex": ["age"], "ages as text": ["sex"], "sex alone, constant": None}
    assert (report["adjustment"] or {"columns": None})["columns"] == adjusted[other]
    assert any("not adjusted" in line for line in report["warnings"]) == (adjusted[other] is None)
    if other == "ages as text":
        assert re.fullmatch(r"age is no baseline: \d+ different texts, not numbers", warned[0])
        with pytest.raises(BadInput, match=r"--baseline age: \d+ different texts; use numbers"):
            assess(study, said, ["age"], draws=100)


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Run:
    """A run whose files may be changed."""
    shutil.copytree(run, tmp_path / "run")
    return Run(tmp_path / "run")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: list[Callable[[Path], object]] = [
    Path.unlink,
    lambda path: path.write_bytes(path.read_bytes()[:-9]),
    flip,
]


@pytest.mark.parametrize("damage", DAMAGE, ids=["deleted", "cut", "flipped"])
@pytest.mark.parametrize("file", ["weights", "reference", "predictions", "splits", "scans"])
def test_a_damaged_run_is_not_evaluated(
    copied: Run, file: str, damage: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    path = {
        "weights": copied.model_folder / "fold-1.safetensors",
        "reference": copied.reference_path,
        "predictions": copied.predictions_path,
        "splits": copied.splits_path,
        "scans": copied.scans_path,
    }[file]
    damage(path)
    assert main(["evaluate", str(copied.path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"uncus: {path}: ") and ("missing" in line or "SHA-256" in line)
    assert not copied.report_path.exists()


def test_predictions_that_were_added_to_a_card_later_are_not_sealed(copied: Run) -> None:
    card = files.read_json(copied.card_path)
    del card["results"]["predictions.tsv"]
    files.write_json(copied.card_path, card)
    copied.seal()
    with pytest.raises(BadInput, match=r"predictions\.tsv: is not sealed by card\.json"):
        Evaluate(copied.path, draws=100).run()


HOSTILE = ["", "x", "-1", "1.5", "99", "1e999", "nan", "9" * 400, "\x1b[2J", "<script>", "train"]


@pytest.mark.parametrize("table", ["predictions", "splits", "scans"])
def test_hostile_tables_give_a_report_or_one_line(
    copied: Run, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = {"predictions": copied.predictions_path, "splits": copied.splits_path}.get(
        table, copied.scans_path
    )
    card, real = files.read_json(copied.card_path), read_table(path)
    several = ["participant_id", "fold", "fold-0", "diagnosis"]
    changes = [real.assign(**{c: [h, *real[c][1:]]}) for c in real for h in HOSTILE]
    changes += [real.assign(**{c: h}) for c in several if c in real for h in HOSTILE[:6]]
    changes = random.Random(0).sample(changes, 5) + [real.drop(columns=c) for c in real]
    codes = []
    for changed in changes:
        path.write_text(changed.to_csv(sep="\t", index=False))
        card["results"][path.name] = files.sha256(path)
        files.write_json(copied.card_path, card)
        copied.seal()
        codes.append(main(["evaluate", str(copied.path), "--draws", "100"]))
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == (codes[-1] == 2) and all(map(str.isprintable, lines)), changed
    assert 2 in codes


def test_a_run_of_an_earlier_version_is_evaluated_with_a_warning(
    copied: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    card = files.read_json(copied.card_path)
    del card["results"]
    files.write_json(copied.card_path, card)
    copied.seal()
    assert main(["evaluate", str(copied.path), "--draws", "100"]) == 0
    out = capsys.readouterr().out
    assert "warning: " in out and "its results have no SHA-256" in out


def test_results_never_replace_the_files_of_a_run(
    copied: Run, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, certificate = str(copied.path), str(copied.certificate_path)
    before = {path: files.sha256(path) for path in copied.path.glob("*.*")}
    for words in (
        ["evaluate", run, "--on", str(cohort), "--overlap", "other-people"],
        ["predict", run, str(cohort)],
        ["explain", run, str(cohort)],
        ["audit", str(cohort), "--rebuild", certificate],
        ["audit", str(cohort)],
    ):
        for out in (run, str(copied.model_folder)):
            assert main([*words, "--out", out]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert line == f"uncus: {out}: is a run; choose another folder"
    assert before == {path: files.sha256(path) for path in copied.path.glob("*.*")}
