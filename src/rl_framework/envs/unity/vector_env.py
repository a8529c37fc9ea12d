"""Unity games behind our step contract: each agent of each player is a row."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from rl_framework.core.policy import BoolArray
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.seeding import derive_seeds
from rl_framework.core.spaces import check_equal
from rl_framework.core.trees import Tree
from rl_framework.core.unity_spaces import Array
from rl_framework.envs.batch import ActionReader
from rl_framework.envs.serial import check_state, selected_rows
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.player_crew import PlayerCrew
from rl_framework.envs.unity.player_rows import Player, PlayerRows, RowsStep, StartPlayer
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, StateLevel, VectorEnv, VectorStep
from rl_framework.errors import EnvironmentFailure, InvalidInputError, RLFrameworkError

logger = logging.getLogger(__name__)

STATISTICS = "environment/"
REPLACED = f"{STATISTICS}forbidden_choices_replaced"
SEED_RANGE = 2**24
"""Seeds that travel as an environment parameter are single-precision numbers, exact below this."""

T = TypeVar("T")


class UnityVectorEnv(VectorEnv):
    """A `VectorEnv` over one or several Unity players, which are started at once.

    Unity is seeded once, when a player connects, and opens its episodes by itself: they cannot be seeded one by one,
    nor can a game be put back to where it was. A step lasts until every agent has its next decision: those that ask
    more often than the slowest, or while another is between two episodes, get their last action once more, and their
    rewards are summed. `reset` leaves rows alone that are at the beginning of an episode already, and restarts the
    scenes of players that are in the middle of one.

    Args:
        settings: The games, and how their agents become rows.
        id: Text from which the same environments can be opened again, as in `unity:path/to/Game`.
        start: Starts a player; the real one unless given.

    Raises:
        UnityFailure: A player did not come up; nothing is left running.
        EnvironmentFailure: Its agents cannot become rows.
        InvalidInputError: A setting that does not fit the game.
        MissingExtraError: ML-Agents is not installed.
    """

    def __init__(self, settings: UnitySettings, *, id: str | None = None, start: StartPlayer | None = None) -> None:  # noqa: A002  As in EnvSpec.
        self.settings = settings
        self._is_open, self._is_reset, self._is_sent = True, False, False
        self._has_warned = False
        self._crew = PlayerCrew(settings, _start_player if start is None else start)
        try:
            self._spec = self._describe(id)
        except BaseException:
            self.close()
            raise
        self._actions = ActionReader(self._spec.action_space, self._spec.n_envs)

    @property
    def spec(self) -> EnvSpec:
        """What is known before the first step."""
        return self._spec

    @property
    def _players(self) -> Sequence[PlayerRows]:
        return self._crew.players

    @property
    def action_masks(self) -> BoolArray | None:
        """Allowed choices for the current observations, branch after branch. `[B, n_choices]`"""
        return self.allowed if self._spec.has_action_masks and self._is_reset else None

    @property
    def allowed(self) -> BoolArray:
        """Choices that the games allow now, whether or not masks are shown to whoever acts. `[B, n_choices]`"""
        return np.concatenate([player.allowed for player in self._players])

    @override
    def reset(self, seed: int | None = None, *, hard: bool = False) -> Tree:
        """Open an episode in every row. `[B, ...]`

        Args:
            seed: Goes to the game where the settings say how; else Unity keeps the seed that it was launched with.
            hard: Restart the scenes even where all agents are at the beginning of an episode.
        """
        self._check_open()
        self._is_sent = False
        if seed is None:
            self._each(lambda player: player.reset(hard=hard))
        else:
            self._reset_with(seed, hard=hard)
        self._is_reset = True
        return self._show([player.shown for player in self._players])

    @override
    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        """Not possible here.

        Raises:
            InvalidInputError: Always.
        """
        raise InvalidInputError(
            f"Unity opens its episodes by itself, so they cannot be seeded one by one; got {len(seeds)} schedules. Use "
            "reset(seed)."
        )

    @override
    def send(self, actions: Tree) -> None:
        """Start one step in every row. `[B, ...]`"""
        self._check_usable()
        if self._is_sent:
            raise RLFrameworkError("send(actions) was called twice without recv() in between.")
        continuous, discrete = self._players[0].actions.split(self._actions.read(actions))
        ends = self._crew.starts[1:-1]
        self._crew.begin(PlayerRows.step, np.split(continuous, ends), np.split(discrete, ends))
        self._is_sent = True

    @override
    def recv(self) -> VectorStep:
        """Wait until every agent has its next decision."""
        self._check_usable()
        if not self._is_sent:
            raise RLFrameworkError("recv() was called without send(actions) before it.")
        self._is_sent = False
        return self._translate(self._guarded(self._crew.finish))

    def drain_statistics(self) -> dict[str, float]:
        """What the games recorded since the last call, as `environment/<name>`: the mean over the players."""
        self._check_open()
        self._crew.settle()
        found: dict[str, list[float]] = {}
        for player in self._players:
            for name, value in player.player.drain_statistics().items():
                found.setdefault(f"{STATISTICS}{name}", []).append(value)
        statistics = {name: float(np.mean(values)) for name, values in found.items()}
        if self._players[0].actions.n_choices:
            statistics[REPLACED] = float(sum(player.n_replaced for player in self._players))
            for player in self._players:
                player.n_replaced = 0
        return statistics

    def set_parameter(self, name: str, value: float) -> None:
        """Set an environment parameter of every player, from its next exchange on."""
        self._check_open()
        self._crew.settle()
        for player in self._players:
            player.set_parameter(name, value)

    @override
    def call(self, name: str, *arguments: Any, rows: Sequence[int] | None = None, **options: Any) -> list[Any]:
        """Call a method of the players, once each, and give for each row what its player gave.

        Raises:
            InvalidInputError: There is no such method.
        """
        chosen = self._chosen(rows)
        results: dict[int, Any] = {}
        for player in dict.fromkeys(self._player_of(row) for row in chosen):
            method = self._find(player, name)
            if not callable(method):
                raise InvalidInputError(f"{name!r} of a Unity player is no method.")
            results[player] = self._guarded(partial(method, *arguments, **options), spared=InvalidInputError)
        return [results[self._player_of(row)] for row in chosen]

    @override
    def get_attribute(self, name: str, rows: Sequence[int] | None = None) -> list[Any]:
        """Read an attribute of the players, row by row.

        Raises:
            InvalidInputError: There is no such attribute.
        """
        return [self._find(self._player_of(row), name) for row in self._chosen(rows)]

    @override
    def set_attribute(self, name: str, value: Any, rows: Sequence[int] | None = None) -> None:
        """Not possible here: what can be set in a game are its parameters.

        Raises:
            InvalidInputError: Always.
        """
        self._chosen(rows)
        raise InvalidInputError(
            f"A Unity game has no attributes to set; got {name}={value!r}. Set an environment parameter: "
            "set_parameter(name, number)."
        )

    @override
    def render(self, row: int = 0) -> npt.NDArray[np.uint8] | None:
        """What the row's first camera sees, `[height, width, 3]`; None if the agents have no picture sensor."""
        (chosen,) = self._chosen([row])
        place = self._player_of(chosen)
        player = self._players[place]
        return player.observations.picture([one[chosen - self._crew.starts[place]] for one in player.shown])

    @override
    def get_state(self) -> EnvironmentState:
        """Nothing: a running game cannot be written down."""
        self._check_usable()
        return EnvironmentState(level=StateLevel.APPROXIMATE, rows=(None,) * self._spec.n_envs)

    @override
    def set_state(self, state: EnvironmentState) -> Tree:
        """Open new episodes. `[B, ...]`"""
        check_state(state, self._spec.n_envs)
        return self.reset()

    @override
    def close(self) -> None:
        """End the players; calling it twice is fine."""
        if self._is_open:
            self._is_open = False
            self._crew.close()

    # Opening

    def _describe(self, id: str | None) -> EnvSpec:  # noqa: A002  As in EnvSpec.
        first = self._players[0]
        for index, player in enumerate(self._players):
            who = f"Unity player {index}"
            check_equal(first.observations.space, player.observations.space, role="observation", who=who)
            check_equal(first.actions.space, player.actions.space, role="action", who=who)
        self._warn_of_blindness()
        return EnvSpec(
            n_envs=self._crew.starts[-1],
            observation_space=first.observations.space,
            action_space=first.actions.space,
            id=id,
            has_action_masks=self._shows_masks(),
            seeds_episodes=False,
            n_games=len(self._players),
        )

    def _shows_masks(self) -> bool:
        wanted, can = self.settings.action_masks, self._players[0].actions.can_mask
        if wanted and not can:
            raise InvalidInputError(
                f"action_masks=True was asked for, but actions of {self._players[0].actions.space} cannot be masked."
            )
        return can and (any(player.has_forbidden for player in self._players) if wanted is None else wanted)

    def _warn_of_blindness(self) -> None:
        launch, sensors = self.settings.launch, self._players[0].observations.sensors
        if launch.no_graphics and launch.file is not None and any(sensor.is_picture for sensor in sensors):
            warnings.warn(
                "The agents have a picture sensor, and the player runs without graphics: cameras give no pictures "
                "then. Set no_graphics=False in UnityLaunch, and use xvfb-run on a machine without a screen.",
                stacklevel=4,
            )

    # Resetting

    def _reset_with(self, seed: int, *, hard: bool) -> None:
        """Open episodes with a seed, as far as the game can be given one."""
        seeds = derive_seeds(seed, len(self._players))
        name = self.settings.seed_parameter
        if self.settings.restart_on_seed:
            self._each(lambda player, own: player.start_anew(own % 2**31), seeds)
            return
        if name is None:
            self._warn_of_seed(seed)
            self._each(lambda player: player.reset(hard=hard))
            return
        for player, own in zip(self._players, seeds, strict=True):
            player.player.set_parameter(name, own % SEED_RANGE)
        self._each(lambda player: player.reset(hard=True))

    def _warn_of_seed(self, seed: int) -> None:
        if not self._has_warned and seed != self.settings.launch.seed:
            self._has_warned = True
            logger.warning(
                "Unity can be seeded only when a player starts: reset(seed=%d) keeps the seed %d of the launch. Set "
                "UnityLaunch(seed=...), seed_parameter to a parameter that the game reads, or restart_on_seed=True.",
                seed,
                self.settings.launch.seed,
            )

    # Stepping

    def _translate(self, steps: Sequence[RowsStep]) -> VectorStep:
        final: dict[int, Tree] = {}
        episodes: list[EpisodeSummary] = []
        form = self._players[0].observations
        for start, step in zip(self._crew.starts, steps, strict=False):
            for row in sorted(step.finals):
                final[start + row] = self._guarded(partial(form.one, step.finals[row]))
            episodes += [replace(one, row=start + one.row) if start else one for one in step.summaries]
        return VectorStep(
            observations=self._show([step.observations for step in steps]),
            rewards=np.concatenate([step.rewards for step in steps]),
            terminated=np.concatenate([step.terminated for step in steps]),
            truncated=np.concatenate([step.truncated for step in steps]),
            final=final,
            infos=[info for step in steps for info in step.infos],
            episodes=tuple(episodes),
        )

    def _show(self, seen: Sequence[Sequence[Array]]) -> Tree:
        """Observations of all players as one batch. `[B, ...]` per leaf"""
        joined = seen[0] if len(seen) == 1 else [np.concatenate(parts) for parts in zip(*seen, strict=True)]
        return self._guarded(lambda: self._players[0].observations.batch(joined))

    def _each(self, function: Callable[..., None], *arguments: Sequence[Any]) -> None:
        self._guarded(partial(self._crew.each, function, *arguments))

    def _guarded(self, function: Callable[[], T], spared: type[Exception] | tuple[()] = ()) -> T:
        """Close everything when something goes wrong, and say so in our own words.

        Args:
            function: What may go wrong.
            spared: Mistakes of the caller, which leave everything as it is.
        """
        try:
            return function()
        except RLFrameworkError as error:
            if not isinstance(error, spared):
                self.close()
            raise
        except Exception as error:
            self.close()
            raise EnvironmentFailure(
                f"a Unity player raised {type(error).__name__}: {error} (it does not say for which of the "
                f"{self._crew.starts[-1]} rows).",
                row=0,
            ) from error

    # Looking inside

    def _player_of(self, row: int) -> int:
        return next(place for place, end in enumerate(self._crew.starts[1:]) if row < end)

    def _find(self, place: int, name: str) -> Any:
        player = self._players[place].player
        if name == "render_mode":
            return "rgb_array" if any(one.is_picture for one in self._players[place].observations.sensors) else None
        if name == "spec":
            return None
        if name == "set_parameter":
            return self._players[place].set_parameter
        if name.startswith("_") or not hasattr(player, name):
            raise InvalidInputError(f"A Unity player has no attribute {name!r}.")
        return getattr(player, name)

    def _chosen(self, rows: Sequence[int] | None) -> list[int]:
        self._check_open()
        self._crew.settle()
        return selected_rows(rows, self._spec.n_envs)

    def _check_open(self) -> None:
        if not self._is_open:
            raise RLFrameworkError("These environments are closed; open them anew.")

    def _check_usable(self) -> None:
        self._check_open()
        if not self._is_reset:
            raise RLFrameworkError("These environments have no episode yet: call reset() first.")


def _start_player(launch: UnityLaunch, side_channels: Sequence[Any]) -> Player:
    from rl_framework.envs.unity.player import UnityPlayer

    player: Player = UnityPlayer(launch, side_channels)
    return player
