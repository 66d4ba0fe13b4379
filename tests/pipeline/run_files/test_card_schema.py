"""The schema of a model card: valid cards pass, and each wrong value is named by its place."""

import copy
import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.json_values import put
from tests.pipeline.run_files.cards import CARD
from uncus.data.space import SPACES
from uncus.pipeline.run_files.card_schema import CARD as SCHEMA
from uncus.pipeline.run_files.card_schema import MAX_MEMBERS, fault
from uncus.pipeline.runs import Run

MAP: dict[str, Any] = {"slope": {"AD": 1.0}, "offset": {"AD": 0.0}, "prevalence": {"AD": 0.5}}
MAP |= {"low": {"AD": -3.0}, "high": {"AD": 3.0}, "scans": 9}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The card with the value at ``path`` (``a.0.b``) replaced; removed where it is None."""
    card: Any = copy.deepcopy(CARD)
    put(card, path, value)
    return dict(card)


def test_the_schema_is_one_and_real_cards_pass(run: Any) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["space"]["enum"] == list(SPACES)
    assert fault(CARD) == fault(json.loads(Run(run).card_path.read_text())) == ""


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("covariates", None),
        ("init_from", "/runs/earlier"),
        ("adaptation", {"of": "a later version"}),
        ("pipeline", [{"step": "resample", "spacing": [1, 1, 1]}, {"step": "normalize"}]),
        ("training.voxel_hashes", ["a" * 64]),
        ("training.sex", None),
    ],
)
def test_optional_and_unknown_keys(path: str, value: Any) -> None:
    assert fault(changed(path, value)) == ""


@pytest.mark.parametrize("key", [k for k in CARD if k not in ("covariates", "init_from")])
def test_a_missing_key_is_named(key: str) -> None:
    assert fault(changed(key, None)) == f"'{key}' is a required property"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", "1"),
        ("notice", "\x1b[2J"),
        ("versions", []),
        ("target", "AD"),
        ("target.columns", []),
        ("target.columns", ["a", "b"]),
        ("target.classes", {"AD": ["1"]}),
        ("target.classes", {"AD": 1, "CN": 0}),
        ("target.classes.AD", ["\ud800"]),
        ("target.regression", "no"),
        ("model.backbone", 3),
        ("members", []),
        ("members", [{**CARD["members"][0], "file": f"{k}.safetensors"} for k in range(3000)]),
        ("members.0.file", "../fold-0.safetensors"),
        ("members.0.file", "/etc/fold-0.safetensors"),
        ("members.0.file", "fold-0.pt"),
        ("members.0.file", "fold-0.safetensors\n"),
        ("members.0.file", "a/fold-0.safetensors"),
        ("members.0.file", "..\\fold-0.safetensors"),
        ("members.0.file", ".safetensors"),
        ("members.0.fold", "0"),
        ("flip_average", 1),
        ("space", "moon"),
        ("grid.shape", [16, 18]),
        ("grid.shape", [16, 18, 0]),
        ("grid.shape", [16, 18, 1.5]),
        ("grid.shape", [16, 18, True]),
        ("grid.affine", [[0.0] * 4] * 4),
        ("grid.affine.0.0", float("inf")),
        ("grid.affine.0.3", float("inf")),
        ("grid.affine.0.1", 0.5),
        ("grid.affine.3", [0, 0, 0, 2]),
        ("reference.similarity", []),
        ("reference.similarity", [float("inf")]),
        ("reference.similarity", [True]),
        ("reference.missing", ["0"]),
        ("reference.contact", [0] * 5),
        ("covariates.age", {"min": 1, "max": 2}),
        ("covariates.age.mean", float("inf")),
        ("training.scans", -1),
        ("training.age_years", {"min": 60}),
        ("training.sex", {"F": "one"}),
        ("init_from", 5),
        ("calibration", {"slope": {"AD": 1.0}}),
        ("calibration", {**MAP, "slope": {"AD": -1.0}}),
        ("calibration", {**MAP, "offset": {"AD": float("inf")}}),
        ("calibration", {**MAP, "prevalence": {"AD": 0}}),
        ("conformal", {"levels": [0.1], "thresholds": {"AD": [0.5]}, "scans": {"AD": 9}}),
        ("pipeline", [{"name": "resample"}]),
        ("pipeline", {"step": "resample"}),
    ],
)
def test_a_wrong_value_is_named_by_its_place(path: str, value: Any) -> None:
    line = fault(changed(path, value))
    assert line
    place = path.replace(".0", "[0]").replace(".3", "[3]").replace(".1", "[1]")
    assert line.startswith(place)
    assert line.isprintable() and len(line) <= 200


def test_a_regression_needs_mean_and_std_of_each_column() -> None:
    card = changed("target", {"columns": ["age", "mmse"], "classes": {}, "regression": True})
    assert fault(card) == "members[0]: 'mean' is a required property"
    (member,) = card["members"]
    member |= {"mean": [70.0], "std": [8.0]}
    assert "do not have 2 values" in fault(card)
    member |= {"mean": [70.0, 26], "std": [8.0, 0]}
    assert fault(card).startswith("members[0].std[1]: 0 is less than or equal to")
    member["std"] = [8.0, 2.5]
    assert fault(card) == ""


def test_keys_that_need_each_other() -> None:
    card = {**CARD, "domain": {"scans": 9, "slab": False, "scanner": {}}}
    assert not fault(card)
    card["domain"]["limits"] = dict.fromkeys(("regions", "brain", "features"), 1.0)
    assert "'tested' is a dependency of 'limits'" in fault(card)
    shares = {"CN": 0.5, "AD": 0.5}
    parts = ("slope", "offset", "low", "high", "prevalence")
    calibration = {**dict.fromkeys(parts, shares), "scans": 40}
    assert "'conformal' is a dep" in fault({**CARD, "calibration": calibration})


def test_members_have_files_of_their_own() -> None:
    twice = changed("members", CARD["members"] * 2)
    assert fault(twice) == "two of its members have the same file"
    assert MAX_MEMBERS >= 1000  # leave-one-out of a large study
    many = changed("members", CARD["members"] * 3000)
    assert fault(many).endswith("… is too long")


def test_nesting_is_no_traceback() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert fault(changed("notice", deep))
