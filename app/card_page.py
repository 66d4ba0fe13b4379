"""The page Runs."""


def page() -> None:
    """The page."""
