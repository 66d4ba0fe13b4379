"""docs/monai.md: its code runs, in its order, and does what the page promises."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from uncus.models.norms import NORMS
from uncus.models.swap import find_norms

PAGE = Path(__file__).parents[1] / "docs" / "monai.md"


def test_the_code_runs(
    mni_source: Path, mni_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "phantom").symlink_to(mni_source)
    (tmp_path / "cohort").symlink_to(mni_cohort)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        line = text[: text.index(block)].count("\n")
        exec(compile("\n" * line + block, str(PAGE), "exec"), names)
    image, on_file = names["saliency"], names["on_file"]
    assert isinstance(image, torch.Tensor) and isinstance(on_file, torch.Tensor)
    assert names["grid"].shape == tuple(image.shape[1:])
    assert np.isfinite(names["losses"]).all() and names["losses"][-1] < names["losses"][0]
    norms = find_norms(names["network"]).values()
    assert norms and all(type(layer).__name__ == "BatchGroupNorm" for layer in norms)
    assert "batch_group" in NORMS
    assert names["volumes"].shape == (2, 1, *names["cohort"].grid.shape)
    assert callable(names["gibbs"])
