"""What the sensors of a game measure arrives as it was, in every form in which Unity's packages send it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.unity.vector_env import UnityVectorEnv
from tests.envs.unity.peer.pictures import grey, picture
from tests.envs.unity.peer.players import make_player

HEIGHT, WIDTH, STEPS, AGENTS = 6, 10, 6, 2
HORIZON, BUFFER_ROWS = 50, 3
FORMS = {
    f"{layout} {'png' if png else 'raw'} {channels}x{frames}": (layout, png, channels, frames)
    for layout, png, channels, frames in product(("hwc", "chw"), (True, False), (3, 1), (1, 2))
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, npt.NDArray[Any]]]]:
    """Observations of some steps, `[AGENTS, ...]` each, from a game with all sensors at once."""
    cameras = [
        {"kind": "picture", "name": name, "layout": layout, "png": png, "channels": channels, "frames": frames,
         "height": HEIGHT, "width": WIDTH}
        for name, (layout, png, channels, frames) in FORMS.items()
    ]  # fmt: skip
    others: list[dict[str, Any]] = [
        {},
        {"kind": "goal", "name": "Goal"},
        {"kind": "buffer", "name": "Buffer", "rows": BUFFER_ROWS},
    ]
    file = make_player(tmp_path_factory.mktemp("game"), agents=AGENTS, horizons=(HORIZON,), sensors=[*cameras, *others])
    environments = UnityVectorEnv(UnitySettings(launch=UnityLaunch(file=file, no_graphics=False, timeout=20.0)))
    try:
        observations: Any = [environments.reset()]
        for _ in range(STEPS):
            environments.send(np.full((AGENTS, 1), 0.4, np.float32))
            observations.append(environments.recv().observations)
        yield observations
    finally:
        environments.close()


@pytest.mark.parametrize("name", FORMS)
def test_pictures_arrive(seen: list[dict[str, npt.NDArray[Any]]], name: str) -> None:
    *_, channels, frames = FORMS[name]
    for agent in range(AGENTS):
        before: npt.NDArray[np.uint8] = np.zeros((HEIGHT, WIDTH, channels), np.uint8)
        for observation in seen:
            position, target = observation["Reach"][agent, :2].tolist()
            shown = picture(position, target, HEIGHT, WIDTH)
            frame = grey(shown) if channels == 1 else shown
            stacked = np.concatenate([before, frame], axis=2) if frames == 2 else frame
            np.testing.assert_array_equal(observation[name][agent], np.moveaxis(stacked, 2, 0))
            before = frame


def test_pictures_of_agents_differ(seen: list[dict[str, npt.NDArray[Any]]]) -> None:
    for name in FORMS:
        assert (seen[0][name][0] != seen[0][name][1]).any()


def test_goal_and_buffer_arrive(seen: list[dict[str, npt.NDArray[Any]]]) -> None:
    found = set()
    for observation in seen:
        rows, time_left = observation["Reach"][:, :2], observation["Reach"][0, 3]
        np.testing.assert_array_equal(observation["Goal"], rows[:, 1:])
        filled = 1 + round((1.0 - float(time_left)) * HORIZON) % BUFFER_ROWS
        found.add(filled)
        for place in range(BUFFER_ROWS):
            expected = rows if place < filled else np.zeros_like(rows)
            np.testing.assert_array_equal(observation["Buffer"][:, place], expected)
    assert found == {1, 2, 3}
