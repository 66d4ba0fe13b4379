"""The command line: every verb runs, every error is one line and exit code 2."""

import re
import subprocess
import sys
from dataclasses import is_dataclass
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from uncus import __version__
from uncus.pipeline import cli
from uncus.pipeline.cli import VERBS, main

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "monai", "lightning", "streamlit", "pandas", "scipy", "sklearn", "nibabel")


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error of a command: one line on stderr, nothing on stdout, exit code 2."""
    capsys.readouterr()
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert error.startswith("uncus: ")
    assert "Traceback" not in error
    return error


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (_, summary) in VERBS.items():
        assert [line.split() for line in lines].count([name, *summary.split()]) == 1
    assert max(map(len, lines)) <= 100
    assert any("not a medical device" in line for line in lines)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["info"], ["info", "--json"]])
def test_quick_answers_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from uncus.pipeline.cli import main; code = main(sys.argv[2:]); "
        "print('\\n' + ' '.join(set(sys.argv[1].split(',')) & set(sys.modules))); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, ",".join(HEAVY), *arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert len(out.splitlines()) > 1
    assert out.splitlines()[-1] == ""


def test_an_unknown_verb_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'train'?" in error_of(capsys, "trian", "x")
    assert "uncus --help lists the verbs" in error_of(capsys, "qqqq")


@pytest.mark.parametrize("arguments", [["info", "--jsn"], ["info", "extra"], ["bench", "nothing"]])
def test_an_unknown_option_is_a_one_line_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert arguments[1] in error_of(capsys, *arguments)


@pytest.mark.parametrize(
    "error",
    [ValueError("a\nb"), OSError(28, "No space left"), MemoryError()],
    ids=lambda e: repr(e),
)
def test_an_error_that_a_user_can_fix_is_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(verb: str, arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "call", fail)
    monkeypatch.delenv("UNCUS_TRACEBACK", raising=False)
    assert len(error_of(capsys, "info")) > len("uncus: \n")
    monkeypatch.setenv("UNCUS_TRACEBACK", "1")
    with pytest.raises(type(error)):
        main(["info"])


def test_an_interruption_has_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(verb: str, arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "call", interrupt)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "uncus: interrupted\n"


def test_the_command_and_the_module_are_the_same() -> None:
    (script,) = entry_points(group="console_scripts", name="uncus")
    assert script.value == "uncus.pipeline.cli:main"
    command = [sys.executable, "-m", "pipeline"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, f"uncus {__version__}\n")
    done = subprocess.run([*command, "nosuch"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help_text(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind = cli.load_verb(verb)
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert callable(kind.run)  # type: ignore[attr-defined]
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"uncus {verb}" in out
    assert kind.__doc__
    words = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", out).split())
    assert kind.__doc__.split()[0] in words


def test_help_names_everything_that_is_registered(capsys: pytest.CaptureFixture[str]) -> None:
    from uncus.data.cohorts.readers import READERS
    from uncus.models.build import BACKBONES
    from uncus.models.norms import NORMS
    from uncus.pipeline.adaptation.registry import ADAPTATIONS
    from uncus.pipeline.saliency import SALIENCY

    for verb, names in (
        ("train", [*BACKBONES, *NORMS]),
        ("prepare", READERS),
        ("predict", SALIENCY),
        ("explain", SALIENCY),
        ("adapt", ADAPTATIONS),
    ):
        assert main([verb, "--help"]) == 0
        words = re.findall(r"[\w+-]+", re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out))
        assert not set(names) - set(words), f"uncus {verb} --help does not name them"
