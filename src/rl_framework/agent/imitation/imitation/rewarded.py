"""The two wrappers that the library puts around environments: one keeps what happens, one gives a learned reward.

They hold a part of the training state, which the library itself neither saves nor restores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from imitation.data.rollout import TrajectoryAccumulator
from imitation.data.types import maybe_wrap_in_dictobs
from imitation.data.wrappers import BufferingWrapper
from imitation.rewards.reward_wrapper import RewardVecEnvWrapper

from rl_framework.core.trees import Tree


@dataclass(frozen=True, slots=True)
class RewardedEnvironments:
    """The two wrappers of one learner.

    Attributes:
        buffering: Keeps what happens until the learner takes it away.
        rewarding: Gives the learned reward in place of the environment's.
    """

    buffering: BufferingWrapper
    rewarding: RewardVecEnvWrapper

    def clear(self) -> None:
        """Forget the episodes of the previous run; the next thing must be a reset."""
        self._forget_steps()
        self.rewarding._cumulative_rew = np.zeros(self.rewarding.num_envs)

    def go_on(self, observations: Tree, *, same_episodes: bool) -> None:
        """Go on from the environments' current observations, without a reset.

        Args:
            observations: In the spaces that Stable-Baselines3 works with. `[B, ...]`
            same_episodes: Whether they belong to the episodes in which the previous run ended.
        """
        self._forget_steps()
        self.rewarding._old_obs = observations
        accumulator = TrajectoryAccumulator()  # type: ignore[no-untyped-call]  # the library leaves it out
        for row, observation in enumerate(maybe_wrap_in_dictobs(observations)):
            accumulator.add_step({"obs": observation}, key=row)
        self.buffering._traj_accum = accumulator
        self.buffering._init_reset = True
        if not same_episodes or self.buffering._timesteps is None:
            self.buffering._timesteps = np.zeros(self.buffering.num_envs, dtype=int)
            self.rewarding._cumulative_rew = np.zeros(self.rewarding.num_envs)

    def state(self) -> dict[str, Any]:
        """How far each episode is, as a plain tree; taken where the learner has just taken everything away."""
        return {
            "steps": self.buffering._timesteps,
            "rewards": self.rewarding._cumulative_rew,
            "recent": [float(total) for total in self.rewarding.episode_rewards],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; what belongs to single rows only if their number is the same."""
        recent: deque[float] = self.rewarding.episode_rewards
        recent.clear()
        recent.extend(state["recent"])
        if len(state["rewards"]) == self.rewarding.num_envs:
            self.buffering._timesteps = np.array(state["steps"])
            self.rewarding._cumulative_rew = np.array(state["rewards"])

    def _forget_steps(self) -> None:
        """Those that a run which failed in the middle of a round left behind."""
        self.buffering.pop_finished_trajectories()
        self.buffering._saved_acts = None
