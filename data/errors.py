"""The one error for input that is rejected."""


class BadInput(ValueError):  # noqa: N818 - it names the input, not the program
    """Input that is rejected, in one line: "value: cause; remedy".

    Parameters
    ----------
    value: what is rejected: a file, a column, an option.
    cause: what is wrong with it.
    remedy: what the user can do; may be empty.
    """

    def __init__(self, value: object, cause: str, remedy: str) -> None:
        self.value, self.cause, self.remedy = str(value), cause, remedy
        line = f"{value}: {cause}; {remedy}" if remedy else f"{value}: {cause}"
        super().__init__(" ".join(line.split()))

    def __reduce__(self) -> tuple[type["BadInput"], tuple[str, str, str]]:
        # Worker processes send errors back by pickle, which would call __init__ with one argument.
        return BadInput, (self.value, self.cause, self.remedy)
