"""Imports go one way, and nobody else's packages bear our names."""

import ast
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from pipeline.cli import VERBS
from pipeline.shadow import PACKAGES

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "data": {"data"},
    "models": {"models"},
    "pipeline": {"data", "models", "pipeline"},
    "app": {"app", "data", "pipeline"},
}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).glob("**/*.py"))


def imported(path: Path) -> set[str]:
    """Our packages that a module imports, anywhere in it; a relative import is called '.'."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." if node.level else (node.module or "").partition(".")[0])
    return found & {*PACKAGES, "."}


def test_imports_go_one_way() -> None:
    assert len(MODULES) > 50
    for path in MODULES:
        package = path.relative_to(ROOT).parts[0]
        wrong = imported(path) - MAY_IMPORT[package]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_the_walk_sees_imports_inside_functions(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def f():\n    from models.norms import NORMS\n    from . import x\n")
    assert imported(module) == {"models", "."}


def test_packages_hold_nothing_that_is_imported_twice_over() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in MODULES]
    assert "app/app.py" not in names
    for package in PACKAGES:
        assert f"{package}/{package}.py" not in names
        assert f"{package}/__init__.py" in names
        # setuptools is told the four packages by name and would leave out a folder below them
        assert not [n for n in names if n.startswith(f"{package}/") and n.count("/") > 1]


def test_no_dependency_ships_our_names() -> None:
    owners = packages_distributions()
    assert "torch" in owners
    for name in PACKAGES:
        assert set(owners.get(name, ["uncus"])) == {"uncus"}, f"{name} comes from {owners[name]}"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_written(verb: str) -> None:
    module, _, attribute = VERBS[verb][0].partition(":")
    path = ROOT / Path(*module.split(".")).with_suffix(".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (found,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == attribute)
    assert "run" in {n.name for n in found.body if isinstance(n, ast.FunctionDef)}
