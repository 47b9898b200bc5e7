"""What a file tells without a model: `brainvq info`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from brainvq.archive.files import opened, packed_of
from brainvq.errors import counted, printable


def info(path: Path) -> dict[str, Any]:
    """What a file tells without a model; `damage` tells what it has lost.

    Raises:
        InputError: it is none, or has lost its header.
    """
    file = opened(path)
    head, packed = file.header, packed_of(path, file)
    words, pixels = (sum(len(getattr(group, name)) for group in file.groups) for name in ("words", "pixels"))
    nominal = sum(item.slices * head.spec.bits(item.size) for item in file.items)
    return {
        "file": str(path),
        "version": file.version,
        "lossless": file.lossless,
        "bytes": packed.bytes,
        "tokenizer": head.tokenizer,
        "model": head.model or None,
        "entropy": {"kind": head.kind, "sha256": head.entropy, "previous": head.previous},
        "spec": head.spec.to_json(),
        "scans": packed.scans,
        "slices": packed.slices,
        "pixels": packed.pixels,
        "bits_per_pixel": 8 * packed.bytes / packed.pixels if packed.pixels else None,
        "nominal_bits_per_pixel": nominal / packed.pixels if packed.pixels else None,
        "pixel_bytes": pixels,
        "overhead_bytes": packed.bytes - words - pixels,
        "groups": [
            {"first": group.first, "slices": group.count, "bytes": len(group.words) + len(group.pixels)}
            for group in file.groups
        ],
        "damage": [file.told(fault) for fault in file.faults],
        "names": [item.name for item in file.items],
    }


def info_table(found: dict[str, Any]) -> Table:
    """Of what `info` gives."""
    table = Table(title=printable(found["file"]), show_header=False, title_justify="left")
    entropy = found["entropy"]
    rows = {
        "version": f"{found['version']}, " + ("lossless" if found["lossless"] else "lossy"),
        "tokenizer": found["tokenizer"][:12] + (f" ({printable(found['model'])})" if found["model"] else ""),
        "entropy model": f"{printable(entropy['kind'])} {entropy['sha256'][:12]}"
        + (", with the slice before" if entropy["previous"] else ""),
        "codebooks": " + ".join(
            f"{entries} entries, a code every {' x '.join(map(str, stride))} pixels"
            for entries, stride in zip(found["spec"]["entries"], found["spec"]["strides"], strict=True)
        ),
        "content": f"{counted(found['scans'], 'scan')}, {counted(found['slices'], 'slice')}"
        + (f": {printable(_names(found['names']))}" if found["names"] else ""),
        "size": f"{found['bytes']:,} bytes, "
        + (f"{found['pixel_bytes']:,} of them for what the codes miss, " if found["lossless"] else "")
        + f"{found['overhead_bytes']:,} of them besides",
    }
    if found["pixels"]:
        rows["bits a pixel"] = (
            f"{found['bits_per_pixel']:.4f}; {found['nominal_bits_per_pixel']:.4f} with codes of fixed length"
        )
    rows["groups"] = f"{counted(len(found['groups']), 'sound group')} of slices"
    rows["damage"] = "none" if not found["damage"] else printable("; ".join(found["damage"]))
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
