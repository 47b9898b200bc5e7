"""The results of `evaluate.py` and `evaluate_prior.py` as tables on a screen.

`rows` and `generation_rows` give the same cells as text, for reports and docs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from brainvq.errors import counted, printable
from brainvq.metrics.definitions import MEASURES
from brainvq.metrics.realism import FAMILY_LABELS, REALISM

BASELINES = {"black": "all black", "mean_train_image": "mean train image", "previous_slice": "previous slice"}
HEADINGS = {"black": "black", "mean_train_image": "mean image", "previous_slice": "previous"}


def table(result: Mapping[str, Any]) -> Table:
    """The measures beside the baselines, for the screen."""
    data = result["data"]
    title = f"{data['name']}, {result['split']}: {_images(data)}"
    caption = (
        "[...]: 95 % interval by bootstrap over subjects. Beside the model: a black\n"
        "image, the mean train image, the previous slice of the same subject."
    )
    lines = rows(result)
    if not any("[" in cell for line in lines for cell in line):
        caption = f"No intervals, which need two subjects. {caption.partition('. ')[2]}"
    if any("-" in line for line in lines):
        caption += "\n-: cannot be measured (held-out bits need two subjects)."
    heads = ("measure", "model", *(HEADINGS[name] for name in result["baselines"]))
    return framed(title, caption, heads, lines)


def _images(data: Mapping[str, Any]) -> str:
    return f"{counted(data['images'], 'image')} of {counted(data['subjects'], 'subject')}"


def prior_table(result: Mapping[str, Any]) -> Table:
    """The measures of a prior beside those of real images, for the screen."""
    data, drawn, split = result["data"], result["samples"], result["split"]
    title = f"{split}: {_images(data)}; {counted(drawn['n'], 'sample')} of seed {drawn['seed']}"
    caption = (
        f"[...]: 95 % interval by bootstrap, of bits and real images over subjects.\n"
        f"real: {result['real']['n']:,} images of {split} that went through the tokenizer.\n"
        f"Similarity and diversity are good near the real value, not high or low; as many\n"
        f"subjects: of train, as {split} has. described SSIM: of batches of 16 train\n"
        "images; the best is a maximum, and grows with the number of batches. Flagged as\n"
        "copies: of samples; of real unseen images; of copies made on purpose."
    )
    return framed(title, caption, ("measure", "prior", "real"), generation_rows(result))


def generation_rows(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Lines of the table of a prior as text: label, the prior or its samples, what stands beside them."""
    measures, bits, split, lines = result["measures"], result["bits"], result["split"], []
    if bits is not None:
        most, told = ("" if bits.get("exact", True) else ", at most"), bits.get("told", [])
        lines += [
            (f"bits a code{most}", _range(bits["per_code"]), f"histogram {bits['histogram_per_code']['mean']:.3f}"),
            *([(f"  told {', '.join(told)}", _range(bits["told_per_code"]), "")] if told else []),
            ("bits a pixel", _range(bits["per_pixel"], 4), f"fixed length {bits['nominal_per_pixel']:.4f}"),
            ("saved against the histogram, %", _range(bits["saved"], 1, 100), ""),
        ]
    for name, label in (
        ("nearest_train", "SSIM to the nearest of train"),
        ("nearest_train_as_many", "  among as many subjects"),
        ("nearest_validate", f"SSIM to the nearest of {split}"),
    ):
        lines.append((label, _range(measures[name]), _range(measures.get(f"real_{name}"))))
    lines += _realism(result.get("realism"))
    lines += _audit(result.get("audit"))
    diversity, live = measures["diversity"], measures["live_entries"]
    lines.append(("diversity: SSIM of pairs", _decimal(diversity["samples"]), _decimal(diversity["real"])))
    lines.append(("live entries that occur, %", f"{100 * live['samples']:.1f}", f"{100 * live['real']:.1f}"))
    for name, label in (("neighbour_ssim", "heads: SSIM of neighbours"), ("flicker", "heads: flicker")):
        if heads := result.get("heads"):
            lines.append((label, _range(heads["samples"][name]), _range(heads["real"] and heads["real"][name])))
    described, real = measures["described_ssim"], measures["real_described_ssim"]
    for name in ("best", "mean"):
        label = f"described SSIM, {name} of {described['batches']:,}"
        lines.append((label, _decimal(described[f"{name}_batch"]), _decimal(real[f"{name}_batch"])))
    lines.append(("seconds a sample", f"{result['samples']['seconds_each']:.2g}", ""))
    return lines


def _realism(found: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Of samples, beside train images through the tokenizer and the floor."""
    if found is None:
        return [("realism", "not measured", "100 images needed")]
    lines = []
    for family, label in FAMILY_LABELS.items():
        of = found["families"][family]
        for name in ("frechet", "coverage"):
            samples, through = (of["sets"][who]["measures"][name]["value"] for who in ("samples", "tokenizer"))
            beside = f"{through:.3g}, floor {of['floor'][name]['value']:.3g}"
            lines.append((f"{label}: {REALISM[name].label}", f"{samples:.3g}", beside))
    return lines


def _audit(found: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """Samples that are flagged as copies, beside how many of held-out slices are, and how many copies would be."""
    if found is None:
        return [("flagged as copies, %", "not audited", "")]
    flagged, chance, seen = (100 * found[name]["share"] for name in ("flagged", "false_alarms", "sensitivity"))
    return [("flagged as copies, %", f"{flagged:.1f}", f"real {chance:.1f}, copies {seen:.0f}")]


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
    heads = ("volume", "SSIM fg.", "MAE", "RMSE", "median", "median, core")
    lines = [
        (
            name,
            _decimal(kept["ssim_foreground"]),
            *("-" if kept[measure] is None else f"{kept[measure]:.4g}" for measure in ("mae", "rmse")),
            *(_drift(kept[place]) for place in ("median_head", "median_core")),
        )
        for name, kept in ((printable(path), kept) for path, kept in found)
    ]
    missing = "\n-: too small to measure." if any("-" in line for line in lines) else ""
    caption = (
        "All inside the head (SSIM foreground), in the units of the scan; median: of the\n"
        "reconstruction, and its drift; core: deeper than 20 mm below the head's surface."
        f"{missing}\nNot for diagnosis."
    )
    return framed("Volumes", caption, heads, lines)


def _drift(medians: tuple[float, float] | None) -> str:
    """That of the reconstruction, and its difference as a share of the original's."""
    if medians is None:
        return "-"
    before, after = medians
    share = f" ({100 * (after - before) / abs(before):+.1f} %)" if before else ""
    return f"{after:.4g}{share}"


def framed(title: str, caption: str, heads: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> Table:
    """The first column folds where there is no room; numbers are never cut."""
    left = {"title_justify": "left", "caption_justify": "left"}
    shown = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), **left)  # type: ignore[arg-type]
    cells = [heads, *lines]
    for n, head in enumerate(heads):
        if n:
            shown.add_column(head, justify="right", no_wrap=True, min_width=max(len(line[n]) for line in cells))
        else:
            shown.add_column(head, overflow="fold")
    for line in cells[1:]:
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
