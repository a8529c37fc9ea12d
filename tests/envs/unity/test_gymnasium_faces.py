"""Unity games as Gymnasium's environments: one agent as an `Env`, many as a `VectorEnv`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from rl_framework.envs.source import environment_source, open_environments
from rl_framework.envs.unity.gymnasium_faces import UnityEnv, UnityGymnasiumVectorEnv
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.errors import InvalidInputError, RLFrameworkError
from tests.envs.unity.peer.players import make_player
from tests.envs.unity.scripted_player import Script

SETTINGS = UnitySettings(launch=UnityLaunch(file=Path("Game")))


def step(env: UnityEnv, action: float) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """One step of a continuous action."""
    return env.step(np.array([action], np.float32))


@pytest.fixture
def counting() -> Iterator[UnityEnv]:
    """One agent whose episodes of 3 decisions are cut."""
    env = UnityEnv(SETTINGS, start=Script(agents=1, interrupts=(0,)).start)
    yield env
    env.close()


def test_an_agent_is_an_env(counting: UnityEnv) -> None:
    observation, info = counting.reset()
    np.testing.assert_array_equal(observation, [0, 0, 0])
    assert info == {}
    observation, reward, terminated, truncated, info = step(counting, 0.5)
    np.testing.assert_array_equal(observation, [0, 1, 0.5])
    assert (reward, terminated, truncated, info) == (0.5, False, False, {"agent_id": 0})


def test_an_end_shows_the_last_observation_and_the_reset_after_it_the_next_first_one(counting: UnityEnv) -> None:
    counting.reset()
    step(counting, 0.5)
    step(counting, 0.5)
    observation, _, terminated, truncated, _ = step(counting, 0.5)
    np.testing.assert_array_equal(observation, [0, 3, 1.5])
    assert (terminated, truncated) == (False, True)
    with pytest.raises(RLFrameworkError, match=r"reset\(\) first"):
        step(counting, 0.5)
    np.testing.assert_array_equal(counting.reset()[0], [0, 0, 0])


def test_a_hard_reset_restarts_the_scene() -> None:
    script = Script(agents=1)
    env = UnityEnv(SETTINGS, start=script.start)
    env.reset()
    (player,) = script.players
    before = player.resets
    env.reset()
    assert player.resets == before
    env.reset(options={"hard": True})
    assert player.resets == before + 1
    env.close()
    env.close()
    assert player.closed == 1


def test_several_agents_are_no_env() -> None:
    script = Script(agents=2)
    with pytest.raises(InvalidInputError, match=r"has 2 agents.*UnityGymnasiumVectorEnv.*max_agents=1"):
        UnityEnv(SETTINGS, start=script.start)
    assert script.players[0].closed == 1


def test_masks_are_given_as_a_method_and_in_the_infos() -> None:
    script = Script(agents=1, continuous=0, branches=(3,), forbids=(True, False, False))
    env = UnityEnv(SETTINGS, start=script.start)
    _, info = env.reset()
    np.testing.assert_array_equal(info["action_mask"], [False, True, True])
    np.testing.assert_array_equal(env.action_masks(), [False, True, True])
    np.testing.assert_array_equal(env.step(1)[4]["action_mask"], [False, True, True])
    env.close()


@pytest.mark.parametrize(
    "script",
    [
        Script(agents=1),
        Script(agents=1, continuous=0, branches=(3,)),
        Script(agents=1, branches=(3,), forbids=(True, False, False)),
    ],
    ids=["continuous", "nothing forbidden", "hybrid"],
)
def test_masks_are_promised_only_where_they_are_shown(script: Script) -> None:
    env = UnityEnv(SETTINGS, start=script.start)
    assert not env.has_wrapper_attr("action_masks")
    assert "action_mask" not in env.reset()[1]
    assert not open_environments(env).spec.has_action_masks
    env.close()


def test_a_running_game_is_a_source_of_one_row_and_cannot_be_copied(counting: UnityEnv) -> None:
    source = environment_source(counting)
    assert (source.count, source.copyable) == (1, False)
    with pytest.raises(InvalidInputError, match="cannot be copied"):
        copy.deepcopy(counting)
    rows = source.open()
    rows.reset()
    steps = []
    for _ in range(3):
        rows.send(np.full((1, 1), 0.5, np.float32))
        steps.append(rows.recv())
    step = steps[-1]
    np.testing.assert_array_equal(step.final[0], [0, 3, 1.5])
    assert step.truncated.all()
    assert step.episodes[0].total_reward == 1.5


def test_many_agents_are_a_vector_env() -> None:
    env = UnityGymnasiumVectorEnv(SETTINGS, start=Script(agents=2, horizons=(1, 5)).start)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observations, _ = env.reset(seed=0)
    assert env.observation_space.contains(observations)
    actions = np.array([[0.5], [0.25]], np.float32)
    observations, rewards, terminated, truncated, infos = env.step(actions)
    np.testing.assert_array_equal(observations, [[0, 0, 0], [1, 1, 0.25]])
    np.testing.assert_array_equal(rewards, [0.5, 0.25])
    np.testing.assert_array_equal(terminated, [True, False])
    assert not truncated.any()
    np.testing.assert_array_equal(infos["final_obs"][0], [0, 1, 0.5])
    np.testing.assert_array_equal(infos["_final_obs"], [True, False])
    assert infos["final_info"]["agent_id"][0] == 0
    with pytest.raises(InvalidInputError, match="one by one"):
        env.reset(seed=[1, 2])
    env.close()


def test_what_gymnasium_sees_is_what_this_library_sees() -> None:
    """Back through the adapter of Gymnasium's vector environments, steps and ends are the same."""
    script = {"agents": 3, "horizons": (2, 3), "interrupts": (1,)}
    face = UnityGymnasiumVectorEnv(SETTINGS, start=Script(**script).start)  # type: ignore[arg-type]
    direct = UnityGymnasiumVectorEnv(SETTINGS, start=Script(**script).start).rows  # type: ignore[arg-type]
    adapted = open_environments(face)
    np.testing.assert_array_equal(adapted.reset(), direct.reset())
    for number in range(6):
        actions = np.full((3, 1), number / 8, np.float32)
        adapted.send(actions)
        direct.send(actions)
        one, other = adapted.recv(), direct.recv()
        np.testing.assert_array_equal(one.observations, other.observations)
        np.testing.assert_array_equal(one.terminated, other.terminated)
        np.testing.assert_array_equal(one.truncated, other.truncated)
        assert one.final.keys() == other.final.keys()
        assert one.episodes == other.episodes
    face.close()
    direct.close()


