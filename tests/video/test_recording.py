from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest

from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.errors import EnvironmentFailure, InvalidInputError, MissingExtraError, SpaceError, VideoError
from rl_framework.testing.environments import CountingEnv, MaskedCorridor
from rl_framework.video.recording import record_video
from tests.evaluation.policies import ConstantPolicy, MaskedPolicy, RandomPolicy, RecallPolicy
from tests.evaluation.test_evaluate import UnseededVectorEnv, draw_all, seed_all
from tests.video.playback import play, shades

ID = "tests/Counting-v0"


@pytest.fixture
def registered() -> Any:
    gym.register(ID, "rl_framework.testing.environments:CountingEnv")
    yield ID
    del gym.registry[ID]


def counting(*lengths: int) -> CountingEnv:
    return CountingEnv(lengths=lengths, render_mode="rgb_array")


def shades_of(*counts: int) -> Any:
    """A picture's brightness says the step of its episode: 8 shades per step."""
    return pytest.approx([8 * step for steps in counts for step in range(steps + 1)], abs=3)


def test_an_episode_of_t_steps_gives_t_plus_one_pictures_the_true_last_one_included(tmp_path: Path) -> None:
    video = play(record_video(ConstantPolicy(), counting(6), tmp_path / "a.mp4"))
    assert shades(video.frames) == shades_of(6)


def test_several_episodes_follow_each_other(tmp_path: Path) -> None:
    path = record_video(ConstantPolicy(), counting(3, 7, 2), tmp_path / "a.mp4", 3)
    assert shades(play(path).frames) == shades_of(3, 7, 2)


def test_the_rate_is_the_one_of_the_environment_unless_given(tmp_path: Path) -> None:
    path = record_video(ConstantPolicy(), counting(3), tmp_path / "a.mp4")
    assert play(path).fps == 10.0
    assert play(record_video(ConstantPolicy(), counting(3), path, fps=25)).fps == 25.0


def test_the_path_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert record_video(ConstantPolicy(), counting(1), "videos/a.gif") == tmp_path / "videos" / "a.gif"
    assert play(tmp_path / "videos" / "a.gif").codec == "gif"


@pytest.mark.parametrize(("max_steps", "expected"), [(2, (2,)), (4, (4,)), (5, (4, 1)), (100, (4, 3))])
def test_the_video_ends_after_max_steps(tmp_path: Path, max_steps: int, expected: tuple[int, ...]) -> None:
    path = record_video(ConstantPolicy(), counting(4, 3), tmp_path / "a.mp4", 2, max_steps=max_steps)
    assert shades(play(path).frames) == shades_of(*expected)


def test_the_same_seed_gives_the_same_video(tmp_path: Path) -> None:
    policy = cart_pole_policy()
    first, second, other = (
        record_video(policy, "CartPole-v1", tmp_path / name, seed=seed, deterministic=False).read_bytes()
        for name, seed in (("a.mp4", 1), ("b.mp4", 1), ("c.mp4", 2))
    )
    assert first == second != other


def cart_pole_policy() -> RandomPolicy:
    return RandomPolicy(gym.make("CartPole-v1").observation_space)


def test_the_random_generators_of_the_training_are_left_as_they_were(tmp_path: Path) -> None:
    policy = RandomPolicy()
    seed_all(policy)
    expected = draw_all(policy)
    seed_all(policy)
    record_video(policy, counting(3), tmp_path / "a.mp4", deterministic=False)
    assert draw_all(policy) == expected


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_policy_is_told_whether_to_be_deterministic(tmp_path: Path, deterministic: bool) -> None:
    policy = ConstantPolicy()
    record_video(policy, counting(2), tmp_path / "a.mp4", deterministic=deterministic)
    assert policy.deterministic == [deterministic] * 2


class RecallPictures(CountingEnv):
    """Shows in its pictures whether the policy answered rightly to the cue of the first step."""

    def __init__(self) -> None:
        super().__init__((4,), render_mode="rgb_array")
        self.observation_space = RecallPolicy().observation_space

    def _observe(self) -> Any:
        return np.array([1.0 if self.step_count == 0 else 0.0, 0.0], dtype=np.float32)

    def render(self) -> Any:
        return np.full((32, 48, 3), 200 if self.last_action == 1 else 0, dtype=np.uint8)


def test_a_policy_with_memory_gets_it_back(tmp_path: Path) -> None:
    path = record_video(RecallPolicy(), RecallPictures(), tmp_path / "a.mp4")
    assert shades(play(path).frames) == pytest.approx([0, 200, 200, 200, 200], abs=4)


class PicturedCorridor(MaskedCorridor):
    render_mode = "rgb_array"

    def render(self) -> Any:
        return np.full((32, 48, 3), 20 * self.position, dtype=np.uint8)


def test_a_masked_policy_gets_its_masks(tmp_path: Path) -> None:
    video = play(record_video(MaskedPolicy(), PicturedCorridor(), tmp_path / "a.mp4"))
    assert shades(video.frames)[-1] == pytest.approx(100, abs=3)


