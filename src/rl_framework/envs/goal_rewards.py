"""Rewards of environments with goals as functions of the goals: for relabelling what happened with another goal.

Source: `compute_reward` of Gymnasium-Robotics' GoalEnv (https://robotics.farama.org/content/multi-goal_api/).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from numbers import Real
from typing import Any, TypeAlias, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.core.goals import ACHIEVED_GOAL, GoalReward, check_goal_space, is_goal_space
from rl_framework.envs.borrowed import BorrowedVectorEnv
from rl_framework.envs.goal_adapters import METHOD
from rl_framework.envs.subprocess import SubprocessVectorEnv
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.envs.tensor_vector_env import TensorVectorEnv
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.envs.vector_tensor_env import VectorTensorEnv
from rl_framework.errors import EnvironmentFailure, InvalidInputError

ComputeReward: TypeAlias = Callable[[npt.NDArray[Any], npt.NDArray[Any], Any], Any]
"""`compute_reward(achieved_goal, desired_goal, info)` of an environment."""

THRESHOLD = "distance_threshold"
"""What environments have that pay by the distance from the goal."""

ATTRIBUTE = "goal_reward"
"""What a tensor environment with goals has in its place."""

_N_PROBES = 64


class DistanceReward:
    """0 where the goal is at most so far away, -1 elsewhere, on the device of the goals; nothing waits for the host.

    Args:
        threshold: The distance, Euclidean, that counts as having achieved the goal.
    """

    is_capturable = True

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Rewards. `[N, d]`, `[N, d]` -> `[N]`"""
        distance: Tensor = torch.linalg.vector_norm(achieved - desired, dim=-1)
        return (distance <= self.threshold).to(torch.float32) - 1.0

    def __repr__(self) -> str:
        return f"DistanceReward(threshold={self.threshold:g})"


