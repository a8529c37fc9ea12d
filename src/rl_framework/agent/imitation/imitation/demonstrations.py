"""Our episodes as the library takes them: batches of transitions in random order, or trajectories one by one.

Number types stay as they are. A small data set is laid out in memory once; of a large one only the episodes that a
batch draws from are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, Protocol, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from imitation.algorithms.base import DemonstrationAlgorithm
from imitation.data.types import DictObs, Trajectory, TrajectoryWithRew, TransitionMapping
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.vec_env import VecTransposeImage

from rl_framework.agent.reinforcement.stable_baselines.environment import SpacesOnlyVecEnv, SpaceTranslation, start_of
from rl_framework.core.trees import Tree, leaves, map_tree, select
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.transition_arrays import check_finite
from rl_framework.errors import InvalidInputError

IntArray = npt.NDArray[np.int64]
Batch = dict[str, Any]

MOST_BYTES_IN_MEMORY = 2**26
EPISODES_AT_HAND = 1024


class Transitions(Protocol):
    """Steps of episodes by number, counted over all episodes."""

    def __len__(self) -> int:
        """Number of steps."""
        ...

    def take(self, indices: IntArray) -> Batch:
        """`obs`, `acts`, `next_obs` and `dones` of some steps, in the environment's own spaces. `[B, ...]`"""
        ...


def transitions_of(episodes: EpisodeSequence) -> Transitions:
    """The steps of episodes, in memory if they are few."""
    first = episodes[0]
    bytes_per_step = sum(leaf.nbytes for leaf in leaves((first.observations, first.actions))) / len(first)
    if bytes_per_step * episodes.n_transitions <= MOST_BYTES_IN_MEMORY:
        return TransitionsInMemory(episodes)
    return TransitionsOnDemand(episodes)


class TransitionsInMemory:
    """Steps that were laid out one after the other.

    Args:
        episodes: Where they come from; not kept.
    """

    def __init__(self, episodes: EpisodeSequence) -> None:
        parts = list(episodes)
        for number, part in enumerate(parts):
            check_finite(part, number)
        self._observations = _join([part.observations for part in parts])
        self._actions = _join([part.actions for part in parts])
        lengths = np.array([len(part) for part in parts])
        self._dones = np.zeros(lengths.sum(), dtype=np.bool_)
        self._dones[np.cumsum(lengths) - 1] = [part.terminated for part in parts]
        self._episode = np.repeat(np.arange(len(parts)), lengths)

    def __len__(self) -> int:
        """Number of steps."""
        return len(self._dones)

    def take(self, indices: IntArray) -> Batch:
        """Some steps. `[B, ...]`"""
        rows = indices + self._episode[indices]  # each episode has one observation more than it has steps
        return {
            "obs": select(self._observations, rows),
            "acts": select(self._actions, indices),
            "next_obs": select(self._observations, rows + 1),
            "dones": self._dones[indices],
        }


class TransitionsOnDemand:
    """Steps that are read when they are asked for.

    Args:
        episodes: Where they are read from.
    """

    def __init__(self, episodes: EpisodeSequence) -> None:
        self._ends: IntArray = np.cumsum(episodes.lengths)
        self._read = lru_cache(maxsize=EPISODES_AT_HAND)(partial(_read_checked, episodes))

    def __len__(self) -> int:
        """Number of steps."""
        return int(self._ends[-1])

    def take(self, indices: IntArray) -> Batch:
        """Some steps. `[B, ...]`"""
        order = np.argsort(indices, kind="stable")
        numbers = np.searchsorted(self._ends, indices[order], side="right")
        groups = np.split(order, np.flatnonzero(np.diff(numbers)) + 1)
        parts = [self._take_from(int(self._number(indices[group[0]])), indices[group]) for group in groups]
        back = np.argsort(order, kind="stable")
        return {name: select(_join([part[name] for part in parts]), back) for name in parts[0]}

    def _number(self, index: int) -> np.intp:
        return np.searchsorted(self._ends, index, side="right")

    def _take_from(self, number: int, indices: IntArray) -> Batch:
        episode = self._read(number)
        steps = indices - (self._ends[number] - len(episode))
        return {
            "obs": select(episode.observations, steps),
            "acts": select(episode.actions, steps),
            "next_obs": select(episode.observations, steps + 1),
            "dones": (steps == len(episode) - 1) & episode.terminated,
        }


