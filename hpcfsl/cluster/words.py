"""Words of a job script: what may stand in one, quoted so that the shell and sbatch take it for one word.

A script is a program, so everything that gets into it is either checked against a narrow pattern or quoted here.
"""

from __future__ import annotations

import re
import unicodedata

from hpcfsl.errors import UserError, shorten

# Characters that end or break a line, for some reader of the script; lone surrogates cannot be written as UTF-8.
_REFUSED = {"Cc", "Cs", "Zl", "Zp"}
_PLAIN = re.compile(r"[\w@%+=:,./-]", re.ASCII)
_TIME = re.compile(
    r"(?:(?P<days>\d{1,4})-(?P<hours>\d{1,3})(?::(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2}))?)?"
    r"|(?:(?P<h>\d{1,4}):)?(?P<m>\d{1,6}):(?P<s>\d{1,2})|(?P<only>\d{1,7}))",
    re.ASCII,
)
_DAY, _HOUR, _MINUTE = 86400, 3600, 60


def check_text(key: str, text: str) -> str:
    """Return `text` where it fits on one line of a script.

    Raises:
        UserError: It holds a line end or another control character.
    """
    if any(unicodedata.category(character) in _REFUSED for character in text):
        raise UserError(f"{key} {shorten(text)}: holds a line end or a control character; leave it out")
    return text


def quote(text: str) -> str:
    """Return `text` as one word of a bash script, in double quotes where it needs any: people read paths in them."""
    return _quoted(text, '\\"$`')


def header_word(text: str) -> str:
    """Return `text` as one word of an `#SBATCH` line.

    sbatch knows double quotes, and in them a backslash; an escaped blank without quotes would end the word.
    """
    return _quoted(text, '\\"')


def header_pattern(folder: str, name: str) -> str:
    """Return a pattern of file names as one word of an `#SBATCH` line; `%` means something in `name` alone."""
    return header_word(folder.replace("%", "%%") + f"/{name}")


def _quoted(text: str, special: str) -> str:
    if text and all(_PLAIN.match(character) for character in text):
        return text
    return '"' + "".join(f"\\{character}" if character in special else character for character in text) + '"'


def read_time(key: str, text: str) -> int:
    """Return the seconds of a time as Slurm writes it: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M` or `D-H:M:S`.

    Raises:
        UserError: It is written otherwise, or is no time at all.
    """
    found = _TIME.fullmatch(text.strip())
    if not found:
        raise UserError(f"{key} {shorten(text)}: write it as hours:minutes:seconds, 4:00:00, or days-hours, 2-12")
    days, hours, minutes, seconds, h, m, s, only = (int(part or 0) for part in found.groups())
    total = days * _DAY + (hours + h) * _HOUR + (minutes + m + only) * _MINUTE + seconds + s
    if not total:
        raise UserError(f"{key} {shorten(text)}: must be longer than nothing")
    return total


def write_time(seconds: int) -> str:
    """Return a time for an `#SBATCH` line: `H:MM:SS` or `D-HH:MM:SS`."""
    days, rest = divmod(seconds, _DAY)
    clock = f"{rest // _HOUR:02}:{rest % _HOUR // _MINUTE:02}:{rest % _MINUTE:02}"
    return f"{days}-{clock}" if days else clock
