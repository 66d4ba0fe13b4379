"""What is installed: one import name, its public names and types, the same from wheel and sdist."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import uncus

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "data", "models", "pipeline")
VERSION = uncus.__version__
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "uncus", *PACKAGES)
WHEEL = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w"]


def python(*arguments: str, cwd: Path = ROOT, path: Path | None = None) -> str:
    """What Python prints, run in ``cwd`` with ``path`` as the only entry of PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source_tree(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, links included, since a build writes into the source folder.

    It has one more built-in model, called small.
    """
    copy = tmp_path_factory.mktemp("source") / "uncus"
    copy.mkdir()
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, copy / name)
    model = copy / "pipeline" / "builtin" / "small"
    shutil.copytree(run / "model", model / "model")
    shutil.copy(run / "MODEL_CARD.md", model)
    return copy


@pytest.fixture(scope="module")
def wheel(source_tree: Path) -> Path:
    """The wheel that the checkout makes."""
    subprocess.run([*WHEEL, str(source_tree / "wheel"), str(source_tree)], check=True)
    (wheel,) = (source_tree / "wheel").iterdir()
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is installed in."""
    target = tmp_path_factory.mktemp("installed")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True)
    return target


@pytest.fixture
def own_packages(tmp_path: Path) -> Path:
    """A user's folder with packages of the names that our folders have."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    return tmp_path


def test_the_wheel_contains_every_file_below_one_name(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    expected = {f"uncus/{name}" for name in tracked if (ROOT / name).exists()}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert expected <= names
    assert {"uncus/py.typed", "uncus/app/viewer/index.html", "uncus/data/errors.py"} <= names
    assert {name.split("/")[0] for name in names} == {"uncus", f"uncus-{VERSION}.dist-info"}


def test_the_wheel_contains_the_built_in_models(
    wheel: Path, installed: Path, run: Path, own_packages: Path
) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {f"model/{path.name}" for path in (run / "model").iterdir()} | {"MODEL_CARD.md"}
    assert {f"uncus/pipeline/builtin/small/{name}" for name in files} <= names
    listed = python("-m", "uncus", "models", "--json", cwd=own_packages, path=installed)
    known = {one["name"]: one for one in json.loads(listed)["models"]}
    assert known["small"]["folder"] == str(installed / "uncus/pipeline/builtin/small")
    assert known["small"]["notice"] == uncus.NOTICE


def test_an_sdist_makes_the_same_wheel(source_tree: Path, wheel: Path, tmp_path: Path) -> None:
    build = "from setuptools import build_meta; build_meta.build_sdist('sdist')"
    python("-c", build, cwd=source_tree)
    with tarfile.open(source_tree / "sdist" / f"uncus-{VERSION}.tar.gz") as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        archive.extractall(tmp_path, filter="data")
    subprocess.run([*WHEEL, str(tmp_path), str(tmp_path / f"uncus-{VERSION}")], check=True)
    first, second = zipfile.ZipFile(wheel), zipfile.ZipFile(tmp_path / wheel.name)
    names = {name for name in first.namelist() if not name.endswith("/RECORD")}
    assert names == {name for name in second.namelist() if not name.endswith("/RECORD")}
    for name in names:
        assert first.read(name) == second.read(name), name


def test_a_clone_keeps_the_links(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "-q", "--no-local", "--depth=1", f"file://{ROOT}", clone], check=True
    )
    for name in PACKAGES:
        link = clone / "uncus" / name
        assert link.is_symlink() and link.resolve() == clone.resolve() / name


@pytest.mark.slow
def test_the_readme_runs_where_other_packages_have_our_folders_names(
    installed: Path, own_packages: Path, cohort: Path, source: Path
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert "epochs=60" in example
    example = example.replace("epochs=60", "epochs=1, lr=0.01")
    (own_packages / "cohorts").mkdir()
    shutil.copytree(cohort, own_packages / "cohorts/adni")
    shutil.copy(next(source.glob("sub-*/anat/*.nii.gz")), own_packages / "new_T1w.nii.gz")
    check = "\nassert uncus.__file__.startswith(sys.argv[1]), uncus.__file__"
    check += "\nassert set(prediction.probabilities) == {'CN', 'AD'}"
    check += "\nassert report['names'] == ['CN', 'AD']"
    check += "\nassert explanation.saliency.shape == predictor.grid.shape"
    (own_packages / "example.py").write_text("import sys\n" + example + check)
    python("example.py", str(installed), cwd=own_packages, path=installed)


def test_the_command_is_the_same_however_it_is_called(installed: Path, own_packages: Path) -> None:
    expected = f"uncus {VERSION}\n"
    assert python("-m", "uncus", "--version", cwd=own_packages, path=installed) == expected
    assert python("-m", "uncus", "--version") == expected
    assert python("-m", "pipeline", "--version") == expected
    script = installed / "bin" / "uncus"
    assert python(str(script), "--version", cwd=own_packages, path=installed) == expected


@pytest.mark.parametrize("command", [("-m", "pipeline"), ("-c", "import pipeline.runs")])
def test_another_package_of_our_name_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "uncus").mkdir()
    (tmp_path / "uncus" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode
    last = done.stderr.splitlines()[-1]
    assert f"the package uncus is taken from {tmp_path / 'uncus'}" in last
    assert "rename that folder" in last


def test_a_folder_of_our_name_is_named_or_does_no_harm(tmp_path: Path) -> None:
    # As a clone is called; Python's path prefers it to an editable installation.
    (tmp_path / "uncus").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", "uncus", "--version"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert line.startswith(f"uncus: the package uncus is taken from {tmp_path / 'uncus'}")


def test_links_to_folders_elsewhere_are_ignored(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    names = [".venv", "runs", "cohorts", "build", "dist", "lightning_logs", "data/__pycache__"]
    (tmp_path / "data").mkdir()
    for name in names:
        (tmp_path / name).symlink_to("/", target_is_directory=True)
    for name in ("uncus", "data/cohorts"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bids.py").touch()
    command = ["git", "status", "--porcelain", "--untracked-files=all"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert {line[3:] for line in shown.splitlines()} == {
        *(".gitignore", "uncus/bids.py", "data/cohorts/bids.py")
    }


def test_importing_loads_nothing_until_a_name_is_used() -> None:
    code = "import sys, uncus; assert not {'torch', 'numpy'} & set(sys.modules); "
    code += "from uncus import *; print(*sorted(n for n in uncus.__all__ if n in globals()))"
    assert python("-c", code).split() == sorted(uncus.__all__)
    for name in uncus.__all__:
        assert getattr(uncus, name) is not None and name in dir(uncus)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = uncus.Nothing


def test_types_are_known_to_who_installs_it(installed: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    shutil.copytree(installed / "uncus", packages / "uncus")
    names = [name for name in uncus.__all__ if name != "__version__"]
    lines = ["import uncus", *(f"reveal_type(uncus.{name})" for name in names)]
    (tmp_path / "user.py").write_text("\n".join([*lines, "uncus.Nothing", ""]))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, "--python-executable", str(environment / "bin" / "python"), "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert len(revealed) == len(names), done.stdout
    assert not [name for name, kind in zip(names, revealed, strict=True) if kind == "Any"]


def test_an_old_import_is_the_same_module_and_warns() -> None:
    code = """
import sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import models.build, models.norms, pipeline.runs
    from data.errors import BadInput
assert len(caught) == 3, caught
assert all(issubclass(w.category, DeprecationWarning) for w in caught)
assert str(caught[0].message).startswith("import uncus.models;")
assert caught[0].filename == "<string>"
import uncus.models.build, uncus.models.norms, uncus.pipeline.runs
assert models.build is uncus.models.build
assert models.norms.NORMS is uncus.NORMS
assert pipeline.runs is uncus.pipeline.runs
assert BadInput is uncus.BadInput
assert models.build.__spec__.name == models.build.__name__ == "uncus.models.build"
try:
    import models.nothing
except ModuleNotFoundError as error:
    print(error)
"""
    assert python("-c", code, path=ROOT) == "No module named 'uncus.models.nothing'\n"
