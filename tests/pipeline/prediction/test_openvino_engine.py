"""Inference by OpenVINO: the same predictions with every norm, or torch instead."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.networks import network
from uncus.models.norms import NORMS
from uncus.pipeline.cli import main
from uncus.pipeline.predict import Predictor
from uncus.pipeline.prediction import openvino_engine

SHAPE = (2, 1, 16, 24, 16)
needs_openvino = pytest.mark.skipif(
    not openvino_engine.available(), reason="requires the extra 'fast'"
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for this test session."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@needs_openvino
def test_openvino_agrees_for_each_network(cache: Path) -> None:
    networks = [network("group", seed=seed)[0] for seed in (0, 1)]
    trunks = openvino_engine.openvino_trunks(networks, network("group")[1], SHAPE)
    x = torch.randn(SHAPE)
    for one, trunk in zip(networks, trunks, strict=True):
        with torch.inference_mode():
            want = one.features(x)
        torch.testing.assert_close(trunk(x), want, rtol=1e-4, atol=1e-4 * float(want.max()))
    assert (
        openvino_engine.difference(networks[0], trunks[1], SHAPE)
        > openvino_engine.TOLERANCE["openvino"]
    )
    assert list(cache.glob("uncus/openvino/*/graph.xml"))


@needs_openvino
@pytest.mark.parametrize("norm", NORMS)
def test_openvino_supports_every_norm(norm: str) -> None:
    """For a volume and its mirror image; loading checks that the engines agree."""
    model, config = network(norm)
    (trunk,) = openvino_engine.openvino_trunks([model], config, SHAPE)
    assert len(trunk(openvino_engine.synthetic_volumes(SHAPE))) == SHAPE[0]


@needs_openvino
@pytest.mark.parametrize("backbone", ["tiny", "resnet10"])
def test_no_layer_changes_the_memory_layout(backbone: str, cache: Path) -> None:
    """Converting every feature map there and back takes a third of the time."""
    model, _ = network("group", backbone)
    shape = (1, 1, 32, 32, 32)
    compiled = openvino_engine._compiled(
        openvino_engine._graph(model, cache / backbone / "kept", shape), model, shape
    )
    reorders = [
        node.get_friendly_name()
        for node in compiled.get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Reorder"
        and node.get_output_shape(0)[1] > 1  # not the volume itself
        and np.prod(node.get_output_shape(0)[2:]) > 1
        and "Result" not in node.get_friendly_name()  # nor the graph's output
    ]
    assert reorders == []


@needs_openvino
@pytest.mark.slow
def test_auto_uses_torch_for_networks_that_openvino_does_not_speed_up(
    cache: Path,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The speedup is measured once on each machine."""
    (model, config), calls = network("group"), []
    measured = openvino_engine.measure
    monkeypatch.setattr(
        openvino_engine, "measure", lambda *all_of, **o: calls.append(1) or measured(*all_of, **o)
    )
    monkeypatch.setattr(openvino_engine, "MIN_SPEEDUP", 0.0)
    shape = (1, 1, 16, 16, 24)
    for _ in range(2):
        assert openvino_engine.openvino_trunks([model], config, shape, if_faster=True)
    assert len(calls) == 1
    (kept,) = cache.glob("uncus/openvino/*/gain.json")
    (machine,) = json.loads(kept.read_text())
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    kept.write_text(json.dumps({machine: 0.9}))
    with pytest.raises(ValueError, match=r"only 0\.90 times as fast"):
        openvino_engine.openvino_trunks([model], config, shape, if_faster=True)
    assert openvino_engine.openvino_trunks([model], config, shape)  # requested
    monkeypatch.setattr(openvino_engine, "MIN_VOXELS", 1)
    monkeypatch.setattr(openvino_engine, "MIN_SPEEDUP", float("inf"))
    predictor = Predictor(run, engine="auto")
    assert predictor.engine == "torch" and "times as fast" in predictor.engine_error


@needs_openvino
def test_a_run_predicts_the_same_with_both_engines(run: Path, scan: Path) -> None:
    slow, fast = Predictor(run, engine="torch"), Predictor(run, engine="openvino")
    assert (slow.engine, fast.engine, fast.engine_error) == ("torch", "openvino", "")
    want, got = slow(scan), fast(scan)
    assert got.model["engine"] == "openvino"
    for name, share in want.probabilities.items():
        assert got.probabilities[name] == pytest.approx(share, abs=1e-5)
    maps = [p.explain(a, "grad_cam").saliency for p, a in ((slow, want), (fast, got))]
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-3)


@needs_openvino
def test_bf16_on_request_predicts_nearly_the_same(run: Path, scan: Path) -> None:
    exact, fast = Predictor(run, engine="openvino"), Predictor(run, engine="openvino-bf16")
    assert (fast.engine, fast.engine_error) == ("openvino-bf16", "")
    want, got = exact(scan), fast(scan)
    assert got.model["engine"] == "openvino-bf16"
    for name, share in want.probabilities.items():
        assert got.probabilities[name] == pytest.approx(share, abs=0.02)


@needs_openvino
def test_torch_is_used_for_a_network_that_differs(
    run: Path,
    scan: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(openvino_engine.TOLERANCE, "openvino", 0.0)
    predictor = Predictor(run, engine="openvino")
    assert predictor.engine == "torch" and "differs by" in predictor.engine_error
    assert predictor(scan).probabilities == Predictor(run, engine="torch")(scan).probabilities


def test_grad_cam_reuses_the_feature_maps(
    run: Path,
    scan: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = Predictor(run, engine="torch")
    answer = predictor(scan)
    predictor.explain(answer, "occlusion")
    want = predictor.explain(answer, "grad_cam").saliency
    for one in predictor.networks:
        monkeypatch.setattr(one, "features", lambda x: pytest.fail("recomputed"))
    np.testing.assert_array_equal(predictor.explain(answer, "grad_cam").saliency, want)


def test_torch_is_used_for_small_volumes_and_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    cpu = torch.device("cpu")
    assert openvino_engine.choose("auto", cpu, 16**3) == "torch"
    assert openvino_engine.choose("auto", torch.device("cuda"), 96**3) == "torch"
    if openvino_engine.available():
        assert openvino_engine.choose("auto", cpu, 96**3) == "openvino"
    with pytest.raises(ValueError, match="requires the CPU"):
        openvino_engine.choose("openvino-bf16", torch.device("cuda"), 96**3)


def test_without_openvino_the_error_names_the_extra(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(openvino_engine, "available", lambda: False)
    assert openvino_engine.choose("auto", torch.device("cpu"), 96**3) == "torch"
    assert main(["predict", str(run), "scan.nii.gz", "--engine", "openvino"]) == 2
    assert "uncus[fast]" in capsys.readouterr().err
