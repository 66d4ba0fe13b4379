"""The page Model card: what the networks were made from, for whom, how far they may be trusted."""

from typing import Any

import pandas as pd
import streamlit as st

from uncus import NOTICE
from uncus.app.pages.runs import height, report_of
from uncus.app.run_catalog import chosen_run, name
from uncus.app.sanitize import plain
from uncus.pipeline.evaluation import metrics
from uncus.pipeline.rendering.numbers import estimate_text
from uncus.pipeline.runs import Run

USE = (
    "For research by people who know the study that the networks were trained on. Not for a "
    "diagnosis, for the choice of a treatment, nor for anything that concerns one person's care: "
    f"{NOTICE[0].lower()}{NOTICE[1:]}"
)


def page() -> None:
    """The page."""
    st.title("Model card")
    run = chosen_run()
    card, report = run.card, report_of(run.path)
    st.subheader(plain(name(run.path)))
    st.markdown(f"**Who may use it.** {USE}")
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("What it predicts")
        predicts(card)
        st.subheader("What it was trained on")
        facts(trained_on(card))
    with right:
        st.subheader("What it is")
        facts(what(card))
        st.subheader("In groups of people")
        groups(report)
    st.subheader("Limits")
    st.markdown("\n".join(f"- {plain(line)}" for line in limits(card, report)))
    st.subheader("Hashes")
    hashes(run)


def facts(rows: dict[str, object]) -> None:
    """A table of names and values."""
    text = {"": list(rows), "value": [str(value) for value in rows.values()]}
    st.dataframe(pd.DataFrame(text), hide_index=True, width="stretch", height=height(len(rows)))


def predicts(card: dict[str, Any]) -> None:
    """Classes and the labels that each stands for, or the columns of a regression."""
    target = card["target"]
    columns = plain(", ".join(target["columns"]))
    if target["regression"]:
        st.markdown(f"The value of {columns}, in the units of the training table.")
        return
    lines = [
        f"- **{plain(label)}**: {columns} is {plain(' or '.join(values))}"
        for label, values in target["classes"].items()
    ]
    st.markdown("\n".join(lines))


def trained_on(card: dict[str, Any]) -> dict[str, object]:
    """Counts, ages, sexes, classes."""
    training = card["training"]
    rows: dict[str, object] = {
        "people": training["subjects"],
        "scans": training["scans"],
        "folds": training["folds"],
    }
    for label, count in training.get("classes", {}).items():
        rows[f"scans labelled {label}"] = count
    if "age_years" in training:
        age = training["age_years"]
        rows["age in years"] = f"{age['min']:g} to {age['max']:g}"
    for sex, count in training.get("sex", {}).items():
        rows[f"sex {sex}"] = count
    return rows


def what(card: dict[str, Any]) -> dict[str, object]:
    """Networks, grid, versions."""
    model, grid = card["model"], card["grid"]
    edges = sorted(
        {round(sum(row[k] ** 2 for row in grid["affine"][:3]) ** 0.5, 2) for k in range(3)}
    )
    space = {"keep": "where the file puts the scan", "mni": "registered to ICBM152 (MNI)"}
    size = f"{' × '.join(map(str, grid['shape']))} of {' × '.join(f'{e:g}' for e in edges)} mm"
    return {
        "network": f"{model['backbone']}, {model['norm']} norm",
        "networks": len(card["members"]),
        "besides the scan": ", ".join(card.get("covariates", {})) or "nothing",
        "space": space.get(card["space"], card["space"]),
        "grid": size,
        "calibrated": "yes" if card.get("calibration") else "no",
        "started from": card["init_from"] or "random weights",
        "made": card["made"].replace("T", " ").removesuffix("+00:00") + " UTC",
        "uncus": card["versions"]["uncus"],
        "torch": card["versions"]["torch"],
    }


def groups(report: dict[str, Any] | None) -> None:
    """The main metric by sex and age."""
    rows = [
        {
            "group": f"{column} {level}",
            "scans": found["scans"],
            metrics.title(found["metric"]): "too few"
            if found["score"] is None
            else estimate_text(found["score"]),
        }
        for column, levels in (report or {}).get("subgroups", {}).items()
        for level, found in levels.items()
    ]
    if rows:
        table = pd.DataFrame(rows)
        st.dataframe(table, hide_index=True, width="stretch")
    else:
        st.markdown(
            "Nothing is known: the run has not been evaluated, or its table has no sex or age."
        )


def limits(card: dict[str, Any], report: dict[str, Any] | None) -> list[str]:
    """What the numbers do not say of this run."""
    training = card["training"]
    lines = [
        f"Made from {training['subjects']} people of one study: other scanners, sites, ages and "
        "ways of diagnosing were not tried.",
    ]
    if "age_years" in training:
        age = training["age_years"]
        lines.append(f"Nobody younger than {age['min']:g} or older than {age['max']:g} was in it.")
    else:
        lines.append("The ages of its people are not known.")
    if not card["target"]["regression"]:
        named = " or ".join(card["target"]["classes"])
        lines.append(
            f"Whatever a scan shows, the answer is {named}: other diseases are unknown to it."
        )
    if not card.get("calibration"):
        lines.append("Not calibrated: its shares are no probabilities of anything.")
    if report is None:
        lines.append("Not evaluated: nobody knows how well it does.")
    lines.append(
        "The gate refuses scans unlike those of the study, and lets through many that look alike."
    )
    return lines


def hashes(run: Run) -> None:
    """SHA-256 of every file of the model."""
    sums = run.verify()
    table = pd.DataFrame({"file": list(sums), "SHA-256": list(sums.values())})
    st.dataframe(table, hide_index=True, width="stretch")
    st.caption(f"Cohort: {plain(run.card['cohort_fingerprint'])}")
