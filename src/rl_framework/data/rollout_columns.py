"""The columns of a rollout and what is done to all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.errors import InvalidInputError

TREE_COLUMNS = ("observations", "actions")
COLUMNS = ("rewards", "terminated", "truncated", "starts", "log_prob", "values", "next_values", "masks", "valid")
ALL_COLUMNS = (*TREE_COLUMNS, *COLUMNS, "extras")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Position:
    """Where sampling stands between two horizons.

    Attributes:
        observations: What is seen now. `[B, ...]` per leaf
        state: The policy's memory, None without. `[B, ...]` per leaf
        starts: The observation opens an episode: memory is cleared before the policy acts on it. `[B]`
        episode_returns: Reward so far in the running episode, float64. `[B]`
        episode_lengths: Steps so far in the running episode, int64. `[B]`
        stream: The line of steps on which it lies; pieces of one line know whether they are adjacent.
        step: Steps since that line began.
    """

    observations: Tree
    state: Tree
    starts: Tensor
    episode_returns: Tensor
    episode_lengths: Tensor
    stream: object = field(default_factory=object)
    step: int = 0

    @property
    def n_rows(self) -> int:
        """Number of environments, B."""
        return len(self.starts)

    def map(self, function: Callable[[Tensor], Tensor]) -> Position:
        """The same after a function of each tensor."""
        return replace(
            self,
            observations=map_tree(function, self.observations),
            state=map_present(function, self.state),
            starts=function(self.starts),
            episode_returns=function(self.episode_returns),
            episode_lengths=function(self.episode_lengths),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RolloutColumns:
    """T steps in each of B environments, column by column.

    Attributes:
        observations: What the policy saw. `[T, B, ...]` per leaf
        actions: What it chose, as targets: the form of actions that distributions work on. `[T, B, ...]` per leaf
        rewards: What it earned. `[T, B]`
        terminated: The task ended with this step: nothing follows. `[T, B]`
        truncated: The episode was cut after this step (a time limit, the end of a recording). `[T, B]`
        starts: The observation opens an episode. `[T, B]`
        log_prob: Log-probability of the actions under the policy that acted, None if it is not known. `[T, B]`
        values: What that policy expected of the observations, None if it does not say. `[T, B]`
        next_values: What it expected of what followed each step: of the true last observation where `truncated`, of the
            next observation otherwise, 0 where `terminated`. `[T, B]`
        masks: Choices that were allowed, None if all were. `[T, B, n]`
        valid: False where a row rested: such steps did not happen. None if all count. `[T, B]`
        states: Memory before the steps 0, L, 2 L, ..., None without. `[ceil(T / L), B, ...]` per leaf
        state_interval: L; 0 without memory.
        extras: Further quantities per step, by name. `[T, B, ...]`
        next: Where sampling stood after the last step, None if nobody can go on from there.
        episodes: Summaries of the episodes that ended in it; not known of pieces of a rollout.
        stream: The line of steps of which it is a piece.
        first_step: Where on that line it begins.

    Raises:
        InvalidInputError: Columns disagree on T or B, or there is no step.
    """

    observations: Tree
    actions: Tree
    rewards: Tensor
    terminated: Tensor
    truncated: Tensor
    starts: Tensor
    log_prob: Tensor | None = None
    values: Tensor | None = None
    next_values: Tensor | None = None
    masks: Tensor | None = None
    valid: Tensor | None = None
    states: Tree = None
    state_interval: int = 0
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    next: Position | None = None
    episodes: Sequence[EpisodeSummary] = ()
    stream: object = field(default_factory=object)
    first_step: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "extras", dict(self.extras))
        shape = tuple(self.rewards.shape)
        if len(shape) != 2 or 0 in shape:
            raise InvalidInputError(f"The rewards of a rollout are [T, B] with at least one step; got {list(shape)}.")
        for name, column in self.named_columns():
            if tuple(column.shape[:2]) != shape:
                raise InvalidInputError(
                    f"The {name} of a rollout have the shape {list(column.shape)}, its rewards {list(shape)}; "
                    "give every column one entry per step and row, [T, B, ...]."
                )

    def __len__(self) -> int:
        """Number of steps, T."""
        return len(self.rewards)

    @property
    def n_rows(self) -> int:
        """Number of environments, B."""
        return self.rewards.shape[1]

    @property
    def n_transitions(self) -> int:
        """T times B, steps of resting rows included."""
        return self.rewards.numel()

    @property
    def device(self) -> torch.device:
        """Where the columns are."""
        return self.rewards.device

    @property
    def ended(self) -> Tensor:
        """Whether the episode did not go on after the step. `[T, B]`"""
        return self.terminated | self.truncated

    @property
    def n_bytes(self) -> int:
        """What the columns take."""
        return sum(column.numel() * column.element_size() for _, column in self.named_columns())

    def named_columns(self) -> Iterator[tuple[str, Tensor]]:
        """Every column that there is, leaf by leaf, with its name."""
        for name in TREE_COLUMNS:
            for leaf in leaves(getattr(self, name)):
                yield name, leaf
        for name in COLUMNS:
            if getattr(self, name) is not None:
                yield name, getattr(self, name)
        yield from self.extras.items()

    def map_columns(self, function: Callable[[Tensor], Tensor], **parts: Any) -> Self:
        """The same after a function of each column `[T, B, ...]`, and other parts as given."""
        found = {name: map_present(function, getattr(self, name)) for name in ALL_COLUMNS}
        return self.changed(**found, **parts)

    def row_blocks(self, count: int) -> Iterator[Self]:
        """Consecutive blocks of `count` rows, the last one with what is left, as views."""
        if count >= self.n_rows:
            yield self
            return
        split = {
            name: map_present(lambda column: list(torch.split(column, count, 1)), getattr(self, name))
            for name in (*ALL_COLUMNS, "states")
        }
        for index in range(-(-self.n_rows // count)):
            pick = itemgetter(index)
            yield self.changed(**{name: map_present(pick, blocks) for name, blocks in split.items()})

    def changed(self, **parts: Any) -> Self:
        """The same with other parts that are known to fit, as steps in an order that has nothing to do with `stream`.

        Only what says so keeps `next`, `episodes`, `stream` and `first_step`.
        """
        made = object.__new__(type(self))
        known = {"next": None, "episodes": (), "stream": object(), "first_step": 0, **parts}
        for name in FIELDS:
            object.__setattr__(made, name, known[name] if name in known else getattr(self, name))
        return made


FIELDS = tuple(RolloutColumns.__dataclass_fields__)


def map_present(function: Callable[..., Any], tree: Tree) -> Tree:
    """`map_tree` that leaves None, a memory that there is not, as it is."""
    return None if tree is None else map_tree(function, tree)
