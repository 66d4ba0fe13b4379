"""Weights: save and load, transfer from other networks, reports and errors."""

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from uncus.models.backbones.resnet import ResNet
from uncus.models.base import Classifier
from uncus.models.build import ModelConfig, build_model, medicalnet
from uncus.models.weights import (
    load_weights,
    read_weights,
    save_weights,
    transfer,
    trunk_hash,
)

VOLUME = torch.randn(1, 1, 24, 20, 24, generator=torch.Generator().manual_seed(0))


def network(seed: int = 0, **options: object) -> Classifier:
    values = {"backbone": "resnet10", "width": 8, "groups": 4, **options}
    return build_model(ModelConfig.from_dict(values), seed=seed).eval()


def checkpoint(model: nn.Module, path: Path) -> Path:
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
    return path


# Saved weights


def test_saved_weights_load_to_the_bit(tmp_path: Path) -> None:
    first, second = network(0, norm="batch"), network(1, norm="batch")
    first.train()(VOLUME.repeat(2, 1, 1, 1, 1))  # running statistics are weights too
    path = tmp_path / "fold-0.safetensors"
    save_weights(first, path, {"fold": "0"})
    load_weights(second, path)
    assert torch.equal(first.eval()(VOLUME), second(VOLUME))
    assert [p.name for p in tmp_path.iterdir()] == ["fold-0.safetensors"]


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(network(0), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_weights(network(1), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"width": 16}, "check width and classes"),
        ({"classes": 3}, "'head.weight' is 2x64, the network's is 3x64"),
        ({"backbone": "resnet18"}, "lacks 'layer1.1.conv1.weight'"),
        ({"backbone": "tiny"}, "these are weights of another network"),
        ({"norm": "batch"}, "lacks 'norm1.running_mean'.*check backbone, norm and width"),
    ],
)
def test_weights_of_another_network_are_rejected(
    tmp_path: Path, other: dict[str, object], message: str
) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(network(0), path)
    mine = network(1, **other)
    before = mine(VOLUME)
    with pytest.raises(ValueError, match=message) as error:
        load_weights(mine, path)
    assert str(error.value).startswith(str(path))
    assert torch.equal(mine(VOLUME), before)


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("layer2.0.conv1.weight")[3, 0, 1, 1, 1] = float("nan")
    save_weights(model, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"'layer2\.0\.conv1\.weight' has NaN"):
        load_weights(network(1), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="NaN"):
        transfer(network(1), model.state_dict())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, name: str, keep: float) -> None:
    path = tmp_path / name
    if name.endswith(".pth"):
        checkpoint(network(), path)
    else:
        save_weights(network(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(ValueError, match="copy it again") as error:
        read_weights(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_weights(tmp_path / "nothing.pth")


class Payload:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.touched}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_payload_is_rejected_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path, touched = tmp_path / "evil.pth", tmp_path / "touched"
    content = {"state_dict": network().state_dict(), "hook": Payload(touched)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="not loaded: this checkpoint contains more than tensors"):
        read_weights(path)
    path.write_bytes(pickle.dumps(content["hook"]))
    with pytest.raises(ValueError, match=r"evil\.pth"):
        read_weights(path)
    assert not touched.exists()


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {}}, torch.zeros(3)])
def test_checkpoints_without_a_network(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="must contain a"):
        read_weights(tmp_path / "c.pt")


# From another network


def test_batch_to_group_norm_keeps_gamma_and_beta_and_drops_statistics() -> None:
    source, model = network(0, norm="batch"), network(1, norm="group")
    with torch.no_grad():
        source.get_parameter("norm1.weight").fill_(3.0)
    report = transfer(model, source.state_dict(), source="run")
    assert report.share == 1
    assert not report.fresh
    assert {name.rpartition(".")[2] for name in report.unused} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    assert "running statistics dropped" in str(report)
    for name, value in model.named_parameters():
        assert torch.equal(value, source.get_parameter(name))


def test_group_to_batch_norm_reports_new_statistics() -> None:
    model = network(1, norm="batch")
    report = transfer(model, network(0, norm="group").state_dict())
    assert report.share == 1
    assert "running statistics are newly initialized" in str(report)
    assert all(
        name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
        for name in report.fresh
    )


def test_another_head_is_newly_initialized_and_reported() -> None:
    model = network(1, classes=3)
    head = model.head.weight.clone()
    report = transfer(model, network(0).state_dict())
    assert torch.equal(model.head.weight, head)
    assert set(report.fresh) == {"head.weight", "head.bias"} == set(report.unused)
    assert "the head is newly initialized" in str(report)


