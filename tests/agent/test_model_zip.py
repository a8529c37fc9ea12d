"""Stable-Baselines3's own file format: written when asked for, read without executing anything in it."""

from __future__ import annotations

import base64
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch
from stable_baselines3.common import utils as sb3_utils

from rl_framework.agent.reinforcement.stable_baselines import sb3_archive
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    MissingArchiveError,
    SpaceError,
    UnknownOptionError,
    UnsafeArchiveError,
)
from tests.agent.cases import SMALL

SHORT = {"n_steps": 16, "batch_size": 16}
QUIET: dict[str, Any] = {"progress_bar": False}


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize(
    ("algorithm_class", "environment", "parameters"),
    [
        (sb3.PPO, "CartPole-v1", SHORT),
        (sb3.PPO, "CartPole-v1", {**SHORT, "policy_kwargs": {"activation_fn": torch.nn.ReLU, "net_arch": [8, 8]}}),
        (sb3.SAC, "Pendulum-v1", {"buffer_size": 100, "policy_kwargs": SMALL}),
        (sb3.DQN, "CartPole-v1", {"buffer_size": 100, "exploration_fraction": 0.5}),
        (sb3_contrib.TQC, "Pendulum-v1", {"buffer_size": 100, "policy_kwargs": SMALL}),
    ],
)
def test_round_trip(algorithm_class: Any, environment: str, parameters: dict[str, Any], tmp_path: Path) -> None:
    agent = StableBaselinesAgent(algorithm_class, parameters)
    agent.train(environment, 120, **QUIET)
    path = agent.export_model_zip(tmp_path / "model")
    assert path == tmp_path / "model.zip"
    assert [file.name for file in tmp_path.iterdir()] == ["model.zip"]
    again = StableBaselinesAgent.from_model_zip(path, environment, algorithm_class)
    assert again.timesteps == agent.timesteps
    batch = np.stack([agent.policy.observation_space.sample() for _ in range(20)])
    assert np.array_equal(again.choose_action(batch, True), agent.choose_action(batch, True))
    theirs = algorithm_class.load(path)
    assert np.array_equal(theirs.predict(batch, deterministic=True)[0], agent.choose_action(batch, True))
    again.train(environment, 40, **QUIET)


def test_optimisers_and_temperature_are_imported(tmp_path: Path) -> None:
    agent = StableBaselinesAgent(sb3.SAC, {"buffer_size": 200, "learning_starts": 20, "policy_kwargs": SMALL})
    agent.train("Pendulum-v1", 60, **QUIET)
    again = StableBaselinesAgent.from_model_zip(agent.export_model_zip(tmp_path / "m"), "Pendulum-v1", sb3.SAC)
    assert torch.equal(again.model.log_ent_coef, agent.model.log_ent_coef)  # type: ignore[attr-defined]  # SAC has one
    ours, theirs = (each.model.get_parameters()["critic.optimizer"] for each in (again, agent))
    assert torch.equal(ours["state"][0]["exp_avg"], theirs["state"][0]["exp_avg"])


def test_pickles_are_never_executed(tmp_path: Path) -> None:
    agent = StableBaselinesAgent(sb3.PPO, SHORT)
    agent.train("CartPole-v1", 16, **QUIET)
    path = agent.export_model_zip(tmp_path / "model")
    victim, evil = tmp_path / "executed", tmp_path / "evil.zip"
    poison(path, evil, base64.b64encode(cloudpickle.dumps(Payload(victim))).decode())
    StableBaselinesAgent.from_model_zip(evil, "CartPole-v1")
    assert not victim.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the library makes of it
        sb3.PPO.load(evil)
    assert victim.exists()  # the payload works: plain Stable-Baselines3 runs it


def poison(source: Path, target: Path, pickle: str) -> None:
    """Copy a model file with another pickle in the place of every one in it."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as copy:
        for name in whole.namelist():
            content = whole.read(name)
            if name == "data":
                data = json.loads(content)
                for value in data.values():
                    if isinstance(value, dict) and ":serialized:" in value:
                        value[":serialized:"] = pickle
                content = json.dumps(data).encode()
            copy.writestr(name, content)


def test_hidden_policy_parameters_are_asked_for(tmp_path: Path) -> None:
    agent = StableBaselinesAgent(sb3.PPO, {**SHORT, "policy_kwargs": {"activation_fn": OwnActivation, **SMALL}})
    agent.train("CartPole-v1", 16, **QUIET)
    path = agent.export_model_zip(tmp_path / "model")
    with pytest.raises(InvalidInputError, match="activation_fn"):
        StableBaselinesAgent.from_model_zip(path, "CartPole-v1")
    given = {"policy_kwargs": {"activation_fn": OwnActivation, **SMALL}}
    again = StableBaselinesAgent.from_model_zip(path, "CartPole-v1", algorithm_parameters=given)
    batch = np.zeros((2, 4), np.float32)
    assert np.array_equal(again.choose_action(batch, True), agent.choose_action(batch, True))


def rewrite_data(source: Path, target: Path, changes: dict[str, Any]) -> Path:
    """Copy a model file with other entries in its `data`."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as copy:
        for name in whole.namelist():
            content = whole.read(name)
            if name == "data":
                content = json.dumps({**json.loads(content), **changes}).encode()
            copy.writestr(name, content)
    return target


