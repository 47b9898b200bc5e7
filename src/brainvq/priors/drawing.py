"""One code for each of a batch from what a network says of it, by uniform numbers; sharpened where that is asked for.

Temperature (D. Ackley et al., 1985), the k likeliest (A. Fan et al., Hierarchical Neural Story Generation, 2018), the
likeliest that make up p (A. Holtzman et al., The Curious Case of Neural Text Degeneration, 2020), guidance (J. Ho and
T. Salimans, Classifier-Free Diffusion Guidance, 2021). All but the plain draw trade variety for likeliness: samples so
drawn are not samples of the model, and measures of diversity tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from brainvq.errors import InputError

MOST_STEPS = 256


@dataclass(frozen=True)
class Drawing:
    """Args:
    temperature: above 0; logits are divided by it.
    top_k: only the k likeliest entries are drawn; None for all.
    top_p: only the likeliest entries that together have this probability, the last of them included.
    guidance: how far logits move from those without conditions through those with them; 1 is the model itself.
    steps: in which maskgit draws an image; None for as many as it was made for.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    guidance: float = 1.0
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("temperature", 0 < self.temperature < float("inf"), "a number above 0"),
            ("top_k", self.top_k is None or self.top_k >= 1, "a number of entries, at least 1"),
            ("top_p", 0 < self.top_p <= 1, "a probability above 0 and at most 1"),
            ("guidance", 0 <= self.guidance < float("inf"), "a number, at least 0"),
            ("steps", self.steps is None or 1 <= self.steps <= MOST_STEPS, f"a number of steps from 1 to {MOST_STEPS}"),
        ):
            if not fits:
                raise InputError(f"{name} is {getattr(self, name)}; expected {wanted}.")

    def sharpened(self, logits: Tensor) -> Tensor:
        """(B, entries), -inf for what is never drawn."""
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k, dim=-1).values[..., -1:], -torch.inf)
        if self.top_p < 1:
            ordered, places = logits.sort(dim=-1, descending=True)
            before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
            ordered = ordered.masked_fill(before >= self.top_p, -torch.inf)
            logits = torch.empty_like(logits).scatter(-1, places, ordered)
        return logits

    def draw(self, logits: Tensor, uniform: Tensor) -> Tensor:
        """(..., entries), (...) in [0, 1) -> (...): where each number falls among the cumulated probabilities."""
        below = self.sharpened(logits).softmax(-1).cumsum(-1)
        return torch.searchsorted(below, (uniform[..., None] * below[..., -1:]).contiguous(), right=True)[..., 0]


PLAIN = Drawing()
"""The model itself."""
SHARPENING = ("temperature", "top_k", "top_p")
"""What every prior can heed that says how likely a code is."""
