"""The environment of a run: versions, and the CPUs that may be used."""

import os
import sys

import pytest
import torch

from uncus import __version__
from uncus.pipeline import environment


def test_versions_are_those_of_the_installed_packages() -> None:
    versions = environment.versions()
    assert set(versions) == {"python", *environment.PACKAGES}
    assert versions["torch"] == torch.__version__ and versions["uncus"] == __version__
    assert sys.version.startswith(versions["python"])


def test_only_cpus_that_may_be_used_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 5, 7}, raising=False)
    assert environment.cpu_count() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert environment.cpu_count() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert environment.cpu_count() == 1


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "nvidia-smi" in environment.why_no_gpu() and "--gpus" in environment.why_no_gpu()
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "CUDA build" in environment.why_no_gpu()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert environment.why_no_gpu() == ""
