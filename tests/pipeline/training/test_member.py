"""Training compiled or with channels last; a missing compiler."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import TRAIN
from uncus.pipeline.cli import main
from uncus.pipeline.runs import Run, members
from uncus.pipeline.training import member
from uncus.pipeline.training.learner import Learner

OPTIONS = [*TRAIN, "--folds", "1", "--epochs", "1", "--dropout", "0", "--validation", "0"]
OPTIONS += ["--keep", "last", "--where", "age < 68"]


@pytest.mark.parametrize("change", ["--compile", "channels last"])
@pytest.mark.slow
def test_a_compiled_network_and_another_layout_train_the_same(
    change: str, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if change == "--compile" and shutil.which("g++") is None:
        pytest.skip("torch.compile on a CPU needs g++")
    layouts = []
    loss = Learner.loss

    def observed(self: Learner, output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        if self.training:
            weights = [p for p in self.model.parameters() if p.ndim == 5 and p.shape[1] > 1]
            last = torch.channels_last_3d
            layouts.append(all(p.is_contiguous(memory_format=last) for p in weights))
        return loss(self, output, label)

    monkeypatch.setattr(Learner, "loss", observed)
    assert main(["train", str(cohort), str(tmp_path / "plain"), *OPTIONS]) == 0
    assert layouts and not any(layouts)
    layouts.clear()
    if change == "channels last":  # as on a GPU
        monkeypatch.setattr(member, "gains_from_channels_last", lambda *facts: True)
    option = [change] if change == "--compile" else []
    assert main(["train", str(cohort), str(tmp_path / "other"), *OPTIONS, *option]) == 0
    assert layouts and all(layouts) == (change == "channels last")
    plain, other = (
        load_file(tmp_path / name / "model" / "fold-0.safetensors") for name in ("plain", "other")
    )
    assert plain.keys() == other.keys()
    for name, weights in plain.items():
        torch.testing.assert_close(other[name], weights, rtol=1e-3, atol=1e-4, msg=name)
    if change == "channels last":
        run = tmp_path / "off"
        assert main(["train", str(cohort), str(run), *OPTIONS, "--no-channels-last"]) == 0
        assert not layouts[-1]
        off = load_file(run / "model" / "fold-0.safetensors")
        assert all(torch.equal(off[name], weights) for name, weights in plain.items())


def test_the_error_names_a_missing_compiler(
    cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    assert main(["train", str(cohort), str(tmp_path / "run"), *OPTIONS, "--compile"]) == 2
    error = capsys.readouterr().err
    assert "--compile: " in error and "leave it out" in error and "Traceback" not in error


def test_tensorboard_has_the_options_and_a_result(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(Run(run).tensorboard(members(2, 0, 1)[1]))).Reload()
    (score,) = [event.value for event in found.Scalars("hp_metric") if event.value != -1]
    curves = Run(run).training_curves()["fold-1"]
    assert score == pytest.approx(curves["score"].iloc[-1])
    plugin = found.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    for name in (b"backbone", b"batch_size", b"augment.rotate", b"fold"):
        assert name in plugin
