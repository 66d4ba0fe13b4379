"""A run as a built-in model: it predicts the same, is small, and tells of no single subject."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from uncus.data.errors import BadInput
from uncus.data.files import write_json
from uncus.data.space import Placed
from uncus.data.transforms.reading import Source
from uncus.models.weights import read_weights, save_weights
from uncus.pipeline.evaluate import evaluate
from uncus.pipeline.model_card.packing import halve, pack
from uncus.pipeline.prediction.predictor import Predictor
from uncus.pipeline.runs import Run


def probability(run: Path, scan: Path) -> float:
    predictor = Predictor(run, segment=None)
    placed: Placed = predictor.pipeline.place(predictor.pipeline.read(Source((scan,))))
    return predictor.of_placed("scan", placed, {}, "").probabilities["AD"]


def test_a_packed_run_predicts_as_before(sure_run: Path, scan: Path, tmp_path: Path) -> None:
    source = shutil.copytree(sure_run, tmp_path / "run")
    evaluate(source, draws=100)
    packed = pack(Run(source), tmp_path / "dementia")
    assert probability(packed.path, scan) == pytest.approx(probability(source, scan), abs=2e-3)
    names = {path.relative_to(packed.path).as_posix() for path in packed.path.rglob("*")}
    model = {path.name for path in (source / "model").iterdir()}
    assert names == {"model", *(f"model/{n}" for n in model), "report.json", "MODEL_CARD.md"}
    sums = packed.verify()
    assert packed.weights_sums().items() <= sums.items()
    assert packed.card["certificate"]["weights"] == packed.weights_sums()
    assert packed.model_card_path.read_text().count("dementia: CN or AD") == 1
    size = sum(path.stat().st_size for path in (source / "model").glob("fold-*"))
    assert sum((packed.model_folder / n).stat().st_size for n in packed.weights_sums()) < size * 0.6
    with pytest.raises(BadInput, match="exists"):
        pack(Run(source), packed.path)


def test_a_run_of_scans_in_a_space_takes_new_scans_to_it(sure_run: Path, tmp_path: Path) -> None:
    assert Run(sure_run).card["space"] == "keep" and "slab" in Run(sure_run).card["domain"]
    packed = pack(Run(sure_run), tmp_path / "dementia", "mni")
    predictor = Predictor(packed.path, segment=None)
    assert predictor.card["space"] == "mni" and "slab" not in predictor.card["domain"]
    assert "PlaceInMNI" in [step["step"] for step in predictor.pipeline.describe()]
    assert predictor.grid == Predictor(sure_run, segment=None).grid


def test_the_head_stays_exact_and_large_weights_are_refused(sure_run: Path, tmp_path: Path) -> None:
    name = next(iter(Run(sure_run).weights_sums()))
    path = tmp_path / name
    shutil.copy(sure_run / "model" / name, path)
    before = read_weights(path)
    halve(path)
    for key, value in read_weights(path).items():
        exact = key.startswith("head.")
        assert value.dtype == (torch.float32 if exact else torch.float16)
        assert torch.allclose(value.float(), before[key], rtol=1e-3, atol=1e-6)
    network = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(network.weight, 1e6)
    save_weights(network, path)
    with pytest.raises(BadInput, match="weight is beyond half precision"):
        halve(path)


def test_a_name_of_a_subject_is_never_packed(sure_run: Path, tmp_path: Path) -> None:
    source = shutil.copytree(sure_run, tmp_path / "run")
    evaluate(source, draws=100)
    report = json.loads((source / "report.json").read_text())
    name = Run(source).scans()["participant_id"].iloc[0]
    write_json(source / "report.json", report | {"warnings": [f"{name} is odd"]})
    with pytest.raises(BadInput, match=f"names {name}"):
        pack(Run(source), tmp_path / "dementia")
