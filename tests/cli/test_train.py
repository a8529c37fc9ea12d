from __future__ import annotations

import json
from pathlib import Path

import pytest

from rl_framework import Evaluation, LocalConnector, NativeAgent, StableBaselinesAgent, load_agent
from rl_framework.cli import run as run_module
from rl_framework.errors import VideoError
from tests.cli.commands import QUICK, SMALL, fail, rl_framework, succeed, timesteps, train_quickly


def test_a_run_holds_agent_checkpoints_reports_and_results(run: Path) -> None:
    assert isinstance(load_agent(run), StableBaselinesAgent)
    assert timesteps(run / "agent") == 192
    assert timesteps(run / "checkpoints") == 192
    assert (192, 192.0) in LocalConnector(run / "reports").read_values()["time/total_timesteps"]
    assert len(Evaluation.from_dict(json.loads((run / "results.json").read_text())).returns) == 3


def test_results_of_a_run_are_those_that_evaluate_gives(run: Path) -> None:
    printed = succeed("evaluate", run, "--episodes", "3", "--seed", "1", "--json")
    assert json.loads(printed)["returns"] == json.loads((run / "results.json").read_text())["returns"]


def test_parameters_reach_the_algorithm(run: Path) -> None:
    agent = load_agent(run)
    assert isinstance(agent, StableBaselinesAgent)
    assert agent.algorithm_parameters["n_steps"] == 32
    assert agent.algorithm_parameters["policy_kwargs"] == {"net_arch": [8]}
    assert agent.algorithm_parameters["seed"] == 1


def test_the_same_seed_gives_the_same_weights(run: Path, tmp_path: Path) -> None:
    train_quickly(tmp_path / "again")
    weights = [(folder / "agent" / "policy.safetensors").read_bytes() for folder in (run, tmp_path / "again")]
    assert weights[0] == weights[1]


def test_a_native_algorithm_is_trained_by_its_name(tmp_path: Path) -> None:
    succeed("train", "FrozenLake-v1", "-a", "qlearning", "-n", "200", "-o", tmp_path / "lake", "-P", "gamma=0.9")
    agent = load_agent(tmp_path / "lake")
    assert isinstance(agent, NativeAgent)
    assert agent.config.gamma == 0.9


@pytest.mark.parametrize("algorithm", ["native:PPO", "native:A2C", "native:reinforce"])
def test_the_engine_of_this_library_is_named_so(algorithm: str, tmp_path: Path) -> None:
    succeed(
        *("train", "tensor:CartPole", "-a", algorithm, "-n", "256", "-o", tmp_path, "--n-envs", "8", "--normalize"),
        *("-P", "horizon=16", "-P", "network={'hidden_sizes': [8]}", "--evaluate-episodes", "2"),
    )
    agent = load_agent(tmp_path)
    assert isinstance(agent, NativeAgent)
    assert agent.config.normalize_rewards == "running"
    assert agent.config.network.normalize_observations
    assert agent.config.network.hidden_sizes == (8,)


def test_the_episode_trainer_is_trained_by_its_name(tmp_path: Path) -> None:
    succeed(
        *("train", "tensor:CartPole", "-a", "native:vtraceawr", "-n", "256", "-o", tmp_path, "--n-envs", "8"),
        *("--normalize", "-P", "steps_per_update=128", "-P", "network={'body_sizes': [8]}", "--evaluate-episodes", "2"),
    )
    agent = load_agent(tmp_path)
    assert isinstance(agent, NativeAgent)
    assert agent.config.normalize_rewards is True
    assert agent.config.network.normalize_observations
    assert agent.config.network.body_sizes == (8,)


QUICK_OFF_POLICY = (
    *("-n", "60", "--evaluate-episodes", "1", "-P", "learning_starts=20", "-P", "random_steps=20"),
    *("-P", "replay.batch_size=8", "-P", "rule.network.hidden_sizes=[8]"),
)


@pytest.mark.parametrize(
    ("algorithm", "environment", "kind"),
    [("native:SAC", "Pendulum-v1", "sac"), ("native:dqn", "CartPole-v1", "dqn")],
)
def test_the_off_policy_learner_is_trained_by_its_rules_name(
    algorithm: str, environment: str, kind: str, tmp_path: Path
) -> None:
    succeed("train", environment, "-a", algorithm, "-o", tmp_path, "--normalize", *QUICK_OFF_POLICY)
    agent = load_agent(tmp_path)
    assert isinstance(agent, NativeAgent)
    assert (agent.config.rule.kind, agent.config.replay.batch_size) == (kind, 8)
    assert agent.config.rule.normalize_observations
    assert agent.config.rule.network.hidden_sizes == (8,)


def test_parts_of_a_preset_are_overridden_one_by_one(tmp_path: Path) -> None:
    succeed("train", "--preset", "pendulum-native-td3", "-o", tmp_path, *QUICK_OFF_POLICY)
    agent = load_agent(tmp_path)
    assert isinstance(agent, NativeAgent)
    assert agent.config.rule.learning_rate == 0.001
    assert agent.config.rule.network.hidden_sizes == (8,)
    assert agent.config.exploration.std == 0.1


def test_normalisation_is_switched_on(tmp_path: Path) -> None:
    train_quickly(tmp_path, "--normalize")
    agent = load_agent(tmp_path)
    assert isinstance(agent, StableBaselinesAgent)
    assert agent.normalization is not None


