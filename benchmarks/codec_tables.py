"""The tables of `benchmarks/codec.py`: whole files beside those of picture codecs, with and without loss."""

from __future__ import annotations

from typing import Any

from benchmarks.codec import ALONE

LABELS = {"avif": "AVIF", "jpeg_xl": "JPEG XL", "jpeg_2000": "JPEG 2000", "av1_sequence": "AV1 sequence"}
PICTURES = ("avif", "jpeg_xl", "jpeg_2000")


def table(found: dict[str, Any]) -> str:
    """Of each model the bits of its files, and what others need for the same SSIM foreground."""
    lines = [
        "| codes of, entropy model | bits a pixel of whole files | of codes of fixed length | SSIM, foreground "
        "| best picture codec for the same | saved of its files, of its payload | AV1 sequence for the same "
        "| saved of its files, of its payload "
        "| slices a second: in, out |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(row) for row in found["ours"]]
    data = found["data"]
    lines.append(
        f"\n{data['images']:,} {data['split']} slices, a file of each of {data['subjects']} subjects, with names, "
        "frames and checksums; picture codecs' files likewise, one a slice, and one a subject of AV1; *payload* leaves "
        "out what is the same in all of their files, but not ours. 95 % intervals "
        f"by bootstrap over subjects. {found['hardware']['threads']} threads of an {found['hardware']['cpu']}."
    )
    return "\n".join([*lines, _speeds(found)]) + "\n"


def lossless(found: dict[str, Any]) -> str:
    """Files that give back the very pixels."""
    rows = found["lossless"]["rows"]
    xl = next(row for row in rows if row["name"] == "jpeg_xl")["file_bits"]["mean"]
    lines = [
        "| lossless | bits a pixel | beside JPEG XL | slices a second: in, out |",
        "|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["file_bits"]["mean"]):
        options = f" ({row['options']})" if row.get("options") else ""
        name = f"{row['label']}{options}" if "label" in row else f"**{_name(row['name'])}**"
        bits = row["file_bits"]
        rates = f"{row['compress_slices_a_second']:.1f}, {row['decompress_slices_a_second']:.1f}"
        share = f"{100 * (bits['mean'] / xl - 1):+.1f} %"
        lines.append(f"| {name} | {_interval(bits)} | {share} | {rates} |")
    subjects = found["lossless"]["subjects"]
    lines.append(
        f"\n{rows[0]['file_bits']['images']} {found['data']['split']} slices of {len(subjects)} subjects: one file of "
        "ours for each, codes and headers included, or one a slice; picture codecs have one a slice, AV1 one a subject."
    )
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    bits, likeness = row["measures"]["file_bits"], row["measures"]["ssim_foreground"]
    reached = {name: row["like"][name]["for_the_same"]["bits"] for name in PICTURES}
    best = min((name for name in PICTURES if reached[name] is not None), key=lambda name: reached[name], default=None)
    cells = [
        _name(row["name"]),
        _interval(bits),
        f"{100 * bits['mean'] / row['nominal_bits']:.0f} %",
        f"{likeness['mean']:.4f}",
        *_others(row, best),
        *_others(row, "av1_sequence"),
        f"{row['compress_slices_a_second']:.0f}, {row['decompress_slices_a_second']:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _others(row: dict[str, Any], name: str | None) -> list[str]:
    if name is None or row["like"][name]["for_the_same"]["bits"] is None:
        return ["none reaches it", "-"]
    like, needs = row["like"][name], row["like"][name]["for_the_same"]
    sign = "below its lowest, " if needs["told"] == "below its lowest" else ""
    return [
        f"{LABELS[name]}, {sign}{needs['bits']:.4f}",
        f"{_share(like['saved'])}, {_share(like['saved_of_payload'])}",
    ]


def _share(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    edges = "" if found["low"] is None else f" [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"
    return f"{100 * found['share']:.0f} %{edges}"


def _speeds(found: dict[str, Any]) -> str:
    """Of the picture codecs at the quality of the first of ours."""
    first = found["ours"][0]
    each = [
        f"{LABELS[name]} {like['compress_slices_a_second']:.0f} in and {like['decompress_slices_a_second']:.0f} out"
        for name, like in first["like"].items()
    ]
    return f"Slices a second of the others at the quality of {_name(first['name'])}: {'; '.join(each)}."


def _name(name: str) -> str:
    """A run is called by its entropy model and its tokenizer, context_previous_f8; a shipped model has its own."""
    name, alone, _ = name.partition(ALONE)
    prior, _, size = name.rpartition("_")
    told = {"histogram": "by position", "context": "context", "context_previous": "context with the slice before"}
    return (f"`brain_{size}`, {told[prior]}" if prior in told else f"`{name}`") + alone


def _interval(found: dict[str, Any]) -> str:
    edges = "" if found["low"] is None else f" [{found['low']:.4f}, {found['high']:.4f}]"
    return f"{found['mean']:.4f}{edges}"
