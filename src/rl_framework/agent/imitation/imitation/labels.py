"""What an expert says to do, kept as episodes: where the learner went, with the expert's actions and not its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.core.spaces import map_space
from rl_framework.core.trees import Tree, map_tree, select, stack
from rl_framework.data.episode import Episode
from rl_framework.envs.vector_env import VectorStep


class LabelRecorder:
    """Collects labelled steps, row by row, and joins them to episodes.

    Args:
        n_rows: Number of environments side by side.
        action_space: Tells the number type of labels.
    """

    def __init__(self, n_rows: int, action_space: gym.Space[Any]) -> None:
        self._action_space = action_space
        self._rows: list[list[tuple[Tree, Tree, float]]] = [[] for _ in range(n_rows)]

    def add(self, observations: Tree, labels: Tree, step: VectorStep) -> list[Episode]:
        """Take in one step of every row, and give the episodes that ended by it.

        Args:
            observations: Before the step. `[B, ...]`
            labels: What the expert said to do there. `[B, ...]`
            step: What then happened.
        """
        ended = []
        for row, steps in enumerate(self._rows):
            steps.append((select(observations, row), select(labels, row), float(step.rewards[row])))
            if row in step.final:
                ended.append(self._join(row, step.final[row], terminated=bool(step.terminated[row])))
        return ended

    def cut(self, observations: Tree) -> list[Episode]:
        """The open parts of all rows as episodes that were cut; the rows go on from here.

        Args:
            observations: Current ones, in which the parts end. `[B, ...]`
        """
        open_rows = [row for row, steps in enumerate(self._rows) if steps]
        return [self._join(row, select(observations, row), terminated=False) for row in open_rows]

    def _join(self, row: int, last: Tree, *, terminated: bool) -> Episode:
        steps, self._rows[row] = self._rows[row], []
        return Episode(
            observations=stack([*(observation for observation, _, _ in steps), last]),
            actions=_typed(self._action_space, stack([label for _, label, _ in steps])),
            rewards=np.array([reward for _, _, reward in steps], dtype=np.float64),
            terminated=terminated,
        )


def conform(episode: Episode, example: Episode | None) -> Episode:
    """An episode with the number types of another one, and with rewards only if that has them.

    Args:
        episode: What to change.
        example: What it is to be put beside; None changes nothing.
    """
    if example is None:
        return episode
    rewards = None
    if example.rewards is not None and episode.rewards is not None:
        rewards = episode.rewards.astype(example.rewards.dtype)
    return Episode(
        observations=map_tree(_as_type_of, episode.observations, example.observations),
        actions=map_tree(_as_type_of, episode.actions, example.actions),
        rewards=rewards,
        terminated=episode.terminated,
    )


def episodes_state(episodes: Sequence[Episode]) -> dict[str, Any] | None:
    """Episodes with rewards as a plain tree of few arrays; None for none."""
    if not episodes:
        return None
    return {
        "observations": _join_all([each.observations for each in episodes]),
        "actions": _join_all([each.actions for each in episodes]),
        "rewards": np.concatenate([_known(each.rewards) for each in episodes]),
        "lengths": np.array([len(each) for each in episodes], dtype=np.int64),
        "terminated": np.array([each.terminated for each in episodes], dtype=np.bool_),
    }


def load_episodes_state(state: Mapping[str, Any] | None) -> list[Episode]:
    """Take back what `episodes_state` gave."""
    if state is None:
        return []
    ends = np.cumsum(state["lengths"])
    found = []
    for number, (end, length) in enumerate(zip(ends, state["lengths"], strict=True)):
        begin, shift = end - length, number  # each episode has one observation more than it has steps
        found.append(
            Episode(
                observations=select(state["observations"], slice(begin + shift, end + shift + 1)),
                actions=select(state["actions"], slice(begin, end)),
                rewards=state["rewards"][begin:end],
                terminated=bool(state["terminated"][number]),
            )
        )
    return found


def _typed(space: gym.Space[Any], actions: Tree) -> Tree:
    leaves = map_space(lambda leaf: leaf, space)
    return map_tree(lambda part, leaf: np.asarray(part, dtype=leaf.dtype), actions, leaves)


def _as_type_of(given: Any, example: Any) -> Any:
    return given.astype(example.dtype, copy=False)


def _join_all(trees: list[Tree]) -> Tree:
    return map_tree(lambda *parts: np.concatenate(parts), *trees)


def _known(rewards: Any) -> Any:
    return np.zeros(0) if rewards is None else rewards
