"""An agent goes to the Hub and comes back: with its card, its curve, and whatever people wrote into the card."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import yaml

from rl_framework import (
    BehaviouralCloningAgent,
    CheckpointSchedule,
    D3RLPYAgent,
    NativeAgent,
    QLearning,
    StableBaselinesAgent,
)
from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.learning_agent import LearningAgent
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.errors import InvalidInputError, UnsafeArchiveError
from rl_framework.testing.demonstrations import cart_pole_episodes
from rl_framework.testing.hub_server import HubServer
from tests.connectors.hub_testing import REPOSITORY, STREAMS_FILES, as_the_public_hub, connect
from tests.video.playback import play

pytestmark = STREAMS_FILES
QUIET: dict[str, Any] = {"progress_bar": False}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with as_the_public_hub(tmp_path, monkeypatch) as server:
        yield server


def new_ppo() -> StableBaselinesAgent:
    return StableBaselinesAgent(sb3.PPO, {"n_steps": 64, "batch_size": 64, "n_epochs": 1, "seed": 0, "device": "cpu"})


def trained_ppo() -> LearningAgent:
    agent = new_ppo()
    agent.train("CartPole-v1", 512, n_envs=2, **QUIET)
    return agent


def trained_q_learning() -> LearningAgent:
    agent = NativeAgent(QLearning, {"seed": 0})
    agent.train("Taxi-v4", 500, **QUIET)
    return agent


def trained_native_cloning() -> LearningAgent:
    agent = BehaviouralCloningAgent({"seed": 0})
    agent.train(cart_pole_episodes(2), 640, training_environments="CartPole-v1", **QUIET)
    return agent


def trained_cloning() -> LearningAgent:
    agent = ImitationAgent("BC", seed=0)
    agent.train(cart_pole_episodes(2), 640, training_environments="CartPole-v1", **QUIET)
    return agent


def trained_offline() -> LearningAgent:
    agent = D3RLPYAgent("DiscreteBC", {"batch_size": 16}, seed=0, device="cpu")
    agent.train(cart_pole_episodes(2), 5, training_environments="CartPole-v1", **QUIET)
    return agent


MAKERS = {
    "PPO": trained_ppo,
    "QLearning": trained_q_learning,
    "native BC": trained_native_cloning,
    "BC": trained_cloning,
    "DiscreteBC": trained_offline,
}


def observations_for(agent: LearningAgent) -> np.ndarray:
    space = agent.policy.observation_space
    space.seed(0)
    return np.stack([space.sample() for _ in range(8)])


@pytest.mark.parametrize("name", MAKERS)
def test_it_comes_back_and_acts_identically_in_a_new_process(name: str, hub: HubServer, tmp_path: Path) -> None:
    agent = MAKERS[name]()
    with connect(hub, tmp_path) as connector:
        place = agent.upload(connector, evaluation_environment=agent.environment_id, n_eval_episodes=2, video_length=0)
    observations = observations_for(agent)
    np.save(tmp_path / "observations.npy", observations)
    code = (
        "import json, sys, numpy; from rl_framework import load_agent; agent = load_agent(sys.argv[1]); "
        "print(json.dumps(agent.choose_action(numpy.load(sys.argv[2]), deterministic=True).tolist()))"
    )
    command = [sys.executable, "-c", code, place, str(tmp_path / "observations.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == agent.choose_action(observations, deterministic=True).tolist()


def test_what_lies_in_the_repository(hub: HubServer, tmp_path: Path) -> None:
    agent = trained_ppo()
    with connect(hub, tmp_path) as connector:
        agent.upload(
            connector,
            evaluation_environment=gym.make("CartPole-v1", render_mode="rgb_array"),
            n_eval_episodes=3,
            video_length=30,
            license_name="mit",
            message="The first one",
        )
        files = {name: connector.fetch_file(name) for name in ("README.md", "model.zip", "results.json", "replay.mp4")}
        curve = connector.fetch_file("learning_curve.png").read_bytes()
    results = json.loads(files["results.json"].read_text())
    head = yaml.safe_load(files["README.md"].read_text().split("---\n")[1])

    assert curve.startswith(b"\x89PNG")
    video = play(files["replay.mp4"])
    assert (video.codec, video.pixel_format) == ("h264", "yuv420p")
    assert len(video.frames) > 1
    assert results["n_eval_episodes"] == 3
    assert head["license"] == "mit"
    assert head["library_name"] == "stable-baselines3"
    value = head["model-index"][0]["results"][0]["metrics"][0]["value"]
    assert value == f"{results['mean_reward']:.2f} +/- {results['std_reward']:.2f}"
    plain = sb3.PPO.load(files["model.zip"], device="cpu")
    observations = observations_for(agent)
    assert np.array_equal(
        plain.predict(observations, deterministic=True)[0], agent.choose_action(observations, deterministic=True)
    )


def test_the_code_block_of_the_card_runs(hub: HubServer, tmp_path: Path) -> None:
    with connect(hub, tmp_path) as connector:
        trained_ppo().upload(connector, evaluation_environment="CartPole-v1", n_eval_episodes=2, video_length=0)
        card = connector.fetch_file("README.md").read_text()
    code = re.search(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert code
    done = subprocess.run([sys.executable, "-c", code.group(1)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "over 10 episodes" in done.stdout


def test_what_people_wrote_into_the_card_stays(hub: HubServer, tmp_path: Path) -> None:
    agent = trained_ppo()
    with connect(hub, tmp_path) as connector:
        agent.upload(connector)
        card = connector.fetch_file("README.md").read_text()
    hub.repository(REPOSITORY).commit({"README.md": f"{card}\nWritten by hand.\n".encode()})
    with connect(hub, tmp_path) as connector:
        agent.upload(connector, evaluation_environment="CartPole-v1", n_eval_episodes=2, video_length=0)
        merged = connector.fetch_file("README.md").read_text()

    assert "Written by hand." in merged
    assert "not evaluated" not in merged


def test_a_manifest_that_names_a_foreign_class_runs_nothing(hub: HubServer, tmp_path: Path) -> None:
    folder = trained_ppo().save(tmp_path / "agent")
    replace(Manifest.read(folder), algorithm="os:system").write(folder)
    with connect(hub, tmp_path) as connector:
        connector.upload(folder)
        pulled = connector.download()
    with pytest.raises(UnsafeArchiveError, match="os:system"):
        load_agent(pulled)


def test_checkpoints_are_pushed_while_it_trains(hub: HubServer, tmp_path: Path) -> None:
    agent = new_ppo()
    connector = connect(hub, tmp_path)
    schedule = CheckpointSchedule(tmp_path / "checkpoints", 256, push_to=connector)
    summary = agent.train("CartPole-v1", 512, n_envs=1, checkpoint=schedule, connector=connector, **QUIET)
    connector.close()

    assert summary.warnings == ()
    with connect(hub, tmp_path) as again:
        assert again.checkpoint_steps() == [0, 256, 512]
        restored = load_agent(again.download_checkpoint(256))
    assert isinstance(restored, StableBaselinesAgent)
    assert restored.timesteps == 256
    restored.resume("CartPole-v1", **QUIET)
    observations = observations_for(agent)
    assert np.array_equal(restored.choose_action(observations, True), agent.choose_action(observations, True))


def test_a_hub_that_is_down_does_not_disturb_a_training(hub: HubServer, tmp_path: Path) -> None:
    agent = new_ppo()
    hub.stop()
    connector = connect(hub, tmp_path)
    schedule = CheckpointSchedule(tmp_path / "checkpoints", 256, push_to=connector)
    summary = agent.train("CartPole-v1", 512, n_envs=1, checkpoint=schedule, connector=connector, **QUIET)
    connector.close()

    assert summary.taken_timesteps == 512
    assert summary.stop_reason is None
    assert len(connector.outbox.entries()) == 3
    hub.start()
    with connect(hub, tmp_path) as again:
        again.outbox.send(lambda entry: again)
        assert again.checkpoint_steps() == [0, 256, 512]


def test_checkpoints_go_to_services_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="keeps checkpoints"):
        CheckpointSchedule(tmp_path, push_to=tmp_path)  # type: ignore[arg-type]  # a user's mistake
