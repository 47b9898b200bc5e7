"""The run folder: what a training leaves behind.

config.json (resolved settings and provenance), log.jsonl, checkpoints/, model.safetensors, evaluation/, report.html.
Everything is JSON or safetensors: opening a stranger's run executes nothing of theirs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

import brainvq
from brainvq.codes import CodeSpec
from brainvq.errors import InputError
from brainvq.writing import atomic, refuse_file

FORMAT = 1
LEARNED = re.compile(r"codebook$|log_table_\d+$")  # buffers that are learned without gradients


def refuse_foreign_folder(out: Path, *, resume: bool) -> None:
    """Raises InputError unless `out` is new, empty, or a run that is to be resumed."""
    refuse_file(out)
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / "config.json").exists() or "format" not in _json(out / "config.json"):
        raise InputError(f"{out} exists, is not empty and is not a run. Give another --out; nothing was changed.")
    if not resume:
        raise InputError(f"{out} already holds a run. Continue it with --resume, or give another --out.")


def describe_run(
    *,
    kind: str,
    experiment: dict[str, Any],
    command: str,
    data: dict[str, Any],
    model: nn.Module,
    spec: CodeSpec,
    steps: int,
) -> dict[str, Any]:
    """The content of config.json before training. `kind` is "tokenizer" or "prior"."""
    return {
        "format": FORMAT,
        "kind": kind,
        "version": brainvq.__version__,
        "command": command,
        "preset": experiment["preset"],
        "experiment": experiment,
        "data": data,
        "spec": spec.to_json(),
        "parameters": parameters(model),
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "brainvq": brainvq.__version__},
        "seed": experiment["train"]["seed"],
        "planned_steps": steps,
        "steps": None,
        "images_seen": None,
        "wall_time_s": None,
        "weights_sha256": None,
    }


def start(out: Path, config: dict[str, Any], *, resume: bool) -> None:
    """Write config.json of a new run, or check that a resumed one has the same data.

    Raises:
        InputError: the data of the run that is resumed were others.
    """
    out.mkdir(parents=True, exist_ok=True)
    if resume and (out / "config.json").exists():
        before = read_config(out)
        if before["data"]["splits"] != config["data"]["splits"]:
            raise InputError(f"{out} was trained on other data ({before['data']['splits']}); give another --out.")
        config = {**config, "command": before["command"]}
    write_json(out / "config.json", config)
    (out / "checkpoints").mkdir(exist_ok=True)


def finish(out: Path, **facts: Any) -> None:
    """Add what only the end of training knows."""
    write_json(
        out / "config.json", {**read_config(out), **facts, "weights_sha256": file_hash(out / "model.safetensors")}
    )


def save_weights(out: Path, weights: dict[str, Tensor]) -> None:
    """model.safetensors, atomically.

    Raises:
        InputError: it cannot be written; the file that was there is untouched.
    """
    with atomic(out / "model.safetensors") as file:
        file.write(save({name: tensor.detach().cpu() for name, tensor in weights.items()}))


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a run.

    Raises:
        InputError: `folder` is not a run, or one of a later version.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} is not a run: it has no config.json. Give the folder that `brainvq train` wrote.")
    config = _json(path)
    if config.get("format") != FORMAT:
        raise InputError(f"{path} has format {config.get('format')!r}; this version reads format {FORMAT}.")
    return config


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Whole or not at all."""
    with atomic(path) as file:
        file.write((json.dumps(values, indent=1) + "\n").encode())


def hardware() -> dict[str, Any]:
    """What a timing depends on; nothing that names a machine or its owner."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory / 2**30, 1) or None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu() -> str:
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:  # noqa: PTH123
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
            return names[0] if names else platform.machine()
    return platform.processor() or platform.machine()


def parameters(model: nn.Module) -> dict[str, int]:
    """Parameters of each part of a model; codebooks and tables, which are no parameters to an optimiser, count too."""
    learned = {name: tensor.numel() for name, tensor in model.named_parameters()}
    learned |= {name: tensor.numel() for name, tensor in model.state_dict().items() if LEARNED.search(name)}
    counts: dict[str, int] = {}
    for name, count in learned.items():
        part = name.partition(".")[0]
        counts[part] = counts.get(part, 0) + count
    return counts


def file_hash(path: Path) -> str:
    """SHA-256 of its bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a run's config.json: expected an object.")
    return values
