"""Imports go one way and never in a circle, folders stay small, and only `uncus` is installed."""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from uncus.pipeline.cli import VERBS

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "data": {"data"},
    "models": {"models"},
    "pipeline": {"data", "models", "pipeline"},
    "app": {"app", "data", "pipeline"},
}
MODULES = {
    ".".join(("uncus", *path.relative_to(ROOT).with_suffix("").parts)): path
    for package in MAY_IMPORT
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "__init__.py"
}
MAX_FILES = 18
"""Python files in one folder."""


@cache
def imported(path: Path) -> frozenset[str]:
    """Every module that a file imports, inside functions and under TYPE_CHECKING too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def ours(path: Path) -> set[str]:
    """Our own modules that a file imports."""
    return {name for name in imported(path) if name in MODULES}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of a graph with more than one node."""
    reach: dict[str, set[str]] = {}
    for node in graph:
        seen, waiting = set(), list(graph[node])
        while waiting:
            if (other := waiting.pop()) not in seen:
                seen.add(other)
                waiting += graph.get(other, ())
        reach[node] = seen
    groups = {
        tuple(sorted({node, *(o for o in reach[node] if node in reach.get(o, ()))}))
        for node in graph
    }
    return [list(group) for group in groups if len(group) > 1]


def room(module: str) -> str:
    """The folder of a module below its package, or the module itself where it is in no folder."""
    parts = module.split(".")
    return ".".join(parts[:3])


def test_imports_go_one_way() -> None:
    assert len(MODULES) > 150
    for name, path in MODULES.items():
        package = name.split(".")[1]
        allowed = {f"uncus.{other}" for other in MAY_IMPORT[package]}
        for other in imported(path):
            top = other.partition(".")[0]
            assert top not in MAY_IMPORT, f"{name} imports {other}, which is uncus.{other}"
            assert top, f"{name} has a relative import"
            if other.startswith("uncus.") and other.count(".") > 1:
                assert ".".join(other.split(".")[:2]) in allowed, f"{name} imports {other}"


def test_no_two_files_import_each_other() -> None:
    assert circles({name: ours(path) for name, path in MODULES.items()}) == []


def test_no_two_rooms_import_each_other() -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for name, path in MODULES.items():
        graph[room(name)] |= {room(other) for other in ours(path)} - {room(name)}
    assert circles(dict(graph)) == []


def test_circles_are_seen(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from uncus.data import files\n"
        "def f():\n    import uncus.data.tables\n    from . import x\n"
    )
    assert {"uncus.data.files", "uncus.data.tables", "."} <= imported(module)
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_folders_stay_small_and_are_packages() -> None:
    folders: dict[Path, list[str]] = defaultdict(list)
    for path in MODULES.values():
        folders[path.parent].append(path.name)
    for folder, names in folders.items():
        assert (folder / "__init__.py").is_file(), f"{folder} has no __init__.py"
        assert len(names) <= MAX_FILES, f"{folder} holds {len(names)} files; give some a folder"


def test_tests_stand_where_their_files_stand() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.relative_to(ROOT / "tests").parent
        assert (ROOT / folder).is_dir(), f"{path} tests a folder that does not exist"


def after_import(module: str, packages: Iterable[str]) -> list[str]:
    """Which of ``packages`` are loaded once ``module`` is."""
    code = f"import sys, {module}; print(*(p for p in {list(packages)} if p in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_prediction_loads_nothing_of_training() -> None:
    # MONAI imports scikit-learn itself.
    training = ["lightning", "torchmetrics", "uncus.pipeline.training"]
    assert after_import("uncus.pipeline.predict", [*training, "torch"]) == ["torch"]


def test_the_command_loads_nothing_heavy() -> None:
    assert after_import("uncus.pipeline.cli", ["torch", "numpy", "pandas", "tyro"]) == []


def test_one_file_knows_the_layout_of_a_run() -> None:
    names = {"splits.tsv", "report.json", "environment.json", "card.json", "compare.json"}
    names |= {"SHA256SUMS", "metrics.csv", "last.ckpt", "best.safetensors"}
    names |= {"reference.safetensors", "domain.safetensors"}
    names |= {"training_scans.json", "passport.json", "passport.html"}
    names |= {"robustness.json", "robustness.html"}
    names |= {"audit.json", "audit.html", "certificate.json"}
    for name, path in MODULES.items():
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        texts = {n.value for n in tree if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        used = texts & names
        assert bool(used) == (name == "uncus.pipeline.runs"), f"{name} names {used}"


def test_only_our_name_is_installed() -> None:
    owners = packages_distributions()
    assert "torch" in owners and set(owners["uncus"]) == {"uncus"}
    for name in MAY_IMPORT:
        assert "uncus" not in owners.get(name, [])
        link = ROOT / "uncus" / name
        assert link.is_symlink() and link.resolve() == ROOT / name


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_written(verb: str) -> None:
    module, _, attribute = VERBS[verb][0].partition(":")
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    (cls,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == attribute)
    assert "run" in {n.name for n in cls.body if isinstance(n, ast.FunctionDef)}
