"""Unity games as a source of rows: what users hand to `train`, and the text that names one (`unity:path/to/Game`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rl_framework.envs.source import EnvironmentSource
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import InvalidInputError

PREFIX = "unity:"
EDITOR = "editor"


class UnityGame(EnvironmentSource):
    """A Unity game, to be trained or evaluated in like any other environment.

    Each call that opens it starts its players, and ends them when it is done. `n_envs` counts players, not agents, and
    `UnityLaunch.timeout` says how long a player is waited for.

    Args:
        settings: The game, and how its agents become rows; a path stands for the settings with that file alone.
        id: Text from which the same game can be opened again.

    Raises:
        InvalidInputError: Neither settings nor a path.
    """

    def __init__(self, settings: UnitySettings | str | Path, *, id: str | None = None) -> None:  # noqa: A002  As in EnvSpec.
        self.settings = UnitySettings.of(settings)
        self.id = id

    @property
    def count(self) -> int:
        """Number of players."""
        return self.settings.n_players

    @property
    def copyable(self) -> bool:
        """Whether there can be any number of players: of a build, not of the Editor."""
        return self.settings.launch.file is not None and self.settings.launch.port is None

    @property
    def is_costly(self) -> bool:
        """Each player is a program."""
        return True

    def _open(self, n_envs: int, vectorization: str, timeout: float) -> VectorEnv:  # noqa: ARG002  The launch's counts.
        from rl_framework.envs.unity.vector_env import UnityVectorEnv

        if vectorization == "subprocess":
            raise InvalidInputError(
                "vectorization='subprocess' was asked for, but each Unity player is a process of its own already, and "
                "they step side by side. Leave it at 'auto'."
            )
        return UnityVectorEnv(replace(self.settings, n_players=n_envs), id=self.id)


def unity_source(text: str) -> UnityGame:
    """A source from the text after `unity:`, the path of a build or `editor`.

    Raises:
        InvalidInputError: There is no text.
    """
    if not text:
        raise InvalidInputError(f"Expected {PREFIX}path/to/Game or {PREFIX}{EDITOR}, got {PREFIX!r} alone.")
    file = None if text == EDITOR else Path(text)
    return UnityGame(UnitySettings(launch=UnityLaunch(file=file)), id=f"{PREFIX}{text}")
