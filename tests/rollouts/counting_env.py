"""Environments whose every number can be foretold: they count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree
from rl_framework.envs.tensor_env import TensorEnv, TensorStep
from rl_framework.envs.vector_env import EnvSpec

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (3,), np.float32)


class CountingEnv(TensorEnv):
    """Row i sees [i, number of its episode, step in it]; the reward of step k is k + 1, whatever is done.

    Args:
        lengths: Steps of every episode of each row.
        is_cut: Whether episodes are cut by a time limit rather than ended.
        keeps_books: Whether the environment summarises episodes itself.
        masked: Whether one choice after the other is forbidden, in turn.
        action_space: What can be done.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        is_cut: Sequence[bool] | bool = False,
        keeps_books: bool = False,
        masked: bool = False,
        action_space: gym.Space[Any] | None = None,
    ) -> None:
        space = action_space or spaces.Discrete(3)
        self.spec = EnvSpec(
            n_envs=len(lengths), observation_space=OBSERVATIONS, action_space=space, has_action_masks=masked
        )
        self.device = torch.device("cpu")
        self.lengths = torch.as_tensor(lengths)
        self.is_cut = torch.as_tensor(is_cut).expand(len(lengths))
        self.keeps_books = keeps_books
        self.masked = masked
        self.actions: list[Tree] = []
        self.n_resets = 0

    @property
    def action_masks(self) -> Tensor | None:
        if not self.masked:
            return None
        return torch.arange(3) != self.count.unsqueeze(1) % 3

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Tree:
        self.n_resets += 1
        self.episode = torch.zeros(self.n_envs, dtype=torch.int64)
        self.count = torch.zeros(self.n_envs, dtype=torch.int64)
        return self._observe()

    def step(self, actions: Tree) -> TensorStep:
        self.actions.append(actions)
        self.count = self.count + 1
        rewards = self.count.float()
        ended = self.count >= self.lengths
        if not ended.any():
            return TensorStep(self._observe(), rewards, ended, ended, None, () if self.keeps_books else None)
        final = self._observe()
        books = self._summaries(ended) if self.keeps_books else None
        self.count = torch.where(ended, 0, self.count)
        self.episode = self.episode + ended
        return TensorStep(self._observe(), rewards, ended & ~self.is_cut, ended & self.is_cut, final, books)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "episode": self.episode}

    def load_state_dict(self, state: Mapping[str, Any]) -> Tree:
        self.count, self.episode = state["count"], state["episode"]
        return self._observe()

    def with_n_envs(self, n_envs: int) -> TensorEnv:
        return CountingEnv([int(self.lengths[0])] * n_envs)

    def _observe(self) -> Tree:
        return torch.stack([torch.arange(self.n_envs), self.episode, self.count], 1).float()

    def _summaries(self, ended: Tensor) -> tuple[EpisodeSummary, ...]:
        return tuple(
            EpisodeSummary(row=row, total_reward=float(length * (length + 1) / 2), length=length, success=True)
            for row, length in enumerate(self.lengths.tolist())
            if ended[row]
        )


class NestedCountingEnv(CountingEnv):
    """The same, seen through a Dict and moved by one."""

    def __init__(self, lengths: Sequence[int], *, is_cut: Sequence[bool] | bool = False) -> None:
        actions = {
            "button": spaces.Discrete(3, start=5),
            "levers": spaces.MultiBinary(2),
            "push": spaces.Box(-2, 6, (2,)),
        }
        super().__init__(lengths, is_cut=is_cut, action_space=spaces.Dict(actions))
        parity = spaces.Discrete(2)
        seen = spaces.Dict({"numbers": OBSERVATIONS, "both": spaces.Tuple((parity, parity))})
        self.spec = replace(self.spec, observation_space=seen)

    def _observe(self) -> Tree:
        return {"numbers": super()._observe(), "both": (self.count % 2, self.episode % 2)}
