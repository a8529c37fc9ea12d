"""Density estimation: what an expert was often seen doing is rewarded, and a generator learns from that reward.

Source: https://imitation.readthedocs.io/en/latest/algorithms/density.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation.imitation.demonstrations import Preparation
from rl_framework.agent.imitation.imitation.density_model import DensityModel
from rl_framework.agent.imitation.imitation.generator import Generator
from rl_framework.agent.imitation.imitation.learned_rewards import LearnedRewardVecEnv, check_played_lengths
from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.agent.imitation_learning_agent import Lessons
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.callbacks.run import TrainingRun
from rl_framework.envs.vector_env import StateLevel
from rl_framework.errors import InvalidInputError
from rl_framework.export.onnx import OnnxNetwork

MODEL_PARAMETERS = ("density_type", "kernel", "kernel_bandwidth", "is_stationary", "standardise_inputs")


class DensityLearner:
    """A density model, and a generator that is rewarded by it.

    What the density was fitted to is part of the state: an agent that is loaded goes on under the same reward, until
    it is given other demonstrations.
    """

    def __init__(self, plan: LearnerPlan) -> None:
        self._plan = plan
        self._density = DensityModel(plan.venv, **plan.own(*MODEL_PARAMETERS))
        self._rewards = LearnedRewardVecEnv(plan.venv, self._density)
        self._generator = Generator(plan)
        self._generator.act_in(self._rewards)
        self._horizon: int | None = None

    @property
    def policy(self) -> StableBaselinesPolicy:
        """What acts."""
        return self._generator.policy

    @property
    def timesteps(self) -> int:
        """Environment steps in its life."""
        return self._generator.timesteps

    @property
    def reward(self) -> DensityModel:
        """What transitions are worth."""
        return self._density

    def attach(self, lessons: Lessons) -> None:
        """Fit the density to demonstrations; without any, keep the one that there is."""
        if lessons.episodes is not None:
            preparation = Preparation(self._plan.translation, self._plan.action_space)
            self._density.fit(lessons.episodes, preparation)
        elif not self._density.is_fitted:
            raise InvalidInputError("Density estimation needs demonstrations; give it an episode_sequence.")

    def begin(self, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run."""
        if resumption is not None and resumption.level < StateLevel.EPISODE_BOUNDARY:
            self._rewards.continue_from(self._plan.translation.observations(resumption.observations))
        self._generator.begin(resumption)

    def learn(self, run: TrainingRun) -> None:
        """Act and learn until the run's target."""

        def look() -> None:
            self._look(run)

        self._generator.learn(run, between=look)

    def _look(self, run: TrainingRun) -> None:
        lengths, totals = self._rewards.take_finished()
        if not self._plan.allow_variable_horizon:
            self._horizon = check_played_lengths(lengths, self._horizon, self._plan.row.name)
        if totals:
            run.record_metrics({"reward/mean_learned_return": float(np.mean(totals))})

    def detach(self) -> None:
        """Nothing to let go of: what the density was fitted to is its state."""

    def networks(self) -> Mapping[str, torch.nn.Module]:
        """The generator's policy."""
        return {"policy": self._generator.model.policy}

    def state(self) -> dict[str, Any]:
        """The generator, the reward's data, and how far episodes are."""
        return {
            "generator": self._generator.state(),
            "demonstrations": self._density.transitions,
            "environments": self._rewards.state(),
            "horizon": self._horizon,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; the density is fitted again."""
        transitions: Mapping[int | None, Any] = state["demonstrations"]
        if transitions:
            self._density.refit(transitions)
        self._generator.load_state(state["generator"])
        self._rewards.load_state(state["environments"])
        self._horizon = state["horizon"]

    def onnx_network(self) -> OnnxNetwork:
        """The generator's deterministic policy."""
        return self._generator.onnx_network()
