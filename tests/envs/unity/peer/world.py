"""What the peer's game is like: its settings, as a player's configuration file has them.

Agents reach for targets on a line from -1 to 1. At each tick an agent moves by at most `SPEED` and earns
`-0.05 * distance` to its target; it earns 1 when it comes within `TOLERANCE` of it, which ends its episode. At its
horizon an episode is cut. Going straight at full speed is best at every tick, so the best return of an episode is
known from its first distance: see `best_from` and, for the mean over all starts, `best_return`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

SPEED = 0.1
TOLERANCE = 0.05
DISTANCE_COST = 0.05
REACHED = 1.0
NEAREST_START = 0.2
GROUP_COST = 0.02
BRANCHES = {"continuous": (), "discrete": (3,), "multi": (3, 2), "hybrid": (2,)}

Fault = Literal[
    "exit", "kill", "hang", "status", "nan_observation", "nan_reward", "inf_reward", "oversize", "silent_exit",
    "die_before_handshake", "die_in_handshake", "hang_before_handshake", "hang_in_handshake", "hang_at_quit",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """One sensor of an agent.

    Attributes:
        kind: `vector` is (position, target, way to go, share of time left), filled up with zeros to `size`; `goal`
            is (target,) as a goal signal; `buffer` has up to `rows` rows (position, target); `picture` shows both.
        name: As the game names it.
        size: Of a vector.
        rows: Of a buffer.
        height: Of a picture.
        width: Of a picture.
        channels: 3 for colour, 1 for grey.
        frames: Pictures that are stacked, the oldest first.
        layout: `hwc` as up to package 2.x, `chw` as from 3.x.
        png: Compressed, or raw numbers from 0 to 1.
    """

    kind: Literal["vector", "goal", "buffer", "picture"] = "vector"
    name: str = "Reach"
    size: int = 4
    rows: int = 3
    height: int = 6
    width: int = 10
    channels: int = 3
    frames: int = 1
    layout: Literal["hwc", "chw"] = "chw"
    png: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """As the game announces it."""
        if self.kind == "picture":
            depth = self.channels * self.frames
            plane = (self.height, self.width)
            return (*plane, depth) if self.layout == "hwc" else (depth, *plane)
        return {"vector": (self.size,), "goal": (1,), "buffer": (self.rows, 2)}[self.kind]


@dataclass(frozen=True, kw_only=True)
class Behavior:
    """Agents of one kind.

    Attributes:
        name: Full name with the team.
        actions: `continuous`: one velocity. `discrete`: stay, left or right. `multi`: the same, and whole or half
            speed. `hybrid`: a velocity, and neutral (0) or drive (1).
        agents: Number of agents in one area.
        horizons: Ticks after which an episode is cut; agent i has entry i modulo their number.
        period: Ticks from one decision to the next.
        periods: The same for each agent, where they differ; agent i has entry i modulo their number.
        stagger: Agent i asks i ticks later than the first one.
        respawn_delay: Ticks that an agent is away after each of its episodes.
        fresh_ids: An agent comes back under an id that nobody had.
        masks: Forbid moves into a wall; half speed or neutral far from the target.
        group_size: Agents of a group, that earn together and end together; 0 for no groups.
        sensors: In the order in which they are sent.
        from_tick: When these agents come for the first time.
        growth: Agents that join later.
        growth_tick: When they join.
        lost: Numbers of the agents that never come back after their first episode.
    """

    name: str = "Reach?team=0"
    actions: Literal["continuous", "discrete", "multi", "hybrid"] = "continuous"
    agents: int = 1
    horizons: tuple[int, ...] = (50,)
    period: int = 1
    periods: tuple[int, ...] = ()
    stagger: bool = False
    respawn_delay: int = 0
    fresh_ids: bool = False
    masks: bool = False
    group_size: int = 0
    sensors: tuple[Sensor, ...] = (Sensor(),)
    from_tick: int = 0
    growth: int = 0
    growth_tick: int = 0
    lost: tuple[int, ...] = ()

    @property
    def n_continuous(self) -> int:
        """Number of continuous actions."""
        return int(self.actions in ("continuous", "hybrid"))

    @property
    def branches(self) -> tuple[int, ...]:
        """Choices of each discrete branch."""
        return BRANCHES[self.actions]


@dataclass(frozen=True, kw_only=True)
class World:
    """The whole game.

    Attributes:
        behaviors: Its kinds of agents.
        tick_ms: How long a tick takes at least, ms.
        statistics: Report numbers through the channel for statistics at each episode's end.
        foreign_channel: Send a message on a channel of the game's own with every exchange.
        fault: What goes wrong, None if nothing does.
        fault_at: With which exchange it goes wrong, counted from 1, the first after the handshake.
        fault_starts: How many of the games that are started from the folder have the fault; None for all.
        api_version: That of the communication, as the game announces it.
        package_version: That of the package in the game.
    """

    behaviors: tuple[Behavior, ...] = (Behavior(),)
    tick_ms: float = 0.0
    statistics: bool = False
    foreign_channel: bool = False
    fault: Fault | None = None
    fault_at: int = 10
    fault_starts: int | None = None
    api_version: str = "1.5.0"
    package_version: str = "3.0.0"

    def to_dict(self) -> dict[str, Any]:
        """For the configuration file."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> World:
        """From the configuration file."""
        behaviors = tuple(_behavior(each) for each in values["behaviors"])
        return World(**{**values, "behaviors": behaviors})


