"""Measures of generation, held to what they must say of copies, of unseen images and of images that are all alike."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from brainvq.errors import InputError
from brainvq.metrics.definitions import GENERATION
from brainvq.metrics.distortion import ssim, ssim_shifted
from brainvq.metrics.generation import (
    described_ssim,
    live_share,
    mean_pairwise_ssim,
    nearest,
    of_subjects,
    spread_over_subjects,
)
from heads import blurred, heads, to_x

SUBJECTS, SLICES = 12, 4


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """Slices of a subject are alike: its head, moved a little, under other noise."""
    found = []
    for n, head in enumerate(heads(SUBJECTS, (72, 68))):
        noise = np.random.default_rng(n).normal(0, 6, (SLICES, *head.shape))
        found.append(np.stack([np.roll(head, s, axis=0) for s in range(SLICES)]) + noise)
    return np.concatenate(found).round().clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def subjects() -> list[str]:
    return [f"s{n // SLICES}" for n in range(SUBJECTS * SLICES)]


def split(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Train, held out and unseen images, of 4 subjects each."""
    third = len(images) // 3
    return images[:third], images[third : 2 * third], images[2 * third :]


def test_a_copy_is_found_at_its_index(images: NDArray[np.uint8]) -> None:
    wanted = np.array([5, 40, 17])
    found = nearest(images[wanted], images)
    assert found.index.tolist() == wanted.tolist()
    assert found.ssim == pytest.approx(1)
    assert found.correlation == pytest.approx(1)


def test_what_is_found_has_the_similarity_that_is_told(images: NDArray[np.uint8]) -> None:
    train, _, unseen = split(images)
    found = nearest(unseen, train)
    assert found.ssim == pytest.approx(ssim(to_x(unseen), to_x(train[found.index])).numpy())
    pair = (unseen[3].astype(float).ravel(), train[found.index[3]].astype(float).ravel())
    assert found.correlation[3] == pytest.approx(np.corrcoef(*pair)[0, 1], abs=0.02), "thumbs are nearly the image"


def test_ssim_decides_among_all_where_there_are_eight(images: NDArray[np.uint8]) -> None:
    train, _, unseen = split(images)
    found = nearest(unseen, train[:8])
    for i, image in enumerate(unseen):
        scores = ssim(to_x(image[None]).expand(8, -1, -1, -1), to_x(train[:8])).numpy()
        assert (found.index[i], found.ssim[i]) == (scores.argmax(), pytest.approx(scores.max()))


def test_brightness_does_not_decide_and_structure_does(images: NDArray[np.uint8]) -> None:
    darker = (images[8:10] * 0.8).astype(np.uint8)
    assert nearest(darker, images).index.tolist() == [8, 9]
    assert nearest(darker, images).correlation == pytest.approx(1, abs=1e-3)


def test_images_of_one_grey_level_correlate_with_nothing(images: NDArray[np.uint8]) -> None:
    found = nearest(np.full((1, *images.shape[1:]), 7, np.uint8), images)
    assert found.correlation.tolist() == [0]
    assert np.isfinite(found.ssim).all()


def test_a_memoriser_is_nearer_to_train_and_unseen_images_are_not(images: NDArray[np.uint8]) -> None:
    train, held_out, unseen = split(images)
    memoriser = blurred(train[::2], 0.5)
    gap = {
        name: nearest(samples, train).ssim.mean() - nearest(samples, held_out).ssim.mean()
        for name, samples in {"memoriser": memoriser, "unseen": unseen}.items()
    }
    assert gap["memoriser"] > 0.1
    assert abs(gap["unseen"]) < 0.05


def test_reading_in_pieces_changes_nothing(images: NDArray[np.uint8], subjects: list[str]) -> None:
    whole = nearest(images[:9], images, own=subjects[:9], subjects=subjects, chunk=1000)
    for chunk in (1, 7, 13):
        pieces = nearest(images[:9], images, own=subjects[:9], subjects=subjects, chunk=chunk)
        assert pieces.index.tolist() == whole.index.tolist()
        assert pieces.ssim.tolist() == whole.ssim.tolist()


def test_memory_does_not_grow_with_the_pool(images: NDArray[np.uint8]) -> None:
    class Watched:
        asked = 0

        def __len__(self) -> int:
            return 20 * len(images)

        def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
            Watched.asked = max(Watched.asked, len(indices))
            return images[indices % len(images)]

    assert nearest(images[:2], Watched()).ssim == pytest.approx(1)
    assert described_ssim(images[:16], Watched()).batches == 60
    assert 0 < Watched.asked <= 16


def test_images_of_the_same_subject_do_not_count(images: NDArray[np.uint8], subjects: list[str]) -> None:
    alone = nearest(images, images, own=subjects, subjects=subjects)
    assert all(subjects[i] != own for i, own in zip(alone.index, subjects, strict=True))
    assert (alone.ssim < nearest(images, images).ssim).all()
    with pytest.raises(InputError, match="at least one other subject"):
        nearest(images[:2], images[:4], own=subjects[:2], subjects=subjects[:4])
    with pytest.raises(InputError, match="no image to compare with"):
        nearest(images[:2], images, among=np.array([], np.int64))


def test_fewer_subjects_are_never_nearer(images: NDArray[np.uint8], subjects: list[str]) -> None:
    unseen = heads(6, images.shape[1:], seed=9)
    few = [nearest(unseen, images, among=of_subjects(subjects, count)).ssim.mean() for count in (1, 3, 6, 12)]
    assert few == sorted(few)
    assert few[0] < few[-1] == pytest.approx(nearest(unseen, images).ssim.mean())
    chosen = of_subjects(subjects, 3, seed=1)
    assert len({subjects[i] for i in chosen}) == 3
    assert len(chosen) == 3 * SLICES, "all images of each"
    assert set(nearest(unseen, images, among=chosen).index) <= set(chosen)
    assert of_subjects(subjects, 3, seed=1).tolist() == chosen.tolist() != of_subjects(subjects, 3, seed=2).tolist()


