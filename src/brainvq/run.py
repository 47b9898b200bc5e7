"""The run folder: what a training leaves behind, and how a model comes back out of it.

config.json (resolved settings and provenance), log.jsonl, checkpoints/, model.safetensors, evaluation/, report.html.
Everything is JSON or safetensors: opening a stranger's run executes nothing of theirs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

import brainvq
from brainvq.codes import CodeSpec
from brainvq.config import Config, PartOf, from_json
from brainvq.errors import InputError
from brainvq.tokenizers.base import Tokenizer, TokenizerConfig
from brainvq.writing import atomic

FORMAT = 1


@dataclass(frozen=True)
class Model:
    """A trained tokenizer, in eval mode and float32, with the `config` of its run and the hash of its weights."""

    tokenizer: Tokenizer
    config: dict[str, Any]
    weights_sha256: str
    folder: Path


def refuse_foreign_folder(out: Path, *, resume: bool) -> None:
    """Raises InputError unless `out` is new, empty, or a run that is to be resumed."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; --out needs a folder.")
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / "config.json").exists() or "format" not in _json(out / "config.json"):
        raise InputError(f"{out} exists, is not empty and is not a run. Give another --out; nothing was changed.")
    if not resume:
        raise InputError(f"{out} already holds a run. Continue it with --resume, or give another --out.")


def describe_run(
    *, experiment: dict[str, Any], command: str, data: dict[str, Any], tokenizer: Tokenizer, steps: int
) -> dict[str, Any]:
    """The content of config.json before training."""
    return {
        "format": FORMAT,
        "kind": "tokenizer",
        "version": brainvq.__version__,
        "command": command,
        "preset": experiment["preset"],
        "experiment": experiment,
        "data": data,
        "spec": tokenizer.spec.to_json(),
        "parameters": _parameters(tokenizer),
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
    write_json(out / "config.json", {**read_config(out), **facts, "weights_sha256": _hash(out / "model.safetensors")})


def save_weights(out: Path, weights: dict[str, Tensor]) -> None:
    """model.safetensors, atomically.

    Raises:
        InputError: it cannot be written; the file that was there is untouched.
    """
    with atomic(out / "model.safetensors") as file:
        file.write(save({name: tensor.detach().cpu() for name, tensor in weights.items()}))


def open_model(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """The trained model of a run folder.

    Raises:
        InputError: not a run, no weights yet, or weights that are not those of the run.
    """
    folder = Path(folder)
    config = read_config(folder)
    path = folder / "model.safetensors"
    if not path.exists():
        raise InputError(f"{folder} has no model.safetensors yet. Train it: brainvq train ... --out {folder} --resume.")
    digest = _hash(path)
    if config.get("weights_sha256") not in (None, digest):
        raise InputError(f"{path} is damaged or was replaced: its hash is not the one in config.json.")
    tokenizer = _build(path, config)
    try:
        tokenizer.load_state_dict(load(path.read_bytes()))
    except (RuntimeError, SafetensorError) as error:
        raise InputError(f"{path} does not hold the weights of {folder / 'config.json'}: {error}") from error
    return Model(tokenizer.to(device).eval().requires_grad_(False), config, digest, folder)


def _build(weights: Path, config: dict[str, Any]) -> Tokenizer:
    """The tokenizer that config.json describes, once the shapes in the file of its weights are seen to be its own."""
    where = weights.with_name("config.json")
    try:
        part = from_json(_Stored, {"tokenizer": config["experiment"]["tokenizer"]}).tokenizer
        with torch.device("meta"):
            expected = {name: list(tensor.shape) for name, tensor in part.build().state_dict().items()}
        with safe_open(weights, "pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        if found != expected:
            raise InputError(f"{weights} does not hold the weights of {where}.")
        tokenizer = part.build()
        if tokenizer.spec != CodeSpec.from_json(config["spec"]):
            raise InputError(f"{where} contradicts itself: its spec is not that of its tokenizer.")
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{where} is damaged: {type(error).__name__} {error}.") from error
    return tokenizer


class _Stored(Config):
    tokenizer: PartOf[TokenizerConfig]


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


def _parameters(tokenizer: Tokenizer) -> dict[str, int]:
    """Parameters of each part of the tokenizer; codebooks that are averages count as well."""
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in tokenizer.named_children()}
    books = [value.numel() for name, value in tokenizer.state_dict().items() if name.endswith("codebook")]
    return {**counts, "quantizer": sum(books) or counts.get("quantizer", 0)}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a run's config.json: expected an object.")
    return values
