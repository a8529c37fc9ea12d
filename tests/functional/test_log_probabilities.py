"""Each function against `torch.distributions` as its slow twin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_framework.errors import InvalidInputError
from rl_framework.functional import log_probabilities
from rl_framework.functional.log_probabilities import (
    bernoulli_entropy,
    bernoulli_kl,
    bernoulli_log_prob,
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    categorical_log_prob_and_entropy,
    gaussian_entropy,
    gaussian_kl,
    gaussian_log_prob,
    gaussian_log_prob_and_entropy,
    largest_squashed,
    mean_squashing_log_slope,
    normalized_log_probs,
    unsquash,
)

distributions: Any = torch.distributions  # its functions have no types
gradcheck: Any = torch.autograd.gradcheck  # likewise
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
    log_prob, entropy = categorical_log_prob_and_entropy(logits, choices)
    torch.testing.assert_close(log_prob, expected.log_prob(choices))
    torch.testing.assert_close(entropy, expected.entropy())
    other = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    divergence = distributions.kl_divergence(expected, distributions.Categorical(logits=other))
    torch.testing.assert_close(categorical_kl(log_probs, torch.log_softmax(other, 1)), divergence)


@given(SIZES)
def test_bernoulli(sizes: tuple[int, int, int]) -> None:
    logits, generator = made(*sizes)
    bits = torch.randint(2, logits.shape, generator=generator).double()
    expected = twin(distributions.Bernoulli(logits=logits))
    torch.testing.assert_close(bernoulli_log_prob(logits, bits), expected.log_prob(bits))
    torch.testing.assert_close(bernoulli_entropy(logits), expected.entropy())
    other = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    divergence = distributions.kl_divergence(expected, twin(distributions.Bernoulli(logits=other)))
    torch.testing.assert_close(bernoulli_kl(logits, other), divergence)


@given(SIZES, st.booleans())
def test_gaussian(sizes: tuple[int, int, int], depends_on_the_row: bool) -> None:
    mean, generator = made(*sizes)
    log_std = torch.randn(
        mean.shape if depends_on_the_row else mean.shape[1:], generator=generator, dtype=torch.float64
    )
    values = mean + torch.randn(mean.shape, generator=generator, dtype=torch.float64)
    expected = twin(distributions.Normal(mean, log_std.exp().expand_as(mean)))
    torch.testing.assert_close(gaussian_log_prob(mean, log_std, values), expected.log_prob(values))
    torch.testing.assert_close(gaussian_entropy(log_std).expand(len(mean)), expected.entropy())
    log_prob, entropy = gaussian_log_prob_and_entropy(mean, log_std, values)
    torch.testing.assert_close(log_prob, expected.log_prob(values))
    torch.testing.assert_close(entropy, expected.entropy())
    other_log_std = torch.flip(log_std, (0,))
    other = twin(distributions.Normal(values, other_log_std.exp().expand_as(mean)))
    divergence = distributions.kl_divergence(expected, other)
    torch.testing.assert_close(gaussian_kl(mean, log_std, values, other_log_std), divergence)


@pytest.mark.parametrize("many_logits", [1, 10**9])
@pytest.mark.parametrize("n_choices", [1, 2, 5])
def test_gradient_of_both_categorical_results(
    monkeypatch: pytest.MonkeyPatch, many_logits: int, n_choices: int
) -> None:
    monkeypatch.setattr(log_probabilities, "MANY_LOGITS", many_logits)
    logits, generator = made(4, n_choices, 0)
    choices = torch.randint(n_choices, (4,), generator=generator)
    assert gradcheck(lambda given: categorical_log_prob_and_entropy(given, choices), (logits.requires_grad_(),))


@pytest.mark.parametrize("log_std_shape", [(2,), (4, 2)])
def test_gradient_of_both_gaussian_results(log_std_shape: tuple[int, ...]) -> None:
    mean, generator = made(4, 2, 0)
    log_std = torch.randn(log_std_shape, generator=generator, dtype=torch.float64)
    values = torch.randn(mean.shape, generator=generator, dtype=torch.float64)
    assert gradcheck(gaussian_log_prob_and_entropy, [given.requires_grad_() for given in (mean, log_std, values)])


@pytest.mark.parametrize(("rows", "n_choices"), [(3, 4), (700, 2), (700, 15), (700, 17)])
def test_either_layout_gives_the_same_numbers(rows: int, n_choices: int) -> None:
    logits, generator = made(rows, n_choices, 0)
    choices = torch.randint(n_choices, (rows,), generator=generator)
    weights = torch.randn(2, rows, generator=generator, dtype=torch.float64)
    gradients = []
    for separately in (True, False):
        given = logits.clone().requires_grad_()
        log_probs = torch.log_softmax(given, 1)
        found = (categorical_log_prob(log_probs, choices), categorical_entropy(log_probs))
        if not separately:
            torch.testing.assert_close(normalized_log_probs(given), log_probs)
            found = categorical_log_prob_and_entropy(given, choices)
        (torch.stack(found) * weights).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it so
        gradients.append(given.grad)
    torch.testing.assert_close(*gradients)


def test_second_derivatives_are_refused_where_there_are_none() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    log_prob, _ = categorical_log_prob_and_entropy(logits, torch.tensor([0, 1]))
    with pytest.raises(InvalidInputError, match="categorical_log_prob and categorical_entropy"):
        torch.autograd.grad(log_prob.sum(), logits, create_graph=True)
    log_density, _ = gaussian_log_prob_and_entropy(logits, torch.zeros(3), torch.ones(2, 3))
    with pytest.raises(InvalidInputError, match="gaussian_log_prob and gaussian_entropy"):
        torch.autograd.grad(log_density.sum(), logits, create_graph=True)


def test_squashed_numbers_and_slopes_are_right_up_to_the_bounds() -> None:
    squashed = torch.tensor([0.0, 0.5, -0.999, 0.9999999, -largest_squashed(torch.float32)])
    numbers, log_slopes = unsquash(squashed)
    exact = squashed.double()
    torch.testing.assert_close(numbers.double(), torch.atanh(exact), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(log_slopes.double(), torch.log1p(-exact.square()), rtol=1e-5, atol=1e-6)


def test_squashed_numbers_at_the_bounds_count_as_the_last_before_them() -> None:
    last = largest_squashed(torch.float32)
    assert last == torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)).item()
    at, before = unsquash(torch.tensor([1.0, -1.0])), unsquash(torch.tensor([last, -last]))
    torch.testing.assert_close(at, before, rtol=0, atol=0)
    assert torch.isfinite(torch.stack(at)).all()


@pytest.mark.parametrize(("std", "tolerance"), [(0.1, 1e-4), (0.5, 2e-4), (1.0, 0.006), (2.0, 0.1), (4.0, 0.5)])
def test_mean_slope_is_as_close_to_the_integral_as_it_says(std: float, tolerance: float) -> None:
    mean = torch.linspace(-5.0, 5.0, 21, dtype=torch.float64).unsqueeze(1)
    grid = torch.linspace(-8.0, 8.0, 4001, dtype=torch.float64)
    weights = torch.softmax(-0.5 * grid.square(), 0)
    x = mean + std * grid
    integral = (2.0 * (torch.log(torch.tensor(2.0)) + x - torch.nn.functional.softplus(2.0 * x)) * weights).sum(1)
    found = mean_squashing_log_slope(mean, torch.full((1,), std, dtype=torch.float64).log())
    torch.testing.assert_close(found.squeeze(1), integral, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("log_std_shape", [(2,), (4, 2)])
def test_gradients_of_the_mean_slope(log_std_shape: tuple[int, ...]) -> None:
    mean, generator = made(4, 2, 0)
    log_std = torch.randn(log_std_shape, generator=generator, dtype=torch.float64)
    given = [mean.requires_grad_(), log_std.requires_grad_()]
    assert gradcheck(mean_squashing_log_slope, given)
    gradgradcheck: Any = torch.autograd.gradgradcheck
    assert gradgradcheck(mean_squashing_log_slope, given)
