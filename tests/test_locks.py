"""The pinned packages: all that is required, in versions that fit, with hashes but for torch."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CUDA = r"(torch|triton)$|nvidia-|cuda-"
EXTRAS = {"requirements.lock": "dev", "docker/requirements.lock": "app fast"}
TORCH = Requirement((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[-1])
SYSTEMS = {
    f"{system}-{version}": {
        "python_version": version,
        "python_full_version": f"{version}.2",
        "sys_platform": system.lower(),
        "platform_system": system,
    }
    for version in ("3.11", "3.12", "3.13", "3.14")
    for system in ("Linux", "Darwin")
}


def pins(lock: str) -> list[tuple[Requirement, int]]:
    """Each pin of a lock file, and how many hashes it has."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#") and line]
    return [(Requirement(line.split(" --hash")[0]), line.count("--hash=sha256:")) for line in lines]


def versions(lock: str, system: dict[str, str]) -> dict[str, str]:
    """Package -> version that a lock file gives on a system; each package once."""
    pinned: dict[str, str] = {}
    for pin, _ in pins(lock):
        if not pin.marker or pin.marker.evaluate(system):
            (specifier,) = pin.specifier
            assert specifier.operator == "==" and pin.name not in pinned
            pinned[pin.name] = specifier.version
    return pinned


def wanted(extras: str) -> list[Requirement]:
    """The requirements of pyproject.toml with those of some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"]]
    for extra in extras.split():
        lines += project["optional-dependencies"][extra]
    requirements = [Requirement(line) for line in lines]
    for own in [one for one in requirements if one.name == project["name"]]:
        requirements.remove(own)
        requirements += wanted(" ".join(own.extras))
    return requirements


@pytest.mark.parametrize("lock", EXTRAS)
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_requirement_is_pinned_within_its_bounds(lock: str, name: str) -> None:
    system = SYSTEMS[name]
    pinned = versions(lock, system)
    assert TORCH.name == "torch" and "torch" not in pinned
    for requirement in wanted(EXTRAS[lock]):
        if requirement.name == "torch":
            (specifier,) = TORCH.specifier
            assert requirement.specifier.contains(specifier.version)
        elif not requirement.marker or requirement.marker.evaluate(system):
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{requirement.name} is not in {lock}: make lock"
            assert requirement.specifier.contains(version), f"{requirement}: {lock} has {version}"


@pytest.mark.parametrize("lock", EXTRAS)
def test_every_pin_has_hashes_and_no_address(lock: str) -> None:
    assert all(hashes for _, hashes in pins(lock))
    assert "://" not in (ROOT / lock).read_text(encoding="utf-8")
    assert not [pin.name for pin, _ in pins(lock) if re.match(r"nvidia-|cuda-", pin.name)]


def test_the_images_have_the_versions_that_are_tested() -> None:
    tested = pins("requirements.lock")
    assert all(pin in tested for pin in pins("docker/requirements.lock"))


def test_the_gpu_image_has_torchs_cuda_build_and_what_it_needs() -> None:
    found = {pin.name: (pin, hashes) for pin, hashes in pins("docker/gpu.lock")}
    assert all(hashes and re.match(CUDA, name) for name, (_, hashes) in found.items())
    (torch,), (specifier,) = found["torch"][0].specifier, TORCH.specifier
    assert torch.operator == "===" and torch.version == specifier.version
    tested = {pin.name: pin.specifier for pin, _ in pins("requirements.lock")}
    assert found["triton"][0].specifier == tested["triton"]
    names = " ".join(found)
    assert all(part in names for part in ("cublas", "cudnn", "nccl", "cusparselt", "nvjitlink"))


@pytest.mark.parametrize("lock", EXTRAS)
def test_what_the_packages_require_in_turn_is_pinned(lock: str) -> None:
    pinned = versions(lock, {})
    waiting = [*pinned, "torch"]
    assert "sympy" in waiting
    for name in waiting:
        for line in requires(name) or ():
            other = Requirement(line)
            if (not other.marker or other.marker.evaluate({"extra": ""})) and not re.match(
                r"torch$|triton$|nvidia-|cuda-", other.name
            ):
                assert canonicalize_name(other.name) in pinned, f"{name} requires {line}"
