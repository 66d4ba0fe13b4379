"""A small valid model card, and a run that is sealed with it."""

from typing import Any

from uncus.data import files
from uncus.pipeline.runs import SCHEMA, Run

CARD: dict[str, Any] = {
    "schema": SCHEMA,
    "notice": "Research use only.",
    "made": "2026-01-01T00:00:00+00:00",
    "versions": {"uncus": "0.1.0", "torch": "2.10"},
    "target": {"columns": ["cdr"], "classes": {"CN": ["0"], "AD": ["1"]}, "regression": False},
    "model": {"backbone": "tiny", "norm": "group", "classes": 2},
    "members": [{"file": "fold-0.safetensors", "fold": 0, "seed": 0}],
    "covariates": {"age": {"min": 60, "max": 80.5, "mean": 70}},
    "flip_average": False,
    "space": "keep",
    "grid": {
        "shape": [16, 18, 20],
        "affine": [[2.0, 0, 0, -30], [0, 2.0, 0, -40], [0, 0, 2.0, -50], [0, 0, 0, 1]],
    },
    "reference": {
        "similarity": [0.8, 0.9],
        "missing": [0, 0.1],
        "extra": [0.1, 0],
        "contact": [0, 0, 0, 0, 1, 0],
    },
    "cohort_fingerprint": "abc",
    "training": {
        "subjects": 2,
        "scans": 2,
        "folds": 1,
        "age_years": {"min": 60, "max": 80.5},
        "sex": {"F": 1, "": 1},
        "classes": {"CN": 1, "AD": 1},
    },
    "init_from": None,
}


def seal(run: Run, **values: Any) -> None:
    """Give a run a model folder with the card, changed by ``values``, and seal what it has."""
    results = {path.name: files.sha256(path) for path in run.results if path.exists()}
    files.write_json(run.card_path, {**CARD, "results": results, **values})
    (run.model_folder / "fold-0.safetensors").write_text("weights")
    run.reference_path.write_text("reference")
    run.seal()
