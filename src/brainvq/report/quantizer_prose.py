"""The words that a methods paragraph uses for quantizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from brainvq.report.words import listed, settings

_MOVED = "; an entry that is used less than {:g} times its fair share is moved to a badly served vector of the batch"


def _vq(part: dict[str, Any]) -> str:
    text = f"Each vector of the encoder is replaced by the nearest of {part['entries']:,} codebook entries"
    if part["codebook"] == "ema":
        text += f", which follow the vectors assigned to them by exponential moving averages (decay {part['decay']:g})"
    else:
        text += ", which are learned by the gradient of the codebook loss"
    start = (
        "by k-means on the first batch" if part["initial_range"] is None else f"uniform in +-{part['initial_range']:g}"
    )
    text += f"; gradients pass straight through, and the commitment loss has weight {part['commitment']:g}. "
    text += f"Entries start {start}"
    if part["revive_below"]:
        text += _MOVED.format(part["revive_below"])
    return text + "."


def _fsq(part: dict[str, Any]) -> str:
    levels = listed([str(n) for n in part["levels"]])
    return (
        f"Each vector of the encoder is mapped linearly to {len(part['levels'])} numbers where it has another size; "
        f"these are bounded by tanh and rounded to {levels} levels (finite scalar quantization, Mentzer et al. 2023), "
        "and mapped back. Gradients pass straight through the rounding, and there is no codebook to learn."
    )


def _normalized(part: dict[str, Any]) -> str:
    text = (
        f"Each vector of the encoder is mapped linearly to {part['code_dim']} dimensions, normalised to unit length "
        f"and replaced by the nearest of {part['entries']:,} unit vectors (Yu et al. 2021), which is mapped back "
        "linearly. These follow the vectors assigned to them by exponential moving averages (decay "
        f"{part['decay']:g}), are normalised after every update, and start by k-means on the first batch; gradients "
        f"pass straight through, and the commitment loss has weight {part['commitment']:g}"
    )
    if part["revive_below"]:
        text += _MOVED.format(part["revive_below"])
    return text + "."


def _residual(part: dict[str, Any]) -> str:
    told = [SENTENCES.get(stage["kind"], settings)(stage) for stage in part["stages"]]
    text = (
        f"Vectors are quantised in {len(told)} stages (Zeghidour et al. 2021; Lee et al. 2022), each of what the "
        "stages before it have left over, and their sum is decoded. "
    )
    if len(set(told)) == 1:
        return text + f"Of every stage: {told[0]}"
    return text + " ".join(f"Stage {n}: {words}" for n, words in enumerate(told, 1))


SENTENCES: dict[str, Callable[[dict[str, Any]], str]] = {
    "quantizers.vq": _vq,
    "quantizers.fsq": _fsq,
    "quantizers.normalized": _normalized,
    "quantizers.residual": _residual,
}
