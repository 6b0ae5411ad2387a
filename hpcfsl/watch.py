"""The live view of a run that goes on elsewhere, in a batch job for example: `hpcfsl watch`.

Layer 5. It reads the run folder's small text files alone, so it starts at once and disturbs nobody.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from hpcfsl.trace.folder import RunFolder
from hpcfsl.trace.progress import Recent, headline, read_progress
from hpcfsl.trace.reader import open as open_run

EXIT_CODES = {"finished": 0, "failed": 1, "resumable": 3}
_PACE_ROUNDS = 20


def watch(path: Path, *, interval: float, once: bool, wait: bool) -> int:
    """Show a run's progress until it ends; return 0 where it is finished, 1 failed, 3 stopped, 0 with `once`.

    Args:
        path: The run folder.
        interval: Seconds between looks.
        once: Show it once and return.
        wait: Go on while the run is stopped, until it is finished or failed: its job may be queued again.

    Raises:
        RunFolderError: It is not a run folder.
    """
    rounds = int(open_run(path).config["run"]["rounds"])
    console, folder = Console(highlight=False), RunFolder(path)
    if once or not console.is_terminal:
        return _print_lines(console, folder, rounds, interval=interval, once=once, wait=wait)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            status = folder.status()
            live.update(picture(status, read_progress(folder), rounds), refresh=True)
            if _is_over(status, wait=wait):
                return EXIT_CODES[status]
            time.sleep(interval)


def line(status: str, recent: Recent, rounds: int) -> str:
    """Return a run's state as one line of text."""
    parts = [status]
    if recent.rounds:
        parts.append(f"round {recent.rounds[-1]['round'] + 1} of {rounds}")
        parts += _news(recent.rounds[-1])
        parts += _pace(recent, rounds) if status == "running" else []
    if recent.failure is not None:
        parts.append(_failure(recent.failure))
    return ", ".join(parts)


def picture(status: str, recent: Recent, rounds: int) -> RenderableType:
    """Return a run's state as a line over a bar."""
    done = recent.rounds[-1]["round"] + 1 if recent.rounds else 0
    return Group(Text(line(status, recent, rounds)), ProgressBar(total=rounds, completed=done, width=60))


def _print_lines(console: Console, folder: RunFolder, rounds: int, *, interval: float, once: bool, wait: bool) -> int:
    said = None
    while True:
        status = folder.status()
        now = line(status, read_progress(folder), rounds)
        if now != said:
            console.print(now, soft_wrap=True)
            sys.stdout.flush()
            said = now
        if once:
            return 0
        if _is_over(status, wait=wait):
            return EXIT_CODES[status]
        time.sleep(interval)


def _is_over(status: str, *, wait: bool) -> bool:
    return status in ("finished", "failed") or (status == "resumable" and not wait)


def _news(row: dict[str, Any]) -> list[str]:
    news = headline(row)
    if row.get("train_loss") is not None:
        news.append(f"loss {row['train_loss']:.3f}")
    return [*news, f"excluded {row['num_excluded']}/{row['num_participants']}"]


def _pace(recent: Recent, rounds: int) -> list[str]:
    seconds = [row["seconds"] for row in recent.rounds[-_PACE_ROUNDS:]]
    pace = sum(seconds) / len(seconds)
    left = (rounds - recent.rounds[-1]["round"] - 1) * pace
    return [f"{pace:.3g} s a round", f"about {_duration(left)} left"]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _failure(failure: dict[str, Any]) -> str:
    where = [f"{name} {failure[name]}" for name in ("rank", "phase", "round", "group") if failure.get(name) is not None]
    return f"{', '.join(where)}: {failure.get('type')}: {failure['failure']}"
