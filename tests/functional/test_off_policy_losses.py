from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl_framework.functional.off_policy_losses import (
    bootstrapped_targets,
    gaussian_value_losses,
    gaussian_variance,
    one_step_shorter,
    pooled_quantiles,
    quantile_value_losses,
    random_simplex_point,
    range_gaps,
    smoothed_actions,
    soft_maximum_gaps,
    squared_value_losses,
)

SIZES = st.tuples(*(st.integers(1, 4) for _ in range(4)))
SEEDS = st.integers(0, 2**31)
Sizes = tuple[int, int, int, int]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(sizes=SIZES, seed=SEEDS, is_limited=st.booleans())
def test_targets_are_those_of_a_loop(sizes: Sizes, seed: int, is_limited: bool) -> None:
    n, n_values, n_samples, _ = sizes
    rewards, discounts = random(n, n_values, seed=seed), random(n, n_values, seed=seed + 1)
    following = random(n, n_values, n_samples, seed=seed + 2)
    limits = (-0.4, 0.5) if is_limited else None
    found = bootstrapped_targets(rewards, discounts, following, limits=limits)
    for row in range(n):
        for value in range(n_values):
            for sample in range(n_samples):
                right = float(rewards[row, value] + discounts[row, value] * following[row, value, sample])
                right = min(max(right, -0.4), 0.5) if is_limited else right
                assert float(found[row, value, sample]) == pytest.approx(right, abs=1e-12)


def test_one_reward_and_discount_serve_all_values() -> None:
    found = bootstrapped_targets(torch.ones(2, 1), torch.full((2, 1), 0.5), torch.ones(2, 3, 4))
    assert found.shape == (2, 3, 4)
    assert (found == 1.5).all()


def test_shorter_horizons_begin_with_nothing() -> None:
    assert one_step_shorter(torch.tensor([[[1.0], [2.0], [3.0]]])).tolist() == [[[0.0], [1.0], [2.0]]]
    assert one_step_shorter(torch.tensor([[[4.0, 5.0]]])).tolist() == [[[0.0, 0.0]]]


@given(sizes=SIZES, seed=SEEDS)
def test_squared_losses_are_those_of_a_loop(sizes: Sizes, seed: int) -> None:
    members, n, n_values, _ = sizes
    values, targets = random(members, n, n_values, seed=seed), random(n, n_values, seed=seed + 1)
    found = squared_value_losses(values, targets)
    for row in range(n):
        right = sum(
            sum((float(values[e, row, v]) - float(targets[row, v])) ** 2 for v in range(n_values)) / n_values
            for e in range(members)
        )
        assert float(found[row]) == pytest.approx(right, abs=1e-12)


@given(sizes=SIZES, seed=SEEDS, regularization=st.sampled_from([0.0, 0.3]))
def test_gaussian_losses_are_those_of_a_loop(sizes: Sizes, seed: int, regularization: float) -> None:
    members, n, n_values, _ = sizes
    means, targets = random(members, n, n_values, seed=seed), random(n, n_values, seed=seed + 1)
    variances = gaussian_variance(random(members, n, n_values, seed=seed + 2))
    found = gaussian_value_losses(means, variances, targets, regularization=regularization)
    for row in range(n):
        right = 0.0
        for e in range(members):
            for v in range(n_values):
                variance = float(variances[e, row, v])
                right += (
                    float(targets[row, v] - means[e, row, v]) ** 2 / (2 * variance)
                    + 0.5 * math.log(variance)
                    + regularization * math.log(variance) ** 2
                ) / n_values
        assert float(found[row]) == pytest.approx(right, abs=1e-10)


def test_gaussian_losses_of_variance_one_are_half_the_squared_ones() -> None:
    means, targets = random(3, 5, 2), random(5, 2, seed=1)
    found = gaussian_value_losses(means, torch.ones_like(means), targets, regularization=0.7)
    torch.testing.assert_close(found, squared_value_losses(means, targets) / 2)


def test_gaussian_losses_are_least_at_the_true_mean_and_variance() -> None:
    targets = 1.5 + 0.5 * random(20_000, 1)
    mean, raw = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    parameters = [mean.requires_grad_(), raw.requires_grad_()]
    optimizer = torch.optim.LBFGS(parameters, max_iter=100)

    def closure() -> float:
        optimizer.zero_grad()
        rows = torch.ones(1, *targets.shape, dtype=torch.float64)
        loss = gaussian_value_losses(mean * rows, gaussian_variance(raw * rows), targets).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch's
    assert float(mean.detach()) == pytest.approx(float(targets.mean()), abs=1e-4)
    assert float(gaussian_variance(raw.detach())) == pytest.approx(float(targets.var()), rel=1e-3)


@pytest.mark.parametrize("raw", [-1e4, -50.0, 0.0, 50.0, 1e4])
def test_variances_are_finite_and_above_zero(raw: float) -> None:
    variance = gaussian_variance(torch.tensor(raw))
    assert 0.0 < float(variance) < math.inf


