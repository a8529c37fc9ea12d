"""Plays whole episodes and keeps all of them: an expert's demonstrations, a learner's attempts."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.core.policy import Policy
from rl_framework.core.seeding import SeparateRandomness, derive_seeds, fresh_seed
from rl_framework.core.spaces import map_space
from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.episode import Episode
from rl_framework.envs.source import EnvironmentSource, environment_source
from rl_framework.envs.vector_env import VectorEnv, VectorStep
from rl_framework.rollouts.step_history import StepHistory
from rl_framework.rollouts.stepping import check_plan, check_spaces, deal, open_rows, start_rows, steps, whole_games


def play_episodes(
    policy: Policy,
    environments: Any,
    n_episodes: int,
    *,
    deterministic: bool = False,
    seed: int | None = None,
    n_envs: int | None = None,
) -> Generator[Episode, None, None]:
    """Play episodes with a policy, many environments at a time, and give each of them whole.

    Seeds and shares are dealt out as `evaluate_policy` does it: the k-th episode has the same seed whatever `n_envs`
    is, and the same seeds and `n_envs` give the same episodes. They come in the order in which they were dealt out,
    each as soon as it is over and those before it were given; only those that wait and those that are being played
    are held in memory. Whoever takes them may draw random numbers in between; neither disturbs the other.

    Observations and actions have the types of their spaces, rewards are float64 as the environment gave them. In a
    game of several agents, the rows are its agents: each gives an episode of its own.

    Args:
        policy: What acts.
        environments: Anything that can be trained on. What the caller opened stays open.
        n_episodes: Number of episodes.
        deterministic: The policy's most probable actions instead of sampled ones.
        seed: Seed of episodes and policy; drawn from the operating system if None.
        n_envs: Environments side by side; at most one per episode. Where the given environments cannot be copied,
            their number; else 64 unless given.

    Raises:
        InvalidInputError: `n_episodes` or `n_envs` is not positive, or `seed` is negative.
        SpaceError: The environments do not have the policy's spaces, or the policy gave an action outside of them.
        EnvironmentFailure: An environment raised, died, hung or gave an invalid number.
    """
    check_plan("n_episodes", n_episodes, n_envs, seed)
    source = environment_source(environments)
    seed = fresh_seed() if seed is None else seed
    return _play(policy, source, n_episodes, n_envs=n_envs, deterministic=deterministic, seed=seed)


def record_episodes(
    policy: Policy,
    env: VectorEnv,
    schedules: Sequence[Sequence[int]],
    *,
    deterministic: bool = False,
    seed: int | None = None,
) -> Iterator[tuple[int, Episode]]:
    """Play `len(schedules[i])` episodes in row i, and give row and episode as they end.

    Rows that are done rest; where environments cannot be given seeds, they play on and nobody looks.

    Args:
        policy: What acts.
        env: Where; its spaces are the policy's.
        schedules: Seeds of the episodes of each row. B sequences
        deterministic: The policy's most probable actions instead of sampled ones.
        seed: Seed of the first reset of environments whose episodes cannot be seeded one by one.

    Raises:
        SpaceError: The policy gave an action that the action space does not have.
        EnvironmentFailure: An environment raised, died, hung or gave an invalid number.
    """
    missing = {row: len(schedule) for row, schedule in enumerate(schedules) if schedule}
    starts = dict.fromkeys(missing, 0)
    history = StepHistory()
    for step in steps(policy, env, start_rows(env, schedules, seed), deterministic=deterministic):
        history.add((step.observations, _typed(env.spec.action_space, step.actions), step.result.rewards))
        for row in [summary.row for summary in step.result.episodes if summary.row in missing]:
            yield row, _episode(history.take(row, starts[row]), row, step.result)
            missing[row] -= 1
            starts[row] = history.n_steps
            if not missing[row]:
                del missing[row], starts[row]
        if not missing:
            return
        history.forget(min(starts.values()))


def _play(
    policy: Policy, source: EnvironmentSource, n_episodes: int, *, n_envs: int | None, deterministic: bool, seed: int
) -> Generator[Episode, None, None]:
    randomness = SeparateRandomness(seed, policy.action_space)
    with randomness.turn():
        env = open_rows(source, n_episodes, n_envs)
    with closing(env):
        check_spaces(policy, env, "the environments")
        schedules = deal(derive_seeds(seed, whole_games(n_episodes, env.spec)), env.spec.n_envs)
        ended = record_episodes(policy, env, schedules, deterministic=deterministic, seed=seed)
        episodes = _in_turn(ended, env.spec.n_envs)
        for _ in range(n_episodes):
            with randomness.turn():
                episode = next(episodes)
            yield episode


def _in_turn(ended: Iterable[tuple[int, Episode]], n_envs: int) -> Iterator[Episode]:
    """Episodes in the order in which `deal` dealt them."""
    waiting: list[deque[Episode]] = [deque() for _ in range(n_envs)]
    turn = 0
    for row, episode in ended:
        waiting[row].append(episode)
        while waiting[turn % n_envs]:
            yield waiting[turn % n_envs].popleft()
            turn += 1


def _episode(taken: Tree, row: int, result: VectorStep) -> Episode:
    """The whole, with its true last observation."""
    observations, actions, rewards = taken
    return Episode(
        observations=map_tree(_with_last, observations, result.final[row]),
        actions=actions,
        rewards=rewards,
        terminated=bool(result.terminated[row]),
    )


def _with_last(observations: np.ndarray, last: Any) -> np.ndarray:
    return np.concatenate([observations, np.asarray(last, dtype=observations.dtype)[None]])


def _typed(space: gym.Space[Any], actions: Tree) -> Tree:
    """Actions with the types of their space."""
    return map_tree(lambda leaf, part: np.asarray(part, dtype=leaf.dtype), map_space(lambda leaf: leaf, space), actions)
