"""The checklist CLAIM: what the run knows of each item, and what its authors have to add.

Checklist for Artificial Intelligence in Medical Imaging, Mongan, Moy & Kahn 2020
(doi:10.1148/ryai.2020200029), in the numbering of the 2024 update, Tejani et al.
(doi:10.1148/ryai.240300). The titles here are shortened.
"""

from uncus.pipeline.model_card.evidence import Evidence
from uncus.pipeline.rendering.markdown import Section, Table

TITLES = (
    "Title: a study of AI, and which technology",
    "Abstract: design, methods, results, conclusions",
    "Background, intended use and role",
    "Aims and hypotheses",
    "Prospective or retrospective",
    "Study goal",
    "Data sources",
    "Inclusion and exclusion criteria",
    "Preprocessing",
    "Selection of data subsets",
    "De-identification",
    "Missing data",
    "Acquisition protocol",
    "Reference standard: how it was obtained",
    "Reference standard: why this one",
    "Reference standard: who annotated",
    "Annotation of the test set",
    "Variability within and between annotators",
    "How partitions were assigned",
    "Level at which partitions are disjoint",
    "Intended sample size",
    "Model",
    "Software",
    "Initialization",
    "Training",
    "Selection of the final model",
    "Ensembling",
    "Metrics",
    "Uncertainty and significance",
    "Robustness",
    "Explainability",
    "Evaluation on internal data",
    "Testing on external data",
    "Registration of the trial",
    "Numbers included and excluded",
    "Demographics of each partition",
    "Performance, with uncertainty",
    "Diagnostic performance, with precision",
    "Analysis of failures",
    "Limitations",
    "Implications for practice",
    "Protocol or further details",
    "Availability of software, model and data",
    "Funding and role of funders",
)
"""The items from 1 on."""
LEFT = {
    3: "the background",
    7: "where the scans come from",
    8: "the study's own criteria",
    14: "how the labels were made",
    35: "what was excluded before the cohort",
    36: "each partition by itself",
    43: "where model and data are",
}
"""Item -> what stays open of it where the rest is known."""


def claim(evidence: Evidence) -> Section:
    """Item by item: filled, partly, or open."""
    known = {number: text for number, text in answers(evidence).items() if text}
    rows = []
    for number, title in enumerate(TITLES, start=1):
        text = known.get(number, "")
        if text and number in LEFT:
            text = f"{text}. Open: {LEFT[number]}"
        state = "open" if not text else "partly" if number in LEFT else "filled"
        rows.append([number, title, state, text])
    about = (
        "Checklist for Artificial Intelligence in Medical Imaging (Mongan 2020, items of the 2024 "
        "update). Filled where the run knows it; what is open is for its authors."
    )
    return Section(
        "CLAIM checklist",
        [about, Table(["item", "title", "state", "where it is, or what is known"], rows)],
    )


def answers(evidence: Evidence) -> dict[int, str]:
    """Item -> what the run knows; "" where nothing."""
    known = {**of_data(evidence), **of_model(evidence), **of_results(evidence)}
    return known | of_adaptation(evidence)


def of_adaptation(evidence: Evidence) -> dict[int, str]:
    """Items 8, 12, 19, 25, 26 and 35 of a run that was adapted to a site; none for others."""
    card, where = evidence.card, evidence.config.get("where")
    some = f", where {where}" if where else ""
    if "adapted" not in card:
        return {}
    adapted, training, first = card["adapted"], card["training"], evidence.source
    seed = f", seed {adapted['seed']}" if "seed" in adapted else ""
    before = f"; trained before on {first['scans']} of {first['subjects']} others" if first else ""
    chosen = f"chosen by {adapted['chosen_by']}" if "chosen_by" in adapted else "given"
    return {
        8: f"scans that passed quality control, labelled or not{some}",
        12: "scans without a label are adapted to, and in no result",
        19: f"at random by subject: {training['folds']} folds{seed}; subjects whose label was seen "
        "are in no test",
        25: f"{adapted['summary']}; the training before is in the card of {adapted['run']}",
        26: f"the method {adapted['method']}, {chosen}",
        35: f"{training['scans']} scans of {training['subjects']} subjects{before}",
    }


