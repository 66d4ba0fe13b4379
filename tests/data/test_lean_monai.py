"""A prediction imports little of MONAI; all of it is there once anything else is used."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOADED = "print(*(name for name in ('sklearn', 'skimage', 'nilearn') if name in sys.modules))"


def run(code: str) -> list[str]:
    """The words that Python prints for ``code``, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_all_of_monai_is_there_once_it_is_used() -> None:
    words = run(f"""
import sys
from uncus.data import lean_monai
lean_monai.load()
from monai.data.meta_tensor import MetaTensor
{LOADED}
from monai.networks.nets.efficientnet import EfficientNet
import monai
print(monai.networks.nets.EfficientNet is EfficientNet, monai.data.MetaTensor is MetaTensor)
print(monai.losses.DiceLoss.__name__, monai.__version__ != "")
print(sys.modules[EfficientNet.__module__].EfficientNet is EfficientNet)
{LOADED}
""")
    assert words == ["True", "True", "DiceLoss", "True", "True", "sklearn", "skimage"]


def test_a_name_of_a_package_is_found() -> None:
    words = run("""
from uncus.data import lean_monai
lean_monai.load()
import monai
from monai.transforms import Compose, ScaleIntensity
print(Compose.__module__, hasattr(monai, "nothing"), monai.losses.DiceLoss.__name__)
""")
    assert words == ["monai.transforms.compose", "False", "DiceLoss"]


def test_predict_imports_no_scikit() -> None:
    code = f"import sys; from uncus.pipeline.cli import main; main(['predict', 'x']); {LOADED}"
    assert run(code) == []


def test_what_is_left_out_can_be_imported_later() -> None:
    words = run("""
import sys
from uncus.pipeline.cli import main
main(["predict", "x"])
print("matplotlib" in sys.modules, "pydicom" in sys.modules)
import matplotlib.pyplot, pydicom
print(matplotlib.pyplot.Figure.__name__, pydicom.Dataset.__name__)
""")
    assert words == ["False", "False", "Figure", "Dataset"]


def test_calling_a_pipeline_and_its_inverse_imports_no_more_of_monai() -> None:
    words = run(f"""
import sys
from uncus.data import lean_monai
lean_monai.load()
from uncus.data.transforms.path import ScanPipeline
pipeline = ScanPipeline([str, ScanPipeline([])])
print(pipeline(1), pipeline.inverse(2))
{LOADED}
""")
    assert words == ["1", "2"]
