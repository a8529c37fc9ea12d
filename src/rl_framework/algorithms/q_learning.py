"""Tabular Q-learning, for environments whose observations and actions can be counted.

Sources: Watkins & Dayan, Q-learning, Machine Learning 8, 1992 (https://doi.org/10.1007/BF00992698); Sutton & Barto,
Reinforcement Learning: An Introduction, 2nd edition, 2018, section 6.5.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from rl_framework.algorithms.base import CollectReport, UpdateReport
from rl_framework.algorithms.state_index import IntArray, StateIndex
from rl_framework.algorithms.tabular_policy import TabularPolicy, epsilon_greedy
from rl_framework.core.policy import BoolArray
from rl_framework.core.trees import Tree, stack
from rl_framework.envs.vector_env import EnvSpec, VectorEnv
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.functional.schedules import AnySchedule, LinearSchedule, as_schedule

MAX_TABLE_ENTRIES = 100_000_000
DEFAULT_EPSILON = LinearSchedule(1.0, 0.05, fraction=0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class QLearningConfig:
    """Hyper-parameters of Q-learning.

    Attributes:
        learning_rate: Share of the error that one visit corrects, in (0, 1].
        learning_rate_power: The rate is divided by the number of visits of the pair to this power, in [0, 1]: 0 keeps
            it constant, and values above 0.5 converge in random environments, too.
        gamma: Discount factor, in [0, 1].
        epsilon: Probability of a random action while training: a number, a schedule, or a schedule's JSON form.
        initial_value: Value of pairs never visited; a value above what can be reached makes exploration optimistic.
        seed: Seed of the exploration, None for one from the operating system.
    """

    learning_rate: float = 0.1
    learning_rate_power: float = 0.0
    gamma: float = 0.99
    epsilon: AnySchedule | float | Mapping[str, Any] = DEFAULT_EPSILON
    initial_value: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", as_schedule(self.epsilon))
        _check_range("learning_rate", self.learning_rate, 0.0, 1.0, low_included=False)
        _check_range("learning_rate_power", self.learning_rate_power, 0.0, 1.0)
        _check_range("gamma", self.gamma, 0.0, 1.0)
        for progress_remaining in (1.0, 0.0):
            _check_range("epsilon", self.epsilon_schedule(progress_remaining), 0.0, 1.0)
        if not np.isfinite(self.initial_value):
            raise InvalidInputError(f"initial_value of QLearning must be finite, got {self.initial_value}.")
        if self.seed is not None and self.seed < 0:
            raise InvalidInputError(f"seed of QLearning must not be negative, got {self.seed}.")

    @property
    def epsilon_schedule(self) -> AnySchedule:
        """The probability of a random action as a function of what is left of the run."""
        return as_schedule(self.epsilon)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Transitions:
    """One step of every row, in row and column numbers of the table.

    Attributes:
        states: Where the step began. `[B]`
        choices: What was done. `[B]`
        rewards: What it gave. `[B]`
        following: Where it led: the last observation of an episode that ended, else the next one. `[B]`
        terminated: Nothing follows. `[B]`
    """

    states: IntArray
    choices: IntArray
    rewards: npt.NDArray[np.float64]
    following: IntArray
    terminated: BoolArray


class QLearning:
    """Q(s, a) += rate * (r + gamma * max Q(s', .) - Q(s, a)), one update per environment step.

    An ending is worth its reward alone; an episode cut by a time limit bootstraps from its true last observation. The
    maximum goes over the actions that are allowed there: masks are taken to be a function of the observation, and
    the one seen last counts. Rows are taken one after the other, so that several environments in the same state all
    count. Exploration follows the share of the agent's steps that the run has left, as in Stable-Baselines3.
    """

    Config: ClassVar[type[QLearningConfig]] = QLearningConfig

    def __init__(self, env: VectorEnv, config: QLearningConfig) -> None:
        """Lay out the table.

        Args:
            env: Where it will learn; only `spec` is read here.
            config: Hyper-parameters.

        Raises:
            SpaceError: The spaces cannot be counted, or the table would be too large.
        """
        self.config = config
        self._env = env
        self._rng = np.random.default_rng(config.seed)
        self._epsilon = config.epsilon_schedule
        self._states, action_space = _layout(env.spec)
        shape = (self._states.size, int(action_space.n))
        self.values = np.full(shape, config.initial_value, dtype=np.float64)
        self.visits = np.zeros(shape, dtype=np.int64)
        self.policy = TabularPolicy(env.spec.observation_space, action_space, self._states, self.values)
        self.policy.epsilon = self._epsilon(1.0)
        self._timesteps = self._target_timesteps = 0
        self._current: IntArray | None = None
        self._masks: BoolArray | None = None
        self._transitions: _Transitions | None = None

    def begin(
        self,
        observations: Tree,
        *,
        timesteps: int,
        target_timesteps: int,
        resumes: bool = False,  # noqa: ARG002  (the protocol's; a table remembers nothing of episodes)
    ) -> None:
        """Go on from the given observations, with exploration stretched over the steps up to the target."""
        self._timesteps, self._target_timesteps = timesteps, target_timesteps
        self._transitions = None
        self._arrive(self._states.encode(observations))

    def collect(self) -> CollectReport:
        """Take one step in every environment."""
        if self._current is None:
            raise InvalidInputError("Call begin(observations, ...) before the first collect.")
        self.policy.epsilon = self._epsilon(self._progress_remaining())
        states = self._current
        choices = epsilon_greedy(self.values[states], self._masks, self.policy.epsilon, self._rng.random)
        self._env.send(self.policy.actions_of(choices))
        step = self._env.recv()
        self._arrive(self._states.encode(step.observations))
        self._transitions = _Transitions(
            states=states,
            choices=choices,
            rewards=step.rewards,
            following=self._following(self._current, step.final),
            terminated=step.terminated,
        )
        self._timesteps += len(choices)
        return CollectReport(
            timesteps=len(choices), episodes=step.episodes, metrics={"rollout/exploration_rate": self.policy.epsilon}
        )

    def update(self) -> UpdateReport:
        """Learn from that step, row by row."""
        if self._transitions is None:
            raise InvalidInputError("Nothing to learn from: call collect before update.")
        batch, self._transitions = self._transitions, None
        errors = [
            self._learn(int(state), int(choice), float(reward), None if over else int(following))
            for state, choice, reward, following, over in zip(
                batch.states, batch.choices, batch.rewards, batch.following, batch.terminated, strict=True
            )
        ]
        return UpdateReport(metrics={"train/td_error": sum(map(abs, errors)) / len(errors)})

    def state_dict(self) -> dict[str, Any]:
        """Table, visits, masks, random generator and how far the exploration schedule has come."""
        state: dict[str, Any] = {
            "values": self.values.copy(),
            "visits": self.visits.copy(),
            "random": json.dumps(self._rng.bit_generator.state),
            "timesteps": self._timesteps,
            "target_timesteps": self._target_timesteps,
            "epsilon": self.policy.epsilon,
        }
        if self.policy.allowed is not None:
            state["allowed"] = self.policy.allowed.copy()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; `begin` must follow before the next `collect`.

        Raises:
            SpaceError: The state belongs to other spaces.
        """
        if np.shape(state["values"]) != self.values.shape:
            raise SpaceError(
                f"The saved table has shape {np.shape(state['values'])}, these spaces need {self.values.shape}."
            )
        self.values[...] = state["values"]
        self.visits[...] = state["visits"]
        self.policy.allowed = np.array(state["allowed"], dtype=np.bool_) if "allowed" in state else None
        self._rng.bit_generator.state = json.loads(state["random"])
        self._timesteps, self._target_timesteps = int(state["timesteps"]), int(state["target_timesteps"])
        self.policy.epsilon = float(state["epsilon"])
        self._current = self._transitions = None

    def _learn(self, state: int, choice: int, reward: float, following: int | None) -> float:
        """Correct one value; `following` is None where nothing follows. Gives the error before it."""
        target = reward
        if following is not None:
            target += self.config.gamma * self._best_value(following)
        error = target - float(self.values[state, choice])
        self.visits[state, choice] += 1
        rate = self.config.learning_rate / float(self.visits[state, choice]) ** self.config.learning_rate_power
        self.values[state, choice] += rate * error
        return error

    def _best_value(self, state: int) -> float:
        values, allowed = self.values[state], self.policy.allowed
        return float((values if allowed is None else values[allowed[state]]).max())

    def _arrive(self, current: IntArray) -> None:
        """Be in other states, and remember which actions are allowed there."""
        self._current, self._masks = current, self._env.action_masks
        if self._masks is None:
            return
        if self.policy.allowed is None:
            self.policy.allowed = np.ones(self.values.shape, dtype=np.bool_)
        self.policy.allowed[current] = self._masks

    def _following(self, current: IntArray, final: Mapping[int, Tree]) -> IntArray:
        """Where each row's step led, before any reset. Shape `[B]`."""
        following: IntArray = current.copy()
        for row, observation in final.items():
            following[row] = self._states.encode(stack([observation]))[0]
        return following

    def _progress_remaining(self) -> float:
        return 1.0 - self._timesteps / max(1, self._target_timesteps)


def _layout(spec: EnvSpec) -> tuple[StateIndex, spaces.Discrete]:
    """What the rows and the columns of the table mean.

    Raises:
        SpaceError: The spaces cannot be counted, or the table would be too large.
    """
    if not isinstance(spec.action_space, spaces.Discrete):
        raise SpaceError(
            f"QLearning needs a Discrete action space, got {spec.action_space}. Wrap the environment to number its "
            "actions, or take an algorithm for such actions (PPO, SAC)."
        )
    limit = MAX_TABLE_ENTRIES // int(spec.action_space.n)
    return StateIndex(spec.observation_space, limit=limit), spec.action_space


def _check_range(name: str, value: float, low: float, high: float, *, low_included: bool = True) -> None:
    if not (low <= value <= high) or (value == low and not low_included):
        interval = f"{'[' if low_included else '('}{low:g}, {high:g}]"
        raise InvalidInputError(f"{name} of QLearning must lie in {interval}, got {value}.")
