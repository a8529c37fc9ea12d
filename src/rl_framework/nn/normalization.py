"""Numbers brought to mean 0 and standard deviation 1, by statistics of all that was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Total: TypeAlias = Callable[[Tensor], Tensor]


class RunningNormalization(nn.Module):
    """Subtracts the mean and divides by the standard deviation of what `update` has seen.

    Acting and training leave the statistics alone: only `update` changes them. They are part of the module's state.

    Args:
        shape: Shape of one value.
        clip: Normalised numbers are cut to this magnitude, against outliers.
        epsilon: Added to the variance.

    Source: the batch update is Chan, Golub & LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances, 1979, equation 2.1.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int], *, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.clip = clip
        self.epsilon = epsilon
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("variance", torch.ones(tuple(shape), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("centre", torch.zeros(tuple(shape)), persistent=False)
        self.register_buffer("scale", torch.ones(tuple(shape)), persistent=False)
        self._apply_statistics()

    @torch.no_grad()
    def update(self, values: Tensor, total: Total | None = None) -> None:
        """Take values into the statistics.

        Args:
            values: `[B, *shape]`
            total: Adds numbers up over all processes that learn together, each of which has values of its own and the
                same statistics; None where there is but one.
        """
        batch = values.to(torch.float64)
        if total is None:
            self._take(float(len(batch)), batch.mean(0) - self.mean, batch.var(0, correction=0))
            return
        distances = batch - self.mean
        count, shift, squares = total(
            torch.stack([torch.full_like(self.mean, len(batch)), distances.sum(0), distances.square().sum(0)])
        )
        added = float(count.flatten()[0])
        if added:
            self._take(added, shift / added, (squares / added - (shift / added).square()).clamp(min=0.0))

    def _take(self, added: float, delta: Tensor, variance: Tensor) -> None:
        """Take in so many values, whose mean is off ours by `delta`, with their variance. `[*shape]`"""
        total = self.count + added
        squares = self.variance * self.count + variance * added
        self.variance.copy_((squares + delta.square() * self.count * added / total) / total)
        self.mean.add_(delta * added / total)
        self.count.copy_(total)
        self._apply_statistics()

    def forward(self, values: Tensor) -> Tensor:
        """Normalised values as float32. `[B, *shape]`"""
        own = self._buffers  # What `nn.Module.__getattr__` does before it finds them takes as long as the arithmetic.
        centred: Tensor = values - own["centre"]  # type: ignore[operator]  # never None
        return centred.mul_(own["scale"]).clamp_(-self.clip, self.clip)  # type: ignore[arg-type]  # likewise

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._apply_statistics()

    @torch.no_grad()
    def _apply_statistics(self) -> None:
        """Bring what is subtracted and multiplied up to date; it is used far more often than it changes."""
        self.centre.copy_(self.mean)
        self.scale.copy_(torch.rsqrt(self.variance + self.epsilon))
