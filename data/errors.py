"""The one error for input that is rejected, and one line for those of the system."""

import errno

from uncus.data.text import displayed, printable

SPACE, ACCESS = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)


class BadInput(ValueError):  # noqa: N818 - it names the input, not the program
    """Input that is rejected, in one line: "value: cause; remedy".

    Parameters
    ----------
    value: what is rejected: a file, a column, an option.
    cause: what is wrong with it.
    remedy: what the user can do; may be empty.
    """

    def __init__(self, value: object, cause: str, remedy: str) -> None:
        self.value, self.cause, self.remedy = displayed(str(value)), cause, remedy
        super().__init__(one_line(f"{self.value}: {self.without_value}"))

    @property
    def without_value(self) -> str:
        """The line without what is rejected: "cause; remedy"."""
        return one_line(self.cause + (f"; {self.remedy}" if self.remedy else ""))

    def __reduce__(self) -> tuple[type["BadInput"], tuple[str, str, str]]:
        # Worker processes send errors back by pickle, which would call __init__ with one argument.
        return BadInput, (self.value, self.cause, self.remedy)


def error_line(error: BaseException) -> str:
    """Any error as one line: where it can, with the file, the cause and a remedy."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        remedy = "check the path"
        if error.errno in SPACE:
            remedy = "free space"
        elif error.errno in ACCESS:
            remedy = "check the permissions"
        error = BadInput(error.filename, error.strerror.lower(), remedy)
    elif isinstance(error, OSError) and error.errno in SPACE:
        error = BadInput("disk", "no space is left", "free space and run the same command again")
    elif isinstance(error, MemoryError):
        error = BadInput(
            "memory", "there is not enough", "close other programs or use less at once"
        )
    elif isinstance(error, UnicodeError):
        error = BadInput("text", f"not UTF-8 ({error})", "save the file, or name it, in UTF-8")
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """Text as one line without what a terminal obeys: file names and cells are others'."""
    return printable(" ".join(text.split()), None)