def of_data(evidence: Evidence) -> dict[int, str]:
    """Items 1 to 21, and 35 and 36."""
    card, config, facts = evidence.card, evidence.config, evidence.facts
    target, training = card["target"], card["training"]
    columns, where = ", ".join(target["columns"]), config.get("where")
    scanner = [
        f"{name} {' or '.join(values)}"
        for name, values in card.get("domain", {}).get("scanner", {}).items()
    ]
    task = "Regression" if evidence.regression else "Classification"
    steps = ", ".join(step["step"] for step in card.get("pipeline", []))
    by = config.get("folds")
    parts = f"leaving one {by} out" if isinstance(by, str) else f"{training['folds']} folds"
    validation = config.get("validation")
    if validation is not None:
        parts += f", validation share {validation:g}, seed {config.get('seed', 0)}"
    return {
        1: f"{task} by a 3D convolutional network, {card['model']['backbone']}",
        3: "Intended use",
        7: f"Training data; fingerprint of the cohort in Hashes ({facts['cohort']})"
        if "cohort" in facts
        else "Training data",
        8: f"labelled scans that passed quality control{f', where {where}' if where else ''}",
        9: steps and f"{steps}; details in card.json",
        10: f"scans where {where}" if where else "",
        12: "scans without a label are left out",
        13: ", ".join(scanner),
        14: f"the column {columns} of the cohort's table",
        19: f"at random by subject: {parts}",
        20: "by subject: all scans of a subject are in one part of a fold",
        35: f"{training['scans']} scans of {training['subjects']} subjects",
        36: "Training data",
    }


def of_model(evidence: Evidence) -> dict[int, str]:
    """Items 22 to 27, and 40 to 43."""
    card, config = evidence.card, evidence.config
    versions = ", ".join(f"{name} {text}" for name, text in card["versions"].items())
    how = config.get("optimization", {})
    shown = {"epochs": "epochs", "batch size": "batch_size", "learning rate": "lr"}
    training = ", ".join(f"{title} {how[key]}" for title, key in shown.items() if key in how)
    best = "the epoch with the best validation score, or the last one of few validation subjects"
    kept = {"best": best, "last": "the last epoch"}
    return {
        22: "Networks and training; every option in card.json",
        23: versions,
        24: f"from {card['init_from']}" if card.get("init_from") else "random weights, seeded",
        25: training and f"{training}; every option in config.json",
        26: kept.get(how.get("keep", ""), ""),
        27: f"mean of the outputs of {len(card['members'])} networks"
        if len(card["members"]) > 1
        else "one network",
        40: "Limitations",
        41: "Intended use",
        43: f"uncus {card['versions']['uncus']}, Apache licence",
    }


def of_results(evidence: Evidence) -> dict[int, str]:
    """Items 28 to 33, and 37 to 39."""
    report, found = evidence.report, evidence.audit.get("findings", [])
    losses = [finding for finding in found if finding["check"] == "label-errors"]
    disturbed = evidence.robustness.get("plain", {})
    retest = "agreement of test and retest: report.html" if report.get("test_retest") else ""
    known = {
        30: "Robustness" if disturbed.get("value") is not None else retest,
        31: "Saliency passport" if evidence.verdicts.methods else "",
        33: f"Results: {', '.join(evidence.external)}" if evidence.external else "",
        39: "label errors by out-of-fold loss: see Audit" if losses else "",
    }
    if not report:
        return known
    interval = report["interval"]
    return known | {
        28: "Results",
        29: f"{interval['level']:.0%} intervals, {interval['method']}",
        32: "out of fold: Results",
        37: "Results",
        38: "" if evidence.regression else "Results",
    }
