"""The log as TensorBoard shows it; needs the extra `brainvq[tensorboard]`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from brainvq.errors import InputError


def writer(folder: Path) -> Callable[[dict[str, Any]], None]:
    """A callback for the events of a training that writes every number under `folder`.

    Raises:
        InputError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("TensorBoard is not installed. Run: pip install 'brainvq[tensorboard]'.") from error
    boards: list[SummaryWriter] = []  # opened by the first event: before it there may be no run

    def watch(event: dict[str, Any]) -> None:
        if event["event"] in ("train", "validate"):
            board = boards[0] if boards else SummaryWriter(str(folder))
            boards[:] = [board]
            for name, value in event.items():
                if isinstance(value, int | float) and name not in ("step", "total"):
                    board.add_scalar(f"{event['event']}/{name}", value, event["step"])
            board.flush()

    return watch
