"""Slow twins of `rl_framework.functional.returns`: one row, plain floats, sums as the papers write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor


@dataclass(frozen=True)
class Row:
    """T steps of one row."""

    rewards: list[float]
    values: list[float]
    next_values: list[float]
    terminated: list[bool]
    truncated: list[bool]
    ratios: list[float]

    def until_end(self, start: int) -> range:
        """Steps from `start` to the end of its episode, or to the last one of the block."""
        stop = start
        while stop < len(self.rewards) - 1 and not (self.terminated[stop] or self.truncated[stop]):
            stop += 1
        return range(start, stop + 1)

    def after(self, step: int) -> float:
        """What the value function says of what followed a step."""
        return 0.0 if self.terminated[step] else self.next_values[step]


@dataclass(frozen=True)
class Block:
    """T steps of B rows, float64, as arguments of the fast functions; `next_values` is NaN where nothing followed."""

    rewards: Tensor
    values: Tensor
    next_values: Tensor
    terminated: Tensor
    truncated: Tensor
    log_prob: Tensor
    behaviour_log_prob: Tensor

    def rows(self) -> list[Row]:
        ratios = (self.log_prob - self.behaviour_log_prob).exp()
        tensors = (self.rewards, self.values, self.next_values, self.terminated, self.truncated, ratios)
        return [Row(*columns) for columns in zip(*(tensor.T.tolist() for tensor in tensors), strict=True)]

    def on_policy(self) -> Block:
        return replace(self, log_prob=self.behaviour_log_prob)

    def each(self, twin: Callable[[Row, int], float]) -> Tensor:
        """What a twin gives for every step of every row. `[T, B]`"""
        columns = [[twin(row, step) for step in range(len(row.rewards))] for row in self.rows()]
        return torch.tensor(columns, dtype=torch.float64).T


@st.composite
def blocks(draw: st.DrawFn, max_steps: int = 11, max_rows: int = 3) -> Block:
    """Blocks whose values fit each other: where an episode goes on, what followed a step is the next observation."""
    shape = (draw(st.integers(1, max_steps)), draw(st.integers(1, max_rows)))
    numbers = arrays.arrays(np.float64, (5, *shape), elements=st.floats(-10.0, 10.0, width=16))
    rewards, values, beyond, logs, other_logs = torch.from_numpy(draw(numbers)).unbind(0)
    ends = torch.from_numpy(draw(arrays.arrays(np.int64, shape, elements=st.sampled_from((0, 0, 0, 1, 2)))))
    goes_on = torch.cat([ends[:-1] == 0, torch.zeros_like(ends[-1:], dtype=torch.bool)])
    next_values = torch.where(goes_on, values.roll(-1, 0), beyond).masked_fill(ends == 1, torch.nan)
    return Block(rewards, values, next_values, ends == 1, ends == 2, logs / 10, other_logs / 10)


def backward_scan(x: list[float], decay: list[float]) -> list[float]:
    sums, behind = [], 0.0
    for added, factor in zip(reversed(x), reversed(decay), strict=True):
        behind = added + factor * behind
        sums.append(behind)
    return sums[::-1]


def discounted_return(row: Row, step: int, gamma: float, *, bootstraps: bool) -> float:
    steps = row.until_end(step)
    rewards = sum(gamma ** (later - step) * row.rewards[later] for later in steps)
    return rewards + (gamma ** len(steps) * row.after(steps[-1]) if bootstraps else 0.0)


def n_step_return(row: Row, step: int, gamma: float, n_steps: int) -> float:
    """Sutton & Barto, equation 7.1: n rewards and the value after them, fewer where the episode ends before."""
    steps = row.until_end(step)[:n_steps]
    rewards = sum(gamma ** (later - step) * row.rewards[later] for later in steps)
    return rewards + gamma ** len(steps) * row.after(steps[-1])


def td_lambda_target(row: Row, step: int, gamma: float, td_lambda: float) -> float:
    """Sutton & Barto, equation 12.3: all n-step returns, the weight that is left over on the longest one."""
    longest = len(row.until_end(step))
    shorter = sum(td_lambda ** (n - 1) * n_step_return(row, step, gamma, n) for n in range(1, longest))
    return (1.0 - td_lambda) * shorter + td_lambda ** (longest - 1) * n_step_return(row, step, gamma, longest)


def generalized_advantage(row: Row, step: int, gamma: float, gae_lambda: float) -> float:
    """Schulman et al. 2016, equation 16: a sum of the errors of the value function."""
    return sum((gamma * gae_lambda) ** (later - step) * _error(row, later, gamma) for later in row.until_end(step))


def vtrace_value(row: Row, step: int, gamma: float, bars: tuple[float, float], trace_lambda: float) -> float:
    """Espeholt et al. 2018, equation 1 with remark 2: `bars` are rho and c."""
    rho_bar, c_bar = bars
    target, trace = row.values[step], 1.0
    for later in row.until_end(step):
        target += trace * min(rho_bar, row.ratios[later]) * _error(row, later, gamma)
        trace *= gamma * trace_lambda * min(c_bar, row.ratios[later])
    return target


def vtrace_advantage(row: Row, step: int, gamma: float, bars: tuple[float, float], trace_lambda: float) -> float:
    """Espeholt et al. 2018, section 4.2: the ratio times (r + gamma v[t + 1] - V)."""
    steps = row.until_end(step)
    is_last = len(steps) == 1
    after = row.after(step) if is_last else vtrace_value(row, step + 1, gamma, bars, trace_lambda)
    return min(bars[0], row.ratios[step]) * (row.rewards[step] + gamma * after - row.values[step])


def _error(row: Row, step: int, gamma: float) -> float:
    return row.rewards[step] + gamma * row.after(step) - row.values[step]
