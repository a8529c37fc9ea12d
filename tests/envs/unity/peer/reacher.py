"""One agent of the game."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.envs.unity.peer.world import (
    DISTANCE_COST,
    NEAREST_START,
    REACHED,
    SPEED,
    TOLERANCE,
    Behavior,
    best_from,
)


@dataclass
class Account:
    """What the game counts of an episode, from its first decision on."""

    best: float
    individual: float = 0.0
    group_return: float = 0.0
    decisions: int = 0
    actions: float = 0.0
    violations: int = 0
    out_of_range: int = 0


@dataclass
class Reacher:
    """An agent that reaches for a target on a line.

    Attributes:
        behavior: Its kind.
        index: Number within its kind.
        identity: Under which Python knows it.
        random: Draws its starts.
        group: Id of its group, 0 without.
    """

    behavior: Behavior
    index: int
    identity: int
    random: Random
    group: int = 0
    position: float = 0.0
    target: float = 0.0
    velocity: float = 0.0
    ticks: int = 0
    reward: float = 0.0
    group_reward: float = 0.0
    away: int = 0
    account: Account | None = None
    earlier_frames: dict[str, Any] = field(default_factory=dict)

    @property
    def horizon(self) -> int:
        """Ticks after which its episode is cut; a group has that of its first member."""
        first = (self.group - 1) * self.behavior.group_size if self.group else self.index
        return self.behavior.horizons[first % len(self.behavior.horizons)]

    @property
    def period(self) -> int:
        """Ticks from one of its decisions to the next."""
        periods = self.behavior.periods or (self.behavior.period,)
        return periods[self.index % len(periods)]

    @property
    def distance(self) -> float:
        """To its target."""
        return abs(self.target - self.position)

    @property
    def reached(self) -> bool:
        """Whether it is there."""
        return self.distance <= TOLERANCE + 1e-9

    def begin(self, fixed_target: float | None = None) -> None:
        """Start an episode; rewards that were not sent yet stay, as in the original."""
        while True:
            self.position = self.random.uniform(-1.0, 1.0)
            self.target = self.random.uniform(-1.0, 1.0) if fixed_target is None else fixed_target
            if self.distance >= NEAREST_START:
                break
        self.velocity, self.ticks, self.account = 0.0, 0, None
        self.earlier_frames.clear()

    def asks(self, tick: int) -> bool:
        """Whether it asks for a decision at this tick."""
        period = self.period
        offset = self.index % period if self.behavior.stagger else 0
        return not self.away and (tick - offset) % period == 0 and tick >= offset

    def masks(self) -> list[bool]:
        """Forbidden choices, branch after branch."""
        if not self.behavior.masks:
            return []
        walls = [False, self.position <= -1.0 + 1e-9, self.position >= 1.0 - 1e-9]
        far = self.distance > 1.0
        return {"continuous": [], "discrete": walls, "multi": [*walls, False, far], "hybrid": [far, False]}[
            self.behavior.actions
        ]

    def open_account(self) -> Account:
        """The account of its episode, opened by the first decision."""
        if self.account is None:
            self.account = Account(best_from(self.distance, self.horizon - self.ticks))
        return self.account

    def obey(self, continuous: list[float], discrete: list[int]) -> None:
        """Take the velocity that it was told."""
        account, forbidden, offset = self.open_account(), self.masks(), 0
        for choice, size in zip(discrete, self.behavior.branches, strict=True):
            account.violations += bool(forbidden and forbidden[offset + choice])
            offset += size
        account.out_of_range += sum(abs(value) > 1.0 for value in continuous)
        account.actions += sum(continuous) + sum(discrete)
        self.velocity = self._velocity(continuous, discrete)

    def _velocity(self, continuous: list[float], discrete: list[int]) -> float:
        if self.behavior.actions in ("discrete", "multi"):
            whole = (0.0, -1.0, 1.0)[discrete[0]]
            return whole * 0.5 if discrete[1:] == [1] else whole
        wanted = max(-1.0, min(1.0, continuous[0]))
        return wanted if self.behavior.actions == "continuous" or discrete[0] == 1 else 0.0

    def move(self) -> None:
        """One tick."""
        self.position = max(-1.0, min(1.0, self.position + SPEED * self.velocity))
        self.ticks += 1
        self.earn(-DISTANCE_COST * self.distance + (REACHED if self.reached else 0.0))

    def earn(self, reward: float, *, from_group: bool = False) -> None:
        """Earn a reward of its own or of its group."""
        if from_group:
            self.group_reward += reward
        else:
            self.reward += reward
        if self.account is not None:
            self.account.individual += 0.0 if from_group else reward
            self.account.group_return += reward if from_group else 0.0

    def forget_rewards(self) -> None:
        """They were sent."""
        self.reward = self.group_reward = 0.0
