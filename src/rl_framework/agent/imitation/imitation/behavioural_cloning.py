"""BC: the library's behavioural cloning, one batch after the other.

Source: Pomerleau, "Efficient Training of Artificial Neural Networks for Autonomous Navigation" (1991).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation.imitation.cloning import build_trainer, measure
from rl_framework.agent.imitation.imitation.demonstrations import DemonstrationBatches, Preparation
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.imitation.imitation.policy import bare_network, bare_policy
from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.agent.imitation_learning_agent import Lessons
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.callbacks.run import TrainingRun
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError
from rl_framework.export.onnx import OnnxNetwork


class CloningLearner:
    """The library's trainer, and the demonstrations that it draws from.

    Args:
        plan: What it is made from.

    Raises:
        InvalidInputError: The library refuses a parameter or the spaces.
    """

    def __init__(self, plan: LearnerPlan) -> None:
        self._plan = plan
        self._logger = RunLogger()
        self.trainer = build_trainer(plan.algorithm_class, plan, plan.parameters, self._logger)
        self._preparation = Preparation(plan.translation, plan.action_space, channels_first=True, with_next=False)
        self._timesteps = 0
        self._batches: DemonstrationBatches | None = None
        self._batches_state: Mapping[str, Any] | None = None
        self._validation: EpisodeSequence | None = None

    @property
    def policy(self) -> StableBaselinesPolicy:
        """What was cloned."""
        return bare_policy(self.trainer.policy, self._plan)

    @property
    def timesteps(self) -> int:
        """Transitions that it has learned from, each as often as it was drawn."""
        return self._timesteps

    def attach(self, lessons: Lessons) -> None:
        """Draw from these demonstrations."""
        if lessons.episodes is None:
            raise InvalidInputError(f"{self._plan.row.name} learns from demonstrations.")
        self._batches = DemonstrationBatches(
            lessons.episodes,
            self.trainer.minibatch_size,
            self._preparation,
            rng=self._plan.rng,
            state=self._batches_state,
        )
        self._batches.give_to(self.trainer)
        self._validation = lessons.validation

    def begin(self, resumption: Resumption | None) -> None:
        """There is nothing to open."""

    def learn(self, run: TrainingRun) -> None:
        """Take batches until the run's target is reached."""
        missing = run.target_timesteps - self._timesteps
        if missing <= 0:
            return
        self._logger.run = run
        size = self.trainer.batch_size

        def after_batch() -> None:
            self._timesteps += size
            run.at_boundary(self._timesteps)

        self.trainer.train(
            n_batches=-(-missing // size),
            on_epoch_end=lambda: self._validate(run),
            on_batch_end=after_batch,
            log_interval=max(1, run.report_every // size),
            progress_bar=False,
        )
        self._validate(run)

    def detach(self) -> None:
        """Let go of the demonstrations."""
        self._logger.run = None
        self._batches_state = self._state_of_batches()
        self._batches = self._validation = None
        self.trainer._demo_data_loader = None

    def networks(self) -> dict[str, torch.nn.Module]:
        """The policy."""
        return {"policy": self.trainer.policy}

    def state(self) -> dict[str, Any]:
        """The optimiser, the number of transitions, and where the demonstrations stand."""
        return {
            "optimizer": self.trainer.optimizer.state_dict(),
            "timesteps": self._timesteps,
            "demonstrations": self._state_of_batches(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.trainer.optimizer.load_state_dict(state["optimizer"])
        self._timesteps = state["timesteps"]
        self._batches_state = state["demonstrations"]

    def onnx_network(self) -> OnnxNetwork:
        """The deterministic policy."""
        return bare_network(self.trainer.policy, self._plan)

    def _validate(self, run: TrainingRun) -> None:
        if self._validation is not None:
            run.record_metrics(measure(self.trainer, self._validation, self._preparation))

    def _state_of_batches(self) -> Mapping[str, Any] | None:
        return self._batches_state if self._batches is None else self._batches.state()
