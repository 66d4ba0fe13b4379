"""Other packages called app, data, models or pipeline are named, not imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.shadow import check

ROOT = Path(__file__).parents[1]


def uncus(*command: str, path: Path | None = None, cwd: Path = ROOT) -> tuple[int, str]:
    """Exit code and stderr of ``uncus info`` called as ``command``, ``path`` on PYTHONPATH."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *command, "info"], env=environment, cwd=cwd, capture_output=True, text=True
    )
    return done.returncode, done.stderr


SCRIPT = ("-c", "import sys; del sys.path[0]; from pipeline.cli import main; sys.exit(main())")
"""As the installed command does it: the working folder is not on the path."""


def test_our_own_packages_pass() -> None:
    check()


@pytest.mark.parametrize("kind", ["package", "folder", "file"])
@pytest.mark.parametrize("name", ["models", "app"])
def test_a_package_first_on_the_path_is_named(tmp_path: Path, name: str, kind: str) -> None:
    there = tmp_path / (f"{name}.py" if kind == "file" else name)
    if kind == "file":
        there.write_text("raise RuntimeError('it was imported')")
    else:
        there.mkdir()
        if kind == "package":
            (there / "__init__.py").write_text("raise RuntimeError('it was imported')")
    code, error = uncus(*SCRIPT, path=tmp_path)
    if kind == "folder" and code == 0:
        return  # Python prefers a package, wherever on the path, to a bare folder
    assert code == 2
    assert error.count("\n") == 1
    assert f"package {name!r} is taken from {there}" in error
    assert "PYTHONPATH" in error


def test_a_folder_inside_ours_is_no_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.machinery import ModuleSpec

    nested = ROOT / "runs" / "models" / "__init__.py"

    def find(name: str) -> ModuleSpec:
        return ModuleSpec(name, None, origin=str(nested))

    monkeypatch.setattr("importlib.util.find_spec", find)
    with pytest.raises(ValueError, match="is taken from"):
        check()


def test_the_command_ignores_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('it was imported')")
    assert uncus(*SCRIPT, cwd=tmp_path) == (0, "")
    code, error = uncus("-m", "pipeline", cwd=tmp_path)
    assert code == 2
    assert str(tmp_path / "models") in error
