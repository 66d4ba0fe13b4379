"""What measured code is: two versions of it with the same text give the same results."""

import ast
import functools
import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[2]


@functools.cache
def fingerprint(*folders: str) -> str:
    """A hash of the Python code in ``folders`` of uncus, such as "models/fused".

    Comments, docstrings and layout do not count, nor do the settings that were tuned: they are
    compared by themselves, for each device.
    """
    files = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert files
    text = "".join(f"{path.relative_to(ROOT)} {essence(path.read_text('utf-8'))}" for path in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def essence(source: str) -> str:
    """Python code without what `fingerprint` leaves out."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [one for one in node.body if not is_text(one) and not is_tuned(one)]
    return ast.dump(tree)


def is_text(node: ast.stmt) -> bool:
    """Whether ``node`` is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_tuned(node: ast.stmt) -> bool:
    """Whether ``node`` assigns ``TUNED``."""
    target = node.target if isinstance(node, ast.AnnAssign) else None
    return isinstance(target, ast.Name) and target.id == "TUNED"
