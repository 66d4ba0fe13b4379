"""What a built-in model has besides its networks: report, card and scores, and nobody's name."""

import re
import shutil
from dataclasses import replace

from uncus.data.errors import BadInput
from uncus.data.files import write_json, write_text
from uncus.pipeline.evaluation.run_facts import run_facts
from uncus.pipeline.model_card.card import header, text
from uncus.pipeline.model_card.evidence import Evidence
from uncus.pipeline.prediction.score_axis import histogram, scores
from uncus.pipeline.runs import Run


def accompany(run: Run, packed: Run) -> None:
    """Write report, MODEL_CARD.md and scores of ``run`` beside the sealed model of ``packed``.

    The card says what is known of the run, and describes the networks that are packed; the scores
    are a histogram of those out of fold.

    Raises
    ------
    BadInput: a file of the packed model names a subject of the run.
    """
    evidence = Evidence.of(run)
    if evidence.report:
        shutil.copy(run.report_path, packed.report_path)
    if known := scores(run, judge=packed):
        write_json(packed.scores_path, histogram(known))
    described = replace(
        evidence,
        name=packed.path.resolve().name,
        card=packed.card,
        sums=packed.verify(),
        facts={**evidence.facts, **run_facts(packed)},
    )
    write_text(packed.model_card_path, header(described) + text(described))
    subjects = set(run.scans()["participant_id"])
    for path in sorted(packed.path.rglob("*")):
        if path.suffix in {".json", ".md"}:
            words = re.findall(r"sub-[A-Za-z0-9]+", path.read_text(encoding="utf-8"))
            if found := subjects & set(words):
                raise BadInput(path, f"names {min(found)}", "leave that out")
