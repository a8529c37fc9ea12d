"""Plays episodes with a policy: batched over environments, fixed quotas, one seed per episode.

Every environment plays a quota that is fixed beforehand, so short episodes are not over-represented.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np

from rl_framework.core.policy import Policy
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.seeding import derive_seeds, fresh_seed, isolated_randomness, isolated_sampling
from rl_framework.envs.source import environment_source
from rl_framework.envs.vector_env import EnvSpec, VectorEnv
from rl_framework.evaluation.evaluation import Evaluation
from rl_framework.rollouts.stepping import check_plan, check_spaces, deal, open_rows, start_rows, steps, whole_games


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

    In a game of several agents every row is an agent, and its episodes are those of that agent alone: the result's
    `agents` says whose, its `by_agent` takes them apart.

    Args:
        policy: What acts.
        environments: Anything that can be trained on. What the caller opened stays open.
        n_eval_episodes: Number of episodes, over all agents; rounded up so that every agent of a game plays as many.
        deterministic: The policy's most probable actions instead of sampled ones.
        seed: Seed of episodes and policy; drawn from the operating system and recorded if None.
        n_envs: Environments side by side; at most one per episode. Where the given environments cannot be copied,
            their number; else 64 unless given.

    Raises:
        InvalidInputError: `n_eval_episodes` or `n_envs` is not positive, or `seed` is negative.
        SpaceError: The environments do not have the policy's spaces, or the policy gave an action outside of them.
        EnvironmentFailure: An environment raised, died, hung or gave an invalid number.
    """
    check_plan("n_eval_episodes", n_eval_episodes, n_envs, seed)
    source = environment_source(environments)
    seed = fresh_seed() if seed is None else seed
    with (
        isolated_randomness(seed),
        isolated_sampling(policy.action_space, seed),
        closing(open_rows(source, n_eval_episodes, n_envs)) as env,
    ):
        return _evaluate(policy, env, n_eval_episodes, deterministic, seed)


def _evaluate(policy: Policy, env: VectorEnv, n_episodes: int, deterministic: bool, seed: int) -> Evaluation:
    check_spaces(policy, env, "the evaluation environment")
    schedules = deal(derive_seeds(seed, whole_games(n_episodes, env.spec)), env.spec.n_envs)
    start = time.perf_counter()
    episodes = run_episodes(policy, env, schedules, deterministic=deterministic, seed=seed)
    return as_evaluation(episodes, env.spec, deterministic, seed, time.perf_counter() - start)


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
    for step in steps(policy, env, start_rows(env, schedules, seed), deterministic=deterministic):
        for episode in step.result.episodes:
            if len(played[episode.row]) < quotas[episode.row]:
                played[episode.row].append(episode)
                missing -= 1
        if not missing:
            break
    return [played[row][turn] for turn in range(max(quotas)) for row in range(len(quotas)) if turn < quotas[row]]


def as_evaluation(
    episodes: Sequence[EpisodeSummary], spec: EnvSpec, deterministic: bool, seed: int, duration: float
) -> Evaluation:
    """The record of episodes that were played.

    Args:
        episodes: What was played, in the order in which it was dealt.
        spec: Of the environments.
        deterministic: Whether the policy took its most probable actions.
        seed: From which episodes and policy were seeded.
        duration: Wall time of playing in seconds.
    """
    successes = tuple(episode.success for episode in episodes)
    agents = tuple(episode.agent for episode in episodes)
    return Evaluation(
        returns=np.array([episode.total_reward for episode in episodes], dtype=np.float64),
        lengths=np.array([episode.length for episode in episodes], dtype=np.int64),
        seeds=tuple(episode.seed if spec.seeds_episodes else None for episode in episodes),
        successes=successes if any(success is not None for success in successes) else None,
        agents=agents if any(agent is not None for agent in agents) else None,
        n_envs=spec.n_envs,
        deterministic=deterministic,
        seed=seed,
        duration_seconds=duration,
        environment_id=spec.id,
    )
