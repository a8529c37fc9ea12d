from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.functional.policy_losses import (
    approximate_kl,
    clipped_surrogate,
    clipped_surrogate_and_slope,
    value_errors,
    value_errors_and_slopes,
)

CLIP = 0.2


def slow_surrogate(ratio: float, advantage: float, dual_clip: float | None) -> tuple[float, float]:
    """The objective as the papers write it, and its derivative by the log-probability."""
    clipped = min(max(ratio, 1.0 - CLIP), 1.0 + CLIP)
    objective = min(ratio * advantage, clipped * advantage)
    slope = ratio * advantage if ratio * advantage <= clipped * advantage else 0.0
    if dual_clip is not None and advantage < 0.0 and objective < dual_clip * advantage:
        return dual_clip * advantage, 0.0
    return objective, slope


def surrogate_and_slopes(ratios: Tensor, advantages: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    old = torch.full_like(ratios, -1.5)
    log_prob = (old + ratios.log()).requires_grad_()
    objective = clipped_surrogate(log_prob, old, advantages, clip_range=CLIP, **options)
    (slopes,) = torch.autograd.grad(objective.sum(), log_prob)
    return objective.detach(), slopes


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [
        (0.5, 2.0, 1.0, 1.0),  # a good action became rarer: full slope back
        (1.5, 2.0, 2.4, 0.0),  # a good action is frequent enough: held
        (0.5, -2.0, -1.6, 0.0),  # a bad action is rare enough: held
        (1.5, -2.0, -3.0, -3.0),  # a bad action became more frequent: full slope back
        (1.1, 2.0, 2.2, 2.2),
        (1.1, -2.0, -2.2, -2.2),
    ],
)
def test_surrogate_in_every_quadrant(ratio: float, advantage: float, objective: float, slope: float) -> None:
    found, slopes = surrogate_and_slopes(torch.tensor([ratio]), torch.tensor([advantage]))
    assert (found.item(), slopes.item()) == pytest.approx((objective, slope), rel=1e-5)


def test_bad_actions_are_not_made_rarer_without_bound() -> None:
    """The fault of rlx: min(ratio, clip(ratio)) A goes on rewarding a falling ratio where A is negative."""
    ratios = torch.tensor([0.7, 0.1, 0.001])
    objective, slopes = surrogate_and_slopes(ratios, -torch.ones(3))
    assert objective.tolist() == pytest.approx([CLIP - 1.0] * 3)
    assert slopes.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [
        (4.0, -2.0, -6.0, 0.0),  # held from below
        (2.0, -2.0, -4.0, -4.0),
        (0.5, -2.0, -1.6, 0.0),
        (4.0, 2.0, 2.4, 0.0),  # the second clip is for bad actions alone
        (0.5, 2.0, 1.0, 1.0),
    ],
)
def test_dual_clip_bounds_what_a_bad_action_costs(
    ratio: float, advantage: float, objective: float, slope: float
) -> None:
    found, slopes = surrogate_and_slopes(torch.tensor([ratio]), torch.tensor([advantage]), dual_clip=3.0)
    assert (found.item(), slopes.item()) == pytest.approx((objective, slope), rel=1e-5)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.floats(0.05, 8.0), st.floats(-5.0, 5.0)), min_size=1, max_size=8),
    dual_clip=st.sampled_from([None, 1.5, 3.0]),
)
def test_surrogate_is_that_of_the_slow_twin(rows: list[tuple[float, float]], dual_clip: float | None) -> None:
    kinks = (1.0 - CLIP, 1.0 + CLIP, dual_clip or 1.0 + CLIP)
    rows = [(ratio if min(abs(ratio - kink) for kink in kinks) > 1e-6 else 1.0, adv) for ratio, adv in rows]
    ratios, advantages = torch.tensor(rows, dtype=torch.float64).unbind(1)
    found, slopes = surrogate_and_slopes(ratios, advantages, dual_clip=dual_clip)
    expected, expected_slopes = zip(*(slow_surrogate(*row, dual_clip) for row in rows), strict=True)
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert slopes.tolist() == pytest.approx(expected_slopes, rel=1e-9, abs=1e-12)
    old = torch.full_like(ratios, -1.5)
    both = clipped_surrogate_and_slope(old + ratios.log(), old, advantages, clip_range=CLIP, dual_clip=dual_clip)
    assert torch.equal(both[0], found)
    assert torch.equal(both[1], slopes)


