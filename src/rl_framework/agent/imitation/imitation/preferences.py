"""Preference comparisons: a reward is learned from which of two fragments is better, and a generator learns from it.

Source: Christiano et al. 2017, https://arxiv.org/abs/1706.03741
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from imitation.algorithms.preference_comparisons import SyntheticGatherer
from imitation.data.types import TrajectoryWithRew
from stable_baselines3.common.buffers import ReplayBuffer

from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation.imitation.checked_episodes import checked_episodes
from rl_framework.agent.imitation.imitation.comparisons import (
    comparisons_per_round,
    dataset_state,
    load_dataset_state,
    merged_rounds,
)
from rl_framework.agent.imitation.imitation.demonstrations import Preparation
from rl_framework.agent.imitation.imitation.generator import Generator
from rl_framework.agent.imitation.imitation.learned_rewards import LearnedRewardVecEnv, check_played_lengths
from rl_framework.agent.imitation.imitation.played_trajectories import PlayedTrajectories
from rl_framework.agent.imitation.imitation.preference_parts import (
    build_comparisons,
    build_reward_net,
    last_epoch_metrics,
    reward_optimizers,
    rollout_steps,
    without_unsaved,
)
from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.agent.imitation_learning_agent import Lessons
from rl_framework.agent.reinforcement.stable_baselines.episodes import open_episodes
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.callbacks.run import TrainingRun
from rl_framework.compat.imitation_progress_bars import no_progress_bars
from rl_framework.core.trees import Tree
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.vector_env import StateLevel
from rl_framework.errors import InvalidInputError
from rl_framework.export.onnx import OnnxNetwork

DEFAULT_COMPARISONS = 1000
RELABELLED_AT_ONCE = 4096


class PreferenceLearner:
    """A reward network that learns from comparisons, and a generator that is rewarded by it.

    A run has `num_iterations` + 1 rounds, or as many as the generator has rollouts. Each compares fragments of what
    the generator did lately and trains the reward network on all comparisons; the first one does so before the
    generator learns. Timesteps are those that the generator learns from: episodes that are played
    only to be compared come on top, as in the library. Recorded episodes, if there are any, are compared in the
    first round, too.
    """

    def __init__(self, plan: LearnerPlan) -> None:
        self._plan = plan = without_unsaved(plan)
        self._reward_net = build_reward_net(plan)
        self._generator = Generator(plan)
        options = plan.parameters.get("trajectory_generator_kwargs", {})
        self._played = PlayedTrajectories(self._generator.model, plan.rng, **options)
        self._comparisons = build_comparisons(plan, self._reward_net, self._played)
        self._environments = LearnedRewardVecEnv(plan.venv, self._reward, self._played)
        self._generator.act_in(self._environments)
        self._recorded: list[TrajectoryWithRew] = []
        self._rounds: list[int] = []
        self._rounds_done = 0
        self._first_timesteps = 0
        self._round_steps = 0
        self._horizon: int | None = None

    @property
    def policy(self) -> StableBaselinesPolicy:
        """What acts."""
        return self._generator.policy

    @property
    def timesteps(self) -> int:
        """Environment steps that the generator has learned from in its life."""
        return self._generator.timesteps

    @property
    def n_comparisons(self) -> int:
        """Comparisons that the reward is learned from."""
        return len(self._comparisons.dataset)

    def attach(self, lessons: Lessons) -> None:
        """Take up recorded episodes to compare, if there are any."""
        self._recorded = [] if lessons.episodes is None else self._as_recorded(lessons.episodes)

    def begin(self, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run."""
        if resumption is None:
            self._rounds = []
        elif resumption.level < StateLevel.EPISODE_BOUNDARY:
            self._environments.continue_from(self._plan.translation.observations(resumption.observations))
        self._generator.begin(resumption)

    def learn(self, run: TrainingRun) -> None:
        """Compare, learn the reward, act and learn, until the run's target."""
        if not self._rounds:
            self._plan_rounds(run)

        def compare() -> None:
            self._compare_if_due(run)

        self._generator.learn(run, between=compare, from_start=True)

    def detach(self) -> None:
        """Let go of the recorded episodes."""
        self._recorded = []

    def networks(self) -> Mapping[str, torch.nn.Module]:
        """The generator's policy and the reward network."""
        return {"policy": self._generator.model.policy, "reward": self._reward_net}

    def state(self) -> dict[str, Any]:
        """The generator, what was compared, what is there to compare, and how far the rounds are."""
        return {
            "generator": self._generator.state(),
            "optimizers": [each.state_dict() for each in self._optimizers],
            "comparisons": dataset_state(self._comparisons.dataset),
            "played": self._played.state(),
            "environments": self._environments.state(),
            "rounds": {
                "comparisons": self._rounds,
                "done": self._rounds_done,
                "first_timesteps": self._first_timesteps,
                "steps": self._round_steps,
            },
            "most_steps": self._played.most_steps,
            "horizon": self._horizon,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._generator.load_state(state["generator"])
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        load_dataset_state(self._comparisons.dataset, state["comparisons"])
        self._played.load_state(state["played"])
        self._played.most_steps = state["most_steps"]
        self._environments.load_state(state["environments"])
        rounds = state["rounds"]
        self._rounds, self._rounds_done = rounds["comparisons"], rounds["done"]
        self._first_timesteps, self._round_steps = rounds["first_timesteps"], rounds["steps"]
        self._horizon = state["horizon"]

    def onnx_network(self) -> OnnxNetwork:
        """The generator's deterministic policy."""
        return self._generator.onnx_network()

    # Rounds

    def _plan_rounds(self, run: TrainingRun) -> None:
        parts, total = self._comparisons, self._plan.parameters.get("total_comparisons", DEFAULT_COMPARISONS)
        wanted = comparisons_per_round(total, parts.initial_comparison_frac, parts.num_iterations, parts.query_schedule)
        steps = run.target_timesteps - self.timesteps
        self._rounds = merged_rounds(wanted, math.ceil(steps / rollout_steps(self._generator.model)))
        self._rounds_done, self._first_timesteps = 0, self.timesteps
        self._round_steps = max(1, steps // len(self._rounds))
        self._played.most_steps = max(map(self._steps_to_compare, self._rounds))

    def _compare_if_due(self, run: TrainingRun) -> None:
        self._check_lengths(run)
        while self._is_due and self.timesteps < run.target_timesteps:
            self._compare(run)

    @property
    def _is_due(self) -> bool:
        taken = self.timesteps - self._first_timesteps
        return self._rounds_done < len(self._rounds) and taken >= self._rounds_done * self._round_steps

    def _compare(self, run: TrainingRun) -> None:
        """One round: fragments are compared, and the reward network learns from all that were."""
        parts, count = self._comparisons, self._rounds[self._rounds_done]
        if count:
            self._gather(count)
        if len(parts.dataset):
            is_first = self._rounds_done == 0
            with no_progress_bars():
                parts.reward_trainer.train(parts.dataset, parts.initial_epoch_multiplier if is_first else 1.0)
            run.record_metrics({**last_epoch_metrics(parts.logger), "reward/comparisons": len(parts.dataset)})
            self._relabel()
        self._rounds_done += 1

    def _gather(self, count: int) -> None:
        parts = self._comparisons
        trajectories = [*self._played.sample(self._steps_to_compare(count))]
        if self._rounds_done == 0:
            trajectories += self._recorded
        fitting = [each for each in trajectories if len(each) >= parts.fragment_length]
        if not fitting:
            raise InvalidInputError(
                f"No episode is as long as fragment_length={parts.fragment_length}; the longest of {len(trajectories)} "
                f"has {max(map(len, trajectories))} steps. Give a smaller fragment_length in algorithm_parameters."
            )
        fragments = parts.fragmenter(fitting, parts.fragment_length, count)
        parts.dataset.push(fragments, np.asarray(parts.preference_gatherer(fragments), dtype=np.float32))
        if self._played.was_played:
            open_episodes(self._generator.model)

    def _steps_to_compare(self, count: int) -> int:
        parts = self._comparisons
        return math.ceil(parts.transition_oversampling * 2 * count * parts.fragment_length)

    def _check_lengths(self, run: TrainingRun) -> None:
        lengths, totals = self._environments.take_finished()
        if not self._plan.allow_variable_horizon:
            self._horizon = check_played_lengths(lengths, self._horizon, self._plan.row.name)
        if totals:
            run.record_metrics({"reward/mean_learned_return": float(np.mean(totals))})

    def _as_recorded(self, episodes: EpisodeSequence) -> list[TrajectoryWithRew]:
        """Recorded episodes as the library compares them.

        Raises:
            InvalidInputError: They have no rewards, and it is rewards that are compared.
        """
        if not episodes.has_rewards and isinstance(self._comparisons.preference_gatherer, SyntheticGatherer):
            raise InvalidInputError(
                "These episodes were recorded without rewards, by which synthetic preferences compare them. Give a "
                "preference_gatherer in algorithm_parameters, or no episodes."
            )
        preparation = Preparation(self._plan.translation, self._plan.action_space)
        return [
            TrajectoryWithRew(
                obs=preparation.observations(each.observations),
                acts=preparation.actions(each.actions),
                rews=np.array(np.zeros(len(each)) if each.rewards is None else each.rewards, dtype=np.float32),
                infos=None,
                terminal=each.terminated,
            )
            for each in checked_episodes(episodes)
        ]

    # Rewards

    @property
    def _optimizers(self) -> list[Any]:
        return reward_optimizers(self._comparisons.reward_trainer)

    def _reward(
        self, observations: Tree, actions: Tree, next_observations: Tree, dones: npt.NDArray[np.bool_], _steps: Any, /
    ) -> npt.NDArray[np.float32]:
        rewards = self._reward_net.predict_processed(observations, actions, next_observations, dones)
        return np.asarray(rewards, dtype=np.float32)

    def _relabel(self) -> None:
        """Give what stands in a replay the rewards that it would earn now."""
        model = self._generator.model
        buffer: Any = getattr(model, "replay_buffer", None)
        is_plain = type(buffer) is ReplayBuffer and not buffer.optimize_memory_usage
        if not is_plain or model.observation_space != self._plan.venv.observation_space:
            return
        filled = buffer.buffer_size if buffer.full else buffer.pos
        for start in range(0, filled, RELABELLED_AT_ONCE):
            part = slice(start, min(start + RELABELLED_AT_ONCE, filled))
            relabel(buffer, part, model, self._reward)


def relabel(buffer: ReplayBuffer, part: slice, model: Any, reward: Any) -> None:
    """Compute the rewards of some time steps of a replay anew."""
    seen, following = (
        column[part].reshape(-1, *model.observation_space.shape)
        for column in (buffer.observations, buffer.next_observations)
    )
    actions = buffer.actions[part].reshape(-1, *model.action_space.shape)
    if isinstance(model.action_space, spaces.Box):
        actions = model.policy.unscale_action(actions)
    rewards = reward(seen, actions, following, buffer.dones[part].reshape(-1).astype(np.bool_), None)
    buffer.rewards[part] = rewards.reshape(buffer.rewards[part].shape)
