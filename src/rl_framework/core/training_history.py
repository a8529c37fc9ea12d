"""How an agent was trained, call by call: what a model card tells and a learning curve is drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rl_framework.errors import InvalidInputError

HISTORY_FILE = "history.json"
MOST_POINTS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingCall:
    """One call of `train` or `resume`.

    Attributes:
        started: When it began, in ISO form, UTC.
        first_timesteps: Steps in the agent's life before it.
        last_timesteps: Steps in the agent's life after it, or when this was written down.
        target_timesteps: Where it was to end.
        duration_seconds: Its wall time, or what of it had passed when this was written down.
        n_envs: Number of environments, 0 if there were none.
        environment_id: Their registered id, None if there is none.
        stop_reason: Why it ended before its target, None if it did not.
    """

    started: str
    first_timesteps: int
    last_timesteps: int
    target_timesteps: int
    duration_seconds: float
    n_envs: int = 0
    environment_id: str | None = None
    stop_reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CurvePoint:
    """What a report said.

    Attributes:
        timesteps: Steps in the agent's life.
        mean_return: Mean total reward of the latest episodes, None if there were none.
    """

    timesteps: int
    mean_return: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingHistory:
    """All calls so far, and the learning curve over them.

    Attributes:
        calls: Oldest first.
        curve: By increasing `timesteps`; of many points every second one is dropped.
    """

    calls: tuple[TrainingCall, ...] = ()
    curve: tuple[CurvePoint, ...] = field(default=())

    @property
    def duration_seconds(self) -> float:
        """Wall time of all calls."""
        return sum(call.duration_seconds for call in self.calls)

    def with_call(self, call: TrainingCall) -> TrainingHistory:
        """The history with one more call."""
        return replace(self, calls=(*self.calls, call))

    def with_last_call(self, **changes: Any) -> TrainingHistory:
        """The history with its latest call changed."""
        return replace(self, calls=(*self.calls[:-1], replace(self.calls[-1], **changes)))

    def with_point(self, point: CurvePoint) -> TrainingHistory:
        """The history with one more point; points at or beyond it, of a run that was resumed before, are dropped."""
        curve = (*(old for old in self.curve if old.timesteps < point.timesteps), point)
        if len(curve) > MOST_POINTS:
            curve = (*curve[:-1:2], curve[-1])
        return replace(self, curve=curve)

    def to_json(self) -> dict[str, Any]:
        """A JSON value."""
        return {
            "calls": [asdict(call) for call in self.calls],
            "curve": [[point.timesteps, point.mean_return] for point in self.curve],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainingHistory:
        """Take back what `to_json` gave.

        Raises:
            InvalidInputError: It is something else.
        """
        try:
            return cls(
                calls=tuple(TrainingCall(**call) for call in data["calls"]),
                curve=tuple(CurvePoint(timesteps=steps, mean_return=mean) for steps, mean in data["curve"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"Not a training history: {str(data)[:200]}") from error
