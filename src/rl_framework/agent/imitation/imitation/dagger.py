"""DAgger: the learner goes where it would go, and an expert says what it should have done there.

The library's own trainers keep what they collect as files of pickles; here it stays in memory and becomes a part of
the training state. Beta schedules and the cloning of each round are the library's.

Source: Ross, Gordon and Bagnell, "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online
Learning" (arXiv 1011.0686).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from imitation.algorithms.bc import BC
from imitation.algorithms.dagger import ExponentialBetaSchedule, LinearBetaSchedule

from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation.imitation.cloning import build_trainer, measure
from rl_framework.agent.imitation.imitation.demonstrations import DemonstrationBatches, Preparation
from rl_framework.agent.imitation.imitation.expert import Expert
from rl_framework.agent.imitation.imitation.labels import (
    LabelRecorder,
    conform,
    episodes_state,
    load_episodes_state,
)
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.imitation.imitation.policy import bare_network, bare_policy
from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.agent.imitation.imitation.table import BC as CLONING_ROW
from rl_framework.agent.imitation_learning_agent import Lessons
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.callbacks.run import TrainingRun
from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.vector_env import StateLevel
from rl_framework.errors import InvalidInputError
from rl_framework.export.onnx import OnnxNetwork

SCHEDULES: dict[str, Callable[[Any], Callable[[int], float]]] = {
    "linear": LinearBetaSchedule,
    "exponential": ExponentialBetaSchedule,
}
MIN_EPISODES = 3
MIN_TIMESTEPS = 500
N_EPOCHS = 4
LOG_INTERVAL = 20


class DaggerLearner:
    """The library's cloning trainer, and what was collected for it so far.

    Args:
        plan: What it is made from.

    Raises:
        InvalidInputError: A parameter is out of range, or the library refuses it.
    """

    def __init__(self, plan: LearnerPlan) -> None:
        self._plan = plan
        self._logger = RunLogger()
        self.trainer = build_trainer(BC, plan, plan.parameters.get("bc_parameters") or {}, self._logger)
        self.beta_schedule = as_beta_schedule(plan.parameters.get("beta_schedule"))
        self._preparation = Preparation(plan.translation, plan.action_space, channels_first=True, with_next=False)
        self._min_episodes = int(plan.parameters.get("rollout_round_min_episodes", MIN_EPISODES))
        self._min_steps = int(plan.parameters.get("rollout_round_min_timesteps", MIN_TIMESTEPS))
        self._n_epochs = int(plan.parameters.get("n_epochs", N_EPOCHS))
        self._timesteps = 0
        self._round = 0
        self._collected: list[Episode] = []
        self._given: EpisodeSequence | None = None
        self._validation: EpisodeSequence | None = None
        self._observations: Tree = None
        self._starts = np.ones(plan.venv.num_envs, dtype=np.bool_)

    @property
    def policy(self) -> StableBaselinesPolicy:
        """What was cloned."""
        return bare_policy(self.trainer.policy, self._plan)

    @property
    def timesteps(self) -> int:
        """Environment steps, each of which the expert was asked about."""
        return self._timesteps

    def attach(self, lessons: Lessons) -> None:
        """Take up demonstrations to begin with, if there are any."""
        self._given, self._validation = lessons.episodes, lessons.validation

    def begin(self, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run."""
        if resumption is None:
            venv = self._plan.venv
            self._observations = venv.env.reset(seed=venv.take_seed())
        else:
            self._observations = resumption.observations
        if resumption is None or resumption.level < StateLevel.EPISODE_BOUNDARY:
            self._starts = np.ones(self._plan.venv.num_envs, dtype=np.bool_)
            self._expert().forget()

    def learn(self, run: TrainingRun) -> None:
        """Collect and clone, round by round, until the run's target is reached."""
        self._check_one_batch(run)
        self._logger.run = run
        while self._timesteps < run.target_timesteps:
            self._collected += self._collect(run)
            self._clone(run)
            self._round += 1
            run.at_boundary(self._timesteps)

    def detach(self) -> None:
        """Let go of the demonstrations that were given."""
        self._logger.run = self._given = self._validation = self._observations = None
        self.trainer._demo_data_loader = None

    def networks(self) -> dict[str, torch.nn.Module]:
        """The policy."""
        return {"policy": self.trainer.policy}

    def state(self) -> dict[str, Any]:
        """The optimiser, counters, the expert's memory, and everything that was collected."""
        return {
            "optimizer": self.trainer.optimizer.state_dict(),
            "timesteps": self._timesteps,
            "round": self._round,
            "starts": self._starts,
            "expert": None if self._plan.expert is None else self._plan.expert.state(),
            "collected": episodes_state(self._collected),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.trainer.optimizer.load_state_dict(state["optimizer"])
        self._timesteps, self._round = state["timesteps"], state["round"]
        self._collected = load_episodes_state(state["collected"])
        if len(state["starts"]) == len(self._starts):
            self._starts = np.array(state["starts"])
            if self._plan.expert is not None and state["expert"] is not None:
                self._plan.expert.load_state(state["expert"])

    def onnx_network(self) -> OnnxNetwork:
        """The deterministic policy."""
        return bare_network(self.trainer.policy, self._plan)

    def _expert(self) -> Expert:
        if self._plan.expert is None:
            raise InvalidInputError(f"{self._plan.row.name} asks an expert while it trains; give expert=...")
        return self._plan.expert

    def _collect(self, run: TrainingRun) -> list[Episode]:
        """One round: enough episodes and steps, or as many steps as are still asked for."""
        recorder = LabelRecorder(self._plan.venv.num_envs, self._plan.action_space)
        beta = self.beta_schedule(self._round)
        wanted = self._timesteps + max(self._min_steps, self.trainer.batch_size)
        found: list[Episode] = []
        while self._timesteps < run.target_timesteps:
            if self._timesteps >= wanted and len(found) >= self._min_episodes:
                break
            found += self._step(run, recorder, beta)
        run.record_metrics({"dagger/round": self._round, "dagger/beta": beta, "dagger/episodes": len(found)})
        return found + recorder.cut(self._observations)

    def _step(self, run: TrainingRun, recorder: LabelRecorder, beta: float) -> list[Episode]:
        env, before = self._plan.venv.env, self._observations
        labels = self._expert().label(before, episode_starts=self._starts, action_masks=env.action_masks)
        env.send(self._mixed(labels, beta))
        step = env.recv()
        self._observations = step.observations
        self._starts = step.terminated | step.truncated
        self._timesteps += len(self._starts)
        run.record_episodes(step.episodes)
        return recorder.add(before, labels, step)

    def _mixed(self, labels: Tree, beta: float) -> Tree:
        """The expert's actions with probability beta, row by row, else the learner's. `[B, ...]`"""
        is_own = self._plan.rng.uniform(size=len(self._starts)) > beta
        if not is_own.any():
            return labels
        own = self.policy.act(self._observations, action_masks=self._plan.venv.env.action_masks).actions
        return map_tree(lambda mine, theirs: np.where(_columns(is_own, mine), mine, theirs), own, labels)

    def _clone(self, run: TrainingRun) -> None:
        batches = DemonstrationBatches(
            self._everything(), self.trainer.minibatch_size, self._preparation, rng=self._plan.rng
        )
        batches.give_to(self.trainer)
        self.trainer.train(n_epochs=self._n_epochs, log_interval=LOG_INTERVAL, progress_bar=False)
        if self._validation is not None:
            run.record_metrics(measure(self.trainer, self._validation, self._preparation))

    def _everything(self) -> EpisodeSequence:
        example = None if self._given is None else self._given[0]
        collected = EpisodeSequence.from_episodes([conform(each, example) for each in self._collected])
        return collected if self._given is None else self._given.concat(collected)

    def _check_one_batch(self, run: TrainingRun) -> None:
        known = sum(map(len, self._collected)) + (0 if self._given is None else self._given.n_transitions)
        missing = run.target_timesteps - self._timesteps
        if missing > 0 and known + missing < self.trainer.batch_size:
            raise InvalidInputError(
                f"A round of {self._plan.row.name} needs at least one batch of {self.trainer.batch_size} labelled "
                f"steps; total_timesteps leaves {known + missing}. Ask for more, or give a smaller batch_size in "
                "bc_parameters."
            )


def as_beta_schedule(given: Any) -> Callable[[int], float]:
    """How often the expert's action is taken, by the number of the round.

    Args:
        given: `("linear", rampdown_rounds)`, `("exponential", decay_probability)`, a function of the round, or None
            for the library's default.

    Raises:
        InvalidInputError: It is something else.
    """
    if given is None:
        return LinearBetaSchedule(15)
    if callable(given):
        schedule: Callable[[int], float] = given
        return schedule
    if isinstance(given, tuple | list) and len(given) == 2 and given[0] in SCHEDULES:
        return SCHEDULES[given[0]](given[1])
    raise InvalidInputError(
        'beta_schedule must be ("linear", rampdown_rounds), ("exponential", decay_probability), one of the library\'s '
        f"schedules, or a function of the round; got {given!r}."
    )


def prepared_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What users gave, checked, with the library's schedules by name.

    Raises:
        UnknownOptionError: A name within `bc_parameters` is not a parameter of BC.
        InvalidInputError: A value is out of range.
    """
    as_beta_schedule(parameters.get("beta_schedule"))
    for name, least in (("rollout_round_min_episodes", 0), ("rollout_round_min_timesteps", 1), ("n_epochs", 1)):
        if parameters.get(name, least) < least:
            raise InvalidInputError(f"{name} must be at least {least}, got {parameters[name]!r}.")
    prepared = dict(parameters)
    if "beta_schedule" in prepared:
        prepared["beta_schedule"] = named_beta_schedule(prepared["beta_schedule"])
    if "bc_parameters" in prepared:
        prepared["bc_parameters"] = CLONING_ROW.prepare(BC, prepared["bc_parameters"])
    return prepared


def named_beta_schedule(given: Any) -> Any:
    """One of the library's schedules in the form that can be written down; anything else as it is."""
    if type(given) is LinearBetaSchedule:
        return ("linear", given.rampdown_rounds)
    if type(given) is ExponentialBetaSchedule:
        return ("exponential", given.decay_probability)
    return given


def _columns(chosen: Any, like: Any) -> Any:
    """A choice of rows, shaped to be spread over the further axes of an array."""
    return chosen.reshape(-1, *(1,) * (np.ndim(like) - 1))
