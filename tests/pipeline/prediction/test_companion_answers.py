"""What built-in models for the same placing add to an answer: brain age and predicted volumes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from uncus.data.files import write_json
from uncus.data.space import Placed
from uncus.data.transforms.reading import Source
from uncus.pipeline.builtin import catalog
from uncus.pipeline.prediction.answer_text import companion_columns, companion_lines, reason
from uncus.pipeline.prediction.output import sentence
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.prediction.results import Prediction
from uncus.pipeline.runs import Run

LINE = {"slope": 0.5, "intercept": 30.0, "error": 10.0, "scans": 300}


def change(model: Path, **keys: object) -> None:
    """Change keys of a card; None takes one away."""
    run = Run(model)
    card = json.loads(run.card_path.read_text()) | keys
    write_json(run.card_path, {name: value for name, value in card.items() if value is not None})
    run.seal()


@pytest.fixture
def models(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two built-in models: classes, and with the same networks an age and a volume."""
    folder = tmp_path / "models"
    for name in ("anatomy", "dementia"):
        shutil.copytree(run / "model", folder / name / "model")
    columns = ["age", "hippocampus_left"]
    scale = {"mean": [70.0, 3000.0], "std": [8.0, 400.0]}
    members = json.loads((run / "model" / "card.json").read_text())["members"]
    change(
        folder / "anatomy",
        target={"columns": columns, "classes": {}, "regression": True},
        members=[one | scale for one in members],
        brain_age=LINE,
        not_calibrated=None,
    )
    monkeypatch.setattr(catalog, "FOLDER", folder)
    return folder


def predicted(model: Path, scan: Path, **known: float) -> Prediction:
    """The prediction for a placed scan, which is not segmented."""
    predictor = Predictor(model, segment=None)
    placed: Placed = predictor.pipeline.place(predictor.pipeline.read(Source((scan,))))
    return predictor.of_placed("scan", placed, known, "", synthetic=False)


def test_a_companion_answers_for_the_same_placed_scan(models: Path, scan: Path) -> None:
    alone = predicted(models / "anatomy", scan, age=60)
    found = predicted(models / "dementia", scan, age=60)
    age, volume = alone.values["age"], alone.values["hippocampus_left"]
    assert found.probabilities and not found.values
    years = found.as_dict()["brain_age"]
    expected = {"value": age, "low": age - 10, "high": age + 10, "gap": age - 60}  # 30 + 0.5 x 60
    assert {name: years[name] for name in expected} == pytest.approx(expected, abs=0.01)
    assert years["level"] == 0.9 and alone.brain_age == found.brain_age
    volumes = found.as_dict()["predicted_volumes"]
    assert volumes == {"hippocampus_left": pytest.approx(volume / 1000, abs=1e-3)}
    assert "gap" not in predicted(models / "dementia", scan).brain_age
    change(models / "anatomy", brain_age=LINE | {"youngest": 20.0, "oldest": age - 5})
    found = predicted(models / "dementia", scan)
    assert found.brain_age["value"] == round(age - 5, 2)
    assert f"Brain age {age - 5:.1f} years or more (" in companion_lines(found.as_dict())[0]
    assert "brain_age_beyond" not in companion_columns(found.as_dict())


def test_equal_trunks_are_computed_once(models: Path, scan: Path) -> None:
    """Networks that differ in their heads alone share their features; other weights share none."""
    predictor = Predictor(models / "dementia", segment=None)
    (companion,) = predictor.companions
    computed = []
    for k, network in enumerate(companion.networks):
        first = next(one for one in network.modules() if isinstance(one, nn.Conv3d))
        first.register_forward_hook(lambda *_, k=k: computed.append(k))
    placed = predictor.pipeline.place(predictor.pipeline.read(Source((scan,))))
    before = predictor.of_placed("scan", placed, {}, "", synthetic=False).brain_age["value"]
    assert computed == []
    with torch.no_grad():
        for weight in companion.networks[1].parameters():
            weight *= 1.5
    after = predictor.of_placed("scan", placed, {}, "", synthetic=False).brain_age["value"]
    assert set(computed) == {1} and after != before


def test_texts(models: Path, scan: Path) -> None:
    found = predicted(models / "dementia", scan, age=60)
    age, volumes = companion_lines(found.as_dict())
    assert age.startswith(f"Brain age {found.brain_age['value']:.1f} years (90% interval ")
    assert "years above" in age or "years below" in age
    ml = found.predicted_volumes["hippocampus_left"]
    assert volumes == f"Predicted by the networks, not measured: left hippocampus {ml:.2f} ml"
    assert age in sentence(found) and volumes in sentence(found)
    columns = companion_columns(found.as_dict())
    assert columns["brain_age"] == found.brain_age["value"]
    assert columns["brain_age_gap"] == found.brain_age["gap"] and "brain_age_level" not in columns
    assert columns["predicted_ml_hippocampus_left"] == ml
    alone = predicted(models / "anatomy", scan, age=60).as_dict()
    assert companion_lines(alone) == []  # its answer is the age
    gap = f"{abs(alone['brain_age']['gap']):.1f} years"
    assert reason(alone | {"volumes": {"age": 60.0}}).startswith(gap)


def test_a_companion_of_another_domain_adds_nothing_but_why(models: Path, scan: Path) -> None:
    domain = {"scans": 12, "scanner": {}, "synthetic": True}
    change(models / "anatomy", domain=domain)
    found = predicted(models / "dementia", scan)
    assert not found.brain_age and not found.predicted_volumes
    (line,) = (one for one in found.warnings if one.startswith("the model anatomy gives no answer"))
    assert "not a phantom of uncus" in line
    # A person whom the run itself has no answer for may still get the companion's.
    change(models / "anatomy", domain=domain | {"synthetic": False})
    change(models / "dementia", domain=domain)
    found = predicted(models / "dementia", scan)
    assert found.abstains and found.brain_age and found.predicted_volumes


def test_only_built_in_models_for_the_same_placing_are_companions(
    models: Path, run: Path, scan: Path
) -> None:
    def names(path: Path) -> list[str]:
        return [one.path.name for one in catalog.companions(Run(path))]

    assert names(models / "dementia") == ["anatomy"] and names(models / "anatomy") == ["dementia"]
    assert names(run) == []
    grid = Run(models / "anatomy").card["grid"]
    change(models / "anatomy", grid=grid | {"shape": [14, 14, 13]})
    assert names(models / "dementia") == []
    assert not predicted(models / "dementia", scan).brain_age
