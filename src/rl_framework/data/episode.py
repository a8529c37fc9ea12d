"""One recorded episode: the shape in which demonstrations and rollouts are stored, shared and learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_framework.core.trees import Tree, leaves, leaves_with_paths, map_tree, path_name, select
from rl_framework.errors import InvalidInputError

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Episode:
    """What happened from a reset to the last recorded step: T actions, T + 1 observations.

    The arrays are views that cannot be written to; number types stay as they are given.

    Attributes:
        observations: What was seen, the last one included. `[T + 1, ...]` per leaf
        actions: What was done. `[T, ...]` per leaf
        rewards: What it earned; None in demonstrations without rewards. `[T]`
        terminated: The task ended; otherwise the recording was cut (a time limit, a crash, a slice).
        infos: What the environment said beside each step, None if it was not recorded. `[T]`

    Raises:
        InvalidInputError: Lengths disagree, there is no step, a leaf is no array, or rewards are no real numbers.
    """

    observations: Tree
    actions: Tree
    rewards: FloatArray | None
    terminated: bool
    infos: Sequence[Mapping[str, Any]] | None = None

    @classmethod
    def from_checked(
        cls,
        observations: Tree,
        actions: Tree,
        rewards: FloatArray | None,
        terminated: bool,
        infos: Sequence[Mapping[str, Any]] | None,
    ) -> Episode:
        """An episode of parts that fit each other already, made without looking at them: for readers of files.

        Args:
            observations: Arrays that cannot be written to. `[T + 1, ...]` per leaf
            actions: Arrays that cannot be written to. `[T, ...]` per leaf
            rewards: An array of floats that cannot be written to. `[T]`
            terminated: The task ended.
            infos: Remarks that do not change, compare like a tuple and may be read late. `[T]`
        """
        episode = object.__new__(cls)
        _set_observations(episode, observations)
        _set_actions(episode, actions)
        _set_rewards(episode, rewards)
        _set_terminated(episode, terminated)
        _set_infos(episode, infos)
        return episode

    def __post_init__(self) -> None:
        steps = _count_steps(self.actions)
        _check_leaves("actions", self.actions, steps, f"{steps}, one per action")
        _check_leaves("observations", self.observations, steps + 1, f"{steps + 1}, one more than the {steps} actions")
        if self.rewards is not None:
            _check_rewards(self.rewards, steps)
        if self.infos is not None and len(self.infos) != steps:
            raise InvalidInputError(f"infos has {len(self.infos)} entries, expected {steps}, one per action.")
        for name in ("observations", "actions", "rewards"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, map_tree(_read_only, getattr(self, name)))
        object.__setattr__(self, "terminated", bool(self.terminated))
        if self.infos is not None:
            object.__setattr__(self, "infos", tuple(self.infos))

    @property
    def truncated(self) -> bool:
        """The recording was cut while the task went on."""
        return not self.terminated

    @property
    def total_reward(self) -> float:
        """Sum of the rewards, undiscounted.

        Raises:
            InvalidInputError: It was recorded without rewards.
        """
        if self.rewards is None:
            raise InvalidInputError(f"This episode of {len(self)} steps was recorded without rewards.")
        return float(np.sum(self.rewards, dtype=np.float64))

    def __len__(self) -> int:
        """Number of steps, T."""
        return len(leaves(self.actions)[0])

    def __getitem__(self, part: slice) -> Episode:
        """The steps of a slice as an episode of their own, cut unless it reaches the end. Nothing is copied.

        Raises:
            InvalidInputError: It is no slice of consecutive steps, or an empty one.
        """
        if not isinstance(part, slice) or part.step not in (None, 1):
            raise InvalidInputError(
                f"Episodes are cut by slices of consecutive steps, e.g. episode[10:20]; got {part}."
            )
        start, stop, _ = part.indices(len(self))
        if start >= stop:
            raise InvalidInputError(f"The slice {start}:{stop} of an episode of {len(self)} steps is empty.")
        return Episode(
            observations=select(self.observations, slice(start, stop + 1)),
            actions=select(self.actions, slice(start, stop)),
            rewards=None if self.rewards is None else self.rewards[start:stop],
            terminated=self.terminated and stop == len(self),
            infos=None if self.infos is None else self.infos[start:stop],
        )

    def __eq__(self, other: object) -> bool:
        """Same structure, number types, numbers (NaN equals NaN), ending and infos."""
        if not isinstance(other, Episode):
            return NotImplemented
        return (
            self.terminated == other.terminated
            and _equal(self.observations, other.observations)
            and _equal(self.actions, other.actions)
            and _equal(self.rewards, other.rewards)
            and _equal_remarks(self.infos, other.infos)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash


# The slots themselves: a frozen record's own way of setting them takes longer than everything else in `from_checked`.
_set_observations, _set_actions, _set_rewards, _set_terminated, _set_infos = (
    vars(Episode)[name].__set__ for name in ("observations", "actions", "rewards", "terminated", "infos")
)


def _count_steps(actions: Tree) -> int:
    parts = leaves(actions)
    if not parts or not isinstance(parts[0], np.ndarray) or parts[0].ndim == 0:
        given = type(parts[0]).__name__ if parts else "an empty tree"
        raise InvalidInputError(f"actions must be arrays [T, ...] in a dict or tuple at most; got {given}.")
    if len(parts[0]) == 0:
        raise InvalidInputError("An episode has at least one step; actions has 0 entries.")
    return len(parts[0])


def _check_leaves(field: str, tree: Tree, length: int, wanted: str) -> None:
    found = list(leaves_with_paths(tree))
    if not found:
        raise InvalidInputError(f"{field} has no arrays.")
    for path, leaf in found:
        name = f"{field}.{path_name(path)}" if path else field
        if not isinstance(leaf, np.ndarray) or leaf.dtype.hasobject:
            kind = f"array of {leaf.dtype}" if isinstance(leaf, np.ndarray) else type(leaf).__name__
            raise InvalidInputError(f"{name} must be a NumPy array of numbers, got {kind}.")
        if leaf.ndim == 0 or len(leaf) != length:
            given = "no axis" if leaf.ndim == 0 else f"{len(leaf)} entries"
            raise InvalidInputError(f"{name} has {given}, expected {wanted}.")


def _check_rewards(rewards: Any, steps: int) -> None:
    if not isinstance(rewards, np.ndarray) or rewards.dtype.kind != "f":
        given = f"an array of {rewards.dtype}" if isinstance(rewards, np.ndarray) else type(rewards).__name__
        raise InvalidInputError(f"rewards must be a NumPy array of floats, or None; got {given}.")
    if rewards.shape != (steps,):
        raise InvalidInputError(f"rewards has shape {rewards.shape}, expected ({steps},), one per action.")


def _read_only(array: np.ndarray) -> np.ndarray:
    view: np.ndarray = array.view()
    view.flags.writeable = False
    return view


def _equal(first: Tree, second: Tree) -> bool:
    ours, theirs = list(leaves_with_paths(first)), list(leaves_with_paths(second))
    return [path for path, _ in ours] == [path for path, _ in theirs] and all(
        _equal_arrays(one, other) for (_, one), (_, other) in zip(ours, theirs, strict=True)
    )


def _equal_remarks(first: Any, second: Any) -> bool:
    """Equality of infos and what is in them; NaN equals NaN."""
    if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
        both = isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
        return both and _equal_arrays(first, second)
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_equal_remarks(first[key], second[key]) for key in first)
    if isinstance(first, Sequence) and isinstance(second, Sequence) and not isinstance(first, str):
        return len(first) == len(second) and all(map(_equal_remarks, first, second))
    return bool(first == second or (first != first and second != second))  # noqa: PLR0124  NaN is not itself


def _equal_arrays(first: np.ndarray | None, second: np.ndarray | None) -> bool:
    if first is None or second is None:
        return first is second
    same_type = first.dtype == second.dtype and first.shape == second.shape
    return same_type and np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")
