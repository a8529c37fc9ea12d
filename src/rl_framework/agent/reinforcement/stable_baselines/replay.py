"""Replay buffers as plain trees, and their way into a buffer of another size or another number of rows.

A buffer is a ring of time steps by environments, `[buffer_size, n_envs, ...]`. Only the filled part is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

COLUMNS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
Columns = dict[str, Any]


def replay_state(buffer: ReplayBuffer) -> dict[str, Any]:
    """What is in a buffer, as a plain tree."""
    filled = buffer.buffer_size if buffer.full else buffer.pos
    if buffer.optimize_memory_usage:
        filled = min(filled + 1, buffer.buffer_size)  # the next observation stands one step further
    columns = {name: getattr(buffer, name) for name in COLUMNS if hasattr(buffer, name)}
    state = {
        "buffer_size": buffer.buffer_size,
        "n_envs": buffer.n_envs,
        "position": buffer.pos,
        "full": buffer.full,
        "columns": _map_columns(lambda column: column[:filled], columns),
    }
    if isinstance(buffer, HerReplayBuffer):
        state["episodes"] = {
            "starts": buffer.ep_start[:filled],
            "lengths": buffer.ep_length[:filled],
            "current_starts": buffer._current_ep_start,
        }
        if buffer.copy_info_dict:
            state["infos"] = [list(row) for row in buffer.infos[:filled]]
    return state


def load_replay_state(buffer: ReplayBuffer, state: Mapping[str, Any]) -> None:
    """Fill a buffer with what `replay_state` gave.

    A buffer of the same shape becomes the same, bit for bit. In one of another shape the newest transitions that
    fit are laid out anew, column after column; episodes are cut where columns were joined.
    """
    if (buffer.buffer_size, buffer.n_envs) == (state["buffer_size"], state["n_envs"]):
        _load_same_shape(buffer, state)
    else:
        _load_other_shape(buffer, state)


def cut_open_episodes(buffer: ReplayBuffer) -> None:
    """Close the episodes that were still open, because the environments start afresh.

    Without it, n-step returns and hindsight goals would run from one episode into an unrelated one.
    """
    if buffer.pos == 0 and not buffer.full:
        return
    _cut(buffer, np.array([(buffer.pos - 1) % buffer.buffer_size]))
    if isinstance(buffer, HerReplayBuffer):
        for row in np.flatnonzero(buffer._current_ep_start != buffer.pos):
            buffer._compute_episode_length(int(row))


def _load_same_shape(buffer: ReplayBuffer, state: Mapping[str, Any]) -> None:
    _write(buffer, state["columns"], 0)
    buffer.pos, buffer.full = state["position"], state["full"]
    if isinstance(buffer, HerReplayBuffer) and "episodes" in state:
        episodes = state["episodes"]
        filled = len(episodes["starts"])
        buffer.ep_start[:filled] = episodes["starts"]
        buffer.ep_length[:filled] = episodes["lengths"]
        buffer._current_ep_start = np.array(episodes["current_starts"])
        if "infos" in state:
            for index, infos in enumerate(state["infos"]):
                buffer.infos[index] = infos


def _load_other_shape(buffer: ReplayBuffer, state: Mapping[str, Any]) -> None:
    steps = state["buffer_size"] if state["full"] else state["position"]
    start = state["position"] if state["full"] else 0
    keep = min(steps, buffer.buffer_size * buffer.n_envs // state["n_envs"])
    order = (start + np.arange(steps - keep, steps)) % state["buffer_size"]
    rows = keep * state["n_envs"] // buffer.n_envs
    if rows == 0:
        return
    columns = _with_next_observations(state["columns"], order, state["buffer_size"])
    seams = np.zeros((keep, state["n_envs"]), dtype=bool)
    seams[-1] = True
    _write(buffer, _map_columns(lambda column: _lay_out(column, rows, buffer.n_envs), columns), 0)
    cuts = _lay_out(seams, rows, buffer.n_envs)
    cuts[-1] = True
    _cut(buffer, *np.nonzero(cuts))
    buffer.pos, buffer.full = rows % buffer.buffer_size, rows == buffer.buffer_size
    if isinstance(buffer, HerReplayBuffer):
        _find_episodes(buffer, rows)


def _with_next_observations(columns: Columns, order: npt.NDArray[np.int64], size: int) -> Columns:
    ordered = _map_columns(lambda column: column[order], columns)
    if "next_observations" not in columns:
        ordered["next_observations"] = _map_columns(
            lambda column: column[(order + 1) % size], {"it": columns["observations"]}
        )["it"]
    return ordered


def _lay_out(column: npt.NDArray[Any], rows: int, n_envs: int) -> npt.NDArray[Any]:
    """From `[T, old n_envs, ...]` to `[rows, n_envs, ...]`: sequences stay sequences, the oldest surplus goes."""
    flat = np.swapaxes(column, 0, 1).reshape(-1, *column.shape[2:])
    surplus = len(flat) - rows * n_envs
    return np.swapaxes(flat[surplus:].reshape(n_envs, rows, *column.shape[2:]), 0, 1)


def _write(buffer: ReplayBuffer, columns: Columns, start: int) -> None:
    for name, column in columns.items():
        target = getattr(buffer, name, None)
        if target is None:
            continue
        if isinstance(column, dict):
            for key, part in column.items():
                target[key][start : start + len(part)] = part
        else:
            target[start : start + len(column)] = column


def _cut(buffer: ReplayBuffer, steps: npt.NDArray[np.int64], rows: Any = slice(None)) -> None:
    """Mark transitions as the last of their episode, cut and not ended, where the buffer follows episodes."""
    if not (isinstance(buffer, HerReplayBuffer | NStepReplayBuffer) or buffer.optimize_memory_usage):
        return
    open_ = buffer.dones[steps, rows] == 0
    buffer.timeouts[steps, rows] = np.where(open_ & buffer.handle_timeout_termination, 1, buffer.timeouts[steps, rows])
    buffer.dones[steps, rows] = 1


def _find_episodes(buffer: HerReplayBuffer, filled: int) -> None:
    for row in range(buffer.n_envs):
        start = 0
        for end in np.flatnonzero(buffer.dones[:filled, row]) + 1:
            buffer.ep_start[start:end, row] = start
            buffer.ep_length[start:end, row] = end - start
            start = int(end)
    buffer._current_ep_start[:] = buffer.pos


def _map_columns(function: Any, columns: Columns) -> Columns:
    return {
        name: {key: function(part) for key, part in column.items()} if isinstance(column, dict) else function(column)
        for name, column in columns.items()
    }
