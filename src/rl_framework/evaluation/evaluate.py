"""Plays episodes with a policy: batched over environments, fixed quotas, one seed per episode.

Every environment plays a quota that is fixed beforehand, so short episodes are not over-represented.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from rl_framework.core.policy import Policy
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.seeding import derive_seeds, fresh_seed, isolated_randomness, isolated_sampling
from rl_framework.core.spaces import check_equal
from rl_framework.core.trees import Tree
from rl_framework.envs.source import EnvironmentSource, environment_source
from rl_framework.envs.vector_env import VectorEnv, VectorStep
from rl_framework.errors import InvalidInputError
from rl_framework.evaluation.actions import ActionCheck
from rl_framework.evaluation.evaluation import Evaluation

DEFAULT_N_ENVS = 64


def evaluate_policy(
    policy: Policy,
    environments: Any,
    n_eval_episodes: int = 100,
    *,
    deterministic: bool = False,
    seed: int | None = None,
    n_envs: int | None = None,
) -> Evaluation:
    """Play episodes with a policy, many environments at a time, and keep what each of them gave.

    The k-th episode has the same seed whatever `n_envs` is. The policy draws from generators of its own, seeded
    with `seed` too, so that evaluating neither depends on nor disturbs a training. The same seeds and the same
    `n_envs` give the same result.

    Args:
        policy: What acts.
        environments: Anything that can be trained on. What the caller opened stays open.
        n_eval_episodes: Number of episodes.
        deterministic: The policy's most probable actions instead of sampled ones.
        seed: Seed of episodes and policy; drawn from the operating system and recorded if None.
        n_envs: Environments side by side; at most one per episode. Where the given environments cannot be copied,
            their number; else `DEFAULT_N_ENVS` unless given.

    Raises:
        InvalidInputError: `n_eval_episodes` or `n_envs` is not positive, or `seed` is negative.
        SpaceError: The environments do not have the policy's spaces, or the policy gave an action outside of them.
        EnvironmentFailure: An environment raised, died, hung or gave an invalid number.
    """
    _check_positive("n_eval_episodes", n_eval_episodes)
    if n_envs is not None:
        _check_positive("n_envs", n_envs)
    if seed is not None and seed < 0:
        raise InvalidInputError(f"Expected a seed of at least 0, got {seed}.")
    source = environment_source(environments)
    seed = fresh_seed() if seed is None else seed
    with (
        isolated_randomness(seed),
        isolated_sampling(policy.action_space, seed),
        closing(_open(source, n_eval_episodes, n_envs)) as env,
    ):
        return _evaluate(policy, env, n_eval_episodes, deterministic, seed)


def _open(source: EnvironmentSource, n_episodes: int, n_envs: int | None) -> VectorEnv:
    """In this process, so that nothing depends on how fast a step happens to be."""
    if not source.copyable:
        return source.open(n_envs)
    return source.open(min(n_envs or DEFAULT_N_ENVS, n_episodes), "serial")


def _evaluate(policy: Policy, env: VectorEnv, n_episodes: int, deterministic: bool, seed: int) -> Evaluation:
    _check_spaces(policy, env)
    schedules = deal(derive_seeds(seed, n_episodes), env.spec.n_envs)
    start = time.perf_counter()
    episodes = run_episodes(policy, env, schedules, deterministic=deterministic, seed=seed)
    return _as_evaluation(episodes, env, deterministic, seed, time.perf_counter() - start)


def deal(seeds: Sequence[int], n_envs: int) -> list[list[int]]:
    """One schedule of seeds per environment: episode k is played by environment `k % n_envs`."""
    return [list(seeds[row::n_envs]) for row in range(n_envs)]


def run_episodes(
    policy: Policy,
    env: VectorEnv,
    schedules: Sequence[Sequence[int]],
    *,
    deterministic: bool = False,
    seed: int | None = None,
) -> list[EpisodeSummary]:
    """Play `len(schedules[i])` episodes in row i, and give them in the order in which `deal` dealt them.

    Rows that are done rest. Environments that cannot be given seeds (`spec.seeds_episodes`) play on; only the first
    episodes of each row, as many as its schedule has, count.

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
    quotas = [len(schedule) for schedule in schedules]
    played: list[list[EpisodeSummary]] = [[] for _ in quotas]
    missing = sum(quotas)
    observations = env.reset_to_schedule(schedules) if env.spec.seeds_episodes else env.reset(seed)
    for step in _steps(policy, env, observations, deterministic):
        for episode in step.episodes:
            if len(played[episode.row]) < quotas[episode.row]:
                played[episode.row].append(episode)
                missing -= 1
        if not missing:
            break
    return [played[row][turn] for turn in range(max(quotas)) for row in range(len(quotas)) if turn < quotas[row]]


def _steps(policy: Policy, env: VectorEnv, observations: Tree, deterministic: bool) -> Iterator[VectorStep]:
    """Step for ever: the policy's memory goes round, and is cleared where an episode begins."""
    check = ActionCheck(env.spec.action_space, env.spec.n_envs)
    has_masks = env.spec.has_action_masks
    starts = np.ones(env.spec.n_envs, dtype=np.bool_)
    state: Tree = None
    while True:
        masks = env.action_masks if has_masks else None
        output = policy.act(observations, state, episode_starts=starts, action_masks=masks, deterministic=deterministic)
        check(output.actions)
        env.send(output.actions)
        step = env.recv()
        yield step
        observations, state, starts = step.observations, output.state, step.terminated | step.truncated


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise InvalidInputError(f"Expected {name} of at least 1, got {value}.")


def _check_spaces(policy: Policy, env: VectorEnv) -> None:
    who = "the evaluation environment"
    check_equal(policy.observation_space, env.spec.observation_space, role="observation", who=who)
    check_equal(policy.action_space, env.spec.action_space, role="action", who=who)


def _as_evaluation(
    episodes: Sequence[EpisodeSummary], env: VectorEnv, deterministic: bool, seed: int, duration: float
) -> Evaluation:
    successes = tuple(episode.success for episode in episodes)
    return Evaluation(
        returns=np.array([episode.total_reward for episode in episodes], dtype=np.float64),
        lengths=np.array([episode.length for episode in episodes], dtype=np.int64),
        seeds=tuple(episode.seed if env.spec.seeds_episodes else None for episode in episodes),
        successes=successes if any(success is not None for success in successes) else None,
        n_envs=env.spec.n_envs,
        deterministic=deterministic,
        seed=seed,
        duration_seconds=duration,
        environment_id=env.spec.id,
    )
