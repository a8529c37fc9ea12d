"""The off-policy learner from recordings: from them alone, or beside what it does itself.

Sources: Levine et al., Offline Reinforcement Learning, 2020 (https://arxiv.org/abs/2005.01643); Ball et al., Efficient
Online Reinforcement Learning with Offline Data, 2023 (https://arxiv.org/abs/2302.02948), for minibatches of which half
is recorded.
"""

from __future__ import annotations

from typing import Any

from rl_framework.algorithms.base import CollectReport
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.algorithms.off_policy_config import OffPolicyConfig
from rl_framework.core.trees import Tree
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import InvalidInputError


class OfflineOffPolicy(OffPolicy):
    """`OffPolicy` that also learns from recordings, alone or beside what it does itself.

    Without environments, each `update` takes as many gradient steps as there would be steps of environments.

        learner = OfflineOffPolicy(DetachedEnv(spec), OffPolicyConfig(rule="td3_bc"))
        learner.open_recordings(episodes, share=1.0, acts=False)
        learner.begin(None, timesteps=0, target_timesteps=0)
        learner.collect()
        learner.update()

    Attributes:
        has_ever_acted: Whether it has ever acted in environments.
    """

    def __init__(self, env: VectorEnv | TensorEnv, config: OffPolicyConfig | None = None) -> None:
        """Make the parts; see `OffPolicy`."""
        super().__init__(env, config)
        self.has_ever_acted = False
        self._acts = True

    def open_recordings(
        self, episodes: EpisodeSequence | None, *, share: float, acts: bool, resumes: bool = False
    ) -> None:
        """Say what the next run learns from; `begin` follows.

        Args:
            episodes: The recordings, with rewards; None for none.
            share: Their share of each minibatch while it acts.
            acts: Whether it acts in its environments.
            resumes: Whether this is the run that was interrupted, with the same recordings.

        Raises:
            InvalidInputError: There is nothing to learn from, there are recordings without rewards, or goals are to be
                relabelled without environments, which alone know the rewards.
            SpaceError: The recordings do not fit the replay.
        """
        if episodes is None and not acts:
            raise InvalidInputError("There is nothing to learn from: give recordings, or environments to act in.")
        if not acts and self._pays_for_goals:
            raise InvalidInputError(
                "Only environments know what other goals would have paid. Give training_environments beside the "
                "recordings, or leave replay.relabel and goals out."
            )
        self._acts = acts
        self._replay.close_recordings(remembers=resumes)
        if episodes is None:
            return
        self._replay.open_recordings(episodes, share if acts else 1.0, resumes=resumes)
        if not resumes and self._rule.features.is_normalized:
            self._rule.features.update_normalization(self._replay.recorded_observations())

    def close_recordings(self) -> None:
        """Let go of the recordings: the run that learns from them is over, or will be resumed."""
        self._replay.close_recordings(remembers=True)

    def begin(self, observations: Tree, *, timesteps: int, target_timesteps: int, resumes: bool = False) -> None:
        """Take up a run; see `Algorithm.begin`. Without environments there are no observations, and None are given."""
        self._updates.forget()
        if self._acts:
            super().begin(observations, timesteps=timesteps, target_timesteps=target_timesteps, resumes=resumes)

    def collect(self) -> CollectReport:
        """Act, if it acts.

        Returns:
            Environment steps; where it does not act, the recorded steps that the next update learns from.
        """
        if self._acts:
            self.has_ever_acted = True
            return super().collect()
        self._due += self.config.steps_per_collect
        return CollectReport(timesteps=self.config.steps_per_collect * self._replay.config.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """What `OffPolicy` has; recordings are not in it."""
        return {**super().state_dict(), "has_ever_acted": self.has_ever_acted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; `open_recordings` and `begin` must follow before the next `collect`."""
        super().load_state_dict(state)
        self.has_ever_acted = state["has_ever_acted"]
