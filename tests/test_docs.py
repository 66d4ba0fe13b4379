"""Verbs, options, links and images in the documentation exist."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from uncus.pipeline.cli import VERBS, load_verb, main

ROOT = Path(__file__).parents[1]
DOCS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("**/*.md")])
PLACEHOLDERS = re.compile(r"\.\.\.|…|[\[\]<>]|\b[A-Z]{2,}\b")
COMMAND = re.compile(r"^[$>\s]*(?:\S*/)?(?:uncus|python3? -m (?:uncus|pipeline))\s+(.+)$")
IDS = [path.relative_to(ROOT).as_posix() for path in DOCS]


def code(text: str) -> Iterator[str]:
    """Every line of a code block (continued lines joined) and every span in backticks."""
    text = re.sub(r"\\\n\s*", " ", text)
    for block in re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"^ {4}(.+)$", rest, re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", rest):
        yield " ".join(span.split())


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each ``uncus ...`` in the text, without comments and pipes."""
    for line in code(text):
        for part in re.split(r"&&|;|\|", line.split(" #")[0]):
            match = COMMAND.match(part)
            if match:
                try:
                    yield shlex.split(match[1])
                except ValueError:  # a pipe or a semicolon was inside quotes
                    yield match[1].split()


@cache
def options(verb: str) -> frozenset[str]:
    """Every option of a verb, as its help lists them."""
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main([verb, "--help"]) == 0
    plain = re.sub(r"\x1b\[[0-9;]*m|[\u2500-\u257f]", " ", text.getvalue())
    heads = re.findall(r"^\s*((?:-h, )?--\S.*)$", plain, re.MULTILINE)
    return frozenset(name for head in heads for name in re.findall(r"--[a-z][\w.-]*", head))


@pytest.mark.parametrize("path", DOCS, ids=IDS)
def test_verbs_and_options_exist(path: Path) -> None:
    for arguments in commands(path.read_text(encoding="utf-8")):
        verb = arguments[0]
        if verb in {"VERB", "--help", "--version"}:
            continue
        assert verb in VERBS, f"uncus {' '.join(arguments)}"
        for argument in arguments[1:]:
            if argument.startswith("--"):
                name = argument.partition("=")[0]
                assert name in options(verb), f"uncus {verb} has no {name}"


@pytest.mark.parametrize("path", DOCS, ids=IDS)
def test_options_named_alone_exist_in_some_verb(path: Path) -> None:
    spans = re.findall(r"`(--[a-z][\w.-]*)[^`]*`", path.read_text(encoding="utf-8"))
    if spans:
        everywhere = frozenset[str]().union(*(options(verb) for verb in VERBS))
        assert set(spans) <= everywhere | {"--help", "--version"}


@pytest.mark.parametrize("path", DOCS, ids=IDS)
def test_whole_commands_are_accepted(path: Path) -> None:
    """A command without placeholders parses with all its values; nothing is run."""
    import tyro

    for arguments in commands(path.read_text(encoding="utf-8")):
        line = " ".join(arguments)
        if arguments[0] in VERBS and "--help" not in arguments and not PLACEHOLDERS.search(line):
            if len(arguments) == 1:
                continue  # the verb's name in a sentence
            try:
                tyro.cli(load_verb(arguments[0]), args=arguments[1:])
            except SystemExit as error:
                raise AssertionError(f"not accepted: uncus {line}") from error


@pytest.mark.parametrize("path", DOCS, ids=IDS)
def test_links_and_images_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for target in linked:
        if not re.match(r"[a-z]+:|#", target):
            linked_path = path.parent / target.partition("#")[0]
            assert linked_path.exists(), f"{target} does not exist"
            assert linked_path.resolve().is_relative_to(ROOT), f"{target} is outside the repository"


@pytest.mark.parametrize("path", DOCS, ids=IDS)
def test_no_paths_of_one_machine(path: Path) -> None:
    machine = r"(?<![\w.])/(?:work|home|root|Users|tmp|mnt|media|opt)/"
    assert not re.findall(machine, path.read_text(encoding="utf-8"))


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for path in DOCS:
        for line in code(path.read_text(encoding="utf-8")):
            match = re.match(r"^[$\s]*make ([a-z-]+)", line)
            assert not match or match[1] in targets, f"{path.name}: make {match[1]}"


def test_commands_are_recognized() -> None:
    text = "a `uncus train C R\n--lr 1`\n\n"
    text += "```sh\n$ uncus prepare A B \\\n    --space keep  # why\n```\n"
    text += "\n    .venv/bin/uncus info && uncus bench norm | cat\n\nuncus is not `uncus` here.\n"
    assert list(commands(text)) == [
        ["prepare", "A", "B", "--space", "keep"],
        ["info"],
        ["bench", "norm"],
        ["train", "C", "R", "--lr", "1"],
    ]
    assert {"--regression", "--no-regression", "--lr", "--augment.flip"} <= options("train")
    assert "--resum" not in options("train")
