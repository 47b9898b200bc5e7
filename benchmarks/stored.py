"""What the tables of the documentation read: committed results, and the machine that made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def results_of(results: Path, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Those that are there, by name."""
    paths = {name: results / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def device_of(hardware: Mapping[str, Any]) -> str:
    """In words."""
    return str(hardware["gpu"] or f"{hardware['threads']} threads of an {hardware['cpu']}")
