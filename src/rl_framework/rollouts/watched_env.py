"""Environments whose episodes are cut at a length, and of which nothing that was seen last is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from rl_framework.core.trees import Tree, map_tree, select
from rl_framework.envs.tensor_env import TensorEnv, TensorStep
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.rollouts.step_recorder import can_look


class WatchedEnv(TensorEnv):
    """Steps other environments, and keeps the true last observations of the episodes that end.

    An episode that reaches the greatest length is cut there, whatever the environment says; the environment plays on,
    and what it plays counts as a new episode from then on.

    Args:
        env: What is stepped.
        max_length: The greatest length of an episode; None for as long as the environment plays.

    Attributes:
        lengths: Steps since an episode was opened, by the environment or by a cut. `[B]`
    """

    def __init__(self, env: TensorEnv, max_length: int | None = None) -> None:
        self.env = env
        self.device = env.device
        self.can_truncate = env.can_truncate or max_length is not None
        self.lengths = torch.zeros(env.n_envs, dtype=torch.int64, device=env.device)
        self._max_length = max_length
        self._looks = can_look(env.device)
        self._n_steps = 0
        self._cut: list[tuple[int, Tensor]] = []
        self._finals: list[tuple[int, Tree]] = []

    @property
    def spec(self) -> EnvSpec:  # type: ignore[override]  # Masks that travel in infos are known after the first reset.
        """What is known about the environments."""
        return self.env.spec

    @property
    @override
    def action_masks(self) -> Tensor | None:
        return self.env.action_masks

    @override
    def successes(self, observations: Tree) -> Tensor | None:
        return self.env.successes(observations)

    @override
    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Tree:
        self.lengths = torch.zeros_like(self.lengths)
        return self.env.reset(seed, options)

    @override
    def step(self, actions: Tree) -> TensorStep:
        step = self.env.step(actions)
        if self._max_length is not None:
            step = self._shortened(step, self._max_length)
        if step.final is not None:
            self._keep(step)
        self._n_steps += 1
        return step

    def forget(self) -> None:
        """Let go of what was seen in the steps so far, which are counted from 0 again."""
        self._n_steps = 0
        self._cut, self._finals = [], []

    def was_cut(self, ended: Tensor) -> Tensor:
        """Where an episode ended only here, since `forget`. `[T, B]`

        Args:
            ended: Where one ended. `[T, B]`
        """
        found = torch.zeros_like(ended)
        for index, cut in self._cut:
            found[index] = cut
        return found

    def last_observations(self, steps: Tensor, rows: Tensor) -> Tree:
        """What was seen last in the episodes that ended since `forget`. `[K, ...]` per leaf

        Args:
            steps: The step with which each of them ended, in order. `[K]`
            rows: The row in which it did, in order within a step. `[K]`
        """
        if self._looks:
            return map_tree(lambda *parts: torch.cat(parts), *(final for _, final in self._finals))
        numbers = torch.full((self._n_steps,), -1, device=self.device)
        numbers[[index for index, _ in self._finals]] = torch.arange(len(self._finals), device=self.device)
        found = map_tree(lambda *parts: torch.stack(parts), *(final for _, final in self._finals))
        return select(found, (numbers[steps], rows))

    def _shortened(self, step: TensorStep, max_length: int) -> TensorStep:
        """The step with episodes cut that have become too long."""
        ended = step.terminated | step.truncated
        self.lengths = self.lengths + 1
        cut = (self.lengths >= max_length) & ~ended
        self.lengths = self.lengths.masked_fill(ended | cut, 0)
        if self._looks and not bool(cut.any()):
            return step
        self._cut.append((self._n_steps, cut))
        final = step.observations if step.final is None else step.final
        return replace(step, truncated=step.truncated | cut, final=final)

    def _keep(self, step: TensorStep) -> None:
        """Note what followed: where the host may look, only of the rows that ended."""
        rows = (step.terminated | step.truncated).nonzero().squeeze(1) if self._looks else None
        self._finals.append((self._n_steps, step.final if rows is None else select(step.final, rows)))

    # What belongs to the environments alone

    @override
    def state_dict(self) -> dict[str, Any]:
        return self.env.state_dict()

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> Tree:
        return self.env.load_state_dict(state)

    @override
    def with_n_envs(self, n_envs: int) -> TensorEnv:
        return WatchedEnv(self.env.with_n_envs(n_envs), self._max_length)

    @override
    def close(self) -> None:
        self.env.close()
