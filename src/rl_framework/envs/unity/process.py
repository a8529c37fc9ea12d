"""The process of a launched Unity player, which never outlives its owner."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

from rl_framework.envs.unity.launch import UnityLaunch, own_log_file, player_arguments
from rl_framework.envs.unity.player_log import PlayerLog
from rl_framework.errors import InvalidInputError, UnityPlayerDied


class PlayerProcess:
    """A player in a process group of its own, with its log; it is killed when nobody refers to it any more.

    Args:
        launch: What to start.
        program: The executable.
        port: Port at which the player finds us.

    Attributes:
        log: What it writes: its output and, unless its arguments say otherwise, its log.

    Raises:
        InvalidInputError: The system does not start it, or there can be no folder for its log.
    """

    def __init__(self, launch: UnityLaunch, program: Path, port: int) -> None:
        folder = Path(tempfile.mkdtemp(prefix="unity_player_"))
        output = folder / "output.txt"
        self._program = program
        self._owner = os.getpid()
        try:
            log = _log_file(launch, folder, port)
            self.log = PlayerLog((output, log), launch.index)
            self._process = _start([str(program), *player_arguments(launch, port, log)], output)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._finish = weakref.finalize(self, _finish, self._process, folder, self._owner)

    @property
    def pid(self) -> int:
        """Its process id, which is that of its process group, too."""
        return self._process.pid

    def check(self) -> None:
        """Do nothing while it runs.

        Raises:
            UnityPlayerDied: It ended; the message says how.
        """
        code = self._process.poll()
        if code is not None:
            raise self.log.failure(UnityPlayerDied, f"The Unity player {self._program} {_ending(code)}.")

    def end(self, grace: float) -> tuple[str, ...]:
        """Wait for it to end by itself, then kill whatever of it is left, and tidy up; a fork leaves it alone.

        Args:
            grace: Seconds to wait.

        Returns:
            The last lines of its log.
        """
        if os.getpid() == self._owner:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        tail = self.log.tail()
        self._finish()
        return tail


def _start(command: list[str], output: Path) -> subprocess.Popen[bytes]:
    try:
        with output.open("wb") as stream:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # An interrupt from the keyboard is for us; the player is closed by us.
            )
    except OSError as error:
        raise InvalidInputError(
            f"The Unity player {command[0]} cannot be started: {error}. Expected a build for this operating system "
            f"({sys.platform})."
        ) from error


def _log_file(launch: UnityLaunch, folder: Path, port: int) -> Path:
    own = own_log_file(launch.arguments)
    if own is not None:
        return folder / "none.txt" if own == "-" else Path(own).expanduser()
    if launch.log_folder is None:
        return folder / "Player.log"
    log = launch.log_folder / f"Player-{port}.log"
    try:
        launch.log_folder.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)  # An error must not tell the end of an earlier game's log.
    except OSError as error:
        raise InvalidInputError(f"The Unity player's log cannot be written to {log}: {error}.") from error
    return log


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by the signal {signal.Signals(-code).name}"
    return f"was ended by the signal {-code}"


def _finish(process: subprocess.Popen[bytes], folder: Path, owner: int) -> None:
    """Kill a player with all that it started, and remove its folder; a fork of the owner has no right to."""
    if os.getpid() != owner:
        return
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
