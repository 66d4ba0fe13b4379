"""The sections of a model card on what was measured and checked."""

import re

from uncus.pipeline.evaluation import metrics, reliability
from uncus.pipeline.evaluation.report_text import (
    best_baseline,
    headline,
    main_of,
    row_title,
    unadjusted,
    verdict,
)
from uncus.pipeline.model_card.evidence import Content, Evidence
from uncus.pipeline.rendering.markdown import Block, Section, Table
from uncus.pipeline.rendering.numbers import estimate_text
from uncus.pipeline.robustness import summary as robust
from uncus.pipeline.run_files.audit_summary import summary
from uncus.pipeline.run_files.passport import UNCHECKED
from uncus.pipeline.trust.domain import domain_limits, in_words

EVALUATE = "Not measured: uncus evaluate RUN."
DISTURB = "Not measured: uncus evaluate RUN --robust."
AUDIT = "Not audited: uncus audit RUN."
SUBJECT = re.compile(r"\bsub-\w")
"""A subject's name; a card is made to be shared, so it has none."""


def results(evidence: Evidence) -> Section:
    """The metrics with intervals, the best simple baseline beside them; other cohorts."""
    report, title = evidence.report, "Results"
    if not report:
        return Section(title, [EVALUATE, *elsewhere(evidence)])
    counts, interval = report["counts"], report["interval"]
    blocks: list[Block] = [
        f"{headline(report)} on {counts['scans']} scans of {counts['subjects']} subjects, each "
        f"tested only by networks that were not trained on that subject. {unadjusted(report)}",
        metrics_table(report),
        f"Intervals of {interval['level']:.0%}, {interval['method']}, {interval['draws']} "
        f"resamples. {rule(report)}",
    ]
    if len(report["baselines"]) > 1:
        blocks.append(f"Baselines, {metrics.title(main_of(report))}: {other_baselines(report)}.")
    if held := report.get("holdout"):
        value = estimate_text(held["metrics"][main_of(report)])
        blocks.append(f"Holdout, {held['counts']['scans']} scans: {value}.")
    return Section(title, [*blocks, *elsewhere(evidence)])


def rule(report: Content) -> str:
    """The decision rule."""
    return f"Predicted: {report['rule']}; no threshold was tuned." if report["rule"] else ""


def metrics_table(report: Content) -> Table:
    """Every metric of the network, and of the best simple baseline with the difference."""
    best = best_baseline(report)
    rows = []
    for metric, value in report["metrics"].items():
        row = [row_title(metric, report), estimate_text(value)]
        if best:
            ahead = report["differences"][best][metric]
            row += [estimate_text(report["baselines"][best][metric]), estimate_text(ahead)]
            row.append(verdict(metric, ahead))
        rows.append(row)
    beside = [f"best baseline: {best}", "network minus baseline", "verdict"] if best else []
    return Table(["metric", "network", *beside], rows)


def other_baselines(report: Content) -> str:
    """The main metric of each."""
    metric = main_of(report)
    return "; ".join(
        f"{name} {estimate_text(values[metric])}" for name, values in report["baselines"].items()
    )


def elsewhere(evidence: Evidence) -> list[Block]:
    """The headline on each other cohort."""
    found = [
        f"{name}: {headline(report)} on {report['counts']['scans']} scans"
        for name, report in evidence.external.items()
        if report
    ]
    return ["On other cohorts, by the same networks:", found] if found else ["No other cohort."]


def adjusted(evidence: Evidence) -> Section:
    """What remains when the classes are alike in age and sex; the metrics by group."""
    report, title = evidence.report, "Age, sex, sites and scanners"
    if not report:
        return Section(title, [EVALUATE])
    blocks: list[Block] = []
    if found := report.get("adjustment"):
        share, names = found["explained"], ", ".join(found["columns"])
        blocks.append(
            f"Adjusted for {names}, on {found['scans']} scans where they are known: adjusted AUC "
            f"{estimate_text(report['metrics']['auc_adjusted'])}. Of the variance of the network's "
            f"score they explain R² {estimate_text(share)}."
        )
    elif not evidence.regression:
        blocks.append("The AUC is not adjusted for age and sex.")
    rows = [
        [
            f"{column} {level}",
            group["scans"],
            "too few" if group["score"] is None else estimate_text(group["score"]),
            ", ".join(group.get("few", [])),
        ]
        for column, levels in report["subgroups"].items()
        for level, group in levels.items()
    ]
    if rows:
        head = ["group", "scans", metrics.title(main_of(report)), "few subjects, so uncertain"]
        blocks.append(Table(head, rows))
    return Section(title, blocks or ["No groups are known."])


def calibration(evidence: Evidence) -> Section:
    """The calibration, and the coverage of conformal sets, both measured on other subjects."""
    card, report = evidence.card, evidence.report
    blocks: list[Block] = []
    if known := card.get("calibration"):
        shares = ", ".join(f"{name} {share:.0%}" for name, share in known["prevalence"].items())
        blocks.append(
            f"Calibrated on the out-of-fold predictions of {known['scans']} scans; the "
            f"probabilities are for scans of which {shares} (--prevalence changes that)."
        )
    elif not evidence.regression:
        why = card.get("not_calibrated", "an earlier version made the run")
        blocks.append(
            f"Not calibrated ({why}): the probabilities do not state how likely a class is."
        )
    if conformal := report.get("conformal"):
        if measured := report.get("calibration"):
            whens = ("before", "after")
            rows = [
                [metrics.title(name), *(estimate_text(measured[when][name]) for when in whens)]
                for name in reliability.SHOWN
            ]
            blocks += [reliability.NESTED, Table(["metric", "before", "after calibration"], rows)]
        level, classes = conformal["error_level"], bool(measured)
        blocks.append(
            f"Conformal {'sets' if classes else 'intervals'} at an error level of {level:.0%}. "
            f"{reliability.SETS if classes else reliability.INTERVALS}"
        )
        head = reliability.coverage_head(classes)
        blocks.append(Table(head, list(reliability.coverage_rows(conformal))))
    else:
        blocks.append(f"Neither calibration nor coverage was measured: {unmeasured(report)}")
    return Section("Calibration and conformal sets", blocks)