def test_images_are_spread_over_subjects(subjects: list[str]) -> None:
    picked = spread_over_subjects(subjects, SUBJECTS)
    assert len({subjects[i] for i in picked}) == SUBJECTS
    assert np.bincount(picked % SLICES).tolist() == [SUBJECTS // SLICES] * SLICES, "at all positions alike"
    assert spread_over_subjects(subjects, SUBJECTS).tolist() == picked.tolist()
    assert spread_over_subjects(subjects, SUBJECTS, seed=1).tolist() != picked.tolist()
    assert sorted(spread_over_subjects(subjects, len(subjects))) == list(range(len(subjects)))
    assert sorted(spread_over_subjects([*"aab"], 3)) == [0, 1, 2]
    with pytest.raises(ValueError, match="49 images were asked for; there are 48"):
        spread_over_subjects(subjects, 49)


def test_diversity_is_one_for_copies_and_low_for_noise(images: NDArray[np.uint8]) -> None:
    assert mean_pairwise_ssim(np.repeat(images[:1], 5, axis=0)) == pytest.approx(1)
    noise = np.random.default_rng(0).integers(0, 256, (5, 40, 40), np.uint8)
    assert mean_pairwise_ssim(noise) < 0.05
    assert mean_pairwise_ssim(images[:1]) is None


def test_pairs_are_all_of_them_or_a_fair_draw(images: NDArray[np.uint8], subjects: list[str]) -> None:
    x = to_x(images[:10])
    pairs = [(i, j) for i in range(10) for j in range(i + 1, 10)]
    scores = ssim(x[[i for i, _ in pairs]], x[[j for _, j in pairs]]).numpy()
    assert mean_pairwise_ssim(images[:10]) == pytest.approx(scores.mean())
    others = [subjects[i] != subjects[j] for i, j in pairs]
    assert mean_pairwise_ssim(images[:10], subjects=subjects[:10]) == pytest.approx(scores[others].mean())
    assert mean_pairwise_ssim(images[:4], subjects=["a"] * 4) is None
    drawn = mean_pairwise_ssim(images[:10], pairs=30)
    assert drawn == pytest.approx(scores.mean(), abs=0.1)
    assert drawn != pytest.approx(scores.mean(), abs=1e-9)
    assert drawn == mean_pairwise_ssim(images[:10], pairs=30)


def test_the_described_measure_is_pairwise_on_the_shifted_scale(images: NDArray[np.uint8]) -> None:
    train, generated = images[:40], heads(20, images.shape[1:], seed=5)
    found = described_ssim(generated, train)
    means = [ssim_shifted(to_x(generated[:16]), to_x(train[at : at + 16])).mean().item() for at in (0, 16)]
    assert found.batches == 2, "the incomplete third is left out"
    assert found.best_batch == pytest.approx(max(means))
    assert found.mean_batch == pytest.approx(np.mean(means))
    assert described_ssim(generated[:3], train[:2]).batches == 1


def test_the_described_measure_grows_with_the_data_it_is_compared_with() -> None:
    """Its fault: the same samples score higher the more training images there are, and never lower."""
    generated, train = heads(16, (24, 24), seed=1), heads(640, (24, 24), seed=2)
    found = [described_ssim(generated, train[:n]) for n in (16, 64, 160, 640)]
    best, mean = ([getattr(scores, name) for scores in found] for name in ("best_batch", "mean_batch"))
    assert best == sorted(best)
    assert best[-1] > best[0]
    assert np.ptp(mean[1:]) < 0.3 * (best[-1] - mean[-1]), "the mean over batches does not grow"


def test_floats_count_as_the_8_bit_images_they_are(images: NDArray[np.uint8]) -> None:
    floats = to_x(images)[:, 0].numpy()
    as_float, as_8_bit = nearest(floats[:5], floats[5:30]), nearest(images[:5], images[5:30])
    assert as_float.index.tolist() == as_8_bit.index.tolist()
    assert as_float.ssim == pytest.approx(as_8_bit.ssim)
    assert described_ssim(floats[:16], images).best_batch == pytest.approx(1)
    with pytest.raises(ValueError, match="int64"):
        nearest(images.astype(np.int64), images)


def test_live_share_counts_entries_in_use() -> None:
    live = (torch.tensor([7, 2, 5, 0]), torch.tensor([1]))
    assert live_share((torch.tensor([[[2, 2], [5, 3]]]), torch.tensor([[[0]]])), live) == 2 / 5
    assert live_share((torch.tensor([[[0, 2], [5, 7]]]), torch.tensor([[[1]]])), live) == 1


def test_progress_counts_pairs(images: NDArray[np.uint8]) -> None:
    done: list[int] = []
    described_ssim(images[:16], images[:32], advance=done.append)
    nearest(images[:3], images, advance=done.append)
    mean_pairwise_ssim(images[:4], advance=done.append)
    assert sum(done) == 32 + 24 + 6


def test_the_page_of_measures_has_the_definitions_word_for_word() -> None:
    page = Path(__file__).parents[1] / "docs" / "measures.md"
    section = page.read_text().split("## Generation\n", 1)[1].split("\n## ", 1)[0]
    told = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    expected = [[f"`{name}`", m.label, m.unit, m.better, m.definition] for name, m in GENERATION.items()]
    assert [[cell.strip() for cell in row] for row in told] == expected
