"""What the page tells of single entries: their patches, where they are used, which are near, and what a swap does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from brainvq.report.blocks import beside, missing, pairs, scale
from brainvq.report.codebook_stored import MIDDLE, KeptCodebook, KeptLevel, Reached, Shown, StoredLevel, Swapped
from brainvq.report.ink import Drawing
from brainvq.report.kept import Pixels
from brainvq.report.markup import Html, image, join, tag
from brainvq.report.pictures import COLUMNS, data_uri, error_colours, error_scale, mosaic, use_colours
from brainvq.report.record import Record

SEEN = 1.0  # pixels by which a change is beside its code
BRIGHT = 99.5  # percentile of the patches' pixels that is shown white
AT_ONCE = 28  # cards before the reader asks for more
CHANGE_RANGE = 12  # grey levels of full colour in a swap's difference
CODES_AROUND, LEAST_CROP, MOST_CROP = 10, 64, 128  # a crop is so many codes wide, and between so many pixels


def single_entries(record: Record, drawings: Mapping[str, Drawing]) -> Html | None:
    """Nothing where even the pictures are missing, which is told elsewhere on the page."""
    result = record.headline
    examples = None if result is None else record.examples.get(result.split)
    if result is None or examples is None:
        return None
    if examples.codebook is None:
        return missing(
            "The patches of the entries are not in the run: a later version keeps them.", record.evaluate(result)
        )
    found = examples.codebook
    parts = [_level(found, level, result.split, drawings) for level in range(len(found.levels))]
    return join(*parts)


def _level(codebook: KeptCodebook, level: int, split: str, drawings: Mapping[str, Drawing]) -> Html:
    kept, many = codebook.levels[level], len(codebook.levels) > 1
    of_level = f", level {level + 1} of {len(codebook.levels)}" if many else ""
    swapped = None if kept.swapped is None else _swap(kept, drawings.get(f"reach_{level + 1}"))
    return join(
        tag("h3", f"What the entries stand for{of_level}", class_="after"),
        _told(kept.about, codebook.about.images, split, level),
        _cards(kept, level),
        None if swapped is None else tag("h3", f"What changes when one code is swapped{of_level}", class_="after"),
        swapped,
    )


def _told(about: StoredLevel, images: int, split: str, level: int) -> Html:
    h, w = about.stride
    patch = (
        f"the mean of the decoded pixels ({h} × {w}) beneath it, wherever it stands"
        if level == 0
        else f"what is left, on average, of the decoded pixels ({h} × {w}) beneath it when the patches of the coarser "
        "levels are taken away: blue is darker, orange brighter"
    )
    intro = (
        f"From {images:,} images that lie evenly over {split}. Each card is an entry. Left: {patch}. Right: where it "
        "stands, in orange over the mean image, strongest where it stands most often. Below: the patches of the "
        "three entries with the nearest vectors. The number is the entry's index, the share is that of all codes."
    )
    facts: list[tuple[str, object]] = [
        ("Used in these images", f"{about.used:,} of {about.entries:,} entries"),
        (
            "Outside of the head",
            f"{about.outside:,} of them stand mostly there, and take {100 * about.outside_share:.1f} % of all codes",
        ),
    ]
    if about.settled is not None:
        and_coarser = " and those of the coarser levels" if level else ""
        facts.append(
            (
                "Settled by patches",
                f"{100 * about.settled:.1f} % of the variance of the decoded pixels is that of these patches"
                f"{and_coarser}; the rest depends on the codes around",
            )
        )
    if about.alike is not None:
        facts.append(
            (
                "Near means alike",
                f"rank correlation {about.alike:.2f} between distance of vectors and difference of patches, over "
                "pairs of the entries below",
            )
        )
    return tag("div", tag("p", intro, class_="prose"), pairs(facts), class_="stack")


def _cards(kept: KeptLevel, level: int) -> Html:
    about, shown = kept.about, kept.about.shown
    patches, brighter = _patch_colours(np.stack(list(kept.patches.values())), level)
    where = {entry: n for n, entry in enumerate(kept.patches)}
    variables = "; ".join(
        f"--{name}: url({data_uri(mosaic(tiles))}); --{name}-size: {100 * COLUMNS}% {100 * -(-len(tiles) // COLUMNS)}%"
        for name, tiles in (("patches", patches), ("maps", use_colours(kept.maps, kept.mean)))
    )
    numbered = list(enumerate(shown))
    groups = [
        ("In the head", [item for item in numbered if item[1].inside > 0.5], about.used - about.outside),
        ("Outside of the head", [item for item in numbered if item[1].inside <= 0.5], about.outside),
    ]

    def card(n: int, one: Shown) -> Html:
        patch, *near = (_tile(where[k], len(patches)) for k in (one.entry, *one.near))
        return _card(one, patch, _tile(n, len(shown)), near)

    blocks = [_group(title, items, total, card) for title, items, total in groups if items]
    told = None
    if level == 0 and brighter > 1.05:
        told = tag("p", f"Patches are shown {brighter:.1f} times as bright as they are.", class_="muted")
    return tag("div", told, *blocks, class_="stack", style=variables)


def _group(title: str, items: Sequence[tuple[int, Shown]], total: int, card: Callable[[int, Shown], Html]) -> Html:
    cards = [card(n, one) for n, one in items]
    count = f"all {total:,}" if len(items) == total else f"the {len(items):,} most used of {total:,}"
    first = AT_ONCE if title == "In the head" else AT_ONCE // 4
    rest = cards[first:]
    return join(
        tag("h4", f"{title}: {count}"),
        tag("div", *cards[:first], class_="entries"),
        tag("details", tag("summary", f"{len(rest):,} more"), tag("div", *rest, class_="entries")) if rest else None,
    )


def _card(one: Shown, patch: str, use: str, near: Sequence[str]) -> Html:
    words = (
        f"Entry {one.entry}: {_percent(one.share)} of all codes; it stands in up to {_percent(one.peak)} of the images "
        f"at one place. Nearest: {', '.join(map(str, one.near)) or 'none'}."
    )
    pictures = [tag("i", style=patch, class_="patch"), tag("i", style=use, class_="map")]
    below = tag("span", *(tag("i", style=style, class_="patch") for style in near), class_="near")
    label = tag("span", tag("b", one.entry), f" {_percent(one.share)}", class_="label", aria_hidden="true")
    return tag("div", *pictures, below, label, class_="entry", role="img", aria_label=words, title=words)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def _tile(n: int, total: int) -> str:
    """Where tile `n` of a mosaic is, as CSS percentages."""
    row, column = divmod(n, COLUMNS)
    rows = -(-total // COLUMNS)
    return f"background-position: {100 * column / (COLUMNS - 1):.4g}% {100 * row / max(1, rows - 1):.5g}%"


def _patch_colours(tiles: Pixels, level: int) -> tuple[Pixels, float]:
    """Patches (N, h, w) as they are shown, and how many times as bright as they are."""
    if level:
        most = float(np.abs(tiles.astype(float) - MIDDLE).max())
        return error_colours(np.full_like(tiles, MIDDLE), tiles, max(1.0, most)), 1.0
    brighter = 255 / max(1.0, float(np.percentile(tiles, BRIGHT)))
    return np.asarray(np.rint(np.minimum(tiles * brighter, 255)), dtype=np.uint8), brighter


def _swap(kept: KeptLevel, drawing: Drawing | None) -> Html:
    swapped = kept.about.swapped
    assert swapped is not None
    assert kept.swapped is not None
    told = (
        f"In {swapped.count} images one code in the head was changed, once to the used entry with the nearest vector "
        "and once to the one with the farthest, and the codes decoded again. Shown is the swap whose change to the "
        f"farthest is the median of all: slice {swapped.slice} of subject {swapped.subject}, row {swapped.row + 1} and "
        f"column {swapped.column + 1} of the codes, entry {swapped.entry}."
    )
    low, high = "darker", f"brighter; full colour at {CHANGE_RANGE} grey levels"
    reached = [("To the nearest", _reached(swapped.near)), ("To the farthest", _reached(swapped.far))]
    words = tag("div", tag("p", told, class_="prose"), pairs(reached), scale(low, error_scale(), high), class_="stack")
    return join(beside(words, drawing), tag("div", *_panels(kept, swapped, kept.swapped), class_="swap"))


def _reached(reached: Reached) -> str:
    return (
        f"mean change {reached.own:.1f} grey levels in the patch itself, where {100 * reached.share:.0f} % of all "
        f"change lies; 95 % of it lies within {reached.within} pixels of the middle of the patch{_offset(reached)}"
    )


def _offset(reached: Reached) -> str:
    """Told where it can be seen: a decoder may put what a code stands for beside its place."""
    named = zip(reached.offset, (("below", "above"), ("right", "left")), strict=True)
    told = [f"{abs(n):.1f} pixels {ways[0] if n > 0 else ways[1]}" for n, ways in named if abs(n) >= SEEN]
    return f"; it is centred {' and '.join(told)}" if told else ""


def _panels(kept: KeptLevel, swapped: Swapped, images: tuple[Pixels, Pixels, Pixels]) -> list[Html]:
    before, near, far = images
    h, w = kept.about.stride
    box = (slice(swapped.row * h, (swapped.row + 1) * h), slice(swapped.column * w, (swapped.column + 1) * w))
    crop = tuple(_crop(place, side, step) for place, side, step in zip(box, before.shape, (h, w), strict=True))
    inner = tuple(slice(b.start - c.start, b.stop - c.start) for b, c in zip(box, crop, strict=True))
    found = [_outlined(before, box, "Reconstruction with the patch of one code outlined", "reconstruction")]
    cut = before[crop]
    found.append(_outlined(cut, inner, f"Reconstruction around entry {swapped.entry}", f"entry {swapped.entry}"))
    for after, entry, kind in ((near, swapped.near_entry, "nearest"), (far, swapped.far_entry, "farthest")):
        found.append(_outlined(after[crop], inner, f"The same with entry {entry} there", f"{kind}, entry {entry}"))
        change = error_colours(before, after, CHANGE_RANGE)
        most = np.abs(after.astype(float) - before).max()
        alt = f"Change by the {kind} entry {entry}: {most:.0f} grey levels at most"
        found.append(_outlined(change[crop], inner, alt, f"change, at most {most:.0f} grey levels"))
    return found


def _crop(place: slice, side: int, step: int) -> slice:
    """Around a patch along one axis, within the image."""
    length = min(side, max(LEAST_CROP, min(MOST_CROP, CODES_AROUND * step)))
    start = min(max(0, (place.start + place.stop - length) // 2), side - length)
    return slice(start, start + length)


def _outlined(pixels: Pixels, box: Sequence[slice], alt: str, caption: str) -> Html:
    sides = zip(("top", "left"), ("height", "width"), box, pixels.shape[:2], strict=True)
    style = "; ".join(
        f"{edge}: {100 * part.start / side:.4g}%; {length}: {100 * (part.stop - part.start) / side:.4g}%"
        for edge, length, part, side in sides
    )
    framed = tag("div", image(data_uri(pixels), alt), tag("i", style=style, aria_hidden="true"), class_="outlined")
    return tag("figure", framed, tag("figcaption", caption))
