"""Joins rollouts in time and side by side: the rules of the seam between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, chain, pairwise
from typing import Any

import torch
from torch import Tensor

from rl_framework.core.trees import Tree, leaves_with_paths, map_tree
from rl_framework.data.rollout_columns import COLUMNS, TREE_COLUMNS, RolloutColumns, map_present
from rl_framework.errors import InvalidInputError


def joined_in_time(rollouts: Sequence[RolloutColumns]) -> dict[str, Any]:
    """The parts of the rollout that has the steps of all, one after the other; see `rollout.concatenate`.

    Raises:
        InvalidInputError: There is none, rows or columns disagree, or memory does not go on.
    """
    pieces = _several(rollouts)
    for before, after in pairwise(pieces):
        _check_seam(before, after)
    adjacent = [is_adjacent(before, after) for before, after in pairwise(pieces)]
    cut = [piece if goes_on else _cut(piece) for piece, goes_on in zip(pieces, [*adjacent, True], strict=True)]
    line = {"stream": pieces[0].stream, "first_step": pieces[0].first_step} if all(adjacent) else {}
    episodes = tuple(chain.from_iterable(piece.episodes for piece in pieces))
    return {**_columns(cut, 0), **_states_in_time(pieces), **line, "next": pieces[-1].next, "episodes": episodes}


def joined_side_by_side(rollouts: Sequence[RolloutColumns]) -> dict[str, Any]:
    """The parts of the rollout that has the rows of all.

    Raises:
        InvalidInputError: There is none, or lengths, columns or memory disagree.
    """
    pieces = _several(rollouts)
    if len({(len(piece), piece.state_interval) for piece in pieces}) > 1:
        found = ", ".join(f"{len(piece)} steps with interval {piece.state_interval}" for piece in pieces)
        raise InvalidInputError(f"Rows are joined where lengths and the intervals of memory agree; got {found}.")
    offsets = accumulate((piece.n_rows for piece in pieces[:-1]), initial=0)
    numbered = zip(offsets, pieces, strict=True)
    episodes = tuple(replace(e, row=e.row + offset) for offset, piece in numbered for e in piece.episodes)
    states = _join_trees("states", [piece.states for piece in pieces], 1)
    return {
        **_columns(pieces, 1),
        "states": states,
        "state_interval": pieces[0].state_interval,
        "episodes": episodes,
    }


def is_adjacent(before: RolloutColumns, after: RolloutColumns) -> bool:
    """Whether the second begins exactly where the first stopped."""
    return after.stream is before.stream and after.first_step == before.first_step + len(before)


def _several(rollouts: Sequence[RolloutColumns]) -> list[RolloutColumns]:
    pieces = list(rollouts)
    if not pieces:
        raise InvalidInputError("There is no rollout to join; give at least one.")
    return pieces


def _check_seam(before: RolloutColumns, after: RolloutColumns) -> None:
    if before.n_rows != after.n_rows:
        raise InvalidInputError(
            f"Rollouts of {before.n_rows} and {after.n_rows} rows cannot follow each other in time; give rollouts of "
            "the same environments, or put some of the same length side by side with concatenate_rows."
        )
    if bool(before.state_interval) != bool(after.state_interval):
        raise InvalidInputError("A rollout with memory and one without it cannot be joined; use them one by one.")
    if before.state_interval and not is_adjacent(before, after) and not bool(after.starts[0].all()):
        raise InvalidInputError(
            "The later rollout begins with a memory to which the earlier one does not lead. Join adjacent pieces, or "
            "rollouts that begin with a reset, or use them one by one."
        )


def _cut(rollout: RolloutColumns) -> RolloutColumns:
    """The same with the episodes that run at its end marked as truncated."""
    running = ~rollout.terminated[-1]
    if rollout.valid is not None:
        running = running & rollout.valid[-1]
    truncated = rollout.truncated.clone()
    truncated[-1] |= running
    return replace(rollout, truncated=truncated)


def _columns(pieces: list[RolloutColumns], dim: int) -> dict[str, Any]:
    carried = [sorted(piece.extras) for piece in pieces]
    if any(names != carried[0] for names in carried):
        raise InvalidInputError(f"The rollouts to be joined carry different extras: {carried}.")
    found = {name: _join_trees(name, [getattr(piece, name) for piece in pieces], dim) for name in TREE_COLUMNS}
    for name in COLUMNS:
        found[name] = _join(name, [_column(piece, name, pieces) for piece in pieces], dim)
    found["extras"] = {name: _join(name, [piece.extras[name] for piece in pieces], dim) for name in pieces[0].extras}
    return found


def _column(piece: RolloutColumns, name: str, pieces: list[RolloutColumns]) -> Tensor | None:
    column: Tensor | None = getattr(piece, name)
    if name == "valid" and column is None and any(other.valid is not None for other in pieces):
        return torch.ones_like(piece.terminated)
    return column


def _states_in_time(pieces: list[RolloutColumns]) -> dict[str, Any]:
    """Memory of pieces that follow each other; only that of the first step where the others lie at odd distances."""
    interval = pieces[0].state_interval
    if not interval:
        return {}
    is_even = all(piece.state_interval == interval for piece in pieces)
    if is_even and not any(len(piece) % interval for piece in pieces[:-1]):
        return {"states": _join_trees("states", [piece.states for piece in pieces], 0), "state_interval": interval}
    first = map_present(lambda leaf: leaf[:1], pieces[0].states)
    return {"states": first, "state_interval": sum(len(piece) for piece in pieces)}


def _join_trees(name: str, trees: list[Tree], dim: int) -> Tree:
    if all(tree is None for tree in trees):
        return None
    paths = [[path for path, _ in leaves_with_paths(tree)] for tree in trees]
    if any(path != paths[0] for path in paths):
        raise InvalidInputError(f"The {name} of the rollouts to be joined have different parts.")
    return map_tree(lambda *columns: _join(name, columns, dim), *trees)


def _join(name: str, columns: Sequence[Tensor | None], dim: int) -> Tensor | None:
    present = [column for column in columns if column is not None]
    if not present:
        return None
    if len(present) < len(columns):
        raise InvalidInputError(f"Some of the rollouts to be joined have {name} and others have none.")
    if len({(*column.shape[:dim], *column.shape[dim + 1 :]) for column in present}) > 1:
        shapes = ", ".join(str(list(column.shape)) for column in present)
        raise InvalidInputError(f"The {name} of the rollouts to be joined do not fit each other: {shapes}.")
    return torch.cat(present, dim)
