"""What a Unity player says of a behaviour, as the spaces of its agents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rl_framework.core.unity_spaces import UnityActions, UnityObservations, UnitySensor
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.errors import InvalidInputError, UnknownOptionError

TEAM = "?team="


def observations_of(behavior: Any, settings: UnitySettings) -> UnityObservations:
    """The observations of a behaviour.

    Args:
        behavior: Its `BehaviorSpec`.
        settings: Say in which form.
    """
    sensors = [UnitySensor.of(one.name, one.shape, one.dimension_property) for one in behavior.observation_specs]
    return UnityObservations(
        sensors, layout=settings.layout, flatten=settings.flatten, picture_type=settings.picture_type
    )


def actions_of(behavior: Any, settings: UnitySettings) -> UnityActions:
    """The actions of a behaviour.

    Args:
        behavior: Its `BehaviorSpec`.
        settings: Say in which form.
    """
    spec = behavior.action_spec
    return UnityActions(spec.continuous_size, spec.discrete_branches, hybrid=settings.hybrid)


def find_behavior(wanted: str | None, known: Iterable[str]) -> str | None:
    """The full name of the behaviour that is learned, None if the game has not shown it yet.

    Args:
        wanted: Its name, with or without the team; None is the only one.
        known: Full names of the behaviours that the game has shown, as in `Reach?team=0`.

    Raises:
        InvalidInputError: Several could be meant.
    """
    names = sorted(known)
    fitting = [name for name in names if wanted is None or name == wanted or name.partition(TEAM)[0] == wanted]
    if len(fitting) > 1:
        raise InvalidInputError(
            f"The game has the behaviours {', '.join(repr(name) for name in names)}; name the one to learn: "
            f"behavior={fitting[0]!r}. What agents of the others do is said by others=."
        )
    return fitting[0] if fitting else None


def unknown_behavior(wanted: str | None, known: Iterable[str]) -> InvalidInputError:
    """The error for a behaviour that the game never showed."""
    if wanted is None:
        return InvalidInputError(
            "No agent of the game asked for a decision. Does the scene have an agent with a DecisionRequester and the "
            "behaviour type Default?"
        )
    return UnknownOptionError.of("behaviour of the game", wanted, known)
