"""The one error for input that is refused."""


class BadInput(ValueError):  # noqa: N818 - it names the input, not the program
    """Input that is refused; its text is one line that names file, cause and mend.

    Parameters
    ----------
    subject: what is refused: a file, a column, an option.
    cause: what is wrong with it, with the value received.
    mend: what the user can do.
    """

    def __init__(self, subject: object, cause: str, mend: str) -> None:
        self.subject, self.cause, self.mend = str(subject), cause, mend
        line = f"{subject}: {cause}; {mend}" if mend else f"{subject}: {cause}"
        super().__init__(" ".join(line.split()))

    def __reduce__(self) -> tuple[type["BadInput"], tuple[str, str, str]]:
        # Worker processes send errors back by pickle, which would call __init__ with one argument.
        return BadInput, (self.subject, self.cause, self.mend)
