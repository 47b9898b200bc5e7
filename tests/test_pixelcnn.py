"""PixelCNN sees all that it may and nothing else, and sampling step by step is the whole network at each step."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.sampling import naive
from brainvq.codes import CodeSpec
from brainvq.errors import InputError
from brainvq.priors import pixelcnn
from brainvq.priors.pixelcnn import Config, PixelCNN
from test_priors import generators, later_codes_never_influence_earlier_ones, random_codes

HEIGHT, WIDTH = 9, 11


def prior(entries: int = 7, height: int = HEIGHT, width: int = WIDTH, **settings: Any) -> PixelCNN:
    """Small, of random weights, that has seen random codes."""
    torch.manual_seed(0)
    settings = {"width": 8, "layers": 2, "kernel": 3, "head": 12, **settings}
    built = Config(**settings).build(CodeSpec((entries,), ((4, 4),)), (4 * height, 4 * width)).eval()
    built.start([random_codes(built, 5)], [torch.arange(entries)])
    with torch.no_grad():
        for weight in built.parameters():
            weight.copy_(0.4 * torch.randn(weight.shape))
    return built


def seen(model: PixelCNN, i: int, j: int) -> Tensor:
    """(H, W): which codes the logits of position (i, j) depend on, by the gradient at their embeddings."""
    code = random_codes(model, 1)[0]
    e = model.double().embedding(code).detach().requires_grad_()
    hook = model.embedding.register_forward_hook(lambda *_: e)
    model.logits(code)[0, i, j].square().sum().backward()  # type: ignore[no-untyped-call]
    hook.remove()
    assert e.grad is not None
    depends: Tensor = e.grad[0].abs().sum(-1) > 0
    return depends


def earlier(i: int, j: int, reach: int) -> Tensor:
    """(H, W): the rows above within `reach` + 1, as wide as `reach` to both sides; of its own row `reach` + 1 codes."""
    row, column = torch.arange(HEIGHT)[:, None], torch.arange(WIDTH)
    above = (row < i) & (row >= i - reach - 1) & ((column - j).abs() <= reach)
    return above | ((row == i) & (column < j) & (column >= j - reach - 1))


def there_is_no_blind_spot(model: PixelCNN) -> None:
    reach = (model.config.layers + 1) * (model.config.kernel // 2)
    for i, j in ((0, 0), (0, 5), (4, 0), (4, 5), (8, 10), (8, 2), (5, 10)):
        assert torch.equal(seen(model, i, j), earlier(i, j, reach))


@pytest.mark.parametrize(("layers", "kernel"), [(1, 3), (2, 3), (1, 5), (2, 5)])
def test_each_position_sees_every_earlier_one_in_reach_and_no_other(layers: int, kernel: int) -> None:
    there_is_no_blind_spot(prior(layers=layers, kernel=kernel))


def test_a_blind_spot_is_caught() -> None:
    """A stack that looks straight up and to the left only: codes above to the right are never seen."""
    model = prior()
    with torch.no_grad():
        for convolution in (model.above, *(layer.vertical for layer in model.layers)):
            convolution.weight[..., 2:] = 0  # type: ignore[union-attr, operator]
    with pytest.raises(AssertionError):
        there_is_no_blind_spot(model)


@pytest.mark.parametrize("turned", [0, 2])
def test_a_broken_mask_is_caught(monkeypatch: pytest.MonkeyPatch, turned: int) -> None:
    """Padding at the wrong end, of columns or of rows: the network sees what is still to come."""

    def pad(x: Tensor, ends: tuple[int, ...]) -> Tensor:
        ends = (*ends[:turned], *reversed(ends[turned : turned + 2]), *ends[turned + 2 :])
        return F.pad(x, ends)

    later_codes_never_influence_earlier_ones(prior())
    monkeypatch.setattr(pixelcnn, "F", SimpleNamespace(**{**vars(F), "pad": pad}))
    with pytest.raises(AssertionError):
        later_codes_never_influence_earlier_ones(prior())


@pytest.mark.parametrize(("layers", "kernel", "batch"), [(1, 3, 1), (3, 3, 4), (2, 5, 2), (1, 7, 3)])
def test_sampling_from_what_was_kept_is_sampling_from_the_whole_network(layers: int, kernel: int, batch: int) -> None:
    model = prior(layers=layers, kernel=kernel)
    (kept,) = model.sample(generators(*range(batch)))
    assert torch.equal(kept, naive(model.double(), generators(*range(batch))))
    assert int((torch.bincount(kept.flatten()) > 0).sum()) > 3


@pytest.mark.parametrize("grid", [(1, 1), (1, 6), (6, 1), (2, 3)])
def test_grids_narrower_than_a_kernel(grid: tuple[int, int]) -> None:
    model = prior(height=grid[0], width=grid[1], kernel=5)
    (kept,) = model.sample(generators(0, 1))
    assert torch.equal(kept, naive(model.double(), generators(0, 1)))


def test_something_forgotten_between_rows_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    push = pixelcnn.Rows.push
    monkeypatch.setattr(pixelcnn.Rows, "push", lambda rows, row: rows.kept.zero_() is None or push(rows, row))
    model = prior()
    assert not torch.equal(model.sample(generators(0))[0], naive(model.double(), generators(0)))


def test_codes_are_drawn_in_row_major_order() -> None:
    """Where all entries are equally probable, each code is its own number's share of them."""
    model = prior(entries=8)
    with torch.no_grad():
        model.head[-1].weight.zero_()  # type: ignore[operator]
        model.head[-1].bias.zero_()  # type: ignore[operator]
        model.frequencies.tables[0].zero_()
    uniform = torch.rand(HEIGHT * WIDTH, generator=torch.Generator().manual_seed(5))
    assert torch.equal(model.sample(generators(5))[0].flatten(), (uniform * 8).long())


def test_training_starts_from_the_histogram() -> None:
    model = Config(width=8, layers=1, head=8).build(CodeSpec((7,), ((4, 4),)), (4 * HEIGHT, 4 * WIDTH))
    codes = random_codes(model, 6)
    model.start([codes], [torch.arange(7)])
    torch.testing.assert_close(model.log_probs(codes), model.frequencies.log_probs(codes))


def test_every_weight_learns() -> None:
    model = prior(dropout=0.1, forget=0.1).train()
    model.loss(random_codes(model, 4)).backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


@pytest.mark.parametrize(
    ("spec", "size", "said"),
    [
        (CodeSpec((8, 8), ((8, 8), (4, 4))), (32, 32), "one level"),
        (CodeSpec((8,), ((4, 4, 4),)), (16, 16, 16), "two axes"),
        (CodeSpec((8192,), ((1, 1),)), (256, 256), "too many"),
    ],
)
def test_codes_that_it_cannot_model_are_refused(spec: CodeSpec, size: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Config().build(spec, size)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        Config(kernel=4)
