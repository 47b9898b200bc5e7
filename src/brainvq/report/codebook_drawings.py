"""The diagram of a codebook that its evaluation explains: how far the change of one code reaches."""

from __future__ import annotations

import numpy as np

from brainvq.report.codebook_stored import StoredLevel
from brainvq.report.drawings import logarithmic
from brainvq.report.ink import FIRST, MUTED, SECOND, Drawing, finish, legend, panel, style
from brainvq.report.record import Record

LEAST = 0.05  # grey levels; changes below are not drawn


def draw_codebook(record: Record) -> dict[str, Drawing]:
    """A diagram for each level of the codebook, by name."""
    result = record.headline
    examples = None if result is None else record.examples.get(result.split)
    levels = () if examples is None or examples.codebook is None else examples.codebook.about.levels
    drawn = (_reach(level, stored, len(levels)) for level, stored in enumerate(levels))
    return {drawing.name: drawing for drawing in drawn if drawing is not None}


def _reach(level: int, about: StoredLevel, levels: int) -> Drawing | None:
    swapped = about.swapped
    if swapped is None or max(swapped.far.rings) <= LEAST:
        return None
    name, of_level = f"reach_{level + 1}", f", level {level + 1}" if levels > 1 else ""
    with style(name):
        figure, axes = panel(f"How far one code reaches{of_level}", "pixels from the middle of its patch")
        last = 0
        for reached, label, colour in ((swapped.near, "to nearest", FIRST), (swapped.far, "to farthest", SECOND)):
            rings = np.array(reached.rings)
            kept = int(np.flatnonzero(rings > LEAST).max(initial=0)) + 2
            last = max(last, min(kept, len(rings)))
            axes.step(np.arange(len(rings)) + 0.5, np.maximum(rings, LEAST), where="mid", color=colour, label=label)
        patch = max(about.stride) / 2
        axes.axvline(patch, color=MUTED, linewidth=1, linestyle=(0, (3, 3)), label="edge of patch")
        axes.set_xlim(0, max(last, 2 * patch))
        logarithmic(axes, LEAST)
        axes.set_ylabel("grey levels")
        legend(axes)
        alt = (
            f"Mean change of a pixel by its distance from a swapped code{of_level}, in grey levels: at the middle "
            f"{swapped.near.rings[0]:.2f} by the nearest and {swapped.far.rings[0]:.2f} by the farthest entry, below "
            f"{LEAST} beyond {last} pixels."
        )
        return finish(name, alt, figure)
