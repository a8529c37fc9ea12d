"""An episode, or a piece of one, as models take it: tensors on their device, actions as targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from rl_framework.core.trees import Tree, leaves_with_paths, map_tree, path_name, select
from rl_framework.errors import InvalidInputError


@runtime_checkable
class RecordedEpisode(Protocol):
    """What was seen and done from a reset on, as NumPy arrays; an `Episode` of a recording is one.

    A further attribute `masks`, `[T, n]`, may tell which choices were allowed.

    Attributes:
        observations: What was seen, the last one included. `[T + 1, ...]` per leaf
        actions: What was done, in the environment's own form. `[T, ...]` per leaf
    """

    @property
    def observations(self) -> Tree: ...  # noqa: D102  described above
    @property
    def actions(self) -> Tree: ...  # noqa: D102  described above


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpisodeTensors:
    """T actions and the T + 1 observations around them, with P observations before, from which memory is rebuilt.

    Attributes:
        observations: What was seen, the last one included. `[P + T + 1, ...]` per leaf
        targets: What was done, in the form that distributions work on. `[T, ...]` per leaf
        masks: Choices that were allowed, None if all were. `[T, n]`
        n_past: P. The first observation finds the memory of a beginning.

    Raises:
        InvalidInputError: Lengths disagree, or there is no action.
    """

    observations: Tree
    targets: Tree
    masks: Tensor | None = None
    n_past: int = 0

    def __post_init__(self) -> None:
        steps = _length(self.targets)
        if steps == 0:
            raise InvalidInputError("An episode has at least one step; its actions have 0 entries.")
        wanted = {"observations": self.n_past + steps + 1, "targets": steps, "masks": steps}
        for name, length in wanted.items():
            for path, leaf in leaves_with_paths(getattr(self, name)):
                if leaf is not None and len(leaf) != length:
                    raise InvalidInputError(
                        f"{path_name((name, *path))} of an episode of {steps} actions, with {self.n_past} observations "
                        f"before them, has {len(leaf)} entries, expected {length}."
                    )

    def __len__(self) -> int:
        """Number of actions, T."""
        return _length(self.targets)

    def piece(self, start: int, stop: int, *, n_past: int = 0) -> EpisodeTensors:
        """The actions from `start` up to, but not with, `stop` as an episode of their own. Nothing is copied.

        Args:
            start: The first action.
            stop: The action behind the last.
            n_past: How many observations before the first action come along; as many as there are at most.

        Raises:
            InvalidInputError: There are no such actions.
        """
        if not 0 <= start < stop <= len(self):
            raise InvalidInputError(f"Actions {start} to {stop} are no piece of an episode of {len(self)}.")
        n_past = min(n_past, self.n_past + start)
        first = self.n_past + start
        return EpisodeTensors(
            observations=select(self.observations, slice(first - n_past, self.n_past + stop + 1)),
            targets=select(self.targets, slice(start, stop)),
            masks=None if self.masks is None else self.masks[start:stop],
            n_past=n_past,
        )

    def to_tree(self) -> dict[str, Any]:
        """As a plain tree, for files."""
        return {
            "observations": self.observations,
            "targets": self.targets,
            "masks": self.masks,
            "n_past": self.n_past,
        }

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], device: torch.device) -> EpisodeTensors:
        """Take back what `to_tree` gave, to a device."""
        masks = tree["masks"]
        return cls(
            observations=map_tree(lambda leaf: leaf.to(device), tree["observations"]),
            targets=map_tree(lambda leaf: leaf.to(device), tree["targets"]),
            masks=None if masks is None else masks.to(device),
            n_past=int(tree["n_past"]),
        )


def _length(tree: Tree) -> int:
    for _, leaf in leaves_with_paths(tree):
        return len(leaf)
    raise InvalidInputError("An episode has actions; its tree of them has no leaves.")
