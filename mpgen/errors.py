"""The one error a user can cause. Everything else that raises is our bug."""


class UserError(ValueError):
    """Bad input: one line that says what was given, what was wanted and where to change it.

    The command line prints it without a traceback and exits with `status`. What is no valid Unicode in it, such as a
    file's name in another encoding, is written as escapes, so that every terminal and file can take it.
    """

    status = 2

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))


class FailedError(UserError):
    """The input was good, and what was made of it is not."""

    status = 1


def printable(text: str) -> str:
    """The text with escapes such as \\udce9 in place of what UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()
