"""Where fine-tuning goes out from: a trained tokenizer, of which some parts learn on and others are held."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainvq import models
from brainvq import run as runs
from brainvq.errors import InputError
from brainvq.models import Model
from brainvq.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class Start:
    """`model`: whose weights training begins with. `codebook`, `encoder`: whether these are trained too, else held."""

    model: Model
    codebook: bool
    encoder: bool = True

    def into(self, tokenizer: Tokenizer) -> None:
        """The weights into an untrained tokenizer of the same configuration."""
        tokenizer.load_state_dict(self.model.tokenizer.state_dict())
        if not self.codebook:
            tokenizer.hold(encoder=not self.encoder)

    @property
    def origin(self) -> dict[str, Any]:
        """For config.json."""
        return {
            "preset": self.model.config.get("preset"),
            "weights_sha256": self.model.weights_sha256,
            "codebook": "trained" if self.codebook else "frozen",
            **({} if self.encoder else {"encoder": "frozen", "codes_of": sorted(models.makers(self.model))}),
        }


def refuse_other_origin(out: Path, start: Start | None) -> None:
    """Raises InputError if the run in `out` began elsewhere than `start` (None: untrained)."""
    if not (out / "config.json").exists():
        return
    before, now = runs.read_config(out).get("finetuned_from"), start.origin if start else None
    if before != now:
        raise InputError(
            f"{out} started {_told(before)}, and this starts {_told(now)}. Resume as it began, or give another --out."
        )


def _told(origin: Any) -> str:
    if not isinstance(origin, dict):
        return "untrained"
    held = ", encoder frozen" if origin.get("encoder") == "frozen" else ""
    preset, weights, codebook = (origin.get(key) for key in ("preset", "weights_sha256", "codebook"))
    return f"from {preset} {str(weights)[:12]}{held}, codebook {codebook}"