@pytest.mark.parametrize(
    "named",
    [
        {"features_extractor_class": "<class 'stable_baselines3.common.callbacks.CheckpointCallback'>"},
        {"activation_fn": "<class 'gymnasium.wrappers.rendering.RecordVideo'>"},
        {"activation_fn": "<class 'torch.nn.modules.activation.NoSuchThing'>"},
        {"optimizer_class": "<class 'subprocess.Popen'>", "optimizer_kwargs": {"args": "true"}},
    ],
    ids=["callback", "wrapper", "unknown", "process"],
)
def test_only_parts_of_networks_are_looked_up(named: dict[str, Any], tmp_path: Path) -> None:
    agent = StableBaselinesAgent(sb3.PPO, SHORT)
    agent.train("CartPole-v1", 16, **QUIET)
    path = agent.export_model_zip(tmp_path / "model")
    evil = rewrite_data(path, tmp_path / "evil.zip", {"policy_kwargs": {":serialized:": "", **named}})
    with pytest.raises(InvalidInputError, match="only as a pickle, which is not executed"):
        StableBaselinesAgent.from_model_zip(evil, "CartPole-v1")


def test_paths_of_other_machines_are_left_out(tmp_path: Path) -> None:
    agent = StableBaselinesAgent(sb3.PPO, SHORT)
    agent.train("CartPole-v1", 16, **QUIET)
    path = agent.export_model_zip(tmp_path / "model")
    other = rewrite_data(path, tmp_path / "other.zip", {"tensorboard_log": str(tmp_path / "elsewhere")})
    again = StableBaselinesAgent.from_model_zip(other, "CartPole-v1")
    assert "tensorboard_log" not in again.algorithm_parameters
    again.train("CartPole-v1", 16, **QUIET)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("learning_rate", "expected"),
    [
        (sb3_utils.LinearSchedule(0.001, 0.0, 0.5), 0.001),
        (0.002, 0.002),
    ],
    ids=["linear", "constant"],
)
def test_schedules_are_read(learning_rate: Any, expected: float, tmp_path: Path) -> None:
    agent = StableBaselinesAgent(sb3.PPO, {**SHORT, "learning_rate": learning_rate})
    agent.train("CartPole-v1", 16, **QUIET)
    again = StableBaselinesAgent.from_model_zip(agent.export_model_zip(tmp_path / "model"), "CartPole-v1")
    assert again.model.lr_schedule(1.0) == expected
    assert again.model.lr_schedule(0.5) == agent.model.lr_schedule(0.5)


def test_a_bomb_and_a_path_are_refused(tmp_path: Path) -> None:
    bomb, leaving = tmp_path / "bomb.zip", tmp_path / "leaving.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", b" " * (sb3_archive.MOST_DATA_BYTES + 1))
    with zipfile.ZipFile(leaving, "w") as archive:
        archive.writestr("../data", b"{}")
    with pytest.raises(UnsafeArchiveError, match="larger than"):
        StableBaselinesAgent.from_model_zip(bomb, "CartPole-v1")
    with pytest.raises(UnsafeArchiveError, match="data"):
        StableBaselinesAgent.from_model_zip(leaving, "CartPole-v1")


class OwnActivation(torch.nn.Tanh):
    """A class that only this test module knows."""


def test_wrong_algorithm_or_spaces(tmp_path: Path) -> None:
    agent = StableBaselinesAgent(sb3.PPO, SHORT)
    agent.train("CartPole-v1", 16, **QUIET)
    path = agent.export_model_zip(tmp_path / "model")
    with pytest.raises(SpaceError, match=r"observation_space is a Box of \[4\], theirs is .*\(6,\)"):
        StableBaselinesAgent.from_model_zip(path, "Acrobot-v1")
    with pytest.raises(SpaceError, match=r"action_space is a Discrete of \[2\]"):
        StableBaselinesAgent.from_model_zip(path, lambda: ThreeActions(gym.make("CartPole-v1")))
    with pytest.raises(CorruptArchiveError, match="fit"):
        StableBaselinesAgent.from_model_zip(path, "CartPole-v1", sb3.DQN)
    with pytest.raises(UnknownOptionError):
        StableBaselinesAgent.from_model_zip(path, "CartPole-v1", algorithm_parameters={"nsteps": 3})


class ThreeActions(gym.ActionWrapper[Any, Any, Any]):
    """One action more than there is."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.action_space = gym.spaces.Discrete(3)

    def action(self, action: Any) -> Any:
        return action % 2


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError):
        StableBaselinesAgent.from_model_zip(tmp_path / "none.zip", "CartPole-v1")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(CorruptArchiveError):
        StableBaselinesAgent.from_model_zip(tmp_path / "broken.zip", "CartPole-v1")
