"""The images, as far as they can be checked without building them: targets, names, no compiler."""

import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from uncus.pipeline.cli import VERBS, main

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")


def instructions(name: str) -> list[str]:
    """The arguments of each instruction of that name, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


@pytest.fixture
def compose() -> dict[str, Any]:
    """docker/compose.yaml."""
    return yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))


def test_the_base_can_be_chosen_and_the_targets_are_there() -> None:
    first = next(line for line in DOCKERFILE.splitlines() if line and not line.startswith("#"))
    assert first.startswith("ARG BASE_IMAGE=")
    stages = [re.fullmatch(r"(\S+) AS (\S+)", line) for line in instructions("FROM")]
    assert all(stages)
    names = [stage[2] for stage in stages if stage]
    assert len(set(names)) == len(names)
    assert {"cpu", "gpu"} <= set(names) and names[-1] == "cpu"
    for number, stage in enumerate(stages):
        assert stage and (stage[1] == "${BASE_IMAGE}" or stage[1] in names[:number])
    for source in re.findall(r"--from=(\S+)", DOCKERFILE):
        assert source in names


def test_the_image_is_an_ordinary_user_that_serves_the_page() -> None:
    assert instructions("USER") == ["1000:1000"]
    assert instructions("ENTRYPOINT") == ['["uncus"]']
    (command,) = instructions("CMD")
    assert '"app"' in command and '"0.0.0.0"' in command
    (health,) = instructions("HEALTHCHECK")
    assert "8501" in health and instructions("EXPOSE") == ["8501"]


@pytest.mark.parametrize("command", ["image", "compose"])
def test_the_image_needs_a_password(
    command: str, compose: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its default command is refused without one, which compose passes on."""
    app = compose["services"]["app"]
    arguments = json.loads(instructions("CMD")[0]) if command == "image" else app["command"]
    first = arguments.index("--address")
    options = [text.replace("${UNCUS_HOST:-localhost}", "localhost") for text in arguments[first:]]
    assert main([arguments[0], str(run), *options]) == 2
    assert "UNCUS_APP_PASSWORD" in capsys.readouterr().err
    assert app["environment"] == {"UNCUS_APP_PASSWORD": "${UNCUS_APP_PASSWORD:-}"}


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignored
    allowed = {line.removeprefix("!").rstrip("/") for line in ignored if line.startswith("!")}
    copied = set()
    for line in instructions("COPY"):
        if "--from=" not in line:
            copied |= set(line.split()[:-1])
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    assert {
        "pyproject.toml",
        "uncus",
        *(p.name for p in (ROOT / "uncus").iterdir() if p.is_symlink()),
    } <= copied


def test_compose_names_only_what_exists(compose: dict[str, Any]) -> None:
    stages = {line.split()[-1] for line in instructions("FROM")}
    assert set(compose["services"]) == {"app", "train"}
    for service in compose["services"].values():
        build = service["build"]
        assert (ROOT / "docker" / build["context"] / build["dockerfile"]).is_file()
        assert build["target"] in stages
        assert set(build.get("args", {})) <= {a.partition("=")[0] for a in instructions("ARG")}
        verb = (service.get("entrypoint", ["uncus"])[1:] + service["command"])[0]
        assert verb in VERBS
        assert service["read_only"] and service["mem_limit"] and service["pids_limit"]
        (mount,) = service["tmpfs"]
        assert re.match(r"/tmp:size=\$\{UNCUS_TMP:-\d+g\}", mount)
        assert {mount.rpartition(":")[2] for mount in service["volumes"]} == {
            "/data/cohorts",
            "/data/runs",
        }
    devices = compose["services"]["train"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]


def test_every_file_of_a_package_is_verified() -> None:
    """pip gets hashes, of all packages; only torch's CPU build may have none."""
    installs = [line for line in instructions("RUN") if "pip" in line and " install " in line]
    assert len(installs) == 5
    for line in installs:
        (file,) = re.findall(r"(?:-r )?/build/(\S+)", line.split(" install ")[1])
        if file in {"requirements.lock", "gpu.lock"}:
            assert "--require-hashes" in line
        else:
            assert file in {"torch.txt", "wheels/*.whl"} and "--no-deps" in line
    assert "--hash=sha256:${TORCH_SHA256}" in DOCKERFILE


def test_the_page_names_every_variable() -> None:
    page = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
    compose = (ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")
    arguments = {line.split("=")[0] for line in instructions("ARG")}
    for name in {*re.findall(r"\$\{(\w+)", compose), *arguments}:
        assert f"`{name}" in page or f"{name}`" in page, name


def test_the_compiler_replacement_returns_its_one_module(tmp_path: Path) -> None:
    script = ROOT / "docker" / "prebuilt-cc"
    assert script.stat().st_mode & stat.S_IXUSR
    here = tmp_path / "cc"
    here.write_bytes(script.read_bytes())
    here.chmod(0o755)
    (tmp_path / "driver.c").write_text("int known;")
    (tmp_path / "cuda_utils.so").write_bytes(b"compiled")
    for content, wanted in (("int known;", 0), ("int other;", 1)):
        source, out = tmp_path / "source.c", tmp_path / f"{wanted}.so"
        source.write_text(content)
        done = subprocess.run(
            [here, source, "-O3", "-shared", "-o", out, "-lcuda"], capture_output=True, text=True
        )
        assert done.returncode == wanted
        assert out.exists() == (not wanted)
    assert "no C compiler" in done.stderr
