"""A policy acts in environments for some steps at a time, and whole episodes come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.rollout import Position, Rollout
from rl_framework.data.rollout_columns import map_present
from rl_framework.envs.tensor_env import TensorEnv, as_tensor_env
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import InvalidInputError
from rl_framework.nn.episode_tensors import EpisodeTensors
from rl_framework.nn.model import Model
from rl_framework.rollouts.episode_totals import SUCCESSES, ended_episodes, running_totals
from rl_framework.rollouts.running_episodes import EpisodeEnds, RunningEpisodes
from rl_framework.rollouts.sampling import check_positive, device_of, record, start
from rl_framework.rollouts.step_recorder import Acting
from rl_framework.rollouts.watched_env import WatchedEnv


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CollectedEpisode:
    """One episode of a policy, from its first step to the last.

    Attributes:
        tensors: What was seen and done.
        rewards: What it earned. `[T]`
        log_prob: Log-probability of each action under the policy that acted, when it did. `[T]`
        terminated: The task ended; otherwise the episode was cut.
    """

    tensors: EpisodeTensors
    rewards: Tensor
    log_prob: Tensor
    terminated: bool

    def __len__(self) -> int:
        """Number of steps, T."""
        return len(self.tensors)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Collection:
    """What some steps in all environments brought.

    Attributes:
        episodes: Those that are complete, in the order in which they ended; they may have begun earlier.
        timesteps: Steps taken, over all environments.
        summaries: Of the environments' own episodes that ended, however they were cut here.
        rollout: The steps, those of episodes that go on included.
    """

    episodes: list[CollectedEpisode]
    timesteps: int
    summaries: Sequence[EpisodeSummary]
    rollout: Rollout


class EpisodeCollector:
    """Steps environments with a policy, and hands out each episode when it has ended.

    An episode that runs at the end of a `collect` goes on in the next one, so nothing is lost; it may have been played
    by a policy that changed on the way, which its log-probabilities tell. Its last observation is what was really
    seen last.

        collector = EpisodeCollector(policy, open_environments("CartPole-v1", n_envs=8))
        for episode in collector.collect(1024).episodes:
            trainer.add_episode(
                episode.tensors,
                rewards=episode.rewards,
                terminated=episode.terminated,
                log_prob=episode.log_prob,
            )

    Args:
        policy: What acts.
        env: Where.
        max_length: Longer episodes are cut, as if by a time limit. The environment plays on, and what follows is an
            episode of its own: with memory, the policy begins it with none. None for no limit.
        keeps_unfinished: Whether what still runs after the steps is kept for the next time. Otherwise it is cut there
            and handed out as well.
        generator: Where actions are drawn; torch's global generator if None.

    Raises:
        InvalidInputError: `max_length` is not positive, or the environments are on another device than the policy.
    """

    def __init__(
        self,
        policy: Model,
        env: VectorEnv | TensorEnv,
        *,
        max_length: int | None = None,
        keeps_unfinished: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        check_positive("max_length", 1 if max_length is None else max_length)
        self._policy = policy
        self._env = WatchedEnv(as_tensor_env(env, device_of(policy)), max_length)
        self._keeps_unfinished = keeps_unfinished
        self._generator = generator
        self._position: Position | None = None
        self._running = RunningEpisodes(self._env.n_envs)

    def begin(self, observations: Tree | None = None, *, state: Mapping[str, Any] | None = None) -> None:
        """Start from environments that were just reset, or were put back into the middle of their episodes.

        Args:
            observations: What they show now, as tensors; they are reset here if None. `[B, ...]` per leaf
            state: What `state_dict` gave when they were there; None if every row has just been reset.
        """
        if observations is None:
            observations = self._env.reset()
        position = start(self._policy, self._env, observations)
        self._running = RunningEpisodes(self._env.n_envs)
        self._env.lengths = torch.zeros_like(self._env.lengths)
        if state is not None and len(state["position"]["starts"]) == self._env.n_envs:
            device = self._env.device
            saved = {name: map_present(lambda leaf: leaf.to(device), part) for name, part in state["position"].items()}
            position = replace(position, **saved)
            self._running.load_state_dict(state["running"], device)
            self._env.lengths = state["lengths"].to(device)
        self._position = position

    def collect(self, n_steps: int) -> Collection:
        """Act for at least so many steps over all environments, the same number in each.

        Args:
            n_steps: Rounded up to a multiple of the number of environments.

        Raises:
            InvalidInputError: `n_steps` is not positive.
            SpaceError: The policy's outputs do not fit the action space.
        """
        check_positive("n_steps", n_steps)
        if self._position is None:
            self.begin()
        begin = self.position
        self._env.forget()
        horizon = -(-n_steps // self._env.n_envs)
        acting = Acting(
            deterministic=False,
            gradients=False,
            generator=self._generator,
            state_interval=horizon,
            only_actions=True,
        )
        rollout, kept = record(self._policy, self._env, horizon, begin, acting)
        self._position, summaries = self._booked(rollout, begin)
        episodes = self._episodes(rollout)
        return Collection(
            episodes=episodes,
            timesteps=len(rollout) * rollout.n_rows,
            summaries=summaries if kept is None else kept,
            rollout=rollout,
        )

    @property
    def position(self) -> Position:
        """Where the environments stand.

        Raises:
            InvalidInputError: Nowhere yet.
        """
        if self._position is None:
            raise InvalidInputError("Call begin() or collect() first.")
        return self._position

    def state_dict(self) -> dict[str, Any] | None:
        """Memory, counts and steps of the running episodes, as a plain tree; None before the first of them."""
        if self._position is None:
            return None
        names = ("state", "starts", "episode_returns", "episode_lengths")
        return {
            "position": {name: getattr(self._position, name) for name in names},
            "running": self._running.state_dict(),
            "lengths": self._env.lengths,
        }

    def _booked(self, rollout: Rollout, begin: Position) -> tuple[Position, Sequence[EpisodeSummary]]:
        """Where the environments stand now, and their own episodes that ended: what was only cut here goes on."""
        if rollout.next is None:
            raise InvalidInputError("Nobody can go on after this rollout.")
        ended = rollout.ended & ~self._env.was_cut(rollout.ended)
        before = begin.episode_returns, begin.episode_lengths
        returns, lengths = running_totals(rollout.rewards, ended, *before)
        after = replace(rollout.next, episode_returns=returns, episode_lengths=lengths)
        if not self._keeps_unfinished:
            after = replace(after, starts=torch.ones_like(after.starts))
            self._env.lengths = torch.zeros_like(self._env.lengths)
        return after, ended_episodes(rollout.rewards, ended, *before, successes=rollout.extras.get(SUCCESSES))

    def _episodes(self, rollout: Rollout) -> list[CollectedEpisode]:
        """The episodes that are complete now."""
        ends = self._ends(rollout)
        terminated = rollout.terminated.cpu().numpy()[ends.steps, ends.rows]
        columns = {
            "observations": rollout.observations,
            "targets": rollout.actions,
            "rewards": rollout.rewards,
            "log_prob": rollout.log_prob,
            "masks": rollout.masks,
        }
        found = self._running.take({name: part for name, part in columns.items() if part is not None}, ends)
        return [_episode(columns, is_end) for columns, is_end in zip(found, terminated.tolist(), strict=True)]

    def _ends(self, rollout: Rollout) -> EpisodeEnds:
        """Where episodes end: those of the environments, those that were too long, and, if wanted, those that run."""
        steps, rows = rollout.ended.nonzero(as_tuple=True)
        last = self._env.last_observations(steps, rows) if len(steps) else None
        if not self._keeps_unfinished:
            running = (~rollout.ended[-1]).nonzero().squeeze(1)
            now = map_tree(lambda leaf: leaf[running], self.position.observations)
            last = now if last is None else map_tree(lambda *parts: torch.cat(parts), last, now)
            steps = torch.cat([steps, torch.full_like(running, len(rollout) - 1)])
            rows = torch.cat([rows, running])
        return EpisodeEnds(np.asarray(steps.cpu()), np.asarray(rows.cpu()), last)


def _episode(columns: Mapping[str, Tree], is_end: bool) -> CollectedEpisode:
    tensors = EpisodeTensors(
        observations=columns["observations"], targets=columns["targets"], masks=columns.get("masks")
    )
    return CollectedEpisode(
        tensors=tensors, rewards=columns["rewards"], log_prob=columns["log_prob"], terminated=is_end
    )
