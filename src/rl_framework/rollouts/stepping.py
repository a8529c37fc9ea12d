"""The one loop in which a policy acts in environments that run side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rl_framework.core.policy import Policy, RewardConditioned
from rl_framework.core.spaces import check_equal
from rl_framework.core.trees import Tree
from rl_framework.envs.source import EnvironmentSource
from rl_framework.envs.vector_env import EnvSpec, VectorEnv, VectorStep
from rl_framework.errors import InvalidInputError
from rl_framework.rollouts.actions import ActionCheck

DEFAULT_N_ENVS = 64


@dataclass(frozen=True, slots=True)
class PolicyStep:
    """What a policy saw, what it did, and what came of it.

    Attributes:
        observations: What it saw. `[B, ...]` per leaf
        actions: What it did, as it gave it. `[B, ...]` per leaf
        result: What came of it.
    """

    observations: Tree
    actions: Tree
    result: VectorStep


def check_plan(n_episodes_name: str, n_episodes: int, n_envs: int | None, seed: int | None) -> None:
    """Refuse numbers of episodes, environments or seeds that cannot be.

    Raises:
        InvalidInputError: One of them is out of range.
    """
    for name, value in ((n_episodes_name, n_episodes), ("n_envs", n_envs)):
        if value is not None and value < 1:
            raise InvalidInputError(f"Expected {name} of at least 1, got {value}.")
    if seed is not None and seed < 0:
        raise InvalidInputError(f"Expected a seed of at least 0, got {seed}.")


def open_rows(source: EnvironmentSource, n_episodes: int, n_envs: int | None) -> VectorEnv:
    """Open environments for some episodes: in this process, so that nothing depends on how fast a step is.

    Args:
        source: The environments.
        n_episodes: How many episodes will be played; there are not more rows than that.
        n_envs: Rows side by side (of games with several rows, games); None for as many as were given, or
            `DEFAULT_N_ENVS` of what can be copied at little cost.
    """
    if not source.copyable:
        return source.open(n_envs)
    unasked = source.count if source.is_costly else DEFAULT_N_ENVS
    return source.open(min(n_envs or unasked, n_episodes), "serial")


def check_spaces(policy: Policy, env: VectorEnv, who: str) -> None:
    """Refuse environments that a policy was not made for.

    Raises:
        SpaceError: Their spaces differ; the message names the field.
    """
    check_equal(policy.observation_space, env.spec.observation_space, role="observation", who=who)
    check_equal(policy.action_space, env.spec.action_space, role="action", who=who)


def deal(seeds: Sequence[int], n_envs: int) -> list[list[int]]:
    """One schedule of seeds per environment: episode k is played by environment `k % n_envs`."""
    return [list(seeds[row::n_envs]) for row in range(n_envs)]


def whole_games(n_episodes: int, spec: EnvSpec) -> int:
    """The least number of episodes, not below `n_episodes`, of which every agent of a game plays as many."""
    return -(-n_episodes // spec.rows_per_game) * spec.rows_per_game


def start_rows(env: VectorEnv, schedules: Sequence[Sequence[int]], seed: int | None) -> Tree:
    """Open the first episodes, on schedule where episodes can be given seeds. `[B, ...]` per leaf"""
    return env.reset_to_schedule(schedules) if env.spec.seeds_episodes else env.reset(seed)


def steps(policy: Policy, env: VectorEnv, observations: Tree, *, deterministic: bool) -> Iterator[PolicyStep]:
    """Step for ever: the policy's memory goes round, and is cleared where an episode begins.

    A `RewardConditioned` policy is told what its actions earned.

    Args:
        policy: What acts.
        env: Where, after a reset.
        observations: What that reset gave. `[B, ...]` per leaf
        deterministic: The policy's most probable actions instead of sampled ones.

    Raises:
        SpaceError: The policy gave an action that the action space does not have.
        EnvironmentFailure: An environment raised, died, hung or gave an invalid number.
    """
    check = ActionCheck(env.spec.action_space, env.spec.n_envs)
    has_masks = env.spec.has_action_masks
    conditioned = policy if isinstance(policy, RewardConditioned) else None
    starts = np.ones(env.spec.n_envs, dtype=np.bool_)
    state: Tree = None
    while True:
        masks = env.action_masks if has_masks else None
        output = policy.act(observations, state, episode_starts=starts, action_masks=masks, deterministic=deterministic)
        check(output.actions)
        env.send(output.actions)
        result = env.recv()
        yield PolicyStep(observations, output.actions, result)
        state = output.state if conditioned is None else conditioned.with_rewards(output.state, result.rewards)
        observations, starts = result.observations, result.terminated | result.truncated