class DemonstrationBatches:
    """Batches without end: every step once per epoch, in an order drawn anew; one pass of `iter` is the rest of one.

    Steps that do not fill a batch at the end of an epoch are left out of it.

    Args:
        episodes: What to draw from.
        batch_size: Steps per batch.
        preparation: Makes what the library works with.
        rng: Where the first order comes from.
        state: Where another one stood, over these episodes or others; a fresh start if None.

    Raises:
        InvalidInputError: There are fewer steps than one batch has.
    """

    def __init__(
        self,
        episodes: EpisodeSequence,
        batch_size: int,
        preparation: Preparation,
        *,
        rng: np.random.Generator,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        _check_enough(episodes, batch_size)
        self.batch_size = batch_size
        self.epoch = 0
        self._is_looked_at = False
        self._transitions = transitions_of(episodes)
        self._preparation = preparation
        self._bits = np.random.PCG64(0 if state is not None else int(rng.integers(2**63)))
        if state is None:
            self._start_epoch()
        else:
            self._go_on(state)

    def __len__(self) -> int:
        """Number of steps to draw from."""
        return len(self._transitions)

    def __iter__(self) -> Iterator[Batch]:
        """The rest of this epoch, or the next one if nothing is left."""
        if self._is_looked_at:
            yield self._batch(np.arange(self.batch_size))
            return
        if self._position + self.batch_size > len(self):
            self.epoch += 1
            self._start_epoch()
        while self._position + self.batch_size <= len(self):
            chosen = self._order[self._position : self._position + self.batch_size]
            self._position += self.batch_size
            yield self._batch(chosen)

    def give_to(self, trainer: DemonstrationAlgorithm[Any]) -> None:
        """Let one of the library's trainers draw from here; it looks at a batch to see what it is given."""
        self._is_looked_at = True
        trainer.set_demonstrations(cast(Iterable[TransitionMapping], self))
        self._is_looked_at = False

    def state(self) -> dict[str, Any]:
        """Which step is next, as a plain tree."""
        return {
            "epoch_state": self._epoch_state,
            "position": self._position,
            "epoch": self.epoch,
            "length": len(self),
        }

    def _batch(self, indices: IntArray) -> Batch:
        return self._preparation.batch(self._transitions.take(indices))

    def _start_epoch(self) -> None:
        self._epoch_state, self._position = self._bits.state, 0
        self._order = np.random.Generator(self._bits).permutation(len(self))

    def _go_on(self, state: Mapping[str, Any]) -> None:
        """Over another number of steps, a new epoch begins."""
        self._bits.state, self.epoch = state["epoch_state"], state["epoch"]
        if state["length"] == len(self):
            self._start_epoch()
            self._position = state["position"]
        else:
            self._bits.advance(state["length"])
            self.epoch += 1
            self._start_epoch()


class Preparation:
    """From the environment's spaces to what the library's networks take.

    Args:
        translation: Between the environment's spaces and those that Stable-Baselines3 works with.
        action_space: The environment's actions.
        channels_first: Whether pictures get their channels first, as Stable-Baselines3's networks want them.
        with_next: Whether next observations and endings are needed.
    """

    def __init__(
        self,
        translation: SpaceTranslation,
        action_space: gym.Space[Any],
        *,
        channels_first: bool = False,
        with_next: bool = True,
    ) -> None:
        self._translation = translation
        self._first_action = start_of(action_space)
        self._is_binary = isinstance(action_space, spaces.MultiBinary)
        self._turned = turned_entries(translation.observation_space) if channels_first else {}
        self._with_next = with_next

    def batch(self, taken: Batch) -> Batch:
        """A batch of steps as the library takes it. `[B, ...]`"""
        batch = {"obs": self.observations(taken["obs"]), "acts": self.actions(taken["acts"])}
        if self._with_next:
            batch |= {"next_obs": self.observations(taken["next_obs"]), "dones": taken["dones"]}
        return batch

    def observations(self, observations: Tree) -> Any:
        """Observations, those of a Dict in the library's own kind of dictionary. `[B, ...]`"""
        flat = self._translation.observations(observations)
        if isinstance(flat, dict):
            return DictObs({name: self._turn(name, part) for name, part in flat.items()})
        return self._turn("", flat)

    def actions(self, actions: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Actions counted from 0. `[B, ...]`"""
        if self._is_binary:
            return actions.astype(np.float32)  # as the library's own come
        return actions - self._first_action if np.any(self._first_action) else actions

    def _turn(self, name: str, part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return VecTransposeImage.transpose_image(part) if name in self._turned else part


def turned_entries(space: gym.Space[Any]) -> set[str]:
    """Names of the entries of an observation that are pictures with their channels last; `""` for one alone."""
    entries: Iterable[tuple[str, Any]] = space.spaces.items() if isinstance(space, spaces.Dict) else [("", space)]
    return {name for name, part in entries if is_image_space(part) and not is_image_space_channels_first(part)}


def turned_space(space: gym.Space[Any]) -> gym.Space[Any]:
    """The same observations with the channels of pictures first."""
    if not turned_entries(space):
        return space
    return VecTransposeImage(SpacesOnlyVecEnv(1, space, spaces.Discrete(1))).observation_space


def as_trajectories(episodes: EpisodeSequence, preparation: Preparation) -> Iterator[Trajectory]:
    """Each episode as the library's own record, read when it is asked for; remarks of environments are left out."""
    for episode in episodes:
        parts = {
            "obs": preparation.observations(episode.observations),
            "acts": preparation.actions(episode.actions),
            "infos": None,
            "terminal": episode.terminated,
        }
        if episode.rewards is None:
            yield Trajectory(**parts)
        else:
            yield TrajectoryWithRew(**parts, rews=np.asarray(episode.rewards))


def _read_checked(episodes: EpisodeSequence, number: int) -> Episode:
    episode = episodes[number]
    check_finite(episode, number)
    return episode


def _check_enough(episodes: EpisodeSequence, batch_size: int) -> None:
    if episodes.n_transitions < batch_size:
        raise InvalidInputError(
            f"The demonstrations have {episodes.n_transitions} transitions in {len(episodes)} episodes, fewer than one "
            f"batch of {batch_size}. Give more of them, or a smaller batch size in algorithm_parameters."
        )


def _join(trees: list[Tree]) -> Tree:
    return map_tree(lambda *parts: np.concatenate(parts), *trees)
