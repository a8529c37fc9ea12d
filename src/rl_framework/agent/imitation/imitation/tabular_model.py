"""Environments that tell their own dynamics as tables, and a policy for each step in them.

Source: `seals.base_envs`, https://github.com/HumanCompatibleAI/seals
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from seals.base_envs import TabularModelPOMDP

from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import InvalidInputError, SpaceError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

TABLES = ("transition_matrix", "initial_state_dist", "horizon")


class States:
    """States by number, told by what is observed in them.

    Attributes:
        observations: What is observed in each state; the numbers themselves where states are observed. `[S, ...]`

    Raises:
        InvalidInputError: Two states look the same.
    """

    def __init__(self, observations: npt.NDArray[Any]) -> None:
        self.observations = observations
        self._numbers = {_key(row): number for number, row in enumerate(observations)}
        if len(self._numbers) < len(observations):
            raise InvalidInputError(
                f"{len(observations)} states give only {len(self._numbers)} different observations. MCE IRL acts on "
                "states, so each must look different; wrap the environment with seals' ExposePOMDPStateWrapper."
            )

    def __len__(self) -> int:
        """Number of states, S."""
        return len(self.observations)

    def numbers(self, observations: Tree) -> IntArray:
        """Which states observations are of. `[B]`

        Raises:
            SpaceError: One is of none.
        """
        rows = np.asarray(observations).astype(self.observations.dtype, copy=False)
        try:
            return np.array([self._numbers[_key(row)] for row in rows], dtype=np.int64)
        except KeyError as error:
            raise SpaceError(
                f"An observation is not of any of the {len(self)} states of the environment that was learned in."
            ) from error


def _key(row: Any) -> bytes:
    return bytes((row + 0).tobytes())  # 0.0 and -0.0 are the same observation


@dataclass(frozen=True, slots=True)
class TabularModel:
    """The dynamics of an environment as the library takes them, and how its states are told.

    Attributes:
        pomdp: The library's own kind of environment, made of the tables; never played.
        states: How its states are told by observations.
    """

    pomdp: TabularModelPOMDP[Any]
    states: States


def read_model(env: VectorEnv) -> TabularModel:
    """Read the tables of the first environment.

    Raises:
        InvalidInputError: It has none, or no horizon.
    """
    found = {name: _attribute(env, name) for name in TABLES}
    lacking = [name for name in TABLES if not isinstance(found[name], np.ndarray | int | np.integer)]
    if lacking:
        raise InvalidInputError(
            "MCE IRL plans with the environment's own dynamics, so it needs a tabular environment with a horizon, such "
            f"as seals' TabularModelPOMDP or TabularModelMDP (e.g. seals/CliffWorld7x4-v0); this one has no "
            f"{', '.join(lacking)}."
        )
    if not isinstance(env.spec.action_space, spaces.Discrete):
        raise SpaceError(f"MCE IRL needs Discrete actions, got {env.spec.action_space}.")
    n_states = len(found["transition_matrix"])
    features = _features(env, n_states)
    states = States(features if isinstance(env.spec.observation_space, spaces.Box) else np.arange(n_states))
    pomdp = TabularModelPOMDP(
        transition_matrix=found["transition_matrix"],
        observation_matrix=features,
        reward_matrix=np.zeros(n_states),  # the true reward is none of the learner's business
        horizon=int(found["horizon"]),
        initial_state_dist=found["initial_state_dist"],
    )
    return TabularModel(pomdp, states)


def feature_space(observation_space: gym.Space[Any]) -> spaces.Box:
    """What a reward network sees of a state: its observation, or which one of all states it is.

    Raises:
        SpaceError: Observations are neither vectors nor numbers of states.
    """
    if isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 1:
        return observation_space
    if isinstance(observation_space, spaces.Discrete):
        return spaces.Box(0.0, 1.0, (int(observation_space.n),), np.float32)
    raise SpaceError(f"MCE IRL needs observations that are vectors or numbers of states, got {observation_space}.")


class TimedPolicy:
    """Takes actions by a table for each step; how far an episode is, is its memory.

    Beyond the horizon the last step's table applies. Actions that are drawn come from NumPy's global generator,
    which an evaluation seeds.

    Attributes:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.
        probabilities: Of each action, at each step, in each state. `[T, S, A]`
    """

    is_recurrent = True

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: spaces.Discrete,
        states: States,
        probabilities: FloatArray,
    ) -> None:
        self.observation_space: gym.Space[Any] = observation_space
        self.action_space: gym.Space[Any] = action_space
        self.probabilities = probabilities
        self._states = states
        self._first_action = int(action_space.start)
        self._dtype = action_space.dtype

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        """Choose one action per observation; see `rl_framework.core.policy.Policy.act`.

        Raises:
            SpaceError: An observation is of no state that is known.
        """
        numbers = self._states.numbers(observations)
        steps = np.zeros(len(numbers), dtype=np.int64) if state is None else state["step"]
        if episode_starts is not None:
            steps = np.where(episode_starts, 0, steps)
        chances = self.probabilities[np.minimum(steps, len(self.probabilities) - 1), numbers]
        if action_masks is not None:
            chances = chances * action_masks
        choices = chances.argmax(axis=1) if deterministic else _draw(chances)
        return PolicyOutput((choices + self._first_action).astype(self._dtype), {"step": steps + 1})


def _draw(chances: FloatArray) -> IntArray:
    """One column per row, each as probable as its number says. `[B]`"""
    bounds = chances.cumsum(axis=1)
    drawn = np.random.random_sample((len(chances), 1)) * bounds[:, -1:]  # noqa: NPY002  # what evaluations seed
    choices: IntArray = (drawn >= bounds).sum(axis=1)
    return choices


def _attribute(env: VectorEnv, name: str) -> Any:
    try:
        return env.get_attribute(name, rows=[0])[0]
    except (InvalidInputError, AttributeError):
        return None


def _features(env: VectorEnv, n_states: int) -> npt.NDArray[Any]:
    if isinstance(env.spec.observation_space, spaces.Discrete):
        return np.eye(n_states, dtype=np.float32)
    found = _attribute(env, "observation_matrix")
    if not isinstance(found, np.ndarray) or found.shape != (n_states, *feature_space(env.spec.observation_space).shape):
        raise InvalidInputError("MCE IRL needs the environment's observation_matrix, one row per state; it has none.")
    return found
