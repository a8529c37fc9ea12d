"""How a Unity player is started: a record that checks itself, the executable of a build, and its command line."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from types import MappingProxyType

from rl_framework.errors import InvalidInputError

EDITOR_PORT = 5004
HIGHEST_PORT = 65_535
GREATEST_FLOAT = 3.4e38
LOWEST = {"num_areas": 1, "width": 1, "height": 1, "target_frame_rate": -1, "capture_frame_rate": 0, "quality_level": 0}
"""The lowest value of each of these whole numbers."""
SUFFIXES = {"linux": (".x86_64", ".x86", ".arm64"), "darwin": (".app",), "win32": (".exe",)}
NO_GAMES = ("UnityCrashHandler32.exe", "UnityCrashHandler64.exe")


@dataclass(frozen=True, kw_only=True)
class UnityLaunch:
    """Where a player is, how it is started, and how its engine runs.

    Attributes:
        file: The build, with or without its ending, or the folder that holds it; None waits for the Editor instead.
        port: Port on which the player is awaited; None is a free one, and 5004 for the Editor.
        host: Address on which the player is awaited. Whoever reaches it can play the game's part: there is no password.
        seed: Seed of Unity's random numbers, sent once when the player connects.
        no_graphics: Start the player without a window and without pictures.
        timeout: Seconds within which the player has to connect, and to answer each step.
        arguments: Further arguments for the player's command line.
        log_folder: Folder for the player's logs; None keeps them until the player is closed.
        num_areas: Copies of the training area that the game should make.
        time_scale: Game time per real time; Unity itself takes 1 to 100.
        target_frame_rate: Frames a second that the engine aims at, -1 for as many as it can.
        capture_frame_rate: Frames per second of game time, 0 for those of real time.
        quality_level: Unity's level of graphics.
        width: Width of the window in pixels.
        height: Height of the window in pixels.
        parameters: Values of the game's environment parameters from the first reset on.
        index: Which of several players this is; errors name it.

    Raises:
        InvalidInputError: A number is out of its range, or the parameters are no finite numbers.
    """

    file: Path | None
    port: int | None = None
    host: str = "127.0.0.1"
    seed: int = 0
    no_graphics: bool = True
    timeout: float = 60.0
    arguments: tuple[str, ...] = ()
    log_folder: Path | None = None
    num_areas: int = 1
    time_scale: float = 20.0
    target_frame_rate: int = -1
    capture_frame_rate: int = 60
    quality_level: int = 0
    width: int = 84
    height: int = 84
    parameters: Mapping[str, float] = field(default_factory=dict)
    index: int = 0

    def __post_init__(self) -> None:
        if self.file is not None:
            object.__setattr__(self, "file", Path(self.file).expanduser())
        if self.log_folder is not None:
            object.__setattr__(self, "log_folder", Path(self.log_folder).expanduser().absolute())
        given: object = self.arguments
        if isinstance(given, str):
            raise InvalidInputError(f"arguments must be a sequence of texts, got the text {given!r}.")
        object.__setattr__(self, "arguments", tuple(str(one) for one in self.arguments))
        object.__setattr__(self, "parameters", MappingProxyType(dict(self.parameters)))
        self._check_numbers()

    def _check_numbers(self) -> None:
        _check_whole("port", self.port if self.port is not None else EDITOR_PORT, 1, HIGHEST_PORT)
        _check_whole("seed", self.seed, -(2**31), 2**31 - 1)
        for name, low in LOWEST.items():
            _check_whole(name, getattr(self, name), low, 2**31 - 1)
        _check_range("timeout", self.timeout, 0.001, math.inf)
        _check_range("time_scale", self.time_scale, 1e-6, 1e6)
        for name, value in self.parameters.items():
            _check_range(f"parameters[{name!r}]", value, -GREATEST_FLOAT, GREATEST_FLOAT)

    @property
    def awaited_port(self) -> int:
        """The port to bind; 0 leaves the choice to the operating system."""
        if self.port is not None:
            return self.port
        return EDITOR_PORT if self.file is None else 0


def player_executable(file: Path) -> Path:
    """The program to start for what users name: `path/to/Game`, with its ending, or the folder of the build.

    Raises:
        InvalidInputError: There is none, there are several, or it may not be executed.
    """
    file = file.absolute()
    found = next((one for one in _candidates(file) if one.is_file()), None)
    if found is None:
        raise InvalidInputError(_missing(file))
    if not os.access(found, os.X_OK):
        raise InvalidInputError(f"The Unity player {found} may not be executed; allow it: chmod +x '{found}'.")
    return found


def player_arguments(launch: UnityLaunch, port: int, log: Path) -> list[str]:
    """The command line after the program: Unity's own switches, ML-Agents' port, the log, the user's arguments."""
    headless = ["-nographics", "-batchmode"] if launch.no_graphics else []
    logged = [] if own_log_file(launch.arguments) else ["-logFile", str(log)]
    return [*headless, "--mlagents-port", str(port), *logged, *launch.arguments]


def own_log_file(arguments: tuple[str, ...]) -> str | None:
    """The log that the user's own arguments name, `"-"` for the standard output; None if they name none."""
    lowered = [one.lower() for one in arguments]
    if "-logfile" not in lowered:
        return None
    following = arguments[lowered.index("-logfile") + 1 :]
    return following[0] if following else "-"


def _candidates(file: Path) -> Iterator[Path]:
    """Where the program may be, the likeliest first."""
    suffixes = SUFFIXES.get(sys.platform, SUFFIXES["linux"])
    named = [file, *(file.parent / (file.name + suffix) for suffix in suffixes)]
    for path in named:
        yield from _bundled(path) if path.suffix == ".app" else [path]
    if file.is_dir() and file.suffix != ".app":
        inside = _players_in(file)
        if len(inside) > 1:
            names = ", ".join(one.name for one in inside)
            raise InvalidInputError(f"The folder {file} holds several Unity players: {names}. Name one of them.")
        yield from inside


def _players_in(folder: Path) -> list[Path]:
    suffixes = SUFFIXES.get(sys.platform, SUFFIXES["linux"])
    found = [one for one in sorted(folder.iterdir()) if one.suffix in suffixes and one.name not in NO_GAMES]
    return [program for one in found for program in (_bundled(one) if one.suffix == ".app" else [one])]


def _bundled(bundle: Path) -> list[Path]:
    """The program inside a macOS bundle, the one that has its name first."""
    programs = sorted((bundle / "Contents" / "MacOS").glob("*"))
    return sorted(programs, key=lambda one: one.name != bundle.stem)[:1]


def _missing(file: Path) -> str:
    suffixes = ", ".join(file.name + suffix for suffix in SUFFIXES.get(sys.platform, SUFFIXES["linux"]))
    endings = ", ".join(SUFFIXES.get(sys.platform, SUFFIXES["linux"]))
    if file.is_dir():
        return f"The folder {file} holds no Unity player; expected a file that ends in {endings}."
    nearby = sorted(one.name for one in file.parent.iterdir())[:10] if file.parent.is_dir() else []
    there = f"{file.parent} holds {', '.join(nearby) or 'nothing'}." if file.parent.is_dir() else "Nor is its folder."
    return f"There is no Unity player at {file}; looked for {file.name}, {suffixes}. {there}"


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise InvalidInputError(f"{name} of a Unity player must be a whole number from {low} to {high}, got {value!r}.")


def _check_range(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
        raise InvalidInputError(f"{name} of a Unity player must be a number from {low:g} to {high:g}, got {value!r}.")
