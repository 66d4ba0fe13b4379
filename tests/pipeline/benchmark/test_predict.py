"""The stages of a prediction at the quick size."""

import pytest

from tests.pipeline.conftest import parts_of
from uncus.pipeline.prediction import openvino_engine


def test_the_stages_of_a_prediction(speed_folder) -> None:
    part = parts_of(speed_folder)["predict"]
    stages = part["stages_ms"]
    assert {"read", "network, torch", "Grad-CAM", "cold start", "raw head"} <= stages.keys()
    assert all(0 < ms["low"] <= ms["median"] for ms in stages.values())
    assert part["network_gflop"] > 0 and part["matrix_gflop_s"] > 0
    if "network, openvino" in stages:
        assert part["difference"] < openvino_engine.TOLERANCE["openvino"]
        assert (
            part["difference"]
            < part["bf16_difference"]
            < openvino_engine.TOLERANCE["openvino-bf16"]
        )
        slower = stages["network, openvino-bf16"]["median"] / stages["network, openvino"]["median"]
        assert part["bf16_times_slower"] == pytest.approx(slower)
        ratio = stages["network, torch"]["median"] / stages["network, openvino"]["median"]
        assert part["openvino_times_faster"] == pytest.approx(ratio)
