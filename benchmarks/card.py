"""The model card and the licence notice of shipped weights, from a run's config.json and its evaluation alone.

The text tells what the weights are, what they were measured to do, and what nobody has looked at. Sources of what it
says of the data: D. Marcus et al., Open Access Series of Imaging Studies (OASIS): Cross-Sectional MRI Data in Young,
Middle Aged, Nondemented, and Demented Older Adults, 2007; the data use terms at oasis-brains.org.
"""

from __future__ import annotations

import math
import textwrap
from typing import Any

from benchmarks.stored import device_of
from brainvq.tables import HEADINGS, rows

ACKNOWLEDGEMENT = (
    "Data were provided by OASIS-1: Cross-Sectional. Principal investigators: D. Marcus, R. Buckner, J. Csernansky, "
    "J. Morris; grants P50 AG05681, P01 AG03991, R01 AG021910, P50 MH071616, U24 RR021382, R01 MH56584. "
    "https://doi.org/10.1162/jocn.2007.19.9.1498"
)
FOR_SAMPLES = "Its decoder was trained further to look real: it draws samples of priors, and is not for reading scans."
MADE_UP = """Fine texture is made up: patch discriminators taught the decoder what scans look like, not what was in this
one."""
SHIP = "python -m benchmarks.ship RUN DEST"

NOTICE = f"""# Licence notice of these weights

The code of brainvq is under the Apache licence 2.0. The weights in this folder (`model.safetensors`,
`entropy.safetensors`) are not: they were learned from images of OASIS-1, and are passed on for what the OASIS data use
terms allow ([oasis-brains.org](https://www.oasis-brains.org)). Whoever uses them, or a model that was
fine-tuned from them,

- keeps to those terms, and reads them there: they bind, not this summary;
- acknowledges OASIS wherever results or algorithms that benefited from the weights are presented:
  "{ACKNOWLEDGEMENT}";
- makes no attempt to learn from them who took part in the study;
- passes them on only together with this notice.

They hold no image and no record of a participant. They come without warranty of any kind, and are not a medical device.
"""


