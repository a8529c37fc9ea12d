"""The process that steps one environment: maps the shared arrays, then answers requests until told to stop.

Started by `rl_framework.envs.subprocess`. It imports NumPy and Gymnasium; torch only if the environment does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.core.spaces import check_supported
from rl_framework.core.trees import Tree, map_tree, select
from rl_framework.envs.batch import find_invalid_number
from rl_framework.envs.messages import NOTHING, STEP, Answer, Request, StepRemarks, Trouble, pack, unpack
from rl_framework.envs.row import EnvironmentRow, describe
from rl_framework.envs.shared_memory import SharedArrays, map_shared_file
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import InvalidNumberError

_PR_SET_PDEATHSIG = 1
_VERBS_OF_ROWS = ("call", "get_attribute", "set_attribute", "render", "get_state")


class Worker:
    """One environment at the far end of a connection.

    Args:
        connection: Where requests come from and answers go to.
        row: Index of the environment.
    """

    def __init__(self, connection: Connection, row: int) -> None:
        self._connection = connection
        self._index = row
        self._row: EnvironmentRow
        self._shared: SharedArrays
        self._own_observations: Tree
        self._verbs: dict[str, Callable[..., Any]] = {
            "make": self.make,
            "map": self.map,
            "reset": self.reset,
            "reset_to_schedule": self.reset_to_schedule,
            "set_state": self.set_state,
        }

    def serve(self) -> None:
        """Answer requests until the other side closes the connection or says so."""
        while True:
            try:
                data = self._connection.recv_bytes()
            except (EOFError, ConnectionError):
                return
            if data == NOTHING:
                return
            self._connection.send_bytes(self._answer(data))

    def close(self) -> None:
        """Close the environment, if there is one."""
        if hasattr(self, "_row"):
            self._row.env.close()

    def make(self, packed_factory: bytes) -> EnvSpec:
        """Make the environment."""
        env = unpack(packed_factory)()
        check_supported(env.observation_space, "observation")
        check_supported(env.action_space, "action")
        self._row = EnvironmentRow(env, self._index)
        for verb in _VERBS_OF_ROWS:
            self._verbs[verb] = getattr(self._row, verb)
        return describe(env, 1)

    def map(self, path: Path, count: int) -> None:
        """Map the shared arrays of `count` rows."""
        env = self._row.env
        self._shared = map_shared_file(path, env.observation_space, env.action_space, count)
        row = slice(self._index, self._index + 1)
        self._own_observations = map_tree(lambda leaf: leaf[row], self._shared.batch.observations)

    def reset(self, seed: int | None) -> bool:
        """Open an episode; the answer is whether there are masks."""
        self._row.reset(seed, self._shared.batch)
        return self._check()

    def reset_to_schedule(self, seeds: list[int]) -> bool:
        """Open the first of the scheduled episodes; the answer is whether there are masks."""
        self._row.reset_to_schedule(seeds, self._shared.batch)
        return self._check()

    def set_state(self, tree: Any) -> bool:
        """Put the environment back; the answer is whether there are masks."""
        self._row.set_state(tree, self._shared.batch)
        return self._check()

    def step(self) -> bytes:
        """Step with the action in the shared arrays."""
        row, batch, index = self._row, self._shared.batch, self._index
        batch.terminated[index] = batch.truncated[index] = False
        action = map_tree(_private, select(self._shared.actions, index))
        row.step(action, batch)
        self._check()
        if not row.info and row.summary is None:
            return NOTHING
        return pack(StepRemarks(row.info, row.final, row.summary))

    def _answer(self, data: bytes) -> bytes:
        try:
            if data == STEP:
                return self.step()
            request: Request = unpack(data)
            return pack(Answer(self._verbs[request.verb](*request.arguments)))
        except Exception as error:  # noqa: BLE001  It is raised on the other side.
            return pack(Trouble.of(error))

    def _check(self) -> bool:
        found = find_invalid_number(self._own_observations)
        if found is not None:
            raise InvalidNumberError(found[1], row=self._index, step=self._row.steps)
        mask = self._row.mask()
        if mask is not None and self._shared.masks is not None:
            self._shared.masks[self._index] = mask
        return mask is not None


def _private(part: Any) -> Any:
    """A copy of an array, which the next step would overwrite; numbers are copies already."""
    return part.copy() if isinstance(part, np.ndarray) else part


def die_with_parent(parent: int, *, of_main_thread: bool) -> None:
    """End this process when its parent ends, also in the middle of a step.

    A thread waits for the end of the standard input, which the parent holds open. On Linux the kernel sends a
    signal as well, which reaches a step that never lets go of the interpreter; it is tied to the thread that
    started the worker, and so only used if that is the main one. Source: prctl(2), PR_SET_PDEATHSIG.
    """
    lifeline = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_wait_for_end, args=(lifeline,), daemon=True).start()
    if sys.platform == "linux" and of_main_thread:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _wait_for_end(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    os._exit(1)


def connect(handle: int) -> Connection:
    """The connection that was inherited under a descriptor, or on Windows a handle."""
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        return PipeConnection(handle)
    os.set_inheritable(handle, False)
    return Connection(handle)


def main(handle: int, row: int, parent: int, of_main_thread: bool) -> None:
    """Serve one environment; the parent handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    die_with_parent(parent, of_main_thread=of_main_thread)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # They are plain text streams here.
    worker = Worker(connect(handle), row)
    worker.serve()
    worker.close()