class MatchReward:
    """0 where all numbers of the goal are met exactly, -1 elsewhere, on the device of the goals."""

    is_capturable = True

    def __call__(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Rewards. `[N, d]`, `[N, d]` -> `[N]`"""
        met: Tensor = (achieved == desired).flatten(1).all(1)
        return met.to(torch.float32) - 1.0

    def __repr__(self) -> str:
        return "MatchReward()"


class EnvironmentReward:
    """What an environment's own `compute_reward` says, for many pairs of goals at once.

    Whether it takes many at once is found out beforehand: whatever it says for a batch has to be what it says one by
    one. If it is not, it is asked row by row. The third argument, the info, is an empty dict.

    Args:
        compute_reward: The environment's method.
        space: Of one goal, a Box, MultiBinary or MultiDiscrete; the method is given numbers of its type.

    Attributes:
        takes_batches: Whether the method takes many goals at once.

    Raises:
        EnvironmentFailure: It fails on single goals, too.
    """

    is_capturable = False

    def __init__(self, compute_reward: ComputeReward, space: gym.Space[Any]) -> None:
        self._compute_reward = compute_reward
        self._dtype = np.dtype(space.dtype)
        self._shape = space.shape
        self.takes_batches = self._finds_batches_equal(*random_goals(space, _N_PROBES))

    def __call__(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Rewards, by way of the host. `[N, *goal]`, `[N, *goal]` -> `[N]`"""
        given = (goals.detach().cpu().numpy().astype(self._dtype) for goals in (achieved, desired))
        rewards = (self._of_batch if self.takes_batches else self._of_rows)(*given)
        return torch.from_numpy(rewards).to(achieved.device)

    def __repr__(self) -> str:
        return f"EnvironmentReward({self._compute_reward!r})"

    def _of_batch(self, achieved: npt.NDArray[Any], desired: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return np.array(self._compute_reward(achieved, desired, {}), np.float32)

    def _of_rows(self, achieved: npt.NDArray[Any], desired: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        pairs = zip(achieved, desired, strict=True)
        return np.array([self._compute_reward(*pair, {}) for pair in pairs], np.float32).reshape(len(achieved))

    def _finds_batches_equal(self, achieved: npt.NDArray[Any], desired: npt.NDArray[Any]) -> bool:
        try:
            expected = self._of_rows(achieved, desired)
        except Exception as error:
            raise EnvironmentFailure(
                f"compute_reward raised {type(error).__name__}: {error}. It is given two goals of shape "
                f"{self._shape} and an empty dict as info.",
                row=0,
            ) from error
        try:
            given = self._of_batch(achieved, desired)
        except Exception:  # noqa: BLE001  # whatever it raises means the same: not made for batches
            return False
        return given.shape == expected.shape and np.allclose(given, expected, rtol=1e-5, atol=1e-6)


def find_goal_reward(env: VectorEnv | TensorEnv) -> GoalReward:
    """The reward of environments with goals, for relabelling.

    That of a tensor environment, and a distance with a threshold, which is what Fetch has, stay on the device; any
    other is computed by the environment's `compute_reward` on the host, in this process where one can be had here.

    Args:
        env: The environments.

    Raises:
        SpaceError: Their observations have no goals.
        InvalidInputError: They have no `compute_reward`, or one that is inside of wrappers that change goals.
        EnvironmentFailure: It fails.
    """
    env = _innermost(env)
    check_goal_space(env.spec.observation_space, who="Relabelling goals")
    if isinstance(env, TensorEnv):
        return _of_tensor_env(env)
    space = env.spec.observation_space[ACHIEVED_GOAL]  # type: ignore[index]  # It was checked.
    environment = _one_environment(env)
    if environment is None:
        return EnvironmentReward(_remote_compute_reward(env), space)
    reward = EnvironmentReward(_own_compute_reward(environment, space), space)
    distance = _as_distance(environment, reward, space)
    if distance is None:
        return reward
    if isinstance(env, SubprocessVectorEnv):
        environment.close()
    return distance


def random_goals(space: gym.Space[Any], count: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Pairs of goals of which some are equal, some near each other and some far apart. `[count, *goal]` each"""
    sampler = deepcopy(space)
    sampler.seed(0)
    desired = np.stack([sampler.sample() for _ in range(count)])
    achieved = np.stack([sampler.sample() for _ in range(count)])
    achieved[::3] = desired[::3]
    return achieved, desired


def _innermost(env: VectorEnv | TensorEnv) -> VectorEnv | TensorEnv:
    """What all that only translates stands around."""
    while True:
        if isinstance(env, BorrowedVectorEnv):
            env = env.lender
        elif isinstance(env, TensorVectorEnv):
            env = env.tensor_env
        elif isinstance(env, VectorTensorEnv):
            env = env.vector_env
        else:
            return env


def _of_tensor_env(env: TensorEnv) -> GoalReward:
    found = getattr(env, ATTRIBUTE, None)
    if found is None:
        raise InvalidInputError(
            f"{type(env).__name__} observes goals but has no {ATTRIBUTE!r}, so that nobody can say what another goal "
            "would have paid. Give it an attribute of that name: a function (achieved [N, *goal], desired [N, *goal]) "
            "-> rewards [N]."
        )
    return cast(GoalReward, found)


def _one_environment(env: VectorEnv) -> gym.Env[Any, Any] | None:
    """One of the environments, or one like them, in this process; None where there is none."""
    if isinstance(env, SubprocessVectorEnv):
        return env.make_another()
    environments: Sequence[gym.Env[Any, Any]] | None = getattr(env, "environments", None)
    return None if environments is None else environments[0]


def _own_compute_reward(environment: gym.Env[Any, Any], space: gym.Space[Any]) -> ComputeReward:
    if not environment.has_wrapper_attr(METHOD):
        raise _no_method(environment)
    owner = environment
    while isinstance(owner, gym.Wrapper) and not hasattr(owner, METHOD):
        owner = owner.env
    known = owner.observation_space
    if is_goal_space(known) and not _hold_the_same(known[ACHIEVED_GOAL], space):  # type: ignore[index]  # a Dict
        raise InvalidInputError(
            f"{METHOD} of {owner} takes goals of {known[ACHIEVED_GOAL]}, and wrappers around it make them {space}, "  # type: ignore[index]  # a Dict
            f"so that other goals would be paid for wrongly. Give the outermost of them a {METHOD} of its own, or have "
            "them leave goals as they are."
        )
    return cast(ComputeReward, owner.compute_reward)  # type: ignore[attr-defined]  # it has one


def _hold_the_same(first: gym.Space[Any], second: gym.Space[Any]) -> bool:
    """Whether values of two spaces mean the same, in whatever number type."""
    if isinstance(first, spaces.Box) and isinstance(second, spaces.Box) and first.shape == second.shape:
        return np.allclose(first.low, second.low, rtol=1e-6) and np.allclose(first.high, second.high, rtol=1e-6)
    return first == second


def _remote_compute_reward(env: VectorEnv) -> ComputeReward:
    """That of the first row, wherever it is."""

    def compute_reward(achieved: npt.NDArray[Any], desired: npt.NDArray[Any], info: Any) -> Any:
        return env.call(METHOD, achieved, desired, info)[0]

    return compute_reward


def _no_method(environment: gym.Env[Any, Any]) -> InvalidInputError:
    return InvalidInputError(
        f"{environment} is a goal environment without {METHOD}, so that nobody can say what another goal would have "
        f"paid. Give it a method {METHOD}(achieved_goal, desired_goal, info), or train without relabelling."
    )


def _as_distance(
    environment: gym.Env[Any, Any], reward: EnvironmentReward, space: gym.Space[Any]
) -> DistanceReward | None:
    """The same reward on the device, if it is a distance with the threshold that the environment names."""
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f" or len(space.shape) != 1:
        return None
    threshold = _named_threshold(environment)
    if threshold is None:
        return None
    distance = DistanceReward(threshold)
    achieved, desired = (torch.from_numpy(goals).float() for goals in _goals_around(threshold, space))
    return distance if torch.equal(distance(achieved, desired), reward(achieved, desired)) else None


def _named_threshold(environment: gym.Env[Any, Any]) -> float | None:
    """The one distance that the environment names, None if it names none or one for each coordinate."""
    if not environment.has_wrapper_attr(THRESHOLD):
        return None
    named = environment.get_wrapper_attr(THRESHOLD)
    threshold = float(named) if isinstance(named, Real) else 0.0
    return threshold if threshold > 0.0 else None


def _goals_around(threshold: float, space: spaces.Box) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Pairs of goals whose distances are from nothing to twice the threshold, and some very far apart.

    Half of them lie around what the space says that goals are, the others around the origin.
    """
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(8 * _N_PROBES, *space.shape))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    shares = np.concatenate((np.linspace(0.0, 2.0, 7 * _N_PROBES), rng.uniform(2.0, 200.0, _N_PROBES)))
    shares[np.abs(shares - 1.0) < 1e-3] = 0.5
    desired = rng.normal(size=directions.shape)
    desired[::2] = random_goals(space, len(desired))[1][::2]
    return desired + shares[:, None] * threshold * directions, desired
