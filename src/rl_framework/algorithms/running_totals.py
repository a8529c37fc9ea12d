"""Books of running episodes: what each row has earned, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rl_framework.core.reports import EpisodeSummary
from rl_framework.envs.tensor_env import TensorEnv, TensorStep


class RunningTotals:
    """Keeps the books for environments that keep none themselves.

    Args:
        device: Where the steps are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.begin(0)

    def begin(self, n_envs: int, saved: dict[str, Any] | None = None) -> None:
        """Open the books.

        Args:
            n_envs: Number of rows.
            saved: What `state_dict` gave for the same running episodes; None where all begin.
        """
        if saved is not None and len(saved["returns"]) == n_envs:
            self._returns = saved["returns"].to(self._device, copy=True)
            self._lengths = saved["lengths"].to(self._device, copy=True)
            return
        self._returns = torch.zeros(n_envs, dtype=torch.float64, device=self._device)
        self._lengths = torch.zeros(n_envs, dtype=torch.int64, device=self._device)

    def after(self, step: TensorStep, env: TensorEnv) -> Sequence[EpisodeSummary]:
        """Summaries of the episodes that ended with a step; the device is waited for if the host has to find out.

        Args:
            step: Of all rows.
            env: What was stepped.
        """
        if step.episodes is not None:
            return step.episodes
        self._returns += step.rewards
        self._lengths += 1
        ended = step.terminated | step.truncated
        summaries = self._summaries(ended, env.successes(step.final)) if bool(ended.any()) else ()
        self._returns.masked_fill_(ended, 0.0)
        self._lengths.masked_fill_(ended, 0)
        return summaries

    def state_dict(self) -> dict[str, Any]:
        """What each row has earned and lasted."""
        return {"returns": self._returns.clone(), "lengths": self._lengths.clone()}

    def _summaries(self, ended: Tensor, successes: Tensor | None) -> tuple[EpisodeSummary, ...]:
        rows = ended.nonzero()[:, 0]
        returns, lengths = self._returns[rows].tolist(), self._lengths[rows].tolist()
        said = [None] * len(returns) if successes is None else successes[rows].tolist()
        return tuple(
            EpisodeSummary(row=row, total_reward=total, length=length, success=success)
            for row, total, length, success in zip(rows.tolist(), returns, lengths, said, strict=True)
        )