def unmeasured(report: Content) -> str:
    """Why there is no coverage."""
    return f"{report['not_calibrated']}." if report.get("not_calibrated") else "uncus evaluate RUN."


def domain(evidence: Evidence) -> Section:
    """What the run takes for its domain."""
    card = evidence.card
    blocks: list[Block] = [domain_limits(card)]
    if "domain" in card:
        blocks.insert(0, f"The run's domain: {in_words(card)}.")
    return Section("Domain", blocks)


def robustness(evidence: Evidence) -> Section:
    """From which level of each disturbance the metric is worse."""
    found, title = evidence.robustness, "Robustness"
    if not found:
        return Section(title, [DISTURB])
    measured = f"On {found['scans']} scans of {found['subjects']} subjects, disturbed."
    head = ["first loss", f"change of the {found['name']} there", robust.head(found)[-1]]
    blocks: list[Block] = [f"{robust.headline(found)} {measured}"]
    if found["plain"]["value"] is not None:
        blocks.append(Table(head, robust.first_losses(found)))
    return Section(title, blocks)


def audit(evidence: Evidence) -> Section:
    """The audit in a line, what it found, and the certificate."""
    found, title = evidence.audit, "Audit"
    if not found:
        return Section(title, [AUDIT])
    rows = [
        [finding["title"], finding["status"], unnamed(finding["verdict"])]
        for finding in found["findings"]
    ]
    line = summary(found["findings"])
    blocks: list[Block] = [
        f"{line[:1].upper()}{line[1:]}.",
        Table(["check", "status", "verdict"], rows),
    ]
    if certificate := evidence.card.get("certificate"):
        blocks.append(
            "Certificate: card.json has the folds as salted hashes of the subjects. With the salt "
            "(certificate.json of the run) another holder of the data rebuilds them: uncus audit "
            f"COHORT --rebuild. SHA-256 of the folds: {certificate['splits']}."
        )
    return Section(title, blocks)


def unnamed(verdict: str) -> str:
    """A verdict, or where it is if it names subjects."""
    return "names subjects: see audit.html" if SUBJECT.search(verdict) else verdict


def saliency(evidence: Evidence) -> Section:
    """The passport of the saliency methods."""
    verdicts, passport, title = evidence.verdicts, evidence.passport, "Saliency passport"
    if not verdicts.methods:
        return Section(title, [UNCHECKED])
    rows = [
        [method.replace("_", " "), state, "; ".join(verdicts.reasons[method])]
        for method, state in verdicts.methods.items()
    ]
    quick = ", in a reduced form" if passport["quick"] else ""
    blocks: list[Block] = [
        f"Tested on {passport['subjects']} of the run's own test scans{quick}.",
        Table(["method", "verdict", "why"], rows),
    ]
    left_out = [f"not done: {one}" for one in passport["not_done"]]
    return Section(title, [*blocks, left_out] if left_out else blocks)


def limits(evidence: Evidence) -> Section:
    """Limitations."""
    training, kind = evidence.card["training"], "synthetic subjects" * bool(evidence.synthetic)
    trained = f"Trained on {training['subjects']} {kind or 'subjects'} of one cohort"
    if "adapted" in evidence.card:
        trained = (
            f"Trained on {evidence.source.get('subjects', 'the')} subjects of another cohort and "
            f"adapted to {training['subjects']} of this one"
        )
    lines = [
        f"{trained}; the intervals do not account for other scanners, sites, ages or diagnostic "
        "criteria.",
    ]
    if not evidence.synthetic:
        lines.append("The labels of the study are themselves uncertain.")
    if age := training.get("age_years"):
        if first := evidence.source.get("age_years"):
            age = {"min": min(age["min"], first["min"]), "max": max(age["max"], first["max"])}
        lines.append(
            f"No training subject was younger than {age['min']:g} or older than {age['max']:g}."
        )
    else:
        lines.append("The ages of the training subjects are unknown.")
    if not evidence.regression:
        named = " or ".join(evidence.card["target"]["classes"])
        lines.append(f"Where a class is named, it is {named}: other diseases are not recognized.")
    if not evidence.card.get("calibration") and not evidence.regression:
        lines.append("Not calibrated: the probabilities do not state how likely a class is.")
    if not evidence.report:
        lines.append("Not evaluated: its performance is unknown.")
    lines += [
        "Quality control rejects scans unlike those of the cohort, but not all of them.",
        "If options were chosen by the numbers above, these are optimistic.",
    ]
    warned = [one for one in evidence.report.get("warnings", []) if not SUBJECT.search(one)]
    return Section("Limitations", [lines + [f"{one[:1].upper()}{one[1:]}." for one in warned]])
