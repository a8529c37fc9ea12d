"""A recorder writes down what is played, whoever plays, and keeps it when the process dies."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.recording import EpisodeRecorder
from rl_framework.errors import InvalidInputError, LossyConversionWarning, SpaceError
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.testing.environments import AnySpaceEnv, CountingEnv
from tests.evaluation.policies import ConstantPolicy

NEST = spaces.Dict({"camera": spaces.Box(0, 255, (2, 2), np.uint8), "arm": spaces.Tuple([spaces.Box(-1, 1, (1,))])})


class ReusingEnv(gym.Env[Any, Any]):
    """Gives the same array each time, and changes the action that it was given."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-9.0, 9.0, (1,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation = np.zeros(1)
        self.remark: dict[str, Any] = {"steps": []}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.observation[:] = 0
        self.remark["steps"].clear()
        return self.observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        action[:] = 0
        self.observation += 1
        self.remark["steps"].append(int(self.observation[0]))
        return self.observation, 0.5, False, bool(self.observation[0] == 3), self.remark


def play(recorder: gym.Env[Any, Any], steps: int) -> None:
    """Play as a script does: an episode after the other."""
    recorder.reset()
    for _ in range(steps):
        _, _, terminated, truncated, _ = recorder.step(1)
        if terminated or truncated:
            recorder.reset()


def test_every_episode_is_whole() -> None:
    recorder = EpisodeSequence.record(CountingEnv(lengths=(2, 3)))
    play(recorder, 5)
    first, second = recorder.episodes
    assert first.observations[:, 1].tolist() == [0, 1, 2]
    assert second.observations[:, :2].tolist() == [[1, 0], [1, 1], [1, 2], [1, 3]]
    assert first.rewards is not None
    assert first.rewards.tolist() == [1, 2]
    assert first.rewards.dtype == np.float64
    assert (first.terminated, first.infos) == (True, None)
    assert first.actions.tolist() == [1, 1]
    assert first.actions.dtype == np.int64


def test_spaces_and_the_environments_id_are_told() -> None:
    recorder = EpisodeSequence.record(gym.make("CartPole-v1"))
    play(recorder, 60)
    recorder.close()
    episodes = recorder.episodes
    assert episodes.observation_space == recorder.observation_space
    assert episodes.action_space == recorder.action_space
    assert episodes.metadata == {"environment_id": "CartPole-v1", "source": "recording"}


@pytest.mark.parametrize("ends", ["terminated", "truncated", "both"])
def test_how_an_episode_ended_is_kept(ends: Any) -> None:
    recorder = EpisodeSequence.record(CountingEnv(lengths=(2,), ends=ends))
    play(recorder, 2)
    assert recorder.episodes[0].terminated is (ends != "truncated")


@pytest.mark.parametrize("keep_cut", [True, False])
def test_an_episode_that_is_cut_is_truncated_or_dropped(keep_cut: bool) -> None:
    recorder = EpisodeSequence.record(CountingEnv(lengths=(5,)), keep_cut=keep_cut)
    play(recorder, 6)
    recorder.reset()
    play(recorder, 2)
    recorder.close()
    expected = [(5, True), (1, False), (2, False)]
    assert [(len(one), one.terminated) for one in recorder.episodes] == (expected if keep_cut else expected[:1])


def test_steps_after_the_end_are_not_recorded() -> None:
    recorder = EpisodeSequence.record(CountingEnv(lengths=(1,)))
    recorder.reset()
    recorder.step(0)
    recorder.step(0)
    recorder.close()
    assert [len(one) for one in recorder.episodes] == [1]


def test_arrays_that_the_environment_reuses_are_copied_and_have_the_types_of_the_spaces() -> None:
    recorder = EpisodeSequence.record(ReusingEnv(), keep_infos=True)
    recorder.reset()
    for _ in range(3):
        recorder.step(np.full(1, 0.25))
    (episode,) = recorder.episodes
    assert episode.observations.tolist() == [[0], [1], [2], [3]]
    assert episode.observations.dtype == np.float32
    assert episode.actions.tolist() == [[0.25]] * 3
    assert episode.actions.dtype == np.float32
    assert episode.infos == ({"steps": [1]}, {"steps": [1, 2]}, {"steps": [1, 2, 3]})


