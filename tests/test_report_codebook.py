"""What a report tells of single entries, on planted tokenizers whose patches and vectors are known."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor

from brainvq.codes import Codes, CodeSpec
from brainvq.errors import InputError
from brainvq.quantizers.base import Quantizer
from brainvq.report.codebook import INSIDE, NEAR, OUTSIDE, Coded, Level, levels, look, vectors
from brainvq.report.codebook_drawings import _reach
from brainvq.report.codebook_stored import explain, load_codebook, small
from brainvq.report.kept import keep
from brainvq.report.pictures import COLUMNS, mosaic
from brainvq.report.swaps import swap
from brainvq.tokenizers.base import Tokenizer
from heads import heads, to_x


class Table(Quantizer):
    """Sums of planted vectors, of each level (K, D); a level coarser than the last is repeated."""

    def __init__(self, books: list[Tensor]) -> None:
        super().__init__()
        self.entries = tuple(len(book) for book in books)
        self.books = books

    def decode(self, codes: Codes) -> Tensor:
        found = [rearrange(book[code], "b y x d -> b d y x") for book, code in zip(self.books, codes, strict=True)]
        return sum(z.repeat_interleave(found[-1].shape[2] // z.shape[2], 2) for z in found)  # type: ignore[return-value]


class Planted(Tokenizer):
    """Each code is its patch, (K, h, w) in grey levels above black; those of all levels are summed."""

    def __init__(self, patches: list[Tensor], books: list[Tensor]) -> None:
        super().__init__()
        self.quantizer, self.patches = Table(books), patches
        self.spec = CodeSpec(
            tuple(len(each) for each in patches), tuple((each.shape[1], each.shape[2]) for each in patches)
        )

    def decode(self, codes: Codes) -> Tensor:
        parts = [
            rearrange(each[code], "b y x h w -> b 1 (y h) (x w)")
            for each, code in zip(self.patches, codes, strict=True)
        ]
        return torch.stack(parts).sum(0) / 127.5 - 1


@dataclass
class Pipeline:
    """Gives planted codes, whatever the image; `x` are only looked at for heads."""

    tokenizer: Planted
    codes: Codes
    done: int = 0

    @property
    def spec(self) -> CodeSpec:
        return self.tokenizer.spec

    def reconstruct_batch(self, x: Tensor) -> tuple[Tensor, Codes]:
        start, self.done = self.done, self.done + len(x)
        codes = tuple(code[start : self.done] for code in self.codes)
        return self.tokenizer.decode(codes), codes


def cache(n: int, size: tuple[int, int]) -> Any:
    images = heads(n, size)
    subjects = [f"s{i // 2}" for i in range(n)]
    return SimpleNamespace(images=images, size=size, subjects=subjects, batch=lambda picks: to_x(images[picks]))


def planted(entries: int, grid: tuple[int, int] = (6, 5), stride: int = 8, images: int = 8, only: int = 0) -> Pipeline:
    """One level; codes drawn among the first `only` entries, all of which occur, or among all."""
    generator = torch.Generator().manual_seed(entries)
    patches = 250 * torch.rand(entries, stride, stride, generator=generator)
    books = torch.randn(entries, 4, generator=generator)
    codes = torch.randint(only or entries, (images, *grid), generator=generator)
    every = torch.arange(min(only or entries, codes.numel()))
    codes.view(-1)[: len(every)] = every
    return Pipeline(Planted([patches], [books]), (codes,))


def studied(pipeline: Pipeline) -> tuple[Coded, list[Level]]:
    grid, (h, w) = pipeline.codes[-1].shape[1:], pipeline.spec.strides[-1]
    coded = look(pipeline, cache(len(pipeline.codes[0]), (grid[0] * h, grid[1] * w)))
    return coded, levels(coded, pipeline.tokenizer.quantizer, pipeline.spec)


def test_patches_are_found_where_each_code_decides_alone() -> None:
    pipeline = planted(20)
    _, (level,) = studied(pipeline)
    torch.testing.assert_close(level.patches, pipeline.tokenizer.patches[0], atol=1e-3, rtol=0)
    assert level.settled == pytest.approx(1)
    assert level.counts.tolist() == torch.bincount(pipeline.codes[0].flatten(), minlength=20).tolist()


def test_a_finer_level_adds_to_the_coarser_one() -> None:
    generator = torch.Generator().manual_seed(0)
    fine = 20 * torch.rand(4, 4, 4, generator=generator)
    patches = [100 + 100 * torch.rand(3, 8, 8, generator=generator), fine - fine.mean(0)]
    coarse = (
        torch.arange(3).repeat(4 * 64).reshape(12, 8, 8)
    )  # every fine entry lies in every quarter of every coarse one
    turn = torch.arange(12 * 64).reshape(12, 8, 8) // 3 % 4
    quarters = torch.tensor([[0, 1], [2, 3]]).repeat(8, 8)
    codes = (coarse, (turn.repeat_interleave(2, 1).repeat_interleave(2, 2) + quarters) % 4)
    pipeline = Pipeline(Planted(patches, [torch.randn(3, 4), torch.randn(4, 4)]), codes)
    _, found = studied(pipeline)
    for one, planted_patches in zip(found, patches, strict=True):
        torch.testing.assert_close(one.patches, planted_patches, atol=1e-3, rtol=0)
    assert found[0].settled is not None
    assert found[0].settled < 0.999
    assert found[1].settled == pytest.approx(1)
    for level, book in enumerate(pipeline.tokenizer.quantizer.books):
        got = vectors(pipeline.tokenizer.quantizer, pipeline.spec, level)
        torch.testing.assert_close(torch.cdist(got, got), torch.cdist(book, book), atol=1e-3, rtol=1e-3)


def test_every_place_is_of_one_entry() -> None:
    _, (level,) = studied(planted(20))
    assert len(level.shown) == 20
    torch.testing.assert_close(level.maps.sum(0), torch.ones(6, 5))
    np.testing.assert_allclose(level.maps.sum((1, 2)), level.counts[level.shown] / 8, atol=1e-5)


def test_what_is_shown_is_used_most_and_in_the_head_first() -> None:
    _, (level,) = studied(planted(20))
    inside = level.inside[level.shown] > 0.5
    assert inside.int().diff().max() <= 0
    for group in (level.shown[inside], level.shown[~inside]):
        assert level.counts[group].diff().max() <= 0
    coded, _ = studied(planted(20))
    assert float((level.inside * level.counts).sum()) == pytest.approx(
        float((coded.head.float().unfold(1, 8, 8).unfold(2, 8, 8).mean((3, 4)) > 0.5).sum())
    )


def test_near_entries_are_the_nearest_that_are_used() -> None:
    pipeline = planted(40, only=25)
    _, (level,) = studied(pipeline)
    book = pipeline.tokenizer.quantizer.books[0]
    for entry, near in zip(level.shown.tolist(), level.near.tolist(), strict=True):
        ranked = sorted(set(range(25)) - {entry}, key=lambda other: float((book[entry] - book[other]).norm()))
        assert near == ranked[:NEAR]
        assert [int(level.nearest[entry]), int(level.farthest[entry])] == [ranked[0], ranked[-1]]


def test_likeness_is_found_and_its_absence_too() -> None:
    pipeline = planted(30)
    shades = torch.linspace(0, 250, 30)
    pipeline.tokenizer.patches = [shades[:, None, None].expand(30, 8, 8)]
    pipeline.tokenizer.quantizer.books = [shades[:, None] * torch.ones(4)]
    assert studied(pipeline)[1][0].alike == pytest.approx(1, abs=0.01)  # ties are ranked as they come
    pipeline.tokenizer.quantizer.books, pipeline.done = [torch.randn(30, 4)], 0
    assert abs(studied(pipeline)[1][0].alike or 1) < 0.3


def test_a_swap_changes_only_what_depends_on_it() -> None:
    pipeline = planted(20)
    coded, (level,) = studied(pipeline)
    found = swap(pipeline.tokenizer, pipeline.spec, coded, level, 0)
    assert found is not None
    y, x = 8 * found.place.row, 8 * found.place.column
    box = (slice(y, y + 8), slice(x, x + 8))
    assert coded.codes[0][found.place.image, found.place.row, found.place.column] == found.entry
    ends = int(level.nearest[found.entry]), int(level.farthest[found.entry])
    assert (found.near_entry, found.far_entry) == ends
    for after, entry in ((found.near, found.near_entry), (found.far, found.far_entry)):
        torch.testing.assert_close(after[box], pipeline.tokenizer.patches[0][entry], atol=1e-3, rtol=0)
        rest = (after - found.before).abs()
        rest[box] = 0
        assert float(rest.max()) < 1e-3
    for reach in (found.near_reach, found.far_reach):
        assert reach.share == pytest.approx(1, abs=1e-4)
        assert 4 <= reach.within <= 6, "half a side, and half a diagonal"
        assert reach.rings[6:].max() < 1e-3
        assert max(map(abs, reach.offset)) < 1


def test_a_change_beside_its_code_is_told() -> None:
    pipeline = planted(20)

    class Aside(Planted):
        def decode(self, codes: Codes) -> Tensor:
            return super().decode(codes).roll((2, -1), dims=(2, 3))

    pipeline.tokenizer = Aside(pipeline.tokenizer.patches, pipeline.tokenizer.quantizer.books)
    coded, (level,) = studied(pipeline)
    found = swap(pipeline.tokenizer, pipeline.spec, coded, level, 0)
    assert found is not None
    assert found.far_reach.offset == pytest.approx((2, -1), abs=0.7)


def kept(tmp_path: Path, pipeline: Pipeline) -> Any:
    grid, (h, w) = pipeline.codes[-1].shape[1:], pipeline.spec.strides[-1]
    about, pictures = explain(pipeline, cache(len(pipeline.codes[0]), (grid[0] * h, grid[1] * w)))
    assert about is not None
    written: Any = SimpleNamespace(split="validate", model_dump=about.model_dump)
    folder = keep(tmp_path, written, pictures)
    stored = type(about).model_validate(json.loads((folder / "examples.json").read_text()))
    assert stored == about
    return load_codebook(folder, stored)


@pytest.mark.parametrize(("entries", "only", "stride"), [(2, 0, 8), (8192, 0, 4), (8192, 300, 8), (64, 0, 2)])
def test_any_codebook_is_kept_and_read_again(tmp_path: Path, entries: int, only: int, stride: int) -> None:
    pipeline = planted(entries, (80 // stride, 64 // stride), stride, only=only)
    (level,) = kept(tmp_path, pipeline).levels
    used = len(set(pipeline.codes[0].flatten().tolist()))
    assert level.about.used == used
    assert len(level.about.shown) <= min(used, INSIDE + OUTSIDE)
    assert all(len(one.near) == min(NEAR, used - 1) for one in level.about.shown)
    for entry, patch in level.patches.items():
        planted_patch = pipeline.tokenizer.patches[0][entry]
        np.testing.assert_allclose(patch, planted_patch, atol=0.51)
    assert level.maps.shape[0] == len(level.about.shown)
    assert (level.maps.max((1, 2)) == 255).all()
    assert level.swapped is not None


def test_one_used_entry_has_no_neighbours_and_no_swap(tmp_path: Path) -> None:
    (level,) = kept(tmp_path, planted(16, only=1)).levels
    assert level.about.swapped is None
    assert level.about.shown[0].near == []
    assert level.about.alike is None


@pytest.mark.parametrize("name", ["codebook_0_patches", "codebook_0_maps", "codebook_0_near"])
def test_pictures_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    pipeline = planted(20)
    about, pictures = explain(pipeline, cache(8, (48, 40)))
    assert about is not None
    written: Any = SimpleNamespace(split="validate", model_dump=about.model_dump)
    folder = keep(tmp_path, written, pictures | {name: np.zeros((9, 9), np.uint8)})
    with pytest.raises(InputError):
        load_codebook(folder, about)
    (folder / f"{name}.png").unlink()
    with pytest.raises(InputError, match=name):
        load_codebook(folder, about)


def test_small_maps_keep_every_use() -> None:
    maps = torch.zeros(1, 70, 33)
    maps[0, 69, 32] = 1
    shrunk = small(maps)
    assert shrunk.shape == (1, 24, 17)
    assert float(shrunk[0, -1, -1]) == pytest.approx(1 / 6)
    assert torch.equal(small(maps[:, :32, :32]), maps[:, :32, :32])


def test_a_mosaic_holds_its_tiles_row_by_row() -> None:
    tiles = np.arange(COLUMNS + 1, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(3, 2)
    whole = mosaic(tiles)
    assert whole.shape == (4, 3 * COLUMNS)
    assert whole[0, ::3].tolist() == list(range(COLUMNS))
    assert whole[2, 0] == COLUMNS
    assert not whole[2:, 3:].any()


def test_the_edge_of_a_patch_is_named_off_the_curves() -> None:
    rings = SimpleNamespace(rings=[8.0, 4.0, 1.0, 0.5, 0.0])
    level = SimpleNamespace(stride=(8, 8), swapped=SimpleNamespace(near=rings, far=rings))
    drawing = _reach(0, level, 1)  # type: ignore[arg-type]
    assert drawing is not None
    heights = {text: float(y) for y, text in re.findall(r'y="([\d.]+)"[^>]*>([a-z ]+)</text>', str(drawing.svg))}
    assert heights["edge of patch"] == heights["to nearest"]