@pytest.mark.parametrize("actions", ["continuous", "multi", "hybrid"])
def test_gymnasium_finds_nothing_wrong(tmp_path: Path, actions: str) -> None:
    launch = UnityLaunch(file=make_player(tmp_path, actions=actions, horizons=(5,)), timeout=20.0)
    env = UnityEnv(UnitySettings(launch=launch, seed_parameter="seed"))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*(infinity|unit|spec).*")
            check_env(env, skip_render_check=True)
    finally:
        env.close()


def test_a_camera_is_a_picture_for_people_and_for_the_agent(tmp_path: Path) -> None:
    camera = {"kind": "picture", "name": "Camera", "height": 6, "width": 10}
    sensors = [{"kind": "vector", "name": "Body"}, camera, {"kind": "buffer", "name": "Others"}]
    launch = UnityLaunch(file=make_player(tmp_path, sensors=sensors), no_graphics=False, timeout=20.0)
    env = UnityEnv(UnitySettings(launch=launch))
    try:
        observation, _ = env.reset()
        assert isinstance(env.observation_space, gym.spaces.Dict)
        assert {name: part.shape for name, part in env.observation_space.items()} == {
            "Body": (4,),
            "Camera": (3, 6, 10),
            "Others": (3, 2),
        }
        assert env.observation_space.contains(observation)
        picture = env.render()
        assert picture is not None
        np.testing.assert_array_equal(picture, observation["Camera"].transpose(1, 2, 0))
        assert picture.max() > picture.min()
        assert env.render_mode == "rgb_array"
    finally:
        env.close()


def test_a_camera_without_graphics_is_remarked_on(tmp_path: Path) -> None:
    launch = UnityLaunch(file=make_player(tmp_path, sensors=[{"kind": "picture"}]), timeout=20.0)
    with pytest.warns(UserWarning, match="cameras give no pictures then.*no_graphics=False.*xvfb-run"):
        env = UnityEnv(UnitySettings(launch=launch))
    env.close()
