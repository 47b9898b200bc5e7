"""The laws of a quantizer: each takes any quantizer and fails with an AssertionError if it is broken.

`test_quantizers.py` holds every file of the folder to them; `test_vq.py` rebuilds known traps and sees them caught.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from brainvq.codes import Codes
from brainvq.quantizers.base import Quantizer

DIM = 4
Search = Callable[[Tensor, Tensor], Tensor]


def latents(*grid: int, batch: int = 2, seed: int = 0) -> Tensor:
    """z (B, DIM, *grid)."""
    return torch.randn(batch, DIM, *grid, generator=torch.Generator().manual_seed(seed))


def same(one: Codes, other: Codes) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def z_q_is_what_the_codes_stand_for(quantizer: Quantizer, z: Tensor) -> None:
    quantizer.eval()
    found, codes = quantizer(z), quantizer.encode(z)
    assert found.z_q.shape == z.shape
    assert same(found.codes, codes)
    assert torch.equal(found.z_q, quantizer.decode(codes))
    for code, entries in zip(codes, quantizer.entries, strict=True):
        assert code.dtype == torch.int64
        assert code.shape == (len(z), *z.shape[2:])
        assert ((code >= 0) & (code < entries)).all()


def quantizing_twice_is_quantizing_once(quantizer: Quantizer, z: Tensor) -> None:
    z_q = quantizer.decode(quantizer.encode(z))
    assert torch.equal(quantizer.decode(quantizer.encode(z_q)), z_q)


def reading_changes_nothing(quantizer: Quantizer, z: Tensor) -> None:
    for training in (True, False):
        quantizer.train(training)
        before = {name: value.clone() for name, value in quantizer.state_dict().items()}
        quantizer.decode(quantizer.encode(z))
        quantizer.eval()(z)
        assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())


def the_gradient_passes_straight_through(quantizer: Quantizer, z: Tensor) -> None:
    for training in (True, False):
        z = z.detach().requires_grad_()
        weights = torch.linspace(-1, 1, z.numel()).reshape(z.shape)
        (gradient,) = torch.autograd.grad((quantizer.train(training)(z).z_q * weights).sum(), z)
        assert torch.equal(gradient, weights)


def losses_are_named_finite_and_not_negative(quantizer: Quantizer, z: Tensor) -> None:
    for training in (True, False):
        for name, loss in quantizer.train(training)(z).losses.items():
            assert name.isidentifier()
            assert loss.shape == ()
            assert loss.dtype == torch.float32
            assert loss.isfinite()
            assert loss >= 0


def autocast_changes_nothing(quantizer: Quantizer, z: Tensor) -> None:
    quantizer.eval()
    z_q, codes = quantizer(z).z_q, quantizer.encode(z)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantizer(z)
        assert same(found.codes, codes), "bfloat16 loses codes"
        assert same(quantizer.encode(z), codes), "bfloat16 loses codes"
        assert torch.equal(found.z_q, z_q)
        assert same(quantizer.encode(z.bfloat16()), quantizer.encode(z.bfloat16().float()))
        quantizer.train()(z.bfloat16())
    assert all(v.dtype == torch.float32 for v in quantizer.state_dict().values() if v.is_floating_point())


def neighbours_in_the_batch_do_not_matter(quantizer: Quantizer, z: Tensor) -> None:
    quantizer.eval()
    whole = quantizer(z)
    for i in range(len(z)):
        alone = quantizer(z[i : i + 1])
        assert same(alone.codes, tuple(code[i : i + 1] for code in whole.codes))
        assert torch.equal(alone.z_q, whole.z_q[i : i + 1])


def the_layout_in_memory_does_not_matter(quantizer: Quantizer, z: Tensor) -> None:
    """z (B, D, H, W)"""
    quantizer.eval()
    expected = quantizer(z)
    strided = torch.stack([z, z + 1], dim=-1)[..., 0]
    for other in (z.to(memory_format=torch.channels_last), strided, z.transpose(2, 3).contiguous().transpose(2, 3)):
        found = quantizer(other)
        assert same(found.codes, expected.codes)
        assert torch.equal(found.z_q, expected.z_q)


def decoding_follows_its_precision(quantizer: Quantizer, z: Tensor) -> None:
    """In float64 too, which lossless files are decoded in."""
    codes = quantizer.encode(z)
    double = copy.deepcopy(quantizer).to(torch.float64).decode(codes)
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), quantizer.decode(codes))


def an_empty_batch_has_no_codes(quantizer: Quantizer) -> None:
    codes = quantizer.encode(torch.empty(0, DIM, 3, 2))
    assert all(code.shape == (0, 3, 2) for code in codes)
    assert quantizer.decode(codes).shape == (0, DIM, 3, 2)


class _Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made, in elements."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.elements = max([self.elements, *made])
        return result


def no_table_of_vectors_by_entries_is_made(quantizer: Quantizer, z: Tensor) -> None:
    table = z[:, 0].numel() * max(quantizer.entries)
    assert table > 2**22, "a table too small to tell"
    with _Largest() as largest:
        quantizer.encode(z)
        quantizer.train()(z.requires_grad_())
    assert 0 < largest.elements < table / 4, f"a tensor of {largest.elements} elements, of {table}"


def the_nearest_entry_wins(nearest: Search, vectors: Tensor, codebook: Tensor) -> None:
    """But for ties within rounding: relative to the squared radius around the codebook's mean, not around zero."""
    exact, entries = vectors.double(), codebook.double()
    distances = torch.cdist(exact, entries, compute_mode="donot_use_mm_for_euclid_dist").square()
    found = distances.gather(1, nearest(vectors, codebook)[:, None])[:, 0]
    radius = torch.cat([exact, entries]).sub(entries.mean(0)).norm(dim=1).max()
    slack = 8 * 2**-23 * (2 + vectors.shape[1]) * radius**2
    assert (found <= distances.min(1).values + slack).all()
