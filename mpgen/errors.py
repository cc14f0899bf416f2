"""The one error a user can cause. Everything else that raises is our bug."""


class UserError(ValueError):
    """Bad input: one line that says what was given, what was wanted and where to change it.

    The command line prints it without a traceback and exits with status 2.
    """