def test_options_override_the_preset(tmp_path: Path) -> None:
    succeed(
        *("train", "--preset", "cartpole-ppo", "-n", "64", "-o", tmp_path, "--n-envs", "2", "-P", "n_steps=32"),
        *("-P", "batch_size=32", "--evaluate-episodes", "0", "--no-tensorboard"),
    )
    settings = json.loads((tmp_path / "run.json").read_text())
    assert settings["environment"] == "CartPole-v1"
    assert settings["n_envs"] == 2
    assert settings["parameters"]["n_steps"] == 32
    assert settings["parameters"]["gae_lambda"] == 0.95
    assert not (tmp_path / "results.json").exists()
    assert not (tmp_path / "tensorboard").exists()


def test_a_return_that_is_reached_ends_the_run(tmp_path: Path) -> None:
    printed = train_quickly(tmp_path, "--total-timesteps", "20000", "--stop-at-return", "5")
    assert "Stopped early: the mean return" in printed
    assert timesteps(tmp_path) < 20000


def test_a_time_limit_ends_the_run(tmp_path: Path) -> None:
    assert "Stopped early" in train_quickly(tmp_path, "--total-timesteps", "1000000", "--time-limit", "0.2")


def test_checkpoints_are_written_as_asked(tmp_path: Path) -> None:
    train_quickly(tmp_path, "--checkpoint-every", "64", "--keep-last", "2")
    names = {each.name for each in (tmp_path / "checkpoints").iterdir() if each.name.startswith("step_")}
    assert {"step_000000000128", "step_000000000192"} <= names
    assert "step_000000000000" not in names


def test_a_run_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    train_quickly(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    before = (tmp_path / "run.json").read_bytes()
    message = fail("train", "CartPole-v1", "-n", "64", "-o", tmp_path)
    assert "resume" in message
    assert "--output" in message
    assert "--overwrite" in message
    assert (tmp_path / "run.json").read_bytes() == before
    succeed("train", "CartPole-v1", "-n", "64", "-o", tmp_path, *QUICK, "--overwrite")
    assert timesteps(tmp_path) == 64
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_bad_input_leaves_the_run_that_was_to_be_overwritten(tmp_path: Path) -> None:
    train_quickly(tmp_path)
    message = fail("train", "CartPole-v1", "-a", "SAC", "-n", "64", "-o", tmp_path, "--overwrite")
    assert "SAC does not fit" in message
    assert timesteps(tmp_path / "agent") == 192


@pytest.mark.parametrize(
    ("words", "hints"),
    [
        (["CartPole-v1"], ["--total-timesteps"]),
        (["-n", "100"], ["environment", "--preset"]),
        (["CartPol-v1", "-n", "100"], ["CartPol", "CartPole"]),
        (["CartPole-v1", "-n", "0"], ["--total-timesteps", "above 0"]),
        (["CartPole-v1", "-n", "100", "-a", "PPPO"], ["PPPO", "Did you mean 'PPO'"]),
        (["CartPole-v1", "-n", "100", "-a", "QLerning"], ["Did you mean 'QLearning'"]),
        (["CartPole-v1", "-n", "100", "-P", "gama=0.9"], ["gama", "Did you mean 'gamma'"]),
        (["CartPole-v1", "-n", "100", "-P", "gamma"], ["name=value", "'gamma'"]),
        (["CartPole-v1", "-n", "100", "-P", "n_steps='many'"], ["PPO cannot be built"]),
        (["CartPole-v1", "-n", "100", "--vectorization", "threads"], ["threads", "subprocess"]),
        (["CartPole-v1", "-n", "100", "-a", "QLearning", "--normalize"], ["--normalize"]),
        (["--preset", "cartpole-pop"], ["cartpole-pop", "Did you mean 'cartpole-ppo'"]),
        (["--preset", "cartpole-ppo", "-a", "DQN"], ["cartpole-ppo", "PPO", "DQN"]),
        (
            ["Pendulum-v1", "-a", "native:SAC", "-n", "100", "-P", "rule.kind=td3"],
            ["The rule of native:SAC is 'sac'", "'td3'"],
        ),
        (["Pendulum-v1", "-a", "native:SAC", "-n", "100", "-P", "rule.learnin_rate=1"], ["learning_rate"]),
        (["CartPole-v1", "-n", "100", "-a", "MaskablePPO"], ["masks"]),
    ],
)
def test_bad_input_is_told_in_one_message_and_writes_nothing(
    words: list[str], hints: list[str], tmp_path: Path
) -> None:
    message = fail("train", *words, "-o", tmp_path / "run")
    assert message.count("\n") == 1, message
    for hint in hints:
        assert hint in message
    assert not (tmp_path / "run").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in fail("train", "CartPole-v1", "-n", "100", "-o", tmp_path / "file")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = rl_framework("train", "CartPole-v1", "-n", "100", "-a", "PPPO", "-o", tmp_path, "--debug")
    assert result.exit_code == 1
    assert result.exception is not None
    assert "PPPO" in str(result.exception)


def test_a_failure_that_is_not_bad_input_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise VideoError("no pictures today")

    monkeypatch.setattr(StableBaselinesAgent, "record_video", break_down)
    message = fail("train", "CartPole-v1", "-n", "64", "-o", tmp_path, *QUICK, "--video", exit_code=1)
    assert "no pictures today" in message
    assert load_agent(tmp_path / "agent").is_trained


def test_what_is_missing_at_the_end_is_told_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "has_tensorboard", lambda: False)
    message = fail("train", "CartPole-v1", "-n", "64", "-o", tmp_path / "run", *SMALL, "--tensorboard", exit_code=1)
    assert "rl_framework[tensorboard]" in message
    assert not (tmp_path / "run").exists()


def test_an_episode_is_recorded(tmp_path: Path) -> None:
    train_quickly(tmp_path, "--video")
    assert (tmp_path / "replay.mp4").stat().st_size > 1000