def test_the_same_head_is_loaded_on_request() -> None:
    source = network(0)
    with_head, without = network(1), network(1)
    transfer(with_head, source.state_dict())
    report = transfer(without, source.state_dict(), head=False)
    assert torch.equal(with_head(VOLUME), source(VOLUME))
    assert not torch.equal(without.head.weight, source.head.weight)
    assert "the head is newly initialized" in str(report)


def test_too_few_weights_that_fit_are_rejected_and_change_nothing() -> None:
    model = network(1, width=16)
    before = model(VOLUME)
    with pytest.raises(ValueError) as error:
        transfer(model, network(0).state_dict(), source="run/model/fold-0.safetensors")
    message = str(error.value)
    assert message.startswith("run/model/fold-0.safetensors: only 0% of the network fits")
    assert "conv1.weight is 8x1x3x3x3, here 16x1x3x3x3" in message
    assert "--backbone resnet10 --width 8 --stem-kernel 3 --shortcut B" in message
    assert torch.equal(model(VOLUME), before)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="check that backbone and width"):
        transfer(network(), network(backbone="sfcn").state_dict())


def test_a_partial_fit_is_reported() -> None:
    """resnet10 into resnet18: one of two blocks in each stage."""
    model = network(1, backbone="resnet18")
    report = transfer(model, network(0).state_dict(), least=0.3)
    assert 0.3 < report.share < 0.5
    assert "other tensors are newly initialized, among them layer1.1.conv1.weight" in str(report)


# MedicalNet


def medicalnet_state(depth: int) -> dict[str, Tensor]:
    """A checkpoint like MedicalNet's, with its names and segmentation head, at 1/8 of its width."""
    model = build_model(replace(medicalnet(depth), norm="batch", width=8), seed=3)
    state = {}
    for name, value in model.state_dict().items():
        if not name.startswith("head."):
            theirs = name.replace("norm", "bn")
            state[f"module.{theirs}"] = value
    state["module.conv_seg.0.weight"] = torch.zeros(64, 32, 2, 2, 2)
    return state


@pytest.mark.parametrize("depth", [10, 18])
def test_medicalnet_loads_completely(tmp_path: Path, depth: int) -> None:
    path = tmp_path / f"resnet_{depth}_23dataset.pth"
    # its files are from torch 0.4, not zipped
    torch.save({"state_dict": medicalnet_state(depth)}, path, _use_new_zipfile_serialization=False)
    model = build_model(replace(medicalnet(depth), width=8), seed=0)
    state = read_weights(path)
    assert "bn1.weight" in state
    assert "layer1.0.conv1.weight" in state
    report = transfer(model, state, source=str(path))
    assert report.share == 1
    assert set(report.fresh) == {"head.weight", "head.bias"}
    assert "conv_seg.0.weight" in report.unused
    last = model.layer4[-1].get_parameter("conv2.weight")
    assert torch.equal(last, state[f"layer4.{len(model.layer4) - 1}.conv2.weight"])


@pytest.mark.parametrize(("depth", "shortcut"), [(10, "B"), (18, "A")])
def test_medicalnet_into_the_default_network_suggests_options(depth: int, shortcut: str) -> None:
    model = build_model(ModelConfig(f"resnet{depth}"))
    with pytest.raises(ValueError) as error:
        transfer(model, medicalnet_state(depth))
    advice = f"--backbone resnet{depth} --width 8 --stem-kernel 7 --shortcut {shortcut}"
    assert advice in str(error.value)


def test_bottlenecks_are_recognized() -> None:
    state = ResNet(50, 2, width=8).state_dict()
    with pytest.raises(ValueError, match="--backbone resnet50 --width 8"):
        transfer(network(), state)


def test_a_huge_header_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((11 << 20).to_bytes(8, "little") + b" " * (11 << 20))
    with pytest.raises(ValueError, match="its header has"):
        read_weights(path)


def test_the_hash_of_a_trunk_is_of_all_but_the_head() -> None:
    model = build_model(ModelConfig("tiny", norm="batch"), seed=0)  # which counts batches
    before = trunk_hash(model)
    with torch.no_grad():
        model.head.weight += 1
    assert trunk_hash(model) == before
    model.state_dict()["stages.0.1.num_batches_tracked"] += 1
    assert trunk_hash(model) != before
