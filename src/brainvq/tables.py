"""The results of `evaluate.py` and `evaluate_prior.py` as tables on a screen.

`rows` and `generation_rows` give the same cells as text, for reports and docs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from brainvq.metrics.definitions import MEASURES

BASELINES = {"black": "all black", "mean_train_image": "mean train image", "previous_slice": "previous slice"}
HEADINGS = {"black": "black", "mean_train_image": "mean image", "previous_slice": "previous"}
LONGEST = 24  # characters of a volume's name that fit beside its measures


def table(result: Mapping[str, Any]) -> Table:
    """The measures beside the baselines, for the screen."""
    data = result["data"]
    title = f"{data['name']}, {result['split']}: {data['images']:,} images of {data['subjects']} subjects"
    caption = (
        "[...]: 95 % interval by bootstrap over subjects. Beside the model: a black\n"
        "image, the mean train image, the previous slice of the same subject."
    )
    heads = ("measure", "model", *(HEADINGS[name] for name in result["baselines"]))
    return _table(title, caption, heads, rows(result))


def prior_table(result: Mapping[str, Any]) -> Table:
    """The measures of a prior beside those of real images, for the screen."""
    data, drawn, split = result["data"], result["samples"], result["split"]
    title = (
        f"{split}: {data['images']:,} images of {data['subjects']} subjects; "
        f"{drawn['n']:,} samples of seed {drawn['seed']}"
    )
    caption = (
        f"[...]: 95 % interval by bootstrap, of bits and real images over subjects.\n"
        f"real: {result['real']['n']:,} images of {split} that went through the tokenizer.\n"
        f"Similarity and diversity are good near the real value, not high or low; as many\n"
        f"subjects: of train, as {split} has. described SSIM: of batches of 16 train\n"
        "images; the best is a maximum, and grows with the number of batches."
    )
    return _table(title, caption, ("measure", "prior", "real"), generation_rows(result))


def generation_rows(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Lines of the table of a prior as text: label, the prior or its samples, what stands beside them."""
    measures, bits, split, lines = result["measures"], result["bits"], result["split"], []
    if bits is not None:
        lines += [
            ("bits a code", _range(bits["per_code"]), f"histogram {bits['histogram_per_code']['mean']:.3f}"),
            ("bits a pixel", _range(bits["per_pixel"], 4), f"fixed length {bits['nominal_per_pixel']:.4f}"),
            ("saved against the histogram, %", _range(bits["saved"], 1, 100), ""),
        ]
    for name, label in (
        ("nearest_train", "SSIM to the nearest of train"),
        ("nearest_train_as_many", "  among as many subjects"),
        ("nearest_validate", f"SSIM to the nearest of {split}"),
    ):
        lines.append((label, _range(measures[name]), _range(measures.get(f"real_{name}"))))
    diversity, live = measures["diversity"], measures["live_entries"]
    lines.append(("diversity: SSIM of pairs", _decimal(diversity["samples"]), _decimal(diversity["real"])))
    lines.append(("live entries that occur, %", f"{100 * live['samples']:.1f}", f"{100 * live['real']:.1f}"))
    described, real = measures["described_ssim"], measures["real_described_ssim"]
    for name in ("best", "mean"):
        label = f"described SSIM, {name} of {described['batches']:,}"
        lines.append((label, _decimal(described[f"{name}_batch"]), _decimal(real[f"{name}_batch"])))
    lines.append(("seconds a sample", f"{result['samples']['seconds_each']:.2g}", ""))
    return lines


def rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Lines of the table as text: label, model with its interval, then each baseline's mean."""
    lines = []
    for name, found in result["measures"].items():
        beside = [_number(b[name]["mean"], name) if name in b else "-" for b in result["baselines"].values()]
        lines.append((_label(name), _with_interval(found, name), *beside))
    usage, blank = result["usage"], ("",) * len(result["baselines"])
    entries = usage["live_entries"] + usage["dead_entries"]
    lines.append(("live entries", f"{usage['live_entries']:,} of {entries:,}", *blank))
    lines.append(("perplexity", f"{usage['perplexity']:.1f}", *blank))
    for kind in ("nominal", "entropy", "held_out"):
        rate = usage[f"{kind}_bits_per_pixel"]
        lines.append((f"bits a pixel, {kind.replace('_', ' ')}", "-" if rate is None else f"{rate:.4f}", *blank))
    return lines


def difference_table(compared: Mapping[str, Any]) -> Table:
    """Paired differences, for the screen."""
    shown = Table(title="Difference, paired by subject", caption="95 % intervals by bootstrap over subjects")
    for label in ("measure", "difference", "subjects better"):
        shown.add_column(label, justify="left" if label == "measure" else "right")
    for name, found in compared["differences"].items():
        shown.add_row(
            _label(name), _with_interval(found, name, sign="+"), f"{found['subjects_better']} of {found['subjects']}"
        )
    return shown


def fidelity_table(found: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """Volumes by name and what `fidelity` says of each, for the screen."""
    heads = ("volume", "SSIM", "MAE", "RMSE", "median", "median, core")
    lines = [
        (
            name if len(name) <= LONGEST else "…" + name[1 - LONGEST :],
            _decimal(kept["ssim_foreground"]),
            *("-" if kept[measure] is None else f"{kept[measure]:.4g}" for measure in ("mae", "rmse")),
            *(_drift(kept[place]) for place in ("median_head", "median_core")),
        )
        for name, kept in found
    ]
    caption = (
        "All inside the head, in the units of the scan; median: of the reconstruction, and\n"
        "its drift; core: deeper than 20 mm below the head's surface. Not for diagnosis."
    )
    return _table("Volumes", caption, heads, lines)


def _drift(medians: tuple[float, float] | None) -> str:
    """That of the reconstruction, and its difference as a share of the original's."""
    if medians is None:
        return "-"
    before, after = medians
    share = f" ({100 * (after - before) / abs(before):+.1f} %)" if before else ""
    return f"{after:.4g}{share}"


def _table(title: str, caption: str, heads: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> Table:
    left = {"title_justify": "left", "caption_justify": "left"}
    shown = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), **left)  # type: ignore[arg-type]
    for n, head in enumerate(heads):
        shown.add_column(head, justify="right" if n else "left", no_wrap=True)
    for line in lines:
        shown.add_row(*line)
    return shown


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _range(found: Mapping[str, Any] | None, digits: int = 3, scale: float = 1) -> str:
    if found is None:
        return "-"
    mean, *edges = (None if found[of] is None else f"{scale * found[of]:.{digits}f}" for of in ("mean", "low", "high"))
    return str(mean) if None in edges else f"{mean} [{edges[0]}, {edges[1]}]"


def _label(name: str) -> str:
    measure = MEASURES[name]
    return f"{measure.label} ({measure.unit})" if measure.unit else measure.label


def _number(value: float, name: str, sign: str = "") -> str:
    return f"{value:{sign}.2f}" if MEASURES[name].unit else f"{value:{sign}.4f}"


def _with_interval(found: Mapping[str, Any], name: str, sign: str = "") -> str:
    if found["low"] is None:
        return _number(found["mean"], name, sign)
    low, high = (_number(found[edge], name, sign) for edge in ("low", "high"))
    return f"{_number(found['mean'], name, sign)} [{low}, {high}]"
