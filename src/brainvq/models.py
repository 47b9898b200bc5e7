"""How a trained model comes back out of its run folder. Opening a stranger's executes nothing of theirs.

Some models come with the package: the folders in `weights/`, runs reduced to configuration, weights and model card.
Their names stand wherever a model is asked for; a path that exists is always taken as such.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load

from brainvq.codes import CodeSpec
from brainvq.config import Config, PartOf, did_you_mean, from_json
from brainvq.errors import InputError
from brainvq.grain import Grain
from brainvq.priors import conditions
from brainvq.priors.base import Prior, PriorConfig
from brainvq.run import file_hash, read_config
from brainvq.tokenizers.base import Tokenizer, TokenizerConfig

SHIPPED = Path(__file__).parent / "weights"
GRAIN = "grain.json"
LARGEST_GRAIN = 100_000  # bytes that are read of it


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


def shipped() -> list[str]:
    """Names of the models in the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/config.json"))


def is_shipped(folder: Path) -> bool:
    """Whether a folder is one of the package, where nothing is written."""
    return folder.resolve().parent == SHIPPED.resolve()


def model_folder(model: str | Path) -> Path:
    """Where a model lies: a path as it is, or the folder of a shipped model's name.

    Raises:
        InputError: one word that is neither.
    """
    folder, names = Path(model), shipped()
    if folder.exists() or len(folder.parts) != 1:
        return folder
    if folder.name in names:
        return SHIPPED / folder.name
    raise InputError(
        f"{folder.name!r} is neither a run folder here nor a shipped model{did_you_mean(folder.name, names)} "
        f"Shipped: {', '.join(names) or 'none'}. Give one of these, or the folder that `brainvq train` wrote."
    )


def open_model(model: str | Path, device: str | torch.device = "cpu") -> Model:
    """The trained tokenizer of a run folder, or the shipped one of that name.

    Raises:
        InputError: neither, a prior's, no weights yet, or weights that are not those of the run.
    """
    folder = model_folder(model)
    config = _config_with_weights(folder, "tokenizer")
    digest = _digest(folder, config)

    def build() -> Tokenizer:
        return from_json(_StoredTokenizer, {"tokenizer": config["experiment"]["tokenizer"]}).tokenizer.build()

    tokenizer = _loaded(folder, config, build)
    return Model(tokenizer.to(device).eval().requires_grad_(False), config, digest, folder)


def grain_of(model: Model) -> Grain | None:
    """What images that are sampled by a tokenizer get, where it was measured. Nothing else reads it.

    Raises:
        InputError: it is damaged, of other weights, or of a tokenizer of volumes.
    """
    path = model.folder / GRAIN
    if not path.is_file():
        return None
    again = f"Remove it, or measure it again: brainvq grain {model.folder} --data ... --force."
    try:
        with path.open("rb") as file:
            found = from_json(Grain, json.loads(file.read(LARGEST_GRAIN)))
    except (ValueError, RecursionError, InputError) as error:
        raise InputError(f"{path} is damaged: {str(error)[:200]} {again}") from error
    if found.weights_sha256 != model.weights_sha256:
        raise InputError(
            f"{path} was measured for the tokenizer {found.weights_sha256[:12]}, and {model.folder} holds "
            f"{model.weights_sha256[:12]}. {again}"
        )
    if model.tokenizer.spec.axes != 2:
        raise InputError(f"{path}: grain is of images of two axes, and {model.folder} is of volumes. Remove it.")
    return found


def open_prior(
    model: str | Path, tokenizer: str | Path | None = None, device: str | torch.device = "cpu"
) -> PriorModel:
    """The trained prior of a run folder, with the tokenizer whose codes it models.

    `tokenizer` says where that lies now, if it is not where it was during training and not a shipped one.

    Raises:
        InputError: as `open_model`; or the tokenizer is not there, or is another one than the prior was trained on.
    """
    folder = model_folder(model)
    config = _config_with_weights(folder, "prior")
    digest = _digest(folder, config)

    def build() -> Prior:
        part = from_json(_StoredPrior, {"prior": config["experiment"]["prior"]}).prior
        try:
            return part.build(_spec(folder, config), config["size"], conditions.from_json(config.get("conditions", [])))
        except InputError as error:
            raise InputError(f"{folder / 'config.json'}: {error}") from error

    prior = _loaded(folder, config, build)
    if any(tensor.isnan().any() for tensor in prior.state_dict().values()):
        raise InputError(f"{folder / 'model.safetensors'} is damaged: it holds NaN. Train the prior again.")
    for order, entries in zip(prior.orders, prior.spec.entries, strict=True):
        if len(order) and int(order.max()) >= entries:
            raise InputError(f"{folder / 'model.safetensors'} is damaged: it orders entries that the codebook lacks.")
    prior = prior.to(device).eval().requires_grad_(False)
    return PriorModel(prior, _tokenizer_of(folder, config, tokenizer, device), config, digest, folder)


