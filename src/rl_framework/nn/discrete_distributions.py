"""Distributions over choices and bits, with masks for those that are not allowed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own convention

from rl_framework.errors import SpaceError
from rl_framework.functional.log_probabilities import (
    bernoulli_entropy,
    bernoulli_kl,
    bernoulli_log_prob,
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    categorical_log_prob_and_entropy,
    categorical_scores,
    normalized_log_probs,
)
from rl_framework.nn.distribution import Distribution, RowIndex, at_least_single, check_same_kind
from rl_framework.nn.recorded_passes import RecordedFunction, is_recorded, record

FORBIDDEN = -1e8
SMALLEST = torch.finfo(torch.float32).tiny


class Categorical(Distribution):
    """One choice out of n.

    Args:
        logits: Unnormalised log-probabilities. `[B, n]`
        masks: True for choices that are allowed; all if None. The others have probability 0, log-probability -1e8
            and no part in entropies, divergences and gradients. A row that allows nothing is an error on the CPU;
            on other devices, which would have to be waited for, it counts as allowing everything. `[B, n]`

    Raises:
        SpaceError: The masks have another shape, or allow nothing in some row.
    """

    __slots__ = ("_log_probs", "logits")

    def __init__(self, logits: Tensor, masks: Tensor | None = None) -> None:
        self.logits = _allowed(at_least_single(logits), masks)
        self._log_probs: Tensor | None = None

    @property
    def log_probs(self) -> Tensor:
        """Normalised log-probabilities. `[B, n]`"""
        found = self._log_probs
        if found is None or (torch.is_grad_enabled() and self.logits.requires_grad and not found.requires_grad):
            found = self._log_probs = normalized_log_probs(self.logits)
        return found

    def log_prob(self, targets: Tensor) -> Tensor:
        """Of one choice per row. `[B]`"""
        return categorical_log_prob(self.log_probs, targets)

    def entropy(self) -> Tensor:
        """In nats. `[B]`"""
        return categorical_entropy(self.log_probs)

    def log_prob_and_entropy(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with a gradient that can be taken once. `[B]` each"""
        if not is_recorded(self.logits):
            return categorical_log_prob_and_entropy(self.logits, targets)
        log_prob, entropy, slopes = categorical_scores(self.logits, targets)
        record(RecordedFunction((self.logits,), slopes.gradients, (log_prob, entropy)))
        return log_prob, entropy

    def mode(self) -> Tensor:
        """The most probable choice. `[B]`"""
        return self.logits.argmax(1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A choice per row. `[B]`

        Of alarms that go off at random, each at the rate of its choice's probability, the first one rings.
        """
        delays = _waiting_times(self.logits, generator)
        logits = self.logits.detach() if self.logits.requires_grad else self.logits
        return delays.log_().sub_(logits).argmin(1)

    def noise(self, n_steps: int, generator: torch.Generator) -> Tensor | None:
        """Logarithms of waiting times, on the CPU. `[n_steps, B, n]`"""
        if not self.logits.is_cpu:
            return None
        return _waiting_times(self.logits.new_empty(n_steps, *self.logits.shape), generator).log_()

    def sample_by(self, noise: Tensor) -> Tensor:
        """A choice per row. `[B, n]` to `[B]`"""
        logits = self.logits.detach() if self.logits.requires_grad else self.logits
        return torch.sub(noise, logits).argmin(1)

    def kl(self, other: Categorical) -> Tensor:
        """In nats; about 1e8 times the probability of what the others' masks forbid and these allow. `[B]`"""
        check_same_kind(self, other)
        return categorical_kl(self.log_probs, other.log_probs)

    def rows(self, index: RowIndex) -> Categorical:
        """Those of some rows."""
        chosen = Categorical(self.logits[index])
        chosen._log_probs = None if self._log_probs is None else self._log_probs[index]
        return chosen

    def joined(self, others: Sequence[Categorical]) -> Categorical:
        """These and others, one behind the other."""
        return Categorical(torch.cat([self.logits, *(other.logits for other in others)]))


class MultiCategorical(Distribution):
    """Several independent choices.

    Args:
        logits: Unnormalised log-probabilities, those of all choices side by side. `[B, sum(sizes)]`
        sizes: Number of possibilities of each choice, k of them.
        masks: As for `Categorical`, those of all choices side by side. `[B, sum(sizes)]`

    Attributes:
        choices: The choices of all rows, one after the other; what a choice lacks to the widest is forbidden.
            `[B * k]`

    Raises:
        SpaceError: The masks have another shape, or allow nothing for some choice.
    """

    __slots__ = ("_n_choices", "choices")

    def __init__(self, logits: Tensor, sizes: Sequence[int], masks: Tensor | None = None) -> None:
        self._n_choices = len(sizes)
        below = _rectangular(at_least_single(logits), sizes, fill=FORBIDDEN)
        if masks is not None:
            _check_shape(masks, logits.shape)
            allowed = _rectangular(masks, sizes, fill=False)
            _check_choice(allowed.reshape(-1, len(sizes), allowed.shape[1]))
            below = below.masked_fill(~allowed, FORBIDDEN)
        self.choices = Categorical(below)

    def log_prob(self, targets: Tensor) -> Tensor:
        """Of all choices together, `[B, k]` to `[B]`."""
        return self._summed(self.choices.log_prob(targets.reshape(-1)))

    def entropy(self) -> Tensor:
        """In nats, of all choices together. `[B]`"""
        return self._summed(self.choices.entropy())

    def log_prob_and_entropy(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Both, with a gradient that can be taken once. `[B]` each"""
        log_prob, entropy = self.choices.log_prob_and_entropy(targets.reshape(-1))
        return self._summed(log_prob), self._summed(entropy)

    def mode(self) -> Tensor:
        """The most probable choices. `[B, k]`"""
        return self.choices.mode().reshape(-1, self._n_choices)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Choices per row. `[B, k]`"""
        return self.choices.sample(generator).reshape(-1, self._n_choices)

    def noise(self, n_steps: int, generator: torch.Generator) -> Tensor | None:
        """As for `Categorical`, of all choices. `[n_steps, B * k, n]`"""
        return self.choices.noise(n_steps, generator)

    def sample_by(self, noise: Tensor) -> Tensor:
        """Choices per row. `[B * k, n]` to `[B, k]`"""
        return self.choices.sample_by(noise).reshape(-1, self._n_choices)

    def kl(self, other: MultiCategorical) -> Tensor:
        """In nats, of all choices together. `[B]`"""
        check_same_kind(self, other)
        return self._summed(self.choices.kl(other.choices))

    def rows(self, index: RowIndex) -> MultiCategorical:
        """Those of some rows."""
        width = self.choices.logits.shape[1]
        by_row = self.choices.logits.reshape(-1, self._n_choices, width)
        return self._with(Categorical(by_row[index].reshape(-1, width)))

    def joined(self, others: Sequence[MultiCategorical]) -> MultiCategorical:
        """These and others, one behind the other."""
        return self._with(self.choices.joined([other.choices for other in others]))

    def _with(self, choices: Categorical) -> MultiCategorical:
        """As many choices per row, of other rows."""
        made = object.__new__(MultiCategorical)
        made.choices, made._n_choices = choices, self._n_choices
        return made

    def _summed(self, numbers: Tensor) -> Tensor:
        return numbers.reshape(-1, self._n_choices).sum(1)


class Bernoulli(Distribution):
    """Independent bits.

    Args:
        logits: Log-odds of each bit being 1. `[B, n]`
        masks: Of each bit whether it may be 0 and whether it may be 1; as for `Categorical`. `[B, 2 n]`

    Raises:
        SpaceError: The masks have another shape, or allow nothing for some bit.
    """

    __slots__ = ("logits",)

    def __init__(self, logits: Tensor, masks: Tensor | None = None) -> None:
        self.logits = at_least_single(logits)
        if masks is not None:
            _check_shape(masks, (logits.shape[0], 2 * logits.shape[1]))
            pairs = masks.reshape(*logits.shape, 2)
            _check_choice(pairs)
            may_be_0, may_be_1 = pairs.unbind(2)
            self.logits = self.logits.masked_fill(~may_be_1, FORBIDDEN).masked_fill(~may_be_0, -FORBIDDEN)

    def log_prob(self, targets: Tensor) -> Tensor:
        """Of all bits together, `[B, n]` to `[B]`."""
        return bernoulli_log_prob(self.logits, targets)

    def entropy(self) -> Tensor:
        """In nats, of all bits together. `[B]`"""
        return bernoulli_entropy(self.logits)

    def mode(self) -> Tensor:
        """The more probable value of each bit. `[B, n]`"""
        return (self.logits > 0).to(self.logits.dtype)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Bits per row. `[B, n]`"""
        probs = torch.sigmoid(self.logits.detach())
        return (torch.empty_like(probs).uniform_(generator=generator) < probs).to(probs.dtype)

    def kl(self, other: Bernoulli) -> Tensor:
        """In nats, of all bits together. `[B]`"""
        check_same_kind(self, other)
        return bernoulli_kl(self.logits, other.logits)

    def rows(self, index: RowIndex) -> Bernoulli:
        """Those of some rows."""
        return Bernoulli(self.logits[index])

    def joined(self, others: Sequence[Bernoulli]) -> Bernoulli:
        """These and others, one behind the other."""
        return Bernoulli(torch.cat([self.logits, *(other.logits for other in others)]))


def _waiting_times(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Positive numbers with an exponential distribution of rate 1."""
    if like.is_cuda:
        return torch.empty_like(like).exponential_(generator=generator)
    # On the CPU logarithms of uniform numbers take a third of the time; from 0 on they would be infinite.
    return torch.empty_like(like).uniform_(SMALLEST, 1.0, generator=generator).log_().neg_()


def _allowed(logits: Tensor, masks: Tensor | None) -> Tensor:
    if masks is None:
        return logits
    _check_shape(masks, logits.shape)
    _check_choice(masks)
    return logits.masked_fill(~masks, FORBIDDEN)


def _check_shape(masks: Tensor, shape: Sequence[int]) -> None:
    if tuple(masks.shape) != tuple(shape):
        raise SpaceError(
            f"Masks must tell of each choice whether it is allowed, {list(shape)}; got {list(masks.shape)}."
        )


def _check_choice(masks: Tensor) -> None:
    """Refuse masks without a choice, where that can be told without waiting for a device. `[..., n]`"""
    if masks.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if not masks.any(-1).all():
        row = int((~masks.any(-1)).nonzero()[0, 0])
        raise SpaceError(
            f"Masks must allow a choice in every row, and row {row} allows none. Mend the environment's action masks; "
            "rows that do not count may allow everything."
        )


def _rectangular(numbers: Tensor, sizes: Sequence[int], *, fill: float) -> Tensor:
    """What lies side by side in pieces of the given sizes, one below the other. `[B * k, max(sizes)]`"""
    widest = max(sizes)
    if min(sizes) == widest:
        return numbers.reshape(-1, widest)
    pieces = torch.split(numbers, list(sizes), dim=1)
    return torch.stack([F.pad(piece, (0, widest - piece.shape[1]), value=fill) for piece in pieces], 1).flatten(0, 1)