def make_world(*, others: tuple[Mapping[str, Any], ...] = (), **settings: Any) -> World:
    """A world from settings of `World` and of its first `Behavior`, by their names.

    Args:
        others: Settings of further behaviours, one mapping each.
        **settings: Of the world and its first behaviour; sensors as mappings or `Sensor`.
    """
    of_behavior = {each.name for each in fields(Behavior)}
    first = {name: value for name, value in settings.items() if name in of_behavior}
    rest = {name: value for name, value in settings.items() if name not in of_behavior}
    return World(behaviors=tuple(_behavior(each) for each in (first, *others)), **rest)


def best_from(distance: float, horizon: int) -> float:
    """The best return of an episode that starts so far from its target.

    Exact where an agent decides at every tick; with fewer decisions at most 0.0025 above the best.

    Args:
        distance: From the position to the target, above `TOLERANCE`.
        horizon: Ticks from the first decision to the cut.
    """
    needed = math.ceil(round((distance - TOLERANCE) / SPEED, 9))
    moved = min(needed, horizon)
    cost = DISTANCE_COST * sum(max(0.0, distance - tick * SPEED) for tick in range(1, moved + 1))
    return (REACHED if needed <= horizon else 0.0) - cost


def best_return(world: World, *, points: int = 20_000) -> float:
    """The best mean return of the first behaviour, without its groups' rewards.

    Position and target are uniform from -1 to 1, so distances d have the density (2 - d) / 2, cut below
    `NEAREST_START`; the mean is the midpoint rule over them, and over the horizons.
    """
    horizons = world.behaviors[0].horizons
    width = (2.0 - NEAREST_START) / points
    distances = [NEAREST_START + (point + 0.5) * width for point in range(points)]
    weights = [2.0 - distance for distance in distances]
    total = sum(
        weight * best_from(distance, horizon)
        for weight, distance in zip(weights, distances, strict=True)
        for horizon in horizons
    )
    return total / (sum(weights) * len(horizons))


def _behavior(values: Mapping[str, Any] | Behavior) -> Behavior:
    if isinstance(values, Behavior):
        return values
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    if "sensors" in settings:
        settings["sensors"] = tuple(s if isinstance(s, Sensor) else Sensor(**s) for s in settings["sensors"])
    return Behavior(**settings)
