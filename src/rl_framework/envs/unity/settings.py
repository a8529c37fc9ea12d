"""How the agents of a Unity game become rows: the options of `UnityVectorEnv`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import Self

from rl_framework.core.unity_spaces import (
    HYBRID_FORMS,
    LAYOUTS,
    PICTURE_TYPES,
    HybridForm,
    Layout,
    PictureType,
    check_option,
)
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.errors import InvalidInputError

Others = Callable[[str, Any, Any], "tuple[Any, Any]"]
OTHERS = ("zero", "random")


@dataclass(frozen=True, kw_only=True)
class UnitySettings:
    """A Unity game, and how its agents become rows.

    Attributes:
        launch: The player and its engine; a path alone stands for `UnityLaunch(file=path)`.
        n_players: Players side by side, each in a thread; the rows of the first come first. Player i has the launch's
            seed plus i.
        behavior: Name of the behaviour that is learned, with or without its team (`?team=0`); None is the only one.
        others: What agents of other behaviours do, and agents beyond `max_agents`: `"zero"`, `"random"` among what is
            allowed, or a function of the behaviour's name, its `BehaviorSpec` and the `DecisionSteps`, which gives the
            continuous and the discrete actions (`[n, c]` and `[n, branches]`, or None where there are none).
        max_agents: At most so many agents of a player become rows; one that was left out can follow one that is gone
            when its next episode begins. None makes rows of all that are there at a time within the first 20 messages,
            Unity's longest decision period; an agent that comes later and finds no row free is an error then.
        layout: Of pictures: `"chw"` or `"hwc"`.
        flatten: Join the sensors that give plain numbers to one vector.
        picture_type: `"uint8"`, or `"float32"` for grid sensors whose numbers are no brightness.
        hybrid: What an action with continuous and discrete parts is: a `"dict"` of both, or one `"box"` in which each
            choice has a score and the highest one is taken, for algorithms that act in a Box alone.
        action_masks: Whether masks are shown to whoever acts; None shows them if the game had forbidden something by
            the time it was opened. Forbidden choices never reach the game: the first allowed one takes their place.
        group_weight: How much a reward of the agent's group counts: reward = own + group_weight * group's.
        respawn_limit: Messages of the player within which every row must have its next decision.
        seed_parameter: Environment parameter that takes the seed of `reset(seed)`, if the game has one.
        restart_on_seed: Whether `reset(seed)` starts the players anew with that seed.
        restarts: How often in all a player that fails is started anew; its rows are truncated, with
            `info["restarted"]`.
        side_channels: Makes further side channels for a player, of the given index; each player needs its own.

    Raises:
        InvalidInputError: A number is out of its range, or options exclude each other.
        UnknownOptionError: A text that is none of the choices.
    """

    launch: UnityLaunch
    n_players: int = 1
    behavior: str | None = None
    others: str | Others = "zero"
    max_agents: int | None = None
    layout: Layout = "chw"
    flatten: bool = False
    picture_type: PictureType = "uint8"
    hybrid: HybridForm = "dict"
    action_masks: bool | None = None
    group_weight: float = 1.0
    respawn_limit: int = 1000
    seed_parameter: str | None = None
    restart_on_seed: bool = False
    restarts: int = 0
    side_channels: Callable[[int], Sequence[Any]] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.launch, (str, Path)):
            object.__setattr__(self, "launch", UnityLaunch(file=Path(self.launch)))
        for name, least in (("n_players", 1), ("respawn_limit", 1), ("restarts", 0)):
            _check_count(name, getattr(self, name), least)
        if self.max_agents is not None:
            _check_count("max_agents", self.max_agents, 1)
        if not callable(self.others):
            check_option("way for other agents", self.others, OTHERS)
        check_option("layout", self.layout, LAYOUTS)
        check_option("picture type", self.picture_type, PICTURE_TYPES)
        check_option("form of hybrid actions", self.hybrid, HYBRID_FORMS)
        self._check_players()

    @classmethod
    def of(cls, given: object) -> Self:
        """Settings as they are, and those of the path of a build.

        Raises:
            InvalidInputError: It is neither.
        """
        if isinstance(given, (str, Path)):
            return cls(launch=UnityLaunch(file=Path(given)))
        if not isinstance(given, cls):
            raise InvalidInputError(f"Expected UnitySettings or the path of a Unity build, got {given!r}.")
        return given

    def _check_players(self) -> None:
        if self.launch.file is None and self.n_players > 1:
            raise InvalidInputError(
                f"The Editor is one player, n_players={self.n_players} were asked for. Make a build for several."
            )
        if self.launch.file is None and (self.restarts or self.restart_on_seed):
            raise InvalidInputError("The Editor cannot be started anew from here: leave restarts and restart_on_seed.")
        if self.launch.port is not None and self.n_players > 1:
            raise InvalidInputError(
                f"{self.n_players} players cannot share port {self.launch.port}; leave port out for a free one each."
            )


def _check_count(name: str, value: int, least: int) -> None:
    if type(value) is not int or value < least:
        raise InvalidInputError(f"{name} must be a whole number from {least} on, got {value!r}.")
