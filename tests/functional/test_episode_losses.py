from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rl_framework.functional.episode_losses import (
    advantage_weights,
    entropy_slope,
    entropy_target,
    mean_and_deviation,
    moments,
    next_kl_coefficient,
    relative_weights,
    sampled_kl,
    standardized,
    weighted_log_likelihood,
)
from rl_framework.functional.policy_losses import approximate_kl

NUMBERS = st.lists(st.floats(-5.0, 5.0), min_size=1, max_size=20)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def doubles(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def slow_weights(advantages: list[float], temperature: float, clip: float) -> list[float]:
    """As the specification writes them."""
    if temperature >= 1000.0:
        return [1.0] * len(advantages)
    plain = [math.exp(min(advantage / temperature, clip)) for advantage in advantages]
    return [one / (sum(plain) / len(plain)) for one in plain]


@given(NUMBERS, st.sampled_from([0.05, 1.0, 30.0, 1000.0]), st.sampled_from([0.5, 8.0]))
def test_weights_are_those_of_the_specification(advantages: list[float], temperature: float, clip: float) -> None:
    found = advantage_weights(doubles(advantages), temperature=temperature, clip=clip)
    torch.testing.assert_close(found, doubles(slow_weights(advantages, temperature, clip)))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.sampled_from([0.01, 0.1, 1.0, 1e4]))
def test_weights_have_mean_one_whatever_the_advantages(advantages: list[float], temperature: float) -> None:
    clip = 8.0
    found = advantage_weights(torch.tensor(advantages), temperature=temperature, clip=clip)
    assert (found >= 0.0).all()
    assert float(found.mean()) == pytest.approx(1.0, rel=1e-5)
    assert float(found.max()) <= len(advantages) * (1.0 + 1e-5)


def test_a_low_temperature_chooses_the_better_half() -> None:
    found = advantage_weights(torch.randn(200_000, generator=seeded()), temperature=0.01, clip=8.0)
    high = found > 2.0
    assert float(found[high].mean()) == pytest.approx(2.13, abs=0.02)
    assert float(high.float().mean()) == pytest.approx(0.468, abs=0.005)


def test_advantages_weigh_the_loss_below_the_cloning_temperature_and_not_from_there_on() -> None:
    advantages = torch.tensor([-1.0, 0.0, 1.0])
    assert advantage_weights(advantages, temperature=1000.0).tolist() == [1.0, 1.0, 1.0]
    low, middle, high = advantage_weights(advantages, temperature=1.0).tolist()
    assert high / middle == pytest.approx(math.e, rel=1e-5)
    assert middle / low == pytest.approx(math.e, rel=1e-5)


@pytest.mark.parametrize("advantage", [-1e6, 0.0, 1e6])
def test_equal_advantages_weigh_the_same(advantage: float) -> None:
    torch.testing.assert_close(advantage_weights(torch.full((4,), advantage), temperature=0.01), torch.ones(4))


def test_infinite_advantages_are_the_best_or_count_for_nothing() -> None:
    found = advantage_weights(torch.tensor([math.inf, 0.0, -math.inf]), temperature=0.1, clip=8.0)
    assert torch.isfinite(found).all()
    assert found[0] > found[1] > found[2] == 0.0


@given(NUMBERS, st.integers(1, 19))
def test_weights_of_a_part_are_those_of_the_whole(advantages: list[float], cut: int) -> None:
    whole = doubles(advantages)
    highest = float(whole.max())
    parts = [relative_weights(part, highest, temperature=0.3, clip=4.0) for part in (whole[:cut], whole[cut:])]
    count, total, _ = sum((moments(part) for part in parts), torch.zeros(3, dtype=torch.float64))
    found = torch.cat(parts) * (count / total)
    torch.testing.assert_close(found, advantage_weights(whole, temperature=0.3, clip=4.0))


def test_the_gradient_is_that_of_weighted_maximum_likelihood() -> None:
    logits = torch.randn(6, 3, dtype=torch.float64, generator=seeded()).requires_grad_()
    actions = torch.tensor([0, 2, 1, 1, 0, 2])
    weights = advantage_weights(torch.randn(6, dtype=torch.float64, generator=seeded(1)), temperature=0.5)
    log_prob = logits.log_softmax(1).gather(1, actions.unsqueeze(1)).squeeze(1)
    (found,) = torch.autograd.grad(weighted_log_likelihood(log_prob, weights).mean(), logits)
    chosen = torch.nn.functional.one_hot(actions, 3).double()
    torch.testing.assert_close(found, weights.unsqueeze(1) * (logits.detach().softmax(1) - chosen) / 6)


# Sampled divergence


def test_the_sampled_divergence_of_equal_policies_is_zero_and_pulls_nowhere() -> None:
    old = torch.tensor([-0.1, -3.0, 2.0])
    log_prob = old.clone().requires_grad_()
    penalty = sampled_kl(log_prob, old)
    penalty.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
    assert log_prob.grad is not None
    assert penalty.tolist() == log_prob.grad.tolist() == [0.0, 0.0, 0.0]


