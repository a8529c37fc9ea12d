from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rl_framework.errors import InvalidInputError
from rl_framework.functional.returns import (
    backward_scan,
    discounted_returns,
    generalized_advantages,
    n_step_returns,
    td_lambda_targets,
    vtrace,
)
from tests.functional import slow_returns as slow
from tests.functional.slow_returns import Block, blocks

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SHARES = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0))
BARS = st.sampled_from([(1.0, 1.0), (2.0, 0.5), (math.inf, 1.0), (3.0, 3.0)])
GAMMA = 0.9


def returns(block: Block, gamma: float = GAMMA) -> Tensor:
    return discounted_returns(
        block.rewards, block.terminated, block.truncated, gamma=gamma, next_values=block.next_values
    )


def rewards_alone(block: Block, gamma: float = GAMMA) -> Tensor:
    return discounted_returns(block.rewards, block.terminated, block.truncated, gamma=gamma)


def advantages(block: Block, gamma: float = GAMMA, gae_lambda: float = 0.8) -> Tensor:
    ends = (block.terminated, block.truncated)
    return generalized_advantages(
        block.rewards, block.values, block.next_values, *ends, gamma=gamma, gae_lambda=gae_lambda
    )


def td_lambda(block: Block, gamma: float = GAMMA, td_lambda: float = 0.8) -> Tensor:
    ends = (block.terminated, block.truncated)
    return td_lambda_targets(block.rewards, block.next_values, *ends, gamma=gamma, td_lambda=td_lambda)


def n_step(block: Block, gamma: float = GAMMA, n_steps: int = 3) -> Tensor:
    ends = (block.terminated, block.truncated)
    return n_step_returns(block.rewards, block.next_values, *ends, gamma=gamma, n_steps=n_steps)


def traced(
    block: Block, gamma: float = GAMMA, bars: tuple[float, float] = (1.0, 1.0), trace_lambda: float = 0.8
) -> tuple[Tensor, Tensor]:
    found = vtrace(
        block.rewards,
        block.values,
        block.next_values,
        block.terminated,
        block.truncated,
        log_prob=block.log_prob,
        behaviour_log_prob=block.behaviour_log_prob,
        gamma=gamma,
        rho_bar=bars[0],
        c_bar=bars[1],
        trace_lambda=trace_lambda,
    )
    return found.values, found.advantages


ALL: dict[str, Callable[[Block], Tensor]] = {
    "returns": returns,
    "rewards alone": rewards_alone,
    "advantages": advantages,
    "td_lambda": td_lambda,
    "n_step": n_step,
    "vtrace values": lambda block: traced(block)[0],
    "vtrace advantages": lambda block: traced(block)[1],
}
BOOTSTRAPPING = {name: function for name, function in ALL.items() if name != "rewards alone"}


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-8)


def random_block(n_steps: int, n_rows: int = 3, p_end: float = 0.2) -> Block:
    """As `blocks` draws them, of any size."""
    generator = torch.Generator().manual_seed(n_steps)
    rewards, values, beyond, logs, other_logs = torch.randn(
        5, n_steps, n_rows, dtype=torch.float64, generator=generator
    )
    ends = torch.rand(n_steps, n_rows, generator=generator)
    terminated, truncated = ends < p_end / 2, (ends >= p_end / 2) & (ends < p_end)
    goes_on = ~(terminated | truncated)
    goes_on[-1] = False
    next_values = torch.where(goes_on, values.roll(-1, 0), beyond)
    return Block(rewards, values, next_values, terminated, truncated, logs / 5, other_logs / 5)


class RecordedOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it without types
    """Names of what is done to tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without types
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


# ------------------------------------------------------------------------------------------------- the scan


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_steps", [*range(1, 40), 64, 127, 1000])
def test_scan_is_the_loop(n_steps: int, dtype: torch.dtype, device: str) -> None:
    generator = torch.Generator().manual_seed(n_steps)
    x = torch.randn(n_steps, 3, dtype=dtype, generator=generator)
    decay = torch.rand(n_steps, 3, dtype=dtype, generator=generator)
    decay[torch.rand(n_steps, 3, generator=generator) < 0.1] = 0.0
    decay[torch.rand(n_steps, 3, generator=generator) < 0.3] = 1.0

    found = backward_scan(x.to(device), decay.to(device))

    rows = zip(x.T.tolist(), decay.T.tolist(), strict=True)
    expected = torch.tensor([slow.backward_scan(*row) for row in rows], dtype=torch.float64).T
    assert (found.dtype, found.device.type) == (dtype, device)
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-5 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("shape", [(13,), (13, 2, 3), (13, 0)])
def test_scan_takes_any_further_axes(shape: tuple[int, ...]) -> None:
    x, decay = torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    columns = backward_scan(x.reshape(13, -1), decay.reshape(13, -1))
    assert_equal(backward_scan(x, decay), columns.reshape(shape))


def test_scan_takes_views() -> None:
    x, decay = torch.randn(4, 20), torch.tensor(0.5).expand(20, 4)
    torch.testing.assert_close(backward_scan(x.T, decay), backward_scan(x.T.contiguous(), decay.contiguous()))


def test_long_sums_of_undiscounted_ones_are_exact_in_float32() -> None:
    ones = torch.ones(10_000, 2)
    assert torch.equal(backward_scan(ones, ones)[:, 0], torch.arange(10_000, 0, -1, dtype=torch.float32))


def test_a_decay_of_zero_cuts_exactly_and_small_decays_stay_finite() -> None:
    x, decay = torch.full((10_000, 1), 0.1), torch.full((10_000, 1), 1e-30)
    decay[::3] = 0.0
    assert torch.equal(backward_scan(x, decay), x)


def test_the_last_decay_is_not_read() -> None:
    x, decay = torch.randn(20, 2), torch.rand(20, 2)
    changed = decay.clone()
    changed[-1] = torch.nan
    assert torch.equal(backward_scan(x, changed), backward_scan(x, decay))


@pytest.mark.parametrize("n_steps", [1, 2, 8, 9, 21])
def test_scan_is_differentiable_twice(n_steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, decay = torch.rand(2, n_steps, 2, dtype=torch.float64, generator=generator)
    decay[n_steps // 2, 0] = 0.0
    inputs = (x.requires_grad_(), decay.requires_grad_())
    assert torch.autograd.gradcheck(backward_scan, inputs)
    assert torch.autograd.gradgradcheck(backward_scan, inputs)


def test_scan_is_differentiable_by_one_argument_alone() -> None:
    x, decay = torch.randn(12, 2, dtype=torch.float64), torch.rand(12, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda it: backward_scan(it, decay), (x.clone().requires_grad_(),))
    assert torch.autograd.gradcheck(lambda it: backward_scan(x, it), (decay.clone().requires_grad_(),))


@pytest.mark.parametrize(
    ("x", "decay", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(3), "of one shape"),
        (torch.zeros(0, 2), torch.zeros(0, 2), "at least one time step"),
        (torch.zeros(()), torch.zeros(()), "at least one time step"),
        (torch.zeros(3, dtype=torch.int64), torch.zeros(3), r"x must be a tensor of floats, got torch.int64"),
    ],
)
def test_scan_refuses_what_it_cannot_sum(x: Tensor, decay: Tensor, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        backward_scan(x, decay)


# ----------------------------------------------------------------------------------------------- slow twins


@settings(deadline=None)
@given(block=blocks(), gamma=SHARES)
def test_returns_are_those_of_the_slow_twin(block: Block, gamma: float) -> None:
    assert_equal(
        returns(block, gamma), block.each(lambda row, step: slow.discounted_return(row, step, gamma, bootstraps=True))
    )


@settings(deadline=None)
@given(block=blocks(), gamma=SHARES)
def test_rewards_to_go_are_those_of_the_slow_twin(block: Block, gamma: float) -> None:
    expected = block.each(lambda row, step: slow.discounted_return(row, step, gamma, bootstraps=False))
    assert_equal(rewards_alone(block, gamma), expected)


@settings(deadline=None)
@given(block=blocks(), gamma=SHARES, gae_lambda=SHARES)
def test_advantages_are_those_of_the_slow_twin(block: Block, gamma: float, gae_lambda: float) -> None:
    expected = block.each(lambda row, step: slow.generalized_advantage(row, step, gamma, gae_lambda))
    assert_equal(advantages(block, gamma, gae_lambda), expected)


@settings(deadline=None)
@given(block=blocks(), gamma=SHARES, mixed=SHARES)
def test_td_lambda_targets_are_those_of_the_slow_twin(block: Block, gamma: float, mixed: float) -> None:
    assert_equal(
        td_lambda(block, gamma, mixed), block.each(lambda row, step: slow.td_lambda_target(row, step, gamma, mixed))
    )


@settings(deadline=None)
@given(block=blocks(max_steps=18), gamma=SHARES, n_steps=st.integers(1, 20))
def test_n_step_returns_are_those_of_the_slow_twin(block: Block, gamma: float, n_steps: int) -> None:
    assert_equal(
        n_step(block, gamma, n_steps), block.each(lambda row, step: slow.n_step_return(row, step, gamma, n_steps))
    )


@settings(deadline=None)
@given(block=blocks(), gamma=SHARES, bars=BARS, trace_lambda=SHARES)
def test_vtrace_is_that_of_the_slow_twin(
    block: Block, gamma: float, bars: tuple[float, float], trace_lambda: float
) -> None:
    values, weights = traced(block, gamma, bars, trace_lambda)
    assert_equal(values, block.each(lambda row, step: slow.vtrace_value(row, step, gamma, bars, trace_lambda)))
    assert_equal(weights, block.each(lambda row, step: slow.vtrace_advantage(row, step, gamma, bars, trace_lambda)))


# ----------------------------------------------------------------------------------------------- identities


@settings(deadline=None)
@given(block=blocks(), gamma=SHARES)
def test_advantages_with_lambda_one_are_returns_minus_values(block: Block, gamma: float) -> None:
    assert_equal(advantages(block, gamma, 1.0), returns(block, gamma) - block.values)


@settings(deadline=None)
@given(block=blocks(), gamma=SHARES, mixed=SHARES)
def test_advantages_and_values_are_td_lambda_targets(block: Block, gamma: float, mixed: float) -> None:
    assert_equal(advantages(block, gamma, mixed) + block.values, td_lambda(block, gamma, mixed))


@settings(deadline=None)
@given(block=blocks(), gamma=SHARES, mixed=SHARES)
def test_vtrace_of_equal_policies_is_td_lambda(block: Block, gamma: float, mixed: float) -> None:
    values, _ = traced(block.on_policy(), gamma, trace_lambda=mixed)
    assert_equal(values, td_lambda(block, gamma, mixed))


@settings(deadline=None)
@given(block=blocks(), gamma=SHARES)
def test_undecayed_vtrace_of_equal_policies_has_the_advantages_of_returns(block: Block, gamma: float) -> None:
    _, weights = traced(block.on_policy(), gamma, trace_lambda=1.0)
    assert_equal(weights, returns(block, gamma) - block.values)


@settings(deadline=None)
@given(block=blocks(), gamma=SHARES)
def test_lambda_zero_and_one_step_are_the_one_step_target(block: Block, gamma: float) -> None:
    one_step = block.rewards + gamma * block.next_values.nan_to_num(0.0)
    assert_equal(td_lambda(block, gamma, 0.0), one_step)
    assert_equal(n_step(block, gamma, 1), one_step)
    assert_equal(advantages(block, gamma, 0.0), one_step - block.values)
    assert_equal(traced(block.on_policy(), gamma, trace_lambda=0.0)[0], one_step)


@pytest.mark.parametrize("surplus", [0, 1, 1000])
def test_more_steps_than_there_are_give_the_whole_return(surplus: int) -> None:
    block = random_block(21, p_end=0.05)
    assert_equal(n_step(block, GAMMA, 21 + surplus), returns(block, GAMMA))


# ------------------------------------------------------------------------------------------------------ ends


@pytest.mark.parametrize("name", BOOTSTRAPPING)
def test_what_follows_a_termination_is_never_read(name: str) -> None:
    block = random_block(30)
    poisoned = replace(block, next_values=block.next_values.masked_fill(block.terminated, torch.nan))
    assert torch.equal(ALL[name](poisoned), ALL[name](block))


@pytest.mark.parametrize("name", BOOTSTRAPPING)
@pytest.mark.parametrize("cut", [4, 9])
def test_what_follows_a_truncation_and_the_last_step_counts(name: str, cut: int) -> None:
    block = random_block(10, n_rows=1, p_end=0.0)
    block.truncated[4] = True
    raised = replace(block, next_values=block.next_values.index_fill(0, torch.tensor([cut]), 50.0))
    difference = (ALL[name](raised) - ALL[name](block))[:, 0]
    assert difference[cut] > 1.0
    assert torch.equal(difference.nonzero()[:, 0], torch.arange(cut - 2 if name == "n_step" else cut // 5 * 5, cut + 1))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_later_episodes_do_not_reach_back_over_an_end(name: str, kind: str) -> None:
    block = random_block(20, p_end=0.0)
    getattr(block, kind)[7] = True
    other = random_block(20, p_end=0.0)
    later = {each.name: getattr(block, each.name).clone() for each in fields(block)}
    for values in ("rewards", "values", "next_values", "log_prob"):
        later[values][8:] = getattr(other, values)[8:] + 3.0
    changed = ALL[name](Block(**later))
    assert torch.equal(changed[:8], ALL[name](block)[:8])
    assert not torch.equal(changed[8:], ALL[name](block)[8:])


@pytest.mark.parametrize("name", BOOTSTRAPPING)
def test_a_step_with_both_ends_is_a_termination(name: str) -> None:
    block = random_block(15)
    both = replace(block, truncated=block.truncated | block.terminated)
    assert torch.equal(ALL[name](both), ALL[name](block))


# ------------------------------------------------------------------------------------------- for all of them


@pytest.mark.parametrize("name", ALL)
def test_arguments_stay_what_they_were(name: str) -> None:
    block = random_block(30)
    before = {each.name: getattr(block, each.name).clone() for each in fields(block)}
    result = ALL[name](block)
    for key, tensor in before.items():
        assert torch.equal(getattr(block, key), tensor)
        assert result.data_ptr() != getattr(block, key).data_ptr()


@pytest.mark.parametrize("name", ALL)
def test_operations_grow_with_the_logarithm_and_never_ask_the_host(name: str) -> None:
    counts = {}
    for n_steps in (100, 10_000):
        block = random_block(n_steps, n_rows=1)
        with RecordedOperations() as recorded:
            ALL[name](block)
        counts[n_steps] = len(recorded.names)
        assert not {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal"} & set(recorded.names)
    assert counts[10_000] - counts[100] < 20 * math.log2(100)
    assert counts[10_000] < 300


@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_values_and_rewards(name: str) -> None:
    block = random_block(11, n_rows=2)
    floats = ("rewards", "values", "next_values", "log_prob")

    def result(*given: Tensor) -> Tensor:
        return ALL[name](replace(block, **dict(zip(floats, given, strict=True))))

    inputs = [getattr(block, key).clone().requires_grad_() for key in floats]
    assert torch.autograd.gradcheck(result, inputs)


def test_float32_stays_float32() -> None:
    block = random_block(9)
    single = Block(**{each.name: _single(getattr(block, each.name)) for each in fields(block)})
    for name, function in ALL.items():
        assert function(single).dtype == torch.float32, name
        torch.testing.assert_close(function(single).double(), function(block), rtol=1e-4, atol=1e-4)


def _single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def test_flags_that_are_numbers_are_refused() -> None:
    block = random_block(3)
    with pytest.raises(InvalidInputError, match=r"truncated must be a tensor of bool, got torch.float32"):
        returns(replace(block, truncated=block.truncated.float()))


def test_tensors_of_other_shapes_are_refused_with_their_names() -> None:
    block = random_block(3)
    with pytest.raises(InvalidInputError, match=r"of one shape .*'next_values': \(2, 3\)"):
        advantages(replace(block, next_values=block.next_values[1:]))


def test_no_steps_before_the_value_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="n_steps must be at least 1"):
        n_step(random_block(3), GAMMA, 0)