def card(config: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """MODEL_CARD.md of the run with this config.json, evaluated so."""
    return "\n".join(
        (
            _what(config),
            _use(config),
            _data(config, evaluation),
            _measures(config, evaluation),
            _limits(config),
            _licence(),
            _provenance(config, evaluation),
        )
    )


def _what(config: dict[str, Any]) -> str:
    size, spec = config["data"]["size"], config["spec"]
    levels = [
        f"{_times(math.ceil(n / s) for n, s in zip(size, stride, strict=True))} codes of {entries:,} entries"
        for entries, stride in zip(spec["entries"], spec["strides"], strict=True)
    ]
    what = f"""A tokenizer of brain MR slices. It turns a slice of {_times(size)} pixels into {" and ".join(levels)},
    and these codes back into a slice. {sum(config["parameters"].values()):,} parameters. It is for research on
    images: compression, generation by a prior over the codes, features."""
    sharp = _sharpened(config)
    return f"""# {config["preset"]}{", sharpened" if sharp else ""}: weights

{_filled(f"{what} {FOR_SAMPLES}" if sharp else what)}

**Not a medical device.** Not for diagnosis, nor for any decision about a patient.
"""


def _sharpened(config: dict[str, Any]) -> bool:
    return bool(config["experiment"]["task"].get("patches"))


def _use(config: dict[str, Any]) -> str:
    return f"""## Use

```
brainvq reconstruct MODEL scans --out copies
brainvq encode MODEL scans --out codes
brainvq compress MODEL scans --out packed
brainvq finetune MODEL --data scans --out run
```

MODEL is this folder; `{config["preset"]}` as a bare word works where the model comes with the package. In Python,
`brainvq.load(MODEL)`. The weights are held against their SHA-256 when they are loaded. `entropy.safetensors`, where it
lies here, was trained on the codes of the same subjects; it makes the files of `compress` smaller.
"""


def _data(config: dict[str, Any], evaluation: dict[str, Any]) -> str:
    train, measured = config["data"]["splits"]["train"], evaluation["data"]
    origin = config.get("finetuned_from")
    before = f"Fine-tuned from `{origin['preset']}` ({origin['weights_sha256'][:12]})." if origin else ""
    data = f"""{before} Trained on OASIS-1, cross-sectional: {train["subjects"]} subjects, {train["images"]:,} slices.
    Adults of 18 to 96 years, some of them with dementia, on one 1.5 T scanner; T1-weighted, axial slices around the
    ventricles, about {train["images"] // train["subjects"]} a subject, {_times(config["data"]["size"])} pixels, 8 bit,
    in the `keras_png_slices` layout: not skull-stripped, each slice scaled to 0..255 by itself. Measured on
    {measured["subjects"]} other subjects ({measured["images"]:,} slices, {evaluation["split"]}). No image comes with
    the weights."""
    return f"""## Data

{_filled(data)}
"""


def _measures(config: dict[str, Any], evaluation: dict[str, Any]) -> str:
    heads = ("measure", "model", *(HEADINGS[name] for name in evaluation["baselines"]))
    lines = [heads, ("---", *["---:"] * (len(heads) - 1)), *rows(evaluation)]
    chosen = {
        "best": "The weights are those with the highest SSIM on 256 slices of validate during training.",
        "last": "The weights are those of the last step.",
    }[config["experiment"]["train"]["keep"]]
    if config["experiment"]["task"]["optimiser"]["average"]:
        chosen += " They are moving averages over training steps."
    about = f"""In brackets: 95 % interval by bootstrap over subjects. Beside the model: a black image, the mean train
    image, the previous slice of the same subject. Originals and reconstructions are compared as 8-bit images. {chosen}
    The preset's settings were developed on these validate subjects too, so expect a little less elsewhere. Each
    subject's measures are in `evaluation/{evaluation["split"]}.json`."""
    return f"""## Measures

{chr(10).join("| " + " | ".join(line) + " |" for line in lines)}

{_filled(about)}
"""


def _limits(config: dict[str, Any]) -> str:
    limits = (
        f"""One scanner, one protocol: T1-weighted axial slices of adults at {_times(config["data"]["size"])}. Other
        contrasts, field strengths, sites, orientations, children, other sizes: not tested. `brainvq finetune` adapts
        the weights; measure afterwards.""",
        """A reconstruction is not the scan. Lesions and other rare or small structures may be smoothed away, moved or
        made up, and a high SSIM does not exclude it. Nothing here was measured on lesions.""",
        *((MADE_UP,) if _sharpened(config) else ()),
        "Faint noise of the background may not be kept.",
        "Whether it does as well for every age, sex and diagnosis was not measured.",
    )
    return "## Limits\n\n" + "".join(f"- {_filled(limit, '  ')}\n" for limit in limits)


def _licence() -> str:
    return f"""## Licence and acknowledgement

The code is under the Apache licence 2.0; the weights have a notice of their own, [LICENSE.md](LICENSE.md), and are to
be used under the OASIS data use terms.

{_filled(ACKNOWLEDGEMENT)}
"""


def _provenance(config: dict[str, Any], evaluation: dict[str, Any]) -> str:
    hardware = config["hardware"]
    where = device_of(hardware)
    trained = f"""Trained by `{config["command"]}`: {config["steps"]:,} steps, {config["images_seen"]:,} images,
    {config["wall_time_s"] / 60:.0f} minutes, {where}, brainvq {config["version"]}. Folder and card made by `{SHIP}`
    from the run and its evaluation on {evaluation["split"]}. SHA-256 of the weights:"""
    return f"""## Provenance

{_filled(trained)}
`{config["weights_sha256"]}`
"""


def _filled(text: str, indent: str = "") -> str:
    """Lines of at most 120 characters."""
    words = " ".join(text.split())
    return textwrap.fill(words, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _times(edges: Any) -> str:
    return " x ".join(str(edge) for edge in edges)