def test_the_sampled_divergence_is_the_exact_one_in_the_mean_over_old_actions() -> None:
    old, new = torch.tensor([0.2, 0.3, 0.5]).log(), torch.tensor([0.4, 0.35, 0.25]).log()
    exact = float((old.exp() * (old - new)).sum())
    assert float((old.exp() * sampled_kl(new, old)).sum()) == pytest.approx(exact, rel=1e-5)


@given(st.floats(-200.0, 200.0), st.floats(-50.0, 50.0))
def test_the_sampled_divergence_is_finite_and_always_leads_back(log_prob: float, old: float) -> None:
    new, recorded = torch.tensor(log_prob, dtype=torch.float64, requires_grad=True), doubles([old])
    before = recorded.clone()
    penalty = sampled_kl(new, recorded)
    penalty.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it without types
    assert new.grad is not None
    assert penalty.isfinite().all()
    assert float(penalty.detach()) >= 0.0
    assert torch.sign(new.grad) == math.copysign(1.0, log_prob - old) or abs(log_prob - old) < 1e-12
    assert torch.equal(recorded, before)


def test_near_ratios_are_those_of_the_known_estimator() -> None:
    log_ratio = torch.linspace(-4.0, 3.0, 8)
    torch.testing.assert_close(sampled_kl(log_ratio, torch.zeros(8)), approximate_kl(log_ratio, torch.zeros(8)))


# Controller


def controlled(coefficient: float, divergence: float, rate: float = 0.1) -> float:
    found = next_kl_coefficient(
        doubles([coefficient])[0], torch.tensor(divergence), target=0.1, rate=rate, low=0.01, high=100.0
    )
    return float(found)


def test_the_controller_answers_in_proportion_to_the_logarithm_of_the_violation() -> None:
    for factor in (0.5, 1.0, 1.5, 2.0):
        assert math.log(controlled(1.0, 0.1 * factor)) == pytest.approx(0.1 * math.log(factor), abs=1e-6)


@given(st.floats(0.01, 100.0), st.floats(0.0, 1e6))
def test_the_controller_raises_above_the_target_lowers_below_and_stays_in_bounds(weight: float, kl: float) -> None:
    found = controlled(weight, kl)
    assert 0.01 <= found <= 100.0
    if kl > 0.1001:
        assert found > weight or found == 100.0
    if kl < 0.0999:
        assert found < weight or found == 0.01


@pytest.mark.parametrize("divergence", [math.inf, math.nan])
def test_the_controller_survives_what_is_not_finite(divergence: float) -> None:
    assert controlled(1.0, divergence) == pytest.approx(math.exp(0.1))
    assert controlled(99.0, divergence) == 100.0
    assert controlled(math.inf, divergence) == 100.0


def test_the_controller_brings_a_divergence_to_its_target() -> None:
    weight, divergence = 100.0, 0.0
    for _ in range(300):
        divergence = 0.05 / weight
        weight = controlled(weight, divergence)
    assert divergence == pytest.approx(0.1, rel=0.01)


# Statistics


@given(NUMBERS, NUMBERS)
def test_statistics_add_up_over_parts(first: list[float], second: list[float]) -> None:
    mean, deviation = mean_and_deviation(moments(doubles(first)) + moments(doubles(second)))
    both = doubles([*first, *second])
    torch.testing.assert_close(mean, both.mean())
    torch.testing.assert_close(deviation, both.std(correction=0), atol=1e-5, rtol=1e-5)


@settings(max_examples=50)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.floats(-1e6, 1e6))
def test_standardised_numbers_have_mean_zero_and_deviation_one_or_are_zeros(numbers: list[float], shift: float) -> None:
    given_numbers = doubles(numbers) + shift
    found = standardized(given_numbers, *mean_and_deviation(moments(given_numbers)))
    assert torch.isfinite(found).all()
    spread = float(given_numbers.std(correction=0))
    if spread > 1e-4 * (1.0 + abs(shift)):
        assert float(found.mean()) == pytest.approx(0.0, abs=1e-3)
        assert float(found.std(correction=0)) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_equal_numbers_become_exact_zeros(value: float) -> None:
    numbers = torch.full((1000,), value)
    assert not standardized(numbers, *mean_and_deviation(moments(numbers))).any()


def test_differences_far_below_a_reward_stay_small() -> None:
    numbers = torch.tensor([1e-7, -1e-7])
    assert standardized(numbers, *mean_and_deviation(moments(numbers))).abs().max() < 2e-3


# Entropy


def test_entropy_targets_shrink_positive_entropies_and_narrow_negative_ones() -> None:
    assert float(entropy_target(torch.tensor(2.0), 0.25)) == 0.5
    assert float(entropy_target(torch.tensor(-2.0), 0.25)) == pytest.approx(-2.0 + math.log(0.25))


def test_the_slope_is_the_derivative_of_the_squared_error_of_the_mean() -> None:
    entropies = torch.rand(7, dtype=torch.float64, generator=seeded()).requires_grad_()
    target = torch.tensor(0.3, dtype=torch.float64)
    (expected,) = torch.autograd.grad((entropies.mean() - target) ** 2, entropies)
    (found,) = torch.autograd.grad(entropy_slope(entropies.mean(), target) * entropies.mean(), entropies)
    torch.testing.assert_close(found, expected)
