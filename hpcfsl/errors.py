"""The errors a user can cause, each one clear line.

Layer 0. Raise `UserError` (or a subclass) for anything that a person can mend: the command line prints its text
without a traceback and exits with 2. Everything else that escapes is a defect of the program and shows a traceback.
"""

from __future__ import annotations


class UserError(ValueError):
    """Bad input of any kind. The text is one line that names the thing, its value and the fix."""


class ConfigError(UserError):
    """A setting that cannot be used.

    Args:
        key: Dotted name, `section.key`.
        value: The value as the user gave it.
        fix: What to do about it, in plain words.
    """

    def __init__(self, key: str, value: object, fix: str) -> None:
        self.key, self.value, self.fix = key, value, fix
        super().__init__(one_line(f"{key} = {shorten(value)}: {fix}"))


class RunFolderError(UserError):
    """A run folder that cannot be used as asked: locked, of another format, damaged, or of another configuration."""


class DataError(UserError):
    """A data file that is missing or broken. Names the file, the record and the fix."""


def shorten(value: object, limit: int = 80) -> str:
    """Return `repr(value)`, cut in the middle to at most `limit` characters."""
    text = repr(value)
    if len(text) <= limit:
        return text
    half = (limit - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def one_line(text: str) -> str:
    """Return `text` with every run of white space, line ends included, as one blank."""
    return " ".join(text.split())
