"""What a card begins with."""

from typing import Any

from uncus.pipeline.model_card.warnings import behind, probes, ties


def estimate(value: float, margin: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": value - margin, "high": value + margin}


def report(network: float, **baselines: float) -> dict[str, Any]:
    """A report with an AUC only."""
    return {
        "metrics": {"auc": estimate(network)},
        "baselines": {name: {"auc": estimate(value)} for name, value in baselines.items()},
        "differences": {n: {"auc": estimate(network - v)} for n, v in baselines.items()},
    }


def test_a_network_that_is_not_ahead_says_so() -> None:
    assert behind(report(0.9, majority=0.5, age=0.6)) == ""
    behind_volume = behind(report(0.9, age=0.6, hippocampi_ml=0.96))
    assert "hippocampi_ml alone reaches 0.960" in behind_volume
    assert behind_volume.endswith("significantly worse.")
    level = behind(report(0.62, majority=0.5, age=0.6))
    assert "age alone reaches 0.600" in level and level.endswith("not significant.")
    assert behind(report(0.9)) == "No baseline was measured beside the network."


def test_shortcuts_and_ties_are_named() -> None:
    findings = [
        {"check": "probe-histogram", "status": "note", "title": "Shortcut: histogram"},
        {"check": "probe-site", "status": "passed", "title": "Shortcut: site"},
        {"check": "sessions", "status": "note", "title": "Sessions"},
    ]
    found = probes({"findings": [{**one, "verdict": "AUC 0.9."} for one in findings]})
    assert found == ["Audit, shortcut: histogram: AUC 0.9."]
    card = {"covariates": {"sex": {"tie": {"warning": "sex goes with the class"}}, "age": {}}}
    assert ties(card) == ["Sex goes with the class."]
