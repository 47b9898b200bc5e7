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
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

import brainvq
from brainvq.codes import CodeSpec
from brainvq.config import Config, PartOf, from_json
from brainvq.errors import InputError
from brainvq.priors.base import Prior, PriorConfig
from brainvq.tokenizers.base import Tokenizer, TokenizerConfig
from brainvq.writing import atomic

FORMAT = 1
LEARNED = re.compile(r"codebook$|table_\d+$")  # buffers that are learned without gradients


@dataclass(frozen=True)
class Model:
    """A trained tokenizer, in eval mode and float32, with the `config` of its run and the hash of its weights."""

    tokenizer: Tokenizer
    config: dict[str, Any]
    weights_sha256: str
    folder: Path


@dataclass(frozen=True)
class PriorModel:
    """A trained prior, in eval mode and float32, with the tokenizer whose codes it models."""

    prior: Prior
    tokenizer: Model
    config: dict[str, Any]
    weights_sha256: str
    folder: Path


M = TypeVar("M", Tokenizer, Prior)


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
    write_json(out / "config.json", {**read_config(out), **facts, "weights_sha256": _hash(out / "model.safetensors")})


def save_weights(out: Path, weights: dict[str, Tensor]) -> None:
    """model.safetensors, atomically.

    Raises:
        InputError: it cannot be written; the file that was there is untouched.
    """
    with atomic(out / "model.safetensors") as file:
        file.write(save({name: tensor.detach().cpu() for name, tensor in weights.items()}))


def open_model(folder: str | Path, device: str | torch.device = "cpu") -> Model:
    """The trained tokenizer of a run folder.

    Raises:
        InputError: not a run, a prior's, no weights yet, or weights that are not those of the run.
    """
    folder = Path(folder)
    config = _config_with_weights(folder, "tokenizer")
    digest = _digest(folder, config)

    def build() -> Tokenizer:
        return from_json(_StoredTokenizer, {"tokenizer": config["experiment"]["tokenizer"]}).tokenizer.build()

    tokenizer = _loaded(folder, config, build)
    return Model(tokenizer.to(device).eval().requires_grad_(False), config, digest, folder)


def open_prior(
    folder: str | Path, tokenizer: str | Path | None = None, device: str | torch.device = "cpu"
) -> PriorModel:
    """The trained prior of a run folder, with the tokenizer whose codes it models.

    `tokenizer` says where that lies now, if it is not where it was during training.

    Raises:
        InputError: as `open_model`; or the tokenizer is not there, or is another one than the prior was trained on.
    """
    folder = Path(folder)
    config = _config_with_weights(folder, "prior")
    digest = _digest(folder, config)

    def build() -> Prior:
        part = from_json(_StoredPrior, {"prior": config["experiment"]["prior"]}).prior
        return part.build(CodeSpec.from_json(config["spec"]), config["size"])

    prior = _loaded(folder, config, build)
    prior = prior.to(device).eval().requires_grad_(False)
    return PriorModel(prior, _tokenizer_of(folder, config, tokenizer, device), config, digest, folder)


def _tokenizer_of(folder: Path, config: dict[str, Any], given: str | Path | None, device: str | torch.device) -> Model:
    try:
        path, expected = config["tokenizer"]["path"], config["tokenizer"]["weights_sha256"]
        where = Path(given) if given is not None else folder / path
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'} is damaged: {type(error).__name__} {error}.") from error
    if given is None and not (where / "config.json").exists():
        raise InputError(
            f"{folder}: its tokenizer is not at {os.path.normpath(where)} any more. Say where it is with --tokenizer."
        )
    found = open_model(where, device)
    refuse_other_tokenizer(found, expected, CodeSpec.from_json(config["spec"]), folder)
    return found


def refuse_other_tokenizer(found: Model, weights_sha256: str, spec: CodeSpec, prior: Path) -> None:
    """Raises InputError unless `found` is the tokenizer that `prior` was trained on; both sides are named."""
    if found.tokenizer.spec != spec:
        raise InputError(
            f"{found.folder} makes codes of {found.tokenizer.spec.to_json()}; the prior {prior} was trained on "
            f"{spec.to_json()}. Give the tokenizer that it was trained with, or train a new prior."
        )
    if found.weights_sha256 != weights_sha256:
        raise InputError(
            f"{found.folder} is the tokenizer {found.weights_sha256[:12]}; the prior {prior} was trained on the codes "
            f"of {weights_sha256[:12]}. Give that one, or train a new prior."
        )


def _config_with_weights(folder: Path, kind: str) -> dict[str, Any]:
    config = read_config(folder)
    if config.get("kind") != kind:
        raise InputError(
            f"{folder} is a {config.get('kind')}, and a {kind} is needed here. "
            + ("Train one on it: brainvq train pixelcnn --tokenizer ..." if kind == "prior" else "Give its tokenizer.")
        )
    if not (folder / "model.safetensors").exists():
        raise InputError(f"{folder} has no model.safetensors yet. Train it: brainvq train ... --out {folder} --resume.")
    return config


def _digest(folder: Path, config: dict[str, Any]) -> str:
    digest = _hash(folder / "model.safetensors")
    if config.get("weights_sha256") not in (None, digest):
        raise InputError(
            f"{folder / 'model.safetensors'} is damaged or was replaced: its hash is not the one in config.json."
        )
    return digest


def _loaded(folder: Path, config: dict[str, Any], build: Callable[[], M]) -> M:
    """What config.json describes, with its weights, once the shapes in their file are seen to be its own."""
    where, weights = folder / "config.json", folder / "model.safetensors"
    try:
        with torch.device("meta"):
            expected = {name: list(tensor.shape) for name, tensor in build().state_dict().items()}
        with safe_open(weights, "pt") as file:
            found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        if found != expected:
            raise InputError(f"{weights} does not hold the weights of {where}.")
        model = build()
        if model.spec != CodeSpec.from_json(config["spec"]):
            raise InputError(f"{where} contradicts itself: its spec is not that of its tokenizer.")
        model.load_state_dict(load(weights.read_bytes()))
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{where} or the weights beside it are damaged: {type(error).__name__} {error}.") from error
    return model


class _StoredTokenizer(Config):
    tokenizer: PartOf[TokenizerConfig]


class _StoredPrior(Config):
    prior: PartOf[PriorConfig]


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