def test_a_ratio_beyond_all_numbers_has_no_slope_where_it_is_clipped() -> None:
    objective, slope = clipped_surrogate_and_slope(
        torch.tensor([200.0]), torch.tensor([0.0]), torch.tensor([1.0]), clip_range=CLIP
    )
    assert objective.tolist() == pytest.approx([1.0 + CLIP])
    assert slope.tolist() == [0.0]


@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_of_equal_policies_it_is_the_advantage_and_its_gradient_the_policy_gradient(dual_clip: float | None) -> None:
    log_prob = torch.randn(16, dtype=torch.float64).requires_grad_()
    advantages = torch.randn(16, dtype=torch.float64)
    objective = clipped_surrogate(log_prob, log_prob.detach(), advantages, clip_range=CLIP, dual_clip=dual_clip)
    (slopes,) = torch.autograd.grad(objective.sum(), log_prob)
    assert torch.equal(objective.detach(), advantages)
    assert torch.equal(slopes, advantages)


@pytest.mark.parametrize("dual_clip", [None, 2.0])
def test_surrogate_has_the_gradient_of_finite_differences(dual_clip: float | None) -> None:
    old = torch.randn(20, dtype=torch.float64)
    log_prob = (old + torch.linspace(-1.5, 1.5, 20, dtype=torch.float64)).requires_grad_()
    advantages = torch.randn(20, dtype=torch.float64)

    def objective(it: Tensor) -> Tensor:
        return clipped_surrogate(it, old, advantages, clip_range=CLIP, dual_clip=dual_clip)

    assert torch.autograd.gradcheck(objective, (log_prob,))


def test_clip_range_may_be_a_tensor_as_on_a_schedule() -> None:
    log_prob, advantages = torch.randn(16), torch.randn(16)
    found = clipped_surrogate(log_prob, torch.zeros(16), advantages, clip_range=torch.tensor(CLIP))
    torch.testing.assert_close(found, clipped_surrogate(log_prob, torch.zeros(16), advantages, clip_range=CLIP))


@pytest.mark.parametrize("dual_clip", [1.0, 0.5, -3.0, math.nan])
def test_dual_clip_that_would_clip_equal_policies_is_refused(dual_clip: float) -> None:
    with pytest.raises(InvalidInputError, match="must be above 1"):
        clipped_surrogate(torch.zeros(2), torch.zeros(2), torch.ones(2), clip_range=CLIP, dual_clip=dual_clip)
    with pytest.raises(InvalidInputError, match="must be above 1"):
        clipped_surrogate_and_slope(torch.zeros(2), torch.zeros(2), torch.ones(2), clip_range=CLIP, dual_clip=dual_clip)


# -------------------------------------------------------------------------------------------------- values


def slow_value_error(kind: str, value: float, target: float) -> float:
    distance = abs(value - target)
    if kind == "squared":
        return distance**2
    return 0.5 * distance**2 if distance < 1.0 else distance - 0.5


@pytest.mark.parametrize("kind", ["squared", "huber"])
def test_value_errors_are_those_of_the_slow_twin(kind: Any) -> None:
    values, targets = torch.linspace(-3.0, 3.0, 13), torch.full((13,), 0.25)
    expected = [slow_value_error(kind, value, 0.25) for value in values.tolist()]
    assert value_errors(values, targets, kind=kind).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["squared", "huber"])
@pytest.mark.parametrize("clip_range", [0.2, torch.tensor(0.2)])
def test_clipped_value_errors_are_those_of_the_slow_twin(kind: Any, clip_range: Any) -> None:
    values, targets = torch.linspace(-2.0, 2.0, 17).repeat(2), torch.tensor([-0.7, 0.9]).repeat_interleave(17)
    old = torch.full((34,), 0.1)
    nearby = [min(max(value, 0.1 - 0.2), 0.1 + 0.2) for value in values.tolist()]
    expected = [
        max(slow_value_error(kind, value, target), slow_value_error(kind, near, target))
        for value, near, target in zip(values.tolist(), nearby, targets.tolist(), strict=True)
    ]
    found = value_errors(values, targets, kind=kind, old_values=old, clip_range=clip_range)
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_value_head_gets_the_whole_gradient() -> None:
    values, targets = torch.randn(9, requires_grad=True), torch.randn(9)
    (slopes,) = torch.autograd.grad(value_errors(values, targets).sum(), values)
    torch.testing.assert_close(slopes, 2.0 * (values - targets).detach())


