"""A point in the plane with goals, a rule that knows what they are worth, and a replay that remembers them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_framework.algorithms.flat_optimizer import FlatAdam
from rl_framework.algorithms.goal_selection.goal_selection import GoalSelection
from rl_framework.algorithms.parts import Experience, Part, Parts, Workshop
from rl_framework.algorithms.replay_config import ReplayConfig
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.algorithms.updates.base import Learned, UpdateRule
from rl_framework.algorithms.updates.sac import SACConfig
from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL, OBSERVATION
from rl_framework.core.trees import Tree
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.envs.vector_env import EnvSpec

CPU = torch.device("cpu")
PLANE = spaces.Box(-np.inf, np.inf, (2,), np.float32)
SPACE = spaces.Dict({
    OBSERVATION: spaces.Box(-np.inf, np.inf, (3,), np.float32),
    ACHIEVED_GOAL: PLANE,
    DESIRED_GOAL: PLANE,
})  # fmt: skip
RADIUS = 0.15


class KnownValues(UpdateRule):
    """Thinks that a goal costs ten times its distance."""

    def __init__(self) -> None:
        super().__init__(SACConfig())

    def build(self, workshop: Workshop) -> None:
        pass

    def learn(self, batch: ReplayBatch, step: int) -> Learned:
        raise NotImplementedError

    def networks(self) -> dict[str, nn.Module]:
        return {}

    def optimizers(self) -> dict[str, FlatAdam]:
        return {}

    def act(self, observations: Tree, *, deterministic: bool, generator: torch.Generator | None = None) -> Tensor:
        return torch.zeros(len(observations[OBSERVATION]), 2)

    def values(self, observations: Tree, actions: Tensor | None = None) -> Tensor:
        distance: Tensor = (observations[OBSERVATION][:, :2] - observations[DESIRED_GOAL]).norm(dim=1)
        return -10.0 * distance


def distance_reward(achieved: Tensor, desired: Tensor) -> Tensor:
    distance: Tensor = (achieved - desired).norm(dim=1)
    return -(distance > RADIUS).float()


def workshop(parts: Mapping[str, Part], seed: int = 0, gamma: float = 0.98) -> Workshop:
    """Joins parts, and sets them up."""
    joined = Parts(parts)
    shop = Workshop(
        spec=EnvSpec(n_envs=2, observation_space=SPACE, action_space=spaces.Box(-1.0, 1.0, (2,), np.float32)),
        device=CPU,
        generator=torch.Generator().manual_seed(seed),
        gammas=(0.5, gamma),
        goal_reward=distance_reward,
        parts=joined,
    )
    joined.set_up(shop)
    return shop


def goal_parts(goals: GoalSelection, seed: int = 0) -> Workshop:
    """A learner that only remembers and chooses goals."""
    return workshop({"replay": ReplayPart(ReplayConfig(capacity=2000)), "goals": goals, "rule": KnownValues()}, seed)


def observed(positions: Tensor, goals: Tensor) -> dict[str, Tensor]:
    """What is seen at positions `[B, 2]`."""
    extra = torch.ones(len(positions), 1)
    return {OBSERVATION: torch.cat([positions, extra], 1), ACHIEVED_GOAL: positions, DESIRED_GOAL: goals}


def step(
    before: Tensor, after: Tensor, pursued: Tensor, own: Tensor, ended: Tensor, starts: Tensor | None = None
) -> Experience:
    """What was experienced on the way from one position to another.

    Args:
        before: `[B, 2]`
        after: `[B, 2]`
        pursued: `[B, 2]`
        own: What the environments ask for, in the next episode, too. `[B, 2]`
        ended: `[B]`, bool
        starts: Where next episodes begin, at 0 if None. `[B, 2]`
    """
    begun = torch.zeros_like(after) if starts is None else starts
    return Experience(
        observations=observed(before, pursued),
        actions=torch.zeros(len(before), 2),
        rewards=distance_reward(after, pursued),
        next_observations=observed(after, pursued),
        terminated=torch.zeros_like(ended),
        truncated=ended,
        following=observed(torch.where(ended[:, None], begun, after), own),
        environment_goals=own,
    )


class Walk:
    """Walks at random in all environments, in episodes of a few steps that do not end together.

    Args:
        shop: What learns from it.
        n_envs: Number of environments.
        seed: Of the steps.
        own: What the environments ask for.
    """

    def __init__(self, shop: Workshop, n_envs: int = 2, seed: int = 0, own: tuple[float, float] = (5.0, 5.0)) -> None:
        self._shop = shop
        self._generator = torch.Generator().manual_seed(seed)
        self._positions = torch.zeros(n_envs, 2)
        self._own = torch.tensor(own).expand(n_envs, 2).clone()
        self._clock = 0
        self.goals = shop.parts.get(GoalSelection)
        self.history: list[Tensor] = []

    def take(self, n_steps: int) -> None:
        for _ in range(n_steps):
            seen = self.goals.relabel(observed(self._positions, self._own))
            after = self._positions + 0.3 * torch.randn(self._positions.shape, generator=self._generator)
            ended = (torch.arange(len(after)) * 3 + self._clock) % 8 == 7
            self._clock += 1
            self._shop.parts.process(step(self._positions, after, seen[DESIRED_GOAL], self._own, ended))
            self.goals.optimize(self._clock)
            self._positions = torch.where(ended[:, None], torch.zeros_like(after), after)
            self.history.append(self.goals.pursued.clone())
