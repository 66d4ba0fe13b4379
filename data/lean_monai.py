"""MONAI's base classes without the rest of MONAI, where it takes longer to import than to predict.

``import monai`` imports all of its networks, losses, metrics and applications, and with them
scikit-learn and scikit-image. :func:`load` imports the few modules that a prediction needs, and
their packages without their ``__init__``, which are run when anything else of MONAI is used.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import version
from types import ModuleType
from typing import Any

PACKAGES = ("monai", "monai.apps", "monai.data", "monai.networks", "monai.transforms")
NEEDED = (
    "monai.data.meta_tensor",
    "monai.data.image_reader",
    "monai.transforms.compose",
    "monai.transforms.inverse",
    "monai.transforms.lazy.dictionary",  # imported by Compose when it is called
)
OPTIONAL = ("matplotlib", "pydicom")
"""What MONAI and nibabel import where it is installed, for what no prediction does: to plot the
metrics of a training, and to read DICOM in a NIfTI file's extension."""


class Package(ModuleType):
    """A package whose ``__init__`` is run when one of its own names is used."""

    def __getattr__(self, name: str) -> Any:
        """A name that is not there yet; Python asks for those with underscores by itself."""
        if not name.startswith("__") and "_loader" in self.__dict__ and FINDER.ready:
            if FINDER in sys.meta_path:
                complete()
            else:  # another package's __init__ asks
                run_init(self)
            return getattr(self, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class Finder(MetaPathFinder, Loader):
    """Finds ``PACKAGES`` as :class:`Package`; once ``ready``, completes MONAI for other modules."""

    ready = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self.ready:
            found = PathFinder.find_spec(fullname, path) if fullname in PACKAGES else None
            if found:
                found.loader_state, found.loader = found.loader, self
            return found
        if fullname.startswith("monai."):
            complete()
            if fullname in sys.modules:  # without its own spec, by which Python would load it again
                module = sys.modules[fullname]
                spec = ModuleSpec(fullname, self, loader_state=module.__spec__)
                module.__spec__ = None
                return spec
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name] if self.ready else Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__
        if self.ready:  # imported meanwhile, with the rest of MONAI
            module.__spec__ = module.__spec__.loader_state
            return
        module.__dict__["_loader"] = module.__spec__.loader_state
        if module.__name__ == "monai":
            module.__dict__["__version__"] = version("monai")


FINDER = Finder()


def load() -> None:
    """Import ``NEEDED`` in this way, unless MONAI is imported already."""
    if "monai" in sys.modules:
        return
    sys.meta_path.insert(0, FINDER)
    absent = {name: None for name in OPTIONAL if name not in sys.modules}
    try:
        sys.modules.update(absent)  # type: ignore[arg-type]  # None: not installed
        for name in NEEDED:
            import_module(name)
        FINDER.ready = True
    except (ImportError, AttributeError):  # another version of MONAI: as usual
        sys.meta_path.remove(FINDER)
        for name in [name for name in sys.modules if name.partition(".")[0] == "monai"]:
            del sys.modules[name]
    finally:
        for name in absent:
            del sys.modules[name]


def complete() -> None:
    """Run what was left out, beginning with MONAI's own ``__init__``, which imports the rest."""
    sys.meta_path.remove(FINDER)
    for name in PACKAGES:
        run_init(sys.modules[name])
    for name in sorted(sys.modules):
        package, _, child = name.rpartition(".")
        if package.partition(".")[0] == "monai" and child not in vars(sys.modules[package]):
            setattr(sys.modules[package], child, sys.modules[name])


def run_init(package: ModuleType) -> None:
    """Run a package's ``__init__``, once."""
    if loader := package.__dict__.pop("_loader", None):
        loader.exec_module(package)
