"""Interruption, failing checkpoints, damaged files, agents of one's own."""

from __future__ import annotations

import json
import os
import signal
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.catalog import load_agent
from rl_framework.agent.continuation import Resumption
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.agent.reinforcement_learning_agent import RLAgent
from rl_framework.algorithms.q_learning import QLearning
from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.callbacks.run import TrainingRun
from rl_framework.callbacks.stop_conditions import StopOnReturn
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.connectors.local import LocalConnector
from rl_framework.core.policy import BoolArray, PolicyOutput
from rl_framework.core.reports import Report
from rl_framework.core.spaces import space_from_json, space_to_json
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import StateLevel, VectorEnv
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    MissingArchiveError,
    NewerFormatError,
    NotTrainedError,
    RLFrameworkError,
    UnsafeArchiveError,
)

PARAMETERS: dict[str, Any] = {"n_steps": 20, "batch_size": 20, "n_epochs": 1, "seed": 0}
QUIET: dict[str, Any] = {"progress_bar": False}


def same_weights(one: Agent, other: Agent) -> bool:
    states = [agent.model.policy.state_dict() for agent in (one, other) if isinstance(agent, StableBaselinesAgent)]
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


class PressCtrlC(Callback):
    """Presses Ctrl-C when a number of steps is reached."""

    every_timesteps = 20

    def __init__(self, at: int) -> None:
        self.at = at

    def on_report(self, run: RunHandle, report: Report) -> None:
        if report.timesteps == self.at:
            os.kill(os.getpid(), signal.SIGINT)


class TestInterruption:
    def test_ctrl_c_saves_and_the_resumed_run_ends_like_a_whole_one(self, tmp_path: Path) -> None:
        whole = StableBaselinesAgent(sb3.PPO, PARAMETERS)
        whole.train("CartPole-v1", 400, **QUIET)
        agent = StableBaselinesAgent(sb3.PPO, PARAMETERS)
        with pytest.raises(KeyboardInterrupt):
            agent.train("CartPole-v1", 400, callbacks=[PressCtrlC(120)], checkpoint=tmp_path / "run", **QUIET)
        resumed = load_agent(tmp_path / "run")
        assert isinstance(resumed, StableBaselinesAgent)
        assert 120 <= resumed.timesteps <= 140
        resumed.resume(**QUIET)
        assert resumed.timesteps == 400
        assert same_weights(resumed, whole)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_the_interrupted_agent_itself_goes_on_exactly(self) -> None:
        whole = StableBaselinesAgent(sb3.DQN, {"learning_starts": 20, "buffer_size": 100, "seed": 0})
        whole.train("CartPole-v1", 200, **QUIET)
        agent = StableBaselinesAgent(sb3.DQN, {"learning_starts": 20, "buffer_size": 100, "seed": 0})
        with pytest.raises(KeyboardInterrupt):
            agent.train("CartPole-v1", 200, callbacks=[PressCtrlC(100)], **QUIET)
        assert agent.resume(**QUIET).total_timesteps == 200
        assert same_weights(agent, whole)

    def test_a_stopped_run_resumes(self, tmp_path: Path) -> None:
        agent = StableBaselinesAgent(sb3.PPO, PARAMETERS)
        summary = agent.train("CartPole-v1", 4000, callbacks=[StopOnReturn(10.0, window=5)], **QUIET)
        assert summary.stop_reason is not None
        assert agent.timesteps < 4000
        agent.save(tmp_path / "agent")
        resumed = load_agent(tmp_path / "agent")
        assert isinstance(resumed, StableBaselinesAgent)
        assert resumed.resume(**QUIET).total_timesteps == 4000

    def test_nothing_to_resume(self) -> None:
        with pytest.raises(InvalidInputError, match="no interrupted run"):
            StableBaselinesAgent(sb3.PPO).resume("CartPole-v1")

    def test_resuming_needs_as_many_environments(self, tmp_path: Path) -> None:
        agent = StableBaselinesAgent(sb3.PPO, PARAMETERS)
        agent.train("CartPole-v1", 80, n_envs=2, checkpoint=CheckpointSchedule(tmp_path, 40), **QUIET)
        first = sorted(tmp_path.glob("step_*"))[0]
        resumed = load_agent(first)
        assert isinstance(resumed, StableBaselinesAgent)
        with pytest.raises(InvalidInputError, match="2 environments"):
            resumed.resume([gym.make("CartPole-v1")])

    def test_environments_without_state_are_saved_at_episode_ends(self, tmp_path: Path) -> None:
        """Box2D gives no state in the middle of an episode; at its start the resumed run is exact again."""
        parameters = {"learning_starts": 50, "buffer_size": 1000, "train_freq": 1, "seed": 0}
        agent = StableBaselinesAgent(sb3.DQN, parameters)
        schedule = CheckpointSchedule(tmp_path, 150, keep_last=10)
        agent.train("LunarLander-v3", 700, checkpoint=schedule, **QUIET)
        between = [path for path in tmp_path.glob("step_*") if 0 < int(path.name.removeprefix("step_")) < 700]
        assert len(between) >= 2
        for path in between:
            assert level_of(path) == StateLevel.EPISODE_BOUNDARY
            resumed = load_agent(path)
            assert isinstance(resumed, StableBaselinesAgent)
            resumed.resume(**QUIET)
            assert same_weights(resumed, agent)

    def test_a_run_that_cannot_be_put_back_says_so(self, caplog: pytest.LogCaptureFixture) -> None:
        agent = StableBaselinesAgent(sb3.PPO, PARAMETERS)
        with pytest.raises(KeyboardInterrupt):
            agent.train("LunarLander-v3", 120, n_envs=2, callbacks=[PressCtrlC(40)], **QUIET)
        summary = agent.resume(**QUIET)
        assert summary.total_timesteps == 120
        assert summary.resume_level == "approximate"
        assert "approximate" in caplog.text