@given(sizes=SIZES, n_targets=st.integers(1, 5), seed=SEEDS)
def test_quantile_losses_are_those_of_a_loop(sizes: Sizes, n_targets: int, seed: int) -> None:
    members, n, n_values, n_quantiles = sizes
    quantiles = 2.0 * random(members, n, n_values, n_quantiles, seed=seed)
    targets = 2.0 * random(n, n_values, n_targets, seed=seed + 1)
    found = quantile_value_losses(quantiles, targets)
    for row in range(n):
        right = 0.0
        for index in np.ndindex(members, n_values, n_quantiles, n_targets):
            e, v, i, j = index
            error = float(targets[row, v, j] - quantiles[e, row, v, i])
            huber = 0.5 * error**2 if abs(error) <= 1 else abs(error) - 0.5
            weight = abs((2 * i + 1) / (2 * n_quantiles) - (1.0 if error < 0 else 0.0))
            right += weight * huber / (n_values * n_quantiles * n_targets)
        assert float(found[row]) == pytest.approx(right, abs=1e-10)


def test_quantile_losses_are_least_at_the_quantiles() -> None:
    targets = 100.0 * random(1, 1, 2001)  # wide, so that the quadratic middle of the loss matters little
    quantiles = torch.zeros(1, 1, 1, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([quantiles], max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = quantile_value_losses(quantiles, targets).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch's
    right = np.quantile(targets.numpy(), [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(quantiles.detach().numpy().ravel(), right, atol=2.0)


@given(sizes=SIZES, seed=SEEDS, dropped=st.integers(0, 3))
def test_pooled_quantiles_lack_the_greatest(sizes: Sizes, seed: int, dropped: int) -> None:
    members, n, n_values, n_quantiles = sizes
    dropped = min(dropped, n_quantiles - 1)
    quantiles = random(members, n, n_values, n_quantiles, seed=seed)
    found = pooled_quantiles(quantiles, dropped)
    assert found.shape == (n, n_values, members * (n_quantiles - dropped))
    for row, value in np.ndindex(n, n_values):
        right = sorted(quantiles[:, row, value].flatten().tolist())[: found.shape[-1]]
        assert sorted(found[row, value].tolist()) == right


def test_random_weights_are_those_of_an_even_dirichlet() -> None:
    generator = torch.Generator().manual_seed(3)
    drawn = torch.stack([random_simplex_point(3, generator, torch.device("cpu")) for _ in range(4000)])
    assert (drawn > 0).all()
    torch.testing.assert_close(drawn.sum(1), torch.ones(4000))
    counts = torch.histc(drawn[:, 0], bins=5, min=0.0, max=1.0)
    edges = torch.linspace(0.0, 1.0, 6)
    expected = 4000 * ((1 - edges[:-1]) ** 2 - (1 - edges[1:]) ** 2)  # Beta(1, 2)
    assert float(((counts - expected) ** 2 / expected).sum()) < 18.5  # chi-square of 4 degrees of freedom, p = 1e-3


def test_smoothing_is_clipped_twice() -> None:
    actions = torch.tensor([[0.95, 0.0]]).expand(5000, 2)
    generator = torch.Generator().manual_seed(0)
    found = smoothed_actions(actions, std=0.2, clip=0.3, generator=generator)
    moves = found - actions
    assert float(found.max()) == 1.0
    assert float(moves[:, 1].abs().max()) == pytest.approx(0.3)
    inside = moves[:, 1][moves[:, 1].abs() < 0.299]
    assert float(inside.mean()) == pytest.approx(0.0, abs=0.01)
    assert 0.12 < float(inside.std()) < 0.16
    assert float((moves[:, 1].abs() > 0.299).float().mean()) == pytest.approx(math.erfc(1.5 / math.sqrt(2)), abs=0.02)


def test_smoothing_draws_alike_whatever_the_layout_in_memory() -> None:
    rows = torch.zeros(16, 3)
    columns = torch.zeros(3, 16).T
    first = smoothed_actions(rows, std=0.2, clip=0.5, generator=torch.Generator().manual_seed(1))
    second = smoothed_actions(columns, std=0.2, clip=0.5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first, second)


@given(sizes=SIZES, seed=SEEDS)
def test_soft_maximum_gaps_are_those_of_a_loop(sizes: Sizes, seed: int) -> None:
    members, n, n_candidates, n_values = sizes
    candidates = random(members, n, n_candidates, n_values, seed=seed)
    log_densities = random(n, n_candidates, seed=seed + 1)
    values = random(members, n, n_values, seed=seed + 2)
    found = soft_maximum_gaps(candidates, log_densities, values)
    for row in range(n):
        right = 0.0
        for e, v in np.ndindex(members, n_values):
            terms = [math.exp(candidates[e, row, c, v] - log_densities[row, c]) for c in range(n_candidates)]
            right += (math.log(sum(terms)) - float(values[e, row, v])) / n_values
        assert float(found[row]) == pytest.approx(right, abs=1e-10)


def test_soft_maximum_estimates_the_integral_over_all_actions() -> None:
    actions = torch.rand(1, 200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    values = (1.5 * actions).unsqueeze(0).unsqueeze(-1)
    log_densities = torch.full_like(actions, -math.log(2.0))
    gap = soft_maximum_gaps(values, log_densities, torch.zeros(1, 1, 1, dtype=torch.float64)) - math.log(200_000)
    assert float(gap) == pytest.approx(math.log((math.exp(1.5) - math.exp(-1.5)) / 1.5), abs=0.01)


def test_range_gaps_are_distances_of_means() -> None:
    unseen, values = torch.tensor([[[-3.0], [-1.0]]]), torch.tensor([[[-4.0], [-2.0]]])
    assert float(range_gaps(unseen, values, limits=(-10.0, 0.0))) == 8.0 + 3.0
