"""Stable-Baselines3's own file format: written when asked for, read without executing anything in it."""

from __future__ import annotations

import base64
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
import torch

from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.errors import CorruptArchiveError, InvalidInputError, MissingArchiveError, UnknownOptionError
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


class OwnActivation(torch.nn.Tanh):
    """A class that only this test module knows."""


def test_wrong_algorithm_or_spaces(tmp_path: Path) -> None:
    agent = StableBaselinesAgent(sb3.PPO, SHORT)
    agent.train("CartPole-v1", 16, **QUIET)
    path = agent.export_model_zip(tmp_path / "model")
    with pytest.raises(CorruptArchiveError, match="fit"):
        StableBaselinesAgent.from_model_zip(path, "Acrobot-v1")
    with pytest.raises(CorruptArchiveError, match="fit"):
        StableBaselinesAgent.from_model_zip(path, "CartPole-v1", sb3.DQN)
    with pytest.raises(UnknownOptionError):
        StableBaselinesAgent.from_model_zip(path, "CartPole-v1", algorithm_parameters={"nsteps": 3})


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(MissingArchiveError):
        StableBaselinesAgent.from_model_zip(tmp_path / "none.zip", "CartPole-v1")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(CorruptArchiveError):
        StableBaselinesAgent.from_model_zip(tmp_path / "broken.zip", "CartPole-v1")