def test_nested_observations_and_actions_are_recorded() -> None:
    recorder = EpisodeSequence.record(AnySpaceEnv(NEST, NEST, length=3))
    recorder.reset(seed=0)
    for _ in range(3):
        recorder.step(NEST.sample())
    (episode,) = recorder.episodes
    assert episode.observations["camera"].shape == (4, 2, 2)
    assert episode.actions["arm"][0].shape == (3, 1)
    assert episode.actions["camera"].dtype == np.uint8


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(2), "The action .* is not of"),
        ({"a": 1}, "The action .* is not of"),
        ("up", "The action 'up' is not of"),
    ],
    ids=["shape", "structure", "text"],
)
def test_an_action_of_another_form_is_refused_before_it_is_taken(action: Any, message: str) -> None:
    recorder = EpisodeSequence.record(ReusingEnv())
    recorder.reset()
    with pytest.raises(SpaceError, match=message):
        recorder.step(action)
    assert recorder.unwrapped.observation[0] == 0  # type: ignore[attr-defined]  # ReusingEnv has it


def test_spaces_without_arrays_are_refused() -> None:
    with pytest.raises(SpaceError, match="Text"):
        EpisodeSequence.record(AnySpaceEnv(spaces.Text(3), spaces.Discrete(2)))


def test_a_recorder_is_never_copied_so_everything_is_recorded() -> None:
    recorder = EpisodeSequence.record(CountingEnv(lengths=(2,)))
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.deepcopy(recorder)
    evaluate_policy(ConstantPolicy(), recorder, 4)
    assert [len(one) for one in recorder.episodes] == [2, 2, 2, 2]


def test_a_recording_in_a_folder_is_readable_at_any_time(tmp_path: Path) -> None:
    with EpisodeSequence.record(CountingEnv(lengths=(2, 3)), tmp_path / "new" / "data", keep_infos=True) as recorder:
        with pytest.raises(InvalidInputError, match="No episode has ended yet"):
            _ = recorder.episodes
        play(recorder, 2)
        assert [len(one) for one in recorder.episodes] == [2]
        play(recorder, 4)
        assert [len(one) for one in EpisodeSequence.from_dataset(tmp_path / "new" / "data")] == [2, 2]
    assert [len(one) for one in recorder.episodes] == [2, 2, 2]
    assert recorder.episodes[0].infos == ({}, {"is_success": True})
    assert np.load(tmp_path / "new" / "data" / "lengths.npy").tolist() == [2, 2, 2]
    recorder.close()


def test_what_infos_lose_is_told_at_the_end(tmp_path: Path) -> None:
    class RemarkingEnv(CountingEnv):
        def step(self, action: Any) -> Any:
            return (*super().step(action)[:4], {"engine": CountingEnv})

    recorder = EpisodeSequence.record(RemarkingEnv(lengths=(1,)), tmp_path / "data", keep_infos=True)
    play(recorder, 1)
    with pytest.warns(LossyConversionWarning, match="'engine'"):
        recorder.close()


def test_a_recording_without_an_episode_closes_and_leaves_an_empty_folder(tmp_path: Path) -> None:
    EpisodeSequence.record(CountingEnv(), tmp_path / "data").close()
    assert list((tmp_path / "data").iterdir()) == []
    assert isinstance(EpisodeSequence.record(CountingEnv(), tmp_path / "data"), EpisodeRecorder)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_is_recorded_over(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "data"
    file = place if kind == "file" else place / "x"
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(InvalidInputError, match="a recording needs a new folder"):
        EpisodeSequence.record(CountingEnv(), place)


DYING = """
import os, sys
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.testing.environments import CountingEnv

recorder = EpisodeSequence.record(CountingEnv(lengths=(2, 3, 9)), sys.argv[1])
for length in (2, 3, 4):
    recorder.reset()
    for _ in range(length):
        recorder.step(1)
os._exit(9)
"""


def test_a_process_that_dies_leaves_the_complete_episodes(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", DYING, str(tmp_path / "data")], check=False)
    assert died.returncode == 9
    opened = EpisodeSequence.from_dataset(tmp_path / "data")
    assert [len(episode) for episode in opened] == [2, 3]
    assert opened[1].observations[:, 1].tolist() == [0, 1, 2, 3]
    saved = EpisodeSequence.from_dataset(opened.save(tmp_path / "whole"))
    assert list(saved) == list(opened)
