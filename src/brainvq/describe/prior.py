"""What is said of a prior: on whose codes, and how it looks in box-drawing characters."""

from __future__ import annotations

import torch
from rich.text import Text

from brainvq.codes import CodeSpec
from brainvq.describe.hourglass import boxes, merged, size_of
from brainvq.describe.layers import Outline
from brainvq.presets import PRESETS
from brainvq.priors import dcgan, pixelcnn
from brainvq.training.prior_experiment import PriorExperiment

SYSTEM_B = "resnet_f4"  # on whose codes a prior is described


def described_spec() -> CodeSpec:
    """Of system B's tokenizer."""
    with torch.device("meta"):
        spec: CodeSpec = PRESETS[SYSTEM_B]().tokenizer.build().spec  # type: ignore[attr-defined]
    return spec


def told_of(found: Outline) -> Text:
    """A prior takes its shapes from the codes; here they are these."""
    levels = zip(found.grids, found.spec.entries, strict=True)
    grids = " + ".join(f"{size_of(grid)} codes of {entries:,} entries" for grid, entries in levels)
    return Text.assemble(
        ("as a prior of ", "bold"),
        f"{grids}, those of {SYSTEM_B} for {size_of(found.size)} pixels;\n",
        "trained on another tokenizer, or on images of another size, its shapes follow them",
    )


def picture(experiment: PriorExperiment, found: Outline) -> list[Text]:
    """The prior as a diagram, and a blank line; nothing for a kind that has none."""
    if isinstance(experiment.prior, dcgan.Config):
        return [_networks(found), Text()]
    if isinstance(experiment.prior, pixelcnn.Config):
        return [_context(experiment.prior), Text()]
    return []


def _networks(found: Outline) -> Text:
    """The generator widens to an image of indices, the discriminator narrows from it."""
    up, down = ([layer.shape for layer in found.of(part)] for part in ("generator", "discriminator"))
    image, one = up[-1], (1, 1, 1)
    drawn = [
        *merged([(one, "z  noise"), *((shape, size_of(shape)) for shape in up[:-1])], "generator"),
        *merged([(image, f"image of indices  {size_of(image)}")], "image"),
        *merged(
            [*((shape, size_of(shape)) for shape in down[:-1]), (down[-1], "logit: real or generated?")],
            "discriminator",
        ),
    ]
    return boxes(drawn)


def _context(config: pixelcnn.Config) -> Text:
    """What the code in the middle is predicted from."""
    told = [
        "▲ rows above: the vertical stack",
        "◀ codes to the left: the horizontal stack",
        "? the code that is predicted",
        "· not drawn yet, never looked at",
    ]
    rows = ["▲ ▲ ▲ ▲ ▲ ▲ ▲"] * 2 + ["◀ ◀ ◀ ? · · ·", "· · · · · · ·"]
    shown = Text("\n").join(Text(f"  {row}     {words}") for row, words in zip(rows, told, strict=True))
    shown.highlight_regex("▲", "cyan")
    shown.highlight_regex("◀", "magenta")
    shown.highlight_regex(r"\?", "bold yellow")
    far = (config.layers + 1) * (config.kernel // 2)
    told_far = f"{config.layers} gated layers after the first: {far + 1} rows up, {far} codes to either side"
    return shown.append(f"\n  {told_far}")
