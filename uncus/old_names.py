"""Imports without ``uncus.`` (``models``, ``pipeline`` ...) from a checkout, for one release more.

``import models.build`` gives the same module object as ``import uncus.models.build``.
"""

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class OldNames(MetaPathFinder, Loader):
    """Finds ``models.x.y`` as the module ``uncus.models.x.y``, for each package in ``packages``."""

    def __init__(self) -> None:
        self.packages: set[str] = set()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if package not in self.packages or rest == "__main__":
            return None
        real = importlib.import_module(f"uncus.{fullname}").__spec__
        return ModuleSpec(fullname, self, loader_state=real)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[f"uncus.{spec.name}"]

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just given the module the old name's spec.
        assert module.__spec__
        module.__spec__ = module.__spec__.loader_state


FINDER = OldNames()


def forward(package: str) -> None:
    """Make ``package`` and all below it other names of ``uncus.package``; warn once."""
    warnings.warn(
        f"import uncus.{package}; {package!r} alone will not be importable in the next release",
        DeprecationWarning,
        stacklevel=3,
    )
    sys.modules[package] = importlib.import_module(f"uncus.{package}")
    FINDER.packages.add(package)
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)
