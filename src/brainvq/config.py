"""Strict, typed configurations that go to JSON and back.

A part (quantizer, network, tokenizer, task) is a file: its `kind` is the file's path below `brainvq`, such as
`quantizers.vq`, and the file holds a class `Config` derived from `PartConfig`. Nothing is registered anywhere, and only
files in the folders of `FOLDERS` resolve, so that a run folder from a stranger cannot import anything else.
"""

from __future__ import annotations

import difflib
import importlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, SerializeAsAny

from brainvq.errors import InputError

FOLDERS = ("networks", "quantizers", "tokenizers", "priors", "training")


class Config(BaseModel):
    """Immutable, and strict: no unknown keys, no silent conversion of types, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class PartConfig(Config):
    """Configuration of one part; `kind` names its file."""

    kind: str


def kinds(folder: str) -> list[str]:
    """All parts of a folder, by file name: `kinds("quantizers")` -> ["quantizers.vq", ...]."""
    files = sorted((Path(__file__).parent / folder).glob("*.py"))
    modules = [f"{folder}.{file.stem}" for file in files if file.stem not in ("__init__", "base")]
    return [kind for kind in modules if _config_of(kind)]


def part_config(kind: str) -> type[PartConfig]:
    """The `Config` class of a part.

    Raises:
        InputError: no such file in the folders of parts.
    """
    folder = kind.partition(".")[0]
    if not re.fullmatch(r"[a-z]\w*\.[a-z]\w*", kind) or folder not in FOLDERS or kind not in kinds(folder):
        known = [name for name in FOLDERS for name in kinds(name)]
        raise InputError(f"unknown part {kind!r}{did_you_mean(kind, known)} Parts: {', '.join(known)}.")
    found = _config_of(kind)
    assert found is not None
    return found


def _config_of(kind: str) -> type[PartConfig] | None:
    """The `Config` of a part; the plain one above, imported by a file that is no part, does not count."""
    found = getattr(importlib.import_module(f"brainvq.{kind}"), "Config", None)
    return found if isinstance(found, type) and issubclass(found, PartConfig) else None


def _resolve(value: Any) -> Any:
    if isinstance(value, dict):
        if not isinstance(value.get("kind"), str):
            raise ValueError('a part needs a "kind", such as "quantizers.vq"')
        return part_config(value["kind"]).model_validate_json(json.dumps(value))
    return value


P = TypeVar("P", bound=PartConfig)
C = TypeVar("C", bound=Config)

PartOf = Annotated[SerializeAsAny[P], pydantic.BeforeValidator(_resolve)]
"""A field that holds the configuration of any part derived from P; in JSON its `kind` says which."""

Part = PartOf[PartConfig]
"""Of any part at all."""


def to_json(config: Config) -> dict[str, Any]:
    """Plain JSON values; `from_json(type(config), to_json(config)) == config`."""
    values: dict[str, Any] = json.loads(config.model_dump_json())
    return values


def from_json(cls: type[C], values: dict[str, Any]) -> C:
    """Raises InputError that names the key, what it held and what was expected."""
    try:
        return cls.model_validate_json(json.dumps(values))
    except pydantic.ValidationError as error:
        raise InputError(_explain(error)) from error


def override(config: C, assignments: list[str]) -> C:
    """Apply `--set path=value` assignments, such as `train.steps=100` or `tokenizer.quantizer.entries=64`.

    Values are JSON; what is not JSON is taken as text.

    Raises:
        InputError: an unknown key (the nearest one is named), a wrong type, no "=".
    """
    values = to_json(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"--set {assignment!r} has no '='. Write it as path=value, such as train.steps=100.")
        _assign(values, path.strip(), _parse(text.strip()))
    return from_json(type(config), values)


def _assign(values: dict[str, Any], path: str, value: Any) -> None:
    known = list(paths(values))
    *parents, last = path.split(".")
    target: Any = values
    for name in parents:
        target = target.get(name) if isinstance(target, dict) else None
    if not isinstance(target, dict) or last not in target:
        raise InputError(f"unknown key {path!r}{did_you_mean(path, known)} Keys: {', '.join(known)}.")
    if isinstance(target[last], dict) and not isinstance(value, dict):
        raise InputError(f"{path!r} is a group, not a value. Set one of: {', '.join(paths(target[last], path + '.'))}.")
    target[last] = value


def paths(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Every leaf of a nested dict as a dotted path."""
    found = []
    for key, value in values.items():
        found += paths(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _explain(error: pydantic.ValidationError) -> str:
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"]) or "configuration"
        said, given = problem["msg"].removeprefix("Value error, ").removesuffix("."), problem["input"]
        if isinstance(given, PartConfig):
            said, given = "another sort of part belongs here", given.kind
        lines.append(f"{path}: {said}, got {given!r}")
    return "the configuration does not fit. " + "; ".join(lines) + "."


def did_you_mean(name: str, known: list[str]) -> str:
    """ "; did you mean ...?" with the nearest of the known names; where none is near, a full stop."""
    tail = {path.rpartition(".")[2]: path for path in known}
    close = difflib.get_close_matches(name, known, 1, 0.5)
    close = close or [tail[key] for key in difflib.get_close_matches(name.rpartition(".")[2], list(tail), 1, 0.6)]
    return f"; did you mean {close[0]!r}?" if close else "."
