"""The history of an agent's training: points in order, thinned, and the same after a file."""

from __future__ import annotations

import json

import pytest

from rl_framework.core.training_history import MOST_POINTS, CurvePoint, TrainingCall, TrainingHistory
from rl_framework.errors import InvalidInputError

CALL = TrainingCall(
    started="2026-01-01T00:00:00+00:00",
    first_timesteps=0,
    last_timesteps=10,
    target_timesteps=20,
    duration_seconds=1.5,
    n_envs=2,
    environment_id="CartPole-v1",
)


def curve_of(*timesteps: int) -> TrainingHistory:
    history = TrainingHistory()
    for steps in timesteps:
        history = history.with_point(CurvePoint(timesteps=steps, mean_return=float(steps)))
    return history


def test_it_comes_back_from_json() -> None:
    history = curve_of(1, 2).with_call(CALL).with_last_call(stop_reason="Enough")
    again = TrainingHistory.from_json(json.loads(json.dumps(history.to_json())))

    assert again == history
    assert again.calls[0].stop_reason == "Enough"
    assert again.duration_seconds == 1.5


@pytest.mark.parametrize("data", [{}, {"calls": [{"no": 1}], "curve": []}, {"calls": [], "curve": [[1]]}], ids=range(3))
def test_something_else_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match="Not a training history"):
        TrainingHistory.from_json(data)


def test_a_resumed_run_takes_the_place_of_what_it_does_again() -> None:
    assert [point.timesteps for point in curve_of(10, 20, 30, 20).curve] == [10, 20]


def test_many_points_are_thinned_and_the_ends_stay() -> None:
    curve = curve_of(*range(5 * MOST_POINTS)).curve

    assert len(curve) <= MOST_POINTS
    assert curve[0].timesteps == 0
    assert curve[-1].timesteps == 5 * MOST_POINTS - 1
    assert [point.timesteps for point in curve] == sorted(point.timesteps for point in curve)
