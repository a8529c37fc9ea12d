"""Each function against `torch.distributions` as its slow twin."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.functional.log_probabilities import (
    bernoulli_entropy,
    bernoulli_log_prob,
    categorical_entropy,
    categorical_log_prob,
    gaussian_entropy,
    gaussian_log_prob,
)

distributions: Any = torch.distributions  # its functions have no types
SIZES = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**16))


def made(rows: int, columns: int, seed: int) -> tuple[torch.Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return 3.0 * torch.randn(rows, columns, generator=generator, dtype=torch.float64), generator


def twin(distribution: Any) -> Any:
    """A distribution whose last axis holds the parts of one value."""
    return distributions.Independent(distribution, 1)


@given(SIZES)
def test_categorical(sizes: tuple[int, int, int]) -> None:
    logits, generator = made(*sizes)
    choices = torch.randint(sizes[1], (sizes[0],), generator=generator)
    expected = distributions.Categorical(logits=logits)
    log_probs = torch.log_softmax(logits, 1)
    torch.testing.assert_close(categorical_log_prob(log_probs, choices), expected.log_prob(choices))
    torch.testing.assert_close(categorical_entropy(log_probs), expected.entropy())


@given(SIZES)
def test_bernoulli(sizes: tuple[int, int, int]) -> None:
    logits, generator = made(*sizes)
    bits = torch.randint(2, logits.shape, generator=generator).double()
    expected = twin(distributions.Bernoulli(logits=logits))
    torch.testing.assert_close(bernoulli_log_prob(logits, bits), expected.log_prob(bits))
    torch.testing.assert_close(bernoulli_entropy(logits), expected.entropy())


@given(SIZES)
def test_gaussian(sizes: tuple[int, int, int]) -> None:
    mean, generator = made(*sizes)
    log_std = torch.randn(sizes[1], generator=generator, dtype=torch.float64)
    values = mean + torch.randn(mean.shape, generator=generator, dtype=torch.float64)
    expected = twin(distributions.Normal(mean, log_std.exp().expand_as(mean)))
    torch.testing.assert_close(gaussian_log_prob(mean, log_std, values), expected.log_prob(values))
    torch.testing.assert_close(gaussian_entropy(log_std).expand(len(mean)), expected.entropy())
