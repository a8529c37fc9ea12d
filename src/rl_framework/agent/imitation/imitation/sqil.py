"""SQIL: an off-policy algorithm of which half of every batch is the expert's, rewarded by 1, and its own by 0.

Source: Reddy, Dragan, Levine 2019, https://arxiv.org/abs/1905.11108
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation.imitation.checked_episodes import checked_episodes
from rl_framework.agent.imitation.imitation.demonstrations import Preparation
from rl_framework.agent.imitation.imitation.expert_replay import DemonstratedReplayBuffer, ExpertTransitions
from rl_framework.agent.imitation.imitation.generator import Generator
from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.agent.imitation_learning_agent import Lessons
from rl_framework.agent.reinforcement.stable_baselines.model import ModelPlan
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.callbacks.run import TrainingRun
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError
from rl_framework.export.onnx import OnnxNetwork

SET_HERE = ("replay_buffer_class", "replay_buffer_kwargs", "n_steps")


class SQILLearner:
    """An off-policy model over the library's replay buffer.

    What the model saw itself is part of the state; the expert's part of the replay comes from the demonstrations of
    each call. Rewards are never normalised: they are what tells the expert from the model.
    """

    def __init__(self, plan: LearnerPlan) -> None:
        self._plan = replace(plan, generator=_demonstrated(plan))
        self._generator = Generator(self._plan)

    @property
    def policy(self) -> StableBaselinesPolicy:
        """What acts."""
        return self._generator.policy

    @property
    def timesteps(self) -> int:
        """Environment steps in its life."""
        return self._generator.timesteps

    @property
    def model(self) -> BaseAlgorithm:
        """The library's own object."""
        return self._generator.model

    def attach(self, lessons: Lessons) -> None:
        """Put the expert's transitions into the replay."""
        if lessons.episodes is None:
            raise InvalidInputError("SQIL needs demonstrations; give it an episode_sequence.")
        self._replay.set_demonstrations(expert_transitions(lessons.episodes, self._plan, self.model))

    def begin(self, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run."""
        self._generator.begin(resumption)

    def learn(self, run: TrainingRun) -> None:
        """Act and learn until the run's target."""
        self._generator.learn(run)

    def detach(self) -> None:
        """Let go of the expert's transitions."""
        self._replay.set_demonstrations(None)

    def networks(self) -> Mapping[str, torch.nn.Module]:
        """The model's policy."""
        return {"policy": self.model.policy}

    def state(self) -> dict[str, Any]:
        """The model, its own part of the replay included."""
        return {"generator": self._generator.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._generator.load_state(state["generator"])

    def onnx_network(self) -> OnnxNetwork:
        """The model's deterministic policy."""
        return self._generator.onnx_network()

    @property
    def _replay(self) -> DemonstratedReplayBuffer:
        buffer: DemonstratedReplayBuffer = self.model.replay_buffer  # type: ignore[attr-defined]  # off-policy models have one
        return buffer


def expert_transitions(episodes: EpisodeSequence, plan: LearnerPlan, model: BaseAlgorithm) -> ExpertTransitions:
    """Demonstrations as the replay of a model keeps transitions, in the number types of its spaces.

    Args:
        episodes: The demonstrations.
        plan: Tells the environment's spaces.
        model: Tells its own spaces: pictures have their channels first, actions are scaled to [-1, 1].

    Raises:
        InvalidInputError: An episode has other arrays than the first, or a number that is NaN or infinite.
    """
    preparation = Preparation(plan.translation, plan.action_space, channels_first=True)
    lengths = np.asarray(episodes.lengths)
    dones = np.zeros(int(lengths.sum()), dtype=np.bool_)
    observations, actions = [], []
    for episode, end in zip(checked_episodes(episodes), np.cumsum(lengths), strict=True):
        observations.append(preparation.observations(episode.observations))
        actions.append(preparation.actions(episode.actions))
        dones[end - 1] = episode.terminated
    return ExpertTransitions(
        observations=_columns(observations, model.observation_space),
        actions=_replayed_actions(np.concatenate(actions), model),
        places=np.arange(len(dones)) + np.repeat(np.arange(len(lengths)), lengths),
        dones=dones,
    )


def _columns(parts: list[np.ndarray[Any, Any]], space: Any) -> np.ndarray[Any, Any]:
    joined = np.concatenate(parts)
    shape = (1,) if isinstance(space, spaces.Discrete) else space.shape
    return joined.reshape(-1, *shape).astype(space.dtype, copy=False)


def _replayed_actions(actions: np.ndarray[Any, Any], model: BaseAlgorithm) -> np.ndarray[Any, Any]:
    """As `OffPolicyAlgorithm` puts them into its replay; the library puts the expert's there as they are."""
    space = model.action_space
    if isinstance(space, spaces.Box):
        actions = model.policy.scale_action(actions.astype(space.dtype, copy=False))
        return actions.reshape(len(actions), -1).astype(np.float32, copy=False)
    return actions.reshape(len(actions), -1).astype(space.dtype, copy=False)


def _demonstrated(plan: LearnerPlan) -> ModelPlan:
    """The generator's plan with SQIL's replay, checked.

    Raises:
        InvalidInputError: The algorithm has no replay, or a parameter is SQIL's.
    """
    generator = plan.generator
    if generator is None or not issubclass(generator.algorithm_class, OffPolicyAlgorithm):
        given = None if generator is None else generator.algorithm_class.__name__
        raise InvalidInputError(
            f"SQIL needs an off-policy algorithm as generator_class, such as DQN or SAC; got {given}."
        )
    for name in SET_HERE:
        if name in generator.parameters:
            raise InvalidInputError(f"Parameter {name!r} of {generator.algorithm_class.__name__} is set by SQIL.")
    parameters = {**generator.parameters, "replay_buffer_class": DemonstratedReplayBuffer}
    normalization = generator.normalization
    unrewarded = None if normalization is None else replace(normalization, rewards=False)
    return ModelPlan(generator.algorithm_class, parameters, unrewarded)
