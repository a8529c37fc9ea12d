"""What a generator did, as trajectories to be compared: kept while it trains, and played where they do not suffice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from imitation.algorithms.preference_comparisons import TrajectoryGenerator
from imitation.data.rollout import generate_trajectories, make_sample_until
from imitation.data.types import TrajectoryWithRew
from imitation.policies.exploration_wrapper import ExplorationWrapper
from stable_baselines3.common.base_class import BaseAlgorithm

from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.core.trees import Tree
from rl_framework.errors import InvalidInputError

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Step = tuple[Any, Any, float]


class PlayedTrajectories(TrajectoryGenerator):
    """Episodes with the environments' own rewards, the newest first.

    It stands where the library has `AgentTrainer`, which keeps every trajectory and cannot be saved.

    Args:
        model: Who plays.
        rng: Where exploration comes from.
        exploration_frac: Part of the steps that are played with random actions in between.
        switch_prob: Probability of a change between policy and random actions, per step.
        random_prob: Probability that a change is to random actions.

    Attributes:
        model: Who plays.
        most_steps: Steps to keep at most; older episodes are dropped.
        was_played: Whether the latest sample opened episodes in the environments.
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        rng: np.random.Generator,
        *,
        exploration_frac: float = 0.0,
        switch_prob: float = 0.5,
        random_prob: float = 0.5,
    ) -> None:
        super().__init__(RunLogger())
        if not 0 <= exploration_frac <= 1:
            raise InvalidInputError(f"exploration_frac must be between 0 and 1, got {exploration_frac!r}.")
        self.model = model
        self.most_steps = 0
        self.was_played = False
        self._rng = rng
        self._exploration_frac = exploration_frac
        self._chances: dict[str, Any] = {"switch_prob": switch_prob, "random_prob": random_prob}
        self._finished: list[TrajectoryWithRew] = []
        self._open: dict[int, list[Step]] = {}

    def add(
        self, observations: Tree, actions: Tree, next_observations: Tree, rewards: FloatArray, dones: BoolArray
    ) -> None:
        """Take in one step of the environments. `[B, ...]`"""
        for row, done in enumerate(dones):
            steps = self._open.setdefault(row, [])
            steps.append((observations[row], actions[row], float(rewards[row])))
            if done:
                self._finished.append(_joined(steps, next_observations[row]))
                del self._open[row]
        if np.any(dones):
            self._drop_oldest()

    def drop(self, rows: BoolArray) -> None:
        """The current episodes of some rows go no further. `[B]`"""
        if np.all(rows):
            self._open.clear()
        for row in np.flatnonzero(rows):
            self._open.pop(int(row), None)

    def sample(self, steps: int) -> Sequence[TrajectoryWithRew]:
        """Episodes of that many steps at least; those that are missing are played now, which opens new episodes."""
        exploring = int(self._exploration_frac * steps)
        self.was_played = False
        kept, self._finished = self._finished, []
        found = [*reversed(kept)]
        missing = steps - exploring - _total(found)
        if missing > 0:
            found += self._play(self.model, missing)
        found = _first(found, steps - exploring)
        if exploring > 0:
            env: Any = self.model.get_env()
            explorer = ExplorationWrapper(policy=self.model, venv=env, rng=self._rng, **self._chances)
            found += _first(self._play(explorer, exploring), exploring)
        return found

    def _play(self, policy: Any, steps: int) -> list[TrajectoryWithRew]:
        """Whole episodes; `add` sees them with the environments' own rewards, which what the library gives lacks."""
        self.was_played = True
        env: Any = self.model.get_env()
        most, self.most_steps = self.most_steps, np.iinfo(np.int64).max
        until = make_sample_until(min_timesteps=steps, min_episodes=None)
        generate_trajectories(policy, env, until, self._rng, deterministic_policy=False)
        played, self._finished, self.most_steps = self._finished, [], most
        return played

    def state(self) -> dict[str, Any]:
        """Finished and open episodes, as a plain tree."""
        return {
            "finished": pack(self._finished),
            "open": {row: _columns(steps) for row, steps in self._open.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._finished = unpack(state["finished"])
        self._open = {row: list(zip(*columns, strict=True)) for row, columns in state["open"].items()}

    def _drop_oldest(self) -> None:
        while len(self._finished) > 1 and _total(self._finished[1:]) >= self.most_steps:
            del self._finished[0]


def pack(trajectories: Sequence[TrajectoryWithRew]) -> dict[str, Any] | None:
    """Trajectories one after the other, as a plain tree; None for none."""
    if not trajectories:
        return None
    return {
        "lengths": np.array([len(each) for each in trajectories], dtype=np.int64),
        "terminal": np.array([each.terminal for each in trajectories]),
        "obs": np.concatenate([each.obs for each in trajectories]),
        "acts": np.concatenate([each.acts for each in trajectories]),
        "rews": np.concatenate([each.rews for each in trajectories]),
    }


def unpack(state: Mapping[str, Any] | None) -> list[TrajectoryWithRew]:
    """Take back what `pack` gave."""
    if state is None:
        return []
    ends = np.cumsum(state["lengths"])
    parts = zip(ends - state["lengths"], ends, state["terminal"], strict=True)
    return [
        TrajectoryWithRew(
            obs=state["obs"][start + number : end + number + 1],
            acts=state["acts"][start:end],
            rews=state["rews"][start:end],
            infos=None,
            terminal=bool(terminal),
        )
        for number, (start, end, terminal) in enumerate(parts)
    ]


def _joined(steps: Sequence[Step], last: Any) -> TrajectoryWithRew:
    observations, actions, rewards = _columns(steps)
    return TrajectoryWithRew(
        obs=np.concatenate([observations, np.asarray(last)[None]]),
        acts=actions,
        rews=rewards,
        infos=None,
        terminal=True,
    )


def _columns(steps: Sequence[Step]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    observations, actions, rewards = zip(*steps, strict=True)
    return np.stack(observations), np.stack(actions), np.array(rewards, dtype=np.float32)


def _total(trajectories: Sequence[TrajectoryWithRew]) -> int:
    return sum(map(len, trajectories))


def _first(trajectories: Sequence[TrajectoryWithRew], steps: int) -> list[TrajectoryWithRew]:
    """As many from the front as have that many steps together."""
    if steps <= 0:
        return []
    enough = np.cumsum([len(each) for each in trajectories]) >= steps
    return list(trajectories[: int(enough.argmax()) + 1])
