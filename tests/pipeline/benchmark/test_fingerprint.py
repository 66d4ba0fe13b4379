"""What counts as another version of measured code."""

from uncus.pipeline.benchmark.fingerprint import essence, fingerprint

CODE = '''
"""Kernels."""
TUNED: dict[str, int] = {}
def kernel(x):
    """y"""
    return 2 * x
'''


def test_comments_layout_and_tuned_settings_do_not_count() -> None:
    for old, new in (("Kernels.", "Fast kernels."), ("{}", '{"H": 1}'), ("2 * x", "(2 * x)  # y")):
        assert old in CODE
        assert essence(CODE.replace(old, new)) == essence(CODE)
    assert essence(CODE.replace("2 * x", "3 * x")) != essence(CODE)
    assert essence(CODE.replace("kernel", "other")) != essence(CODE)


def test_folders_have_fingerprints_of_their_own() -> None:
    assert fingerprint("models/fused") == fingerprint("models/fused")
    assert len({fingerprint("models/fused"), fingerprint("models"), fingerprint("data")}) == 3