def test_value_head_gets_the_whole_gradient_within_the_clip_range_and_none_past_it() -> None:
    values = torch.tensor([0.1, 0.5, -0.5], requires_grad=True)
    errors = value_errors(values, torch.ones(3), old_values=torch.zeros(3), clip_range=0.2)
    (slopes,) = torch.autograd.grad(errors.sum(), values)
    assert slopes.tolist() == pytest.approx([-1.8, 0.0, -3.0])


@pytest.mark.parametrize(("kind", "slope"), [("squared", -2.0), ("huber", -1.0)])
def test_rows_above_the_cap_teach_nothing(kind: Any, slope: float) -> None:
    values = torch.tensor([0.0, -10.0], requires_grad=True)
    errors = value_errors(values, torch.ones(2), kind=kind, cap=5.0)
    (slopes,) = torch.autograd.grad(errors.sum(), values)
    assert errors[1].item() == 5.0
    assert slopes.tolist() == [slope, 0.0]


@pytest.mark.parametrize("options", [{"old_values": torch.zeros(2)}, {"clip_range": 0.2}])
def test_half_a_value_clip_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="belong together"):
        value_errors(torch.zeros(2), torch.zeros(2), **options)


def test_unknown_kind_of_value_error_is_refused_with_a_suggestion() -> None:
    kind: Any = "hubert"
    with pytest.raises(UnknownOptionError, match="'huber'"):
        value_errors(torch.zeros(2), torch.zeros(2), kind=kind)


# ------------------------------------------------------------------------------------------------------ KL


def test_mean_of_the_estimate_over_the_old_policy_is_the_divergence() -> None:
    logits = torch.randn(2, 5, dtype=torch.float64)
    old, new = torch.log_softmax(logits, 1).unbind(0)
    divergence = (old.exp() * (old - new)).sum()
    torch.testing.assert_close((old.exp() * approximate_kl(new, old)).sum(), divergence)


def test_estimate_is_never_negative_and_exact_for_small_differences() -> None:
    log_ratios = torch.tensor([-3.0, -1e-3, 0.0, 1e-3, 3.0])
    estimates = approximate_kl(log_ratios, torch.zeros(5))
    assert bool((estimates >= 0.0).all())
    assert estimates[2] == 0.0
    assert estimates[[1, 3]].tolist() == pytest.approx([5e-7, 5e-7], rel=2e-2)


@pytest.mark.parametrize("kind", ["squared", "huber"])
@pytest.mark.parametrize("clip_range", [None, 0.3, torch.tensor(0.3)])
@pytest.mark.parametrize("cap", [None, 0.5])
def test_slopes_of_value_errors_are_those_of_automatic_differentiation(kind: Any, clip_range: Any, cap: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    values, returns, old = 2.0 * torch.randn(3, 200, dtype=torch.float64, generator=generator)
    options = {"kind": kind, "cap": cap, "clip_range": clip_range, "old_values": None if clip_range is None else old}
    values.requires_grad_()
    expected = value_errors(values, returns, **options)
    errors, slopes = value_errors_and_slopes(values, returns, **options)
    assert torch.equal(errors, expected)
    assert not slopes.requires_grad
    torch.testing.assert_close(slopes, torch.autograd.grad(expected.sum(), values)[0])
    assert cap is None or bool((slopes == 0.0).any())


@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_arguments_stay_what_they_were(dual_clip: float | None) -> None:
    tensors = [torch.randn(8) for _ in range(4)]
    before = [tensor.clone() for tensor in tensors]
    log_prob, old, advantages, values = tensors
    clipped_surrogate(log_prob, old, advantages, clip_range=CLIP, dual_clip=dual_clip)
    value_errors(values, advantages, old_values=old, clip_range=CLIP, cap=0.5)
    clipped_surrogate_and_slope(log_prob, old, advantages, clip_range=CLIP, dual_clip=dual_clip)
    value_errors_and_slopes(values, advantages, old_values=old, clip_range=CLIP, cap=0.5)
    approximate_kl(log_prob, old)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(tensors, before, strict=True))
