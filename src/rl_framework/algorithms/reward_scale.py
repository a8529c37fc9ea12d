"""Brings rewards to a size that networks learn from: divided by the standard deviation of discounted returns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_framework.functional.returns import backward_scan
from rl_framework.nn.normalization import RunningNormalization

EPSILON = 1e-8


class RewardScale:
    """Divides rewards by the standard deviation of the returns that were discounted up to each step.

    Args:
        kind: `running` for the statistics of all that was seen, `rollout` for those of the latest rollout alone, `none`
            to leave rewards as they are.
        gamma: Discount factor.
        device: Where rewards are.

    Source: reward scaling as in Engstrom et al., Implementation Matters in Deep Policy Gradients, 2020
    (https://arxiv.org/abs/2005.12729), section 2; its kind `rollout` is that of rl8.
    """

    def __init__(self, kind: str, gamma: float, device: torch.device) -> None:
        self.kind = kind
        self.gamma = gamma
        self._statistics = RunningNormalization(()).to(device)
        self._returns: Tensor | None = None

    def scale(self, rewards: Tensor, starts: Tensor, valid: Tensor | None = None) -> Tensor:
        """Rewards of consecutive steps, scaled; the ones given stay as they are.

        Args:
            rewards: `[T, B]`
            starts: True for steps that open an episode. `[T, B]`
            valid: False for steps that did not happen and have no part in the statistics. `[T, B]`

        Returns:
            `[T, B]`
        """
        if self.kind == "none":
            return rewards
        returns = self._discounted_up_to(rewards, starts)
        counted = returns.flatten() if valid is None else returns[valid]
        if self.kind == "rollout":
            return rewards / (counted.std() + EPSILON)
        self._statistics.update(counted)
        return rewards / torch.sqrt(self._statistics.variance + EPSILON).to(rewards.dtype)

    def forget_rows(self) -> None:
        """Begin again with the returns of each environment; statistics stay."""
        self._returns = None

    def state_dict(self) -> dict[str, Any]:
        """Statistics, and the return of each environment's running episode."""
        return {"statistics": dict(self._statistics.state_dict()), "returns": self._returns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._statistics.load_state_dict(state["statistics"])
        returns = state["returns"]
        self._returns = None if returns is None else returns.to(self._statistics.mean.device)

    def _discounted_up_to(self, rewards: Tensor, starts: Tensor) -> Tensor:
        """R[t] = r[t] + gamma * R[t - 1], begun anew with each episode. `[T, B]`"""
        known = self._returns is not None and len(self._returns) == rewards.shape[1]
        before = self._returns if known else None
        decay = self.gamma * (~starts).to(rewards.dtype)
        first = rewards[0] if before is None else rewards[0] + decay[0] * before
        forward = torch.cat([first.unsqueeze(0), rewards[1:]])
        # The scan runs backwards in time: y[t] = x[t] + decay[t] * y[t + 1], so both are turned around for it.
        returns = backward_scan(forward.flip(0), decay.flip(0)).flip(0)
        self._returns = returns[-1].clone()
        return returns
