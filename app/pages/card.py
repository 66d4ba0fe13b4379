"""The page Model card: training data, intended use and limitations of the networks."""

from typing import Any

import pandas as pd
import streamlit as st

from uncus import NOTICE
from uncus.app.pages.chosen_run import chosen_run
from uncus.app.pages.runs import height, report_of
from uncus.app.run_catalog import name
from uncus.app.sanitize import plain
from uncus.pipeline.evaluation import metrics
from uncus.pipeline.evaluation.report_text import headline, unadjusted
from uncus.pipeline.rendering.numbers import estimate_text
from uncus.pipeline.runs import Run
from uncus.pipeline.trust.domain import domain_limits, in_words

USE = (
    "For research by people who know the study that the networks were trained on. Not for "
    "diagnosis, treatment decisions or patient care: "
    f"{NOTICE[0].lower()}{NOTICE[1:]}"
)


def page() -> None:
    """The page."""
    st.title("Model card")
    run = chosen_run()
    card, report = run.card, report_of(run.path)
    st.subheader(plain(name(run.path)))
    st.markdown(f"**Intended use.** {USE}")
    if report:
        st.markdown(f"**Result.** {plain(f'{headline(report)}. {unadjusted(report)}')}")
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Target")
        predicts(card)
        st.subheader("Training data")
        facts(trained_on(card))
    with right:
        st.subheader("Networks")
        facts(what(card))
        st.subheader("Subgroups")
        groups(report)
    st.subheader("Limitations")
    st.markdown("\n".join(f"- {plain(line)}" for line in limits(card, report)))
    st.subheader("Saliency methods")
    st.markdown(plain(run.verdicts().line()))
    st.subheader("Hashes")
    hashes(run)


def facts(rows: dict[str, object]) -> None:
    """A table of names and values."""
    text = {"": list(rows), "value": [str(value) for value in rows.values()]}
    st.dataframe(pd.DataFrame(text), hide_index=True, width="stretch", height=height(len(rows)))


def predicts(card: dict[str, Any]) -> None:
    """The classes with their labels, or the columns of a regression."""
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
        "subjects": training["subjects"],
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
    rows["domain"] = in_words(card)
    return rows


def what(card: dict[str, Any]) -> dict[str, object]:
    """Networks, grid, versions."""
    model, grid = card["model"], card["grid"]
    edges = sorted(
        {round(sum(row[k] ** 2 for row in grid["affine"][:3]) ** 0.5, 2) for k in range(3)}
    )
    space = {"keep": "the scan's own (scanner or template)", "mni": "registered to ICBM152 (MNI)"}
    size = f"{' × '.join(map(str, grid['shape']))} of {' × '.join(f'{e:g}' for e in edges)} mm"
    return {
        "network": f"{model['backbone']}, {model['norm']} norm",
        "networks": len(card["members"]),
        "covariates": ", ".join(card.get("covariates", {})) or "none",
        "space": space.get(card["space"], card["space"]),
        "grid": size,
        "calibrated": "yes" if card.get("calibration") else "no",
        "started from": card["init_from"] or "random weights",
        "made": card["made"].replace("T", " ").removesuffix("+00:00") + " UTC",
        "uncus": card["versions"]["uncus"],
        "torch": card["versions"]["torch"],
    }


def groups(report: dict[str, Any] | None) -> None:
    """The main metric by sex, age, site and scanner."""
    rows = [
        {
            "group": f"{column} {level}",
            "scans": group["scans"],
            metrics.title(group["metric"]): "too few"
            if group["score"] is None
            else estimate_text(group["score"]),
            "": "few" if group.get("few") else "",
        }
        for column, levels in (report or {}).get("subgroups", {}).items()
        for level, group in levels.items()
    ]
    if rows:
        table = pd.DataFrame(rows)
        st.dataframe(table, hide_index=True, width="stretch")
    else:
        st.markdown("Unknown: the run has not been evaluated, or its table has no sex or age.")


def limits(card: dict[str, Any], report: dict[str, Any] | None) -> list[str]:
    """Limitations of the run."""
    training = card["training"]
    lines = [
        f"Trained on {training['subjects']} subjects of one study: not tested on other scanners, "
        "sites, ages or diagnostic criteria.",
    ]
    if "age_years" in training:
        age = training["age_years"]
        lines.append(
            f"No training subject was younger than {age['min']:g} or older than {age['max']:g}."
        )
    else:
        lines.append("The ages of the training subjects are unknown.")
    if not card["target"]["regression"]:
        named = " or ".join(card["target"]["classes"])
        lines.append(f"The prediction is always {named}: other diseases are not recognized.")
    if not card.get("calibration"):
        why = f" ({plain(card['not_calibrated'])})" if "not_calibrated" in card else ""
        lines.append(f"Not calibrated{why}: the probabilities do not state how likely a class is.")
    if report is None:
        lines.append("Not evaluated: its performance is unknown.")
    lines.append(domain_limits(card))
    return lines


def hashes(run: Run) -> None:
    """SHA-256 of every file of the model."""
    sums = run.verify()
    table = pd.DataFrame({"file": list(sums), "SHA-256": list(sums.values())})
    st.dataframe(table, hide_index=True, width="stretch")
    st.caption(f"Cohort: {plain(run.card['cohort_fingerprint'])}")
