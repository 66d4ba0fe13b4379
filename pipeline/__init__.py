"""What a user runs: joins data and models."""

import uncus

if not hasattr(uncus, "NOTICE"):  # a folder called uncus comes before ours on Python's path
    other = getattr(uncus, "__file__", None) or next(iter(uncus.__path__))
    raise ImportError(
        f"the package uncus is taken from {other}; rename that folder, take it off PYTHONPATH, or "
        "run Python in another folder"
    )

if "." not in __name__:  # imported from a checkout by its old name
    from uncus.old_names import forward

    forward(__name__)
