"""What long jobs show: a bar with rate, remaining time and the current measures, on stderr."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from brainvq.errors import printable

# names of files and folders are text, never markup
out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


def survive_any_text() -> None:
    """What the encoding of the output cannot write is written escaped: a name of a file need be no text at all."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def note(text: str) -> None:
    """What a user should know of a job that goes on."""
    err.print(f"note: {printable(text)}", style="yellow")


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that moves a bar; another total begins the next part of the job."""
    with _progress() as progress:
        task: TaskID | None = None

        def move(done: int, total: int) -> None:
            nonlocal task
            task = progress.add_task(title, total=total, measures="") if task is None else task
            progress.update(task, completed=done, total=total)

        yield move


@contextmanager
def training(title: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A callback for the events of a training: bars for reading and for steps, a line for each validation."""
    with _progress() as progress:
        tasks: dict[str, TaskID] = {}

        def task(name: str, total: int) -> TaskID:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total, measures="")
            return tasks[name]

        def watch(event: dict[str, Any]) -> None:
            if event["event"] == "read":
                progress.update(task(f"reading {event['split']}", event["count"]), completed=event["done"])
            elif event["event"] == "encode":
                progress.update(task(f"encoding {event['split']}", event["count"]), completed=event["done"])
            elif event["event"] == "note":
                note(str(event["message"]))
            elif event["event"] in ("train", "resume"):
                progress.update(task(title, event["total"]), completed=event["step"], measures=_measures(event))
            elif event["event"] == "validate":
                err.print(f"step {event['step']}/{event['total']}: validate {_validation(event)}")

        yield watch


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[measures]}"),
    )
    return Progress(*columns, console=err)


def _measures(event: dict[str, Any]) -> str:
    loss = f"loss {event['loss']:.4f}  " if "loss" in event else ""
    return f"{loss}{event['images_per_second']:.1f} images/s"


SHOWN = {
    "ssim": "SSIM {:.4f}",
    "reconstruction": "reconstruction {:.4f}",
    "live_entries": "live entries {}",
    "bits_per_code": "{:.3f} bits a code",
    "live_share": "live entries in samples {:.0%}",
}


def _validation(event: dict[str, Any]) -> str:
    measures = [form.format(event[name]) for name, form in SHOWN.items() if name in event]
    return "  ".join([*measures, f"{event['images_per_second']:.1f} images/s"])