def level_of(path: Path) -> StateLevel:
    agent = load_agent(path)
    assert isinstance(agent, RLAgent)
    assert agent._continuation is not None
    return agent._continuation.environments.level


class TestCheckpoints:
    def test_a_failing_checkpoint_does_not_end_training(self, tmp_path: Path) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("not a folder")
        agent = StableBaselinesAgent(sb3.PPO, PARAMETERS)
        summary = agent.train("CartPole-v1", 60, checkpoint=CheckpointSchedule(blocked / "run", 20), **QUIET)
        assert summary.taken_timesteps == 60
        assert any("could not be written" in warning for warning in summary.warnings)

    def test_any_error_while_saving_is_only_a_warning(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: Any) -> None:
            raise RuntimeError("no space for tensors")

        agent = StableBaselinesAgent(sb3.PPO, PARAMETERS)
        monkeypatch.setattr("rl_framework.agent.reinforcement.stable_baselines.agent.save_network", fail)
        summary = agent.train("CartPole-v1", 60, checkpoint=CheckpointSchedule(tmp_path / "run", 20), **QUIET)
        assert summary.taken_timesteps == 60
        assert any("no space for tensors" in warning for warning in summary.warnings)

    def test_the_best_checkpoint_stays(self, tmp_path: Path) -> None:
        agent = StableBaselinesAgent(sb3.PPO, PARAMETERS)
        agent.train("CartPole-v1", 400, checkpoint=CheckpointSchedule(tmp_path, 20, keep_last=1), **QUIET)
        steps = {int(path.name.removeprefix("step_")) for path in tmp_path.glob("step_*")}
        best = json.loads((tmp_path / "best.json").read_text())["timesteps"]
        assert steps == {400, best}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    agent = StableBaselinesAgent(sb3.PPO, PARAMETERS)
    agent.train("CartPole-v1", 20, **QUIET)
    return agent.save(tmp_path / "saved" / "agent")


class TestDamagedFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingArchiveError):
            load_agent(tmp_path / "nowhere")

    @pytest.mark.parametrize("name", ["policy.safetensors", "training_state/model.json", "manifest.json"])
    def test_truncated(self, saved: Path, name: str) -> None:
        content = (saved / name).read_bytes()
        (saved / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(CorruptArchiveError):
            load_agent(saved)

    def test_newer_format(self, saved: Path) -> None:
        manifest = json.loads((saved / "manifest.json").read_text())
        manifest["format_version"] = 99
        (saved / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(NewerFormatError, match="99"):
            load_agent(saved)

    def test_another_kind(self, saved: Path) -> None:
        with pytest.raises(InvalidInputError, match="load_agent"):
            NativeAgent.load(saved)

    def test_path_traversal(self, tmp_path: Path) -> None:
        path = tmp_path / "evil.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", "{}")
            archive.writestr("../outside.txt", "x")
        with pytest.raises(UnsafeArchiveError):
            load_agent(path)
        assert not (tmp_path.parent / "outside.txt").exists()

    def test_a_class_from_elsewhere_is_not_imported(self, saved: Path) -> None:
        for algorithm in ("os:system", "subprocess:Popen", "stable_baselines3.common.utils:os.system"):
            manifest = Manifest.read(saved)
            import dataclasses

            dataclasses.replace(manifest, algorithm=algorithm).write(saved)
            with pytest.raises(RLFrameworkError):
                load_agent(saved)


class RandomSearch(RLAgent):
    """The shortest agent with an engine of its own: keeps the better of two linear policies after each episode."""

    kind: ClassVar[str] = "tests.agent.test_runs:RandomSearch"

    def __init__(self) -> None:
        super().__init__()
        self.weights: np.ndarray | None = None
        self.best = -np.inf
        self.steps = 0
        self.spaces: tuple[Any, Any] | None = None
        self.env: VectorEnv | None = None
        self.rng = np.random.default_rng(0)

    @property
    def policy(self) -> LinearPolicy:
        if self.weights is None or self.spaces is None:
            raise NotTrainedError("never trained")
        return LinearPolicy(self.weights, *self.spaces)

    @property
    def is_trained(self) -> bool:
        return self.weights is not None

    @property
    def timesteps(self) -> int:
        return self.steps

    def _attach(self, env: VectorEnv) -> None:
        self.env, self.spaces = env, (env.spec.observation_space, env.spec.action_space)
        if self.weights is None:
            self.weights = np.zeros((4, 2))

    def _begin(self, env: VectorEnv, resumption: Resumption | None) -> None:
        self.observations = env.reset(0) if resumption is None else resumption.observations

    def _learn(self, run: TrainingRun) -> None:
        assert self.env is not None
        assert self.weights is not None
        while self.steps < run.target_timesteps:
            candidate = self.weights + self.rng.normal(size=(4, 2))
            finished: tuple[Any, ...] = ()
            while not finished:
                self.env.send((self.observations @ candidate).argmax(axis=1))
                step = self.env.recv()
                self.observations, finished = step.observations, step.episodes
                self.steps += self.env.spec.n_envs
            run.record_episodes(finished)
            if finished[0].total_reward > self.best:
                self.best, self.weights = finished[0].total_reward, candidate
            run.at_boundary(self.steps)

    def _detach(self) -> None:
        self.env = None

    def _manifest(self) -> Manifest:
        assert self.spaces is not None
        return Manifest(
            kind=self.kind,
            algorithm=self.kind,
            timesteps=self.steps,
            observation_space=space_to_json(self.spaces[0]),
            action_space=space_to_json(self.spaces[1]),
            notes={"best": self.best},
        )

    def _write(self, folder: Path) -> None:
        assert self.weights is not None
        np.save(folder / "weights.npy", self.weights)

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any) -> RandomSearch:
        agent = cls()
        agent.weights = np.load(folder / "weights.npy")
        agent.steps, agent.best = manifest.timesteps, manifest.notes["best"]
        assert manifest.observation_space is not None
        assert manifest.action_space is not None
        agent.spaces = (space_from_json(manifest.observation_space), space_from_json(manifest.action_space))
        return agent


class LinearPolicy:
    def __init__(self, weights: np.ndarray, observation_space: Any, action_space: Any) -> None:
        self.weights, self.observation_space, self.action_space = weights, observation_space, action_space

    def act(
        self,
        observations: Tree,
        state: Tree = None,
        *,
        episode_starts: BoolArray | None = None,
        action_masks: BoolArray | None = None,
        deterministic: bool = False,
    ) -> PolicyOutput:
        return PolicyOutput((observations @ self.weights).argmax(axis=1), None)


class TestOwnAgent:
    def test_gets_everything_that_agents_have(self, tmp_path: Path) -> None:
        agent = RandomSearch()
        summary = agent.train("CartPole-v1", 3000, n_envs=1, checkpoint=tmp_path / "run", **QUIET)
        assert summary.episodes > 10
        mean, _ = agent.evaluate("CartPole-v1", 10, seed=0)
        assert mean > 30
        agent.save(tmp_path / "agent")
        loaded = load_agent(tmp_path / "agent", trust=[__name__])
        assert loaded.evaluate("CartPole-v1", 10, seed=0).mean == mean
        with pytest.raises(UnsafeArchiveError):
            load_agent(tmp_path / "agent")


class TestSharing:
    def test_upload_and_download(self, tmp_path: Path) -> None:
        agent = NativeAgent(QLearning, {"seed": 0})
        agent.train("FrozenLake-v1", 500, n_envs=2, **QUIET)
        connector = LocalConnector(tmp_path / "store")
        environment = gym.make("FrozenLake-v1", render_mode="rgb_array")
        agent.upload(connector, evaluation_environment=environment, n_eval_episodes=5, video_length=20)
        other = NativeAgent(QLearning)
        other.download(connector)
        assert other.timesteps == agent.timesteps
        assert isinstance(other.algorithm, QLearning)
        assert isinstance(agent.algorithm, QLearning)
        assert np.array_equal(other.algorithm.values, agent.algorithm.values)

    def test_numbers_go_to_the_connector(self, tmp_path: Path) -> None:
        connector = LocalConnector(tmp_path / "store")
        agent = StableBaselinesAgent(sb3.PPO, PARAMETERS)
        agent.train("CartPole-v1", 200, connector=connector, **QUIET)
        assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/loss"} <= set(connector.read_values())
