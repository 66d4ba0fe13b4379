"""An audit as a self-contained page: a verdict for each check."""

from collections.abc import Mapping
from typing import Any

from uncus.pipeline.audit.finding import p_text
from uncus.pipeline.rendering.html import document, notice, table, text
from uncus.pipeline.rendering.numbers import Estimate, estimate_text
from uncus.pipeline.run_files.audit_summary import summary

CSS = """
.finding { border-left:4px solid var(--rule); padding:1px 0 1px 14px; margin:12px 0 }
.finding h3 { margin:0 } .finding p { margin:2px 0 }
.finding b { font-size:12.5px; text-transform:uppercase; letter-spacing:.03em; margin-right:8px }
.fault { border-color:#b3261e } .fault b { color:#b3261e }
.note { border-color:#c77d2e } .note b { color:#9a5b12 }
.passed { border-color:#2e7d51 } .passed b { color:#2e7d51 }
.unchecked b { color:var(--faint) }
.mono { font-family:ui-monospace,monospace; font-size:12px; overflow-wrap:anywhere }
"""


def page(audit: Mapping[str, Any]) -> str:
    """The page of an audit.json."""
    findings = audit["findings"]
    faulty = any(f["status"] == "fault" for f in findings)
    lead = summary(findings)
    advice = (
        "Do not trust results on this data before the faults are fixed."
        if faulty
        else "This says that none of the checks below found a fault, not that there is none."
    )
    body = [
        f"<h1>Audit <span class=faint>· {text(audit['name'])}</span></h1>",
        notice(),
        f"<p class=lead><b>{text(lead[:1].upper() + lead[1:])}.</b> {advice}</p>",
        f"<p class=faint>{text(counted(audit))}</p>",
    ]
    for status, title in (
        ("fault", "Faults"),
        ("note", "Notes"),
        ("passed", "Passed"),
        ("not checked", "Not checked"),
    ):
        some = [f for f in findings if f["status"] == status]
        if some:
            body += [f"<h2>{title}</h2>", *map(finding, some)]
    body += [probes(findings), certificate(audit), METHOD]
    footer = (
        f"Made by uncus {audit['version']}; audit.json in the same folder contains the numbers."
    )
    return document(f"{audit['name']} · uncus audit", body, CSS, footer)


def counted(audit: Mapping[str, Any]) -> str:
    """What was looked at."""
    counts = audit["counts"]
    classes = ", ".join(f"{number} {name}" for name, number in counts["classes"].items())
    return (
        f"{counts['scans']} scans of {counts['subjects']} subjects"
        + (f": {classes} scans" if classes else "")
        + "."
    )


def finding(one: Mapping[str, Any]) -> str:
    """The verdict of one check."""
    kind = "unchecked" if one["status"] == "not checked" else one["status"]
    return (
        f"<div class='finding {kind}'><h3><b>{one['status']}</b>{text(one['title'])}</h3>"
        f"<p>{text(one['verdict'])}</p></div>"
    )


def probes(findings: list[Mapping[str, Any]]) -> str:
    """All probes side by side."""
    rows = [
        [
            one["title"].partition(": ")[2],
            shown(one["details"]["auc"]),
            shown(one["details"].get("model_minus_probe")),
            p_shown(one["details"]),
        ]
        for one in findings
        if one["check"].startswith("probe-") and "auc" in one["details"]
    ]
    if not rows:
        return ""
    head = ["from this alone", "AUC (95%)", "network minus it (95%)", "p of the difference"]
    return (
        f"<h2>Shortcut probes</h2>{table(head, rows)}<p class=faint><small>Logistic regressions "
        "on the same folds, one value per subject; intervals and differences by DeLong's method."
        "</small></p>"
    )


def shown(estimate: Estimate | None) -> str:
    """An estimate, or a dash."""
    return estimate_text(estimate) if estimate else "–"


def p_shown(details: Mapping[str, Any]) -> str:
    """The p-value of the difference."""
    found = details.get("model_minus_probe")
    return p_text(found["p"]).removeprefix("= ") if found else "–"


def certificate(audit: Mapping[str, Any]) -> str:
    """Hashes of what was audited."""
    rows = [
        f"<tr><th scope=row>{text(n)}</th><td class=mono>{text(v)}</td></tr>"
        for n, v in audit["hashes"].items()
    ]
    if not rows:
        return ""
    return (
        "<h2>Certificate</h2><p>The audit holds for these contents (SHA-256).</p>"
        f"<div class=scroll><table>{''.join(rows)}</table></div>"
    )


METHOD = (
    "<h2>Method</h2><p>One value per subject. Tests: chi-squared (by permutation where counts are "
    "small) of texts and of columns with two values, Mann-Whitney or Kruskal-Wallis of other "
    "numbers; of a target that is a number, Spearman's correlation or Kruskal-Wallis. The p-values "
    "of columns, and those of images and probes, are corrected by Holm's method: by either, a "
    "faultless cohort gets a fault by chance in 1% of audits. "
    "Images are compared by a perceptual hash: the inside of the brain, without its edge, slow "
    "variation and noise, aligned to the mean of all scans.</p>"
)
