"""What a reader has to know of a run before anything else."""

from uncus.pipeline.evaluation.report_text import best_baseline, main_of, verdict
from uncus.pipeline.model_card.evidence import Content, Evidence
from uncus.pipeline.rendering.numbers import estimate_text
from uncus.pipeline.run_files.audit_summary import summary
from uncus.pipeline.trust.domain import STARTED, synthetic_warning

SYNTHETIC = (
    "Trained on synthetic brains: phantoms with known atrophy, no scan of a person. Its results "
    "are no evidence about patients."
)

UNKNOWN = "Not evaluated: uncus evaluate RUN."


def warnings(evidence: Evidence) -> list[str]:
    """One sentence or two for each."""
    found = [SYNTHETIC] if evidence.synthetic else []
    if STARTED in synthetic_warning(evidence.card):
        found.append(f"{STARTED[:1].upper()}{STARTED[1:]}.")
    found += [behind(evidence.report)] if evidence.report else [UNKNOWN]
    found += probes(evidence.audit)
    if not evidence.audit:
        found.append("Not audited: uncus audit RUN.")
    elif any(finding["status"] == "fault" for finding in evidence.audit["findings"]):
        found.append(f"The audit found faults: {summary(evidence.audit['findings'])}.")
    found += ties(evidence.card)
    found += [f"Not used for this card: {problem}." for problem in evidence.problems]
    return [one for one in found if one]


def behind(report: Content) -> str:
    """That the network is not shown to be ahead of the best simple baseline; "" where it is."""
    metric, best = main_of(report), best_baseline(report)
    if not best:
        return "No baseline was measured beside the network."
    ahead = report["differences"][best][metric]
    if (judged := verdict(metric, ahead)) == "significantly better":
        return ""
    return (
        f"The network is not shown to be ahead of a simple baseline: {best} alone reaches "
        f"{estimate_text(report['baselines'][best][metric])}, the network "
        f"{estimate_text(report['metrics'][metric])}; network minus baseline "
        f"{estimate_text(ahead)}, {judged}."
    )


def probes(audit: Content) -> list[str]:
    """The verdicts on what tells the class as well as the network does, without its anatomy."""
    return [
        f"Audit, {finding['title'][:1].lower()}{finding['title'][1:]}: {finding['verdict']}"
        for finding in audit.get("findings", [])
        if finding["check"].startswith("probe-") and finding["status"] in ("fault", "note")
    ]


def ties(card: Content) -> list[str]:
    """The covariates that go with the class."""
    known = card.get("covariates", {}).values()
    found = [covariate.get("tie", {}).get("warning", "") for covariate in known]
    return [f"{text[:1].upper()}{text[1:]}." for text in found if text]