def _tokenizer_of(folder: Path, config: dict[str, Any], given: str | Path | None, device: str | torch.device) -> Model:
    try:
        where = Path(given) if given is not None else folder / config["tokenizer"]["path"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / 'config.json'} is damaged: {type(error).__name__} {error}.") from error
    if given is None and not (where / "config.json").exists():
        if not _is_shipped_as(where.name, config["tokenizer"].get("weights_sha256")):
            raise InputError(
                f"{folder}: its tokenizer is not at {os.path.normpath(where)} any more. "
                "Say where it is with --tokenizer."
            )
        where = SHIPPED / where.name
    found = open_model(where, device)
    refuse_other_tokenizer(found, config, folder)
    return found


def _is_shipped_as(name: str, weights_sha256: Any) -> bool:
    return name in shipped() and read_config(SHIPPED / name).get("weights_sha256") == weights_sha256


def refuse_other_tokenizer(found: Model, config: dict[str, Any], prior: Path) -> None:
    """Raises InputError unless `found` makes the codes that `prior`, of this config.json, was trained on; both sides
    are named. A tokenizer whose decoder alone was trained further makes those of its origin."""
    try:
        weights_sha256, spec = str(config["tokenizer"]["weights_sha256"]), _spec(prior, config)
    except (KeyError, TypeError) as error:
        raise InputError(f"{prior / 'config.json'} is damaged: {type(error).__name__} {error}.") from error
    if found.tokenizer.spec != spec:
        raise InputError(
            f"{found.folder} makes codes of {found.tokenizer.spec.to_json()}; the prior {prior} was trained on "
            f"{spec.to_json()}. Give the tokenizer that it was trained with, or train a new prior."
        )
    if weights_sha256 not in makers(found):
        raise InputError(
            f"{found.folder} is the tokenizer {found.weights_sha256[:12]}; the prior {prior} was trained on the codes "
            f"of {weights_sha256[:12]}. Give that one, or train a new prior."
        )


def makers(found: Model) -> set[str]:
    """Hashes of the tokenizers that are known to make the same codes of every image: its own, and those of its origin
    if only its decoder was trained since."""
    origin = found.config.get("finetuned_from")
    same = origin.get("codes_of") if isinstance(origin, dict) else None
    return {found.weights_sha256, *(map(str, same) if isinstance(same, list) else ())}


def _spec(folder: Path, config: dict[str, Any]) -> CodeSpec:
    try:
        return CodeSpec.from_json(config["spec"])
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{folder / 'config.json'} is damaged: {type(error).__name__} {error}.") from error


def _config_with_weights(folder: Path, kind: str) -> dict[str, Any]:
    config = read_config(folder)
    found = config.get("kind")
    if found not in ("tokenizer", "prior"):
        raise InputError(f"{folder / 'config.json'} is damaged: it is of the kind {found!r}.")
    if found != kind:
        raise InputError(
            f"{folder} is a {found}, and a {kind} is needed here. "
            + ("Train one on it: brainvq train pixelcnn --tokenizer ..." if kind == "prior" else _owned(folder, config))
        )
    if not (folder / "model.safetensors").exists():
        raise InputError(f"{folder} has no model.safetensors yet. Train it: brainvq train ... --out {folder} --resume.")
    return config


def _owned(folder: Path, config: dict[str, Any]) -> str:
    """Which tokenizer the prior of a folder was trained on."""
    try:
        path = str(config["tokenizer"]["path"])
        near = Path(os.path.normpath(folder / path))
        return f"Give its tokenizer: {near if near.is_dir() else path}."
    except (KeyError, TypeError, OSError):  # OSError: a path of a stranger's that can be none
        return "Give its tokenizer."


def _digest(folder: Path, config: dict[str, Any]) -> str:
    digest = file_hash(folder / "model.safetensors")
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
        if model.spec != _spec(folder, config):
            raise InputError(f"{where} contradicts itself: its spec is not that of its tokenizer.")
        model.load_state_dict(load(weights.read_bytes()))
    except (KeyError, TypeError, OverflowError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{where} or the weights beside it are damaged: {type(error).__name__} {error}.") from error
    return model


class _StoredTokenizer(Config):
    tokenizer: PartOf[TokenizerConfig]


class _StoredPrior(Config):
    prior: PartOf[PriorConfig]