def test_an_id_gives_pictures_without_being_asked_to(tmp_path: Path, registered: str) -> None:
    video = play(record_video(ConstantPolicy(), registered, tmp_path / "a.mp4"))
    assert shades(video.frames) == shades_of(5)


def test_an_environment_made_without_pictures_is_made_anew_with_them(tmp_path: Path, registered: str) -> None:
    env = gym.make(registered, lengths=(3,))
    video = play(record_video(ConstantPolicy(), env, tmp_path / "a.mp4"))
    assert shades(video.frames) == shades_of(3)
    assert env.unwrapped.episode == -1  # type: ignore[attr-defined]


def test_an_environment_without_pictures_and_spec_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r'gym.make\(..., render_mode="rgb_array"\)'):
        record_video(ConstantPolicy(), CountingEnv(), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def without_modes(**options: Any) -> CountingEnv:
    if options:
        raise TypeError(f"unexpected {options}")
    return CountingEnv()


def test_an_environment_that_cannot_be_made_anew_is_refused(tmp_path: Path) -> None:
    gym.register(ID, without_modes)
    try:
        with pytest.raises(VideoError, match="making it anew with them failed"):
            record_video(ConstantPolicy(), gym.make(ID), tmp_path / "a.mp4")
    finally:
        del gym.registry[ID]


def test_the_first_of_several_environments_is_shown(tmp_path: Path) -> None:
    environments = [counting(4), counting(9)]
    path = record_video(ConstantPolicy(), environments, tmp_path / "a.mp4")
    assert shades(play(path).frames) == shades_of(4)


def test_rows_beside_the_first_rest(tmp_path: Path) -> None:
    beside = counting(9)
    env = SerialVectorEnv([counting(4), beside], owned=True)
    assert shades(play(record_video(ConstantPolicy(), env, tmp_path / "a.mp4")).frames) == shades_of(4)
    assert beside.step_count == 0


def test_a_foreign_vector_environment_is_shown_up_to_its_last_picture_but_one(tmp_path: Path) -> None:
    env = UnseededVectorEnv([counting(4), counting(9)], owned=True)
    path = record_video(ConstantPolicy(), env, tmp_path / "a.mp4")
    assert shades(play(path).frames) == shades_of(3)


def test_what_the_caller_opened_stays_open(tmp_path: Path) -> None:
    env = SerialVectorEnv([counting(2)], owned=True)
    record_video(ConstantPolicy(), env, tmp_path / "a.mp4")
    assert env.reset(0).shape == (1, 3)


def test_a_vector_environment_of_gymnasium_is_shown(tmp_path: Path) -> None:
    env = gym.vector.SyncVectorEnv([lambda: counting(5), lambda: counting(9)])
    path = record_video(ConstantPolicy(), env, tmp_path / "a.mp4")
    assert shades(play(path).frames) == shades_of(4)
    env.close()


class FragileEnv(CountingEnv):
    """Raises in its third step."""

    def __init__(self, render_mode: str | None = "rgb_array") -> None:
        super().__init__((9,), render_mode=render_mode)

    def step(self, action: Any) -> Any:
        if self.step_count == 2:
            raise ZeroDivisionError("deliberate")
        return super().step(action)


def test_an_environment_that_raises_gives_its_error_and_keeps_the_old_video(tmp_path: Path) -> None:
    path = record_video(ConstantPolicy(), counting(1), tmp_path / "a.mp4")
    before = path.read_bytes()
    with pytest.raises(EnvironmentFailure, match="deliberate"):
        record_video(ConstantPolicy(), FragileEnv(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert psutil.Process().children() == []


class BlindEnv(CountingEnv):
    """Promises pictures and gives none."""

    def __init__(self) -> None:
        super().__init__(render_mode="rgb_array")

    def render(self) -> Any:
        return None


def test_an_environment_that_breaks_its_promise_of_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="gave no picture"):
        record_video(ConstantPolicy(), BlindEnv(), tmp_path / "a.mp4")


def test_other_spaces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="the environment to record"):
        record_video(MaskedPolicy(), counting(1), tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_episodes": 0}, "n_episodes"),
        ({"max_steps": 0}, "max_steps"),
        ({"fps": 0}, "frames"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        record_video(ConstantPolicy(), counting(1), tmp_path / "a.mp4", **options)


def test_an_impossible_path_is_refused_before_anything_runs(tmp_path: Path) -> None:
    env = counting(1)
    with pytest.raises(InvalidInputError, match=r"\.mp4"):
        record_video(ConstantPolicy(), env, tmp_path / "a.webm")
    assert env.episode == -1


def test_a_missing_extra_is_named_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    env = counting(1)
    with pytest.raises(MissingExtraError, match="video"):
        record_video(ConstantPolicy(), env, tmp_path / "a.mp4")
    assert env.episode == -1
