"""`rl-framework tune`: searches worth making, mistakes told at once, and a result that `train` takes."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from rl_framework import load_agent
from rl_framework.cli.agent_experiment import AgentExperiment, AgentSettings, agent_experiment
from rl_framework.cli.preset import preset_named
from rl_framework.cli.tuning import as_json, check_names, chosen_space, search_space_of
from rl_framework.errors import InvalidInputError
from rl_framework.launch.config_files import read_plain
from rl_framework.launch.run_directory import RunDirectory
from rl_framework.launch.search_space import SearchChoices, SearchRange, search_space_from_json
from tests.cli.commands import fail, succeed, timesteps

SPACES = sorted(file.name.removesuffix(".json") for file in (files("rl_framework.cli") / "search_spaces").iterdir())
TUNED = ["a2c", "dqn", "native-a2c", "native-ppo", "native-vtraceawr", "ppo", "sac", "td3"]


def test_there_are_search_spaces_for_the_algorithms_that_are_used_most() -> None:
    assert set(TUNED) <= set(SPACES)
    assert search_space_of("native:ppo")["algorithm"] == "native:PPO"
    assert search_space_of("TRPO") == {}


@pytest.mark.parametrize("name", SPACES)
def test_every_search_space_names_parameters_that_its_algorithm_has(name: str) -> None:
    found = search_space_of(name.replace("native-", "native:"))
    assert {"algorithm", "n_envs", "parameters", "space", "source"} == set(found)
    space = {each: search_space_from_json(each, node) for each, node in found["space"].items()}
    assert "learning_rate" in space
    preset = preset_named("cartpole-ppo")
    check_names(type(preset)(**{**vars_of(preset), "algorithm": found["algorithm"]}), found["parameters"], space)


def vars_of(preset: Any) -> dict[str, Any]:
    return {name: getattr(preset, name) for name in preset.__slots__}


def test_agents_are_tuned_by_processes_and_train_takes_the_best(tmp_path: Path) -> None:
    study, words = tmp_path / "study", ("-P", "epochs=1", "-P", "network={'hidden_sizes': [8]}", "--n-envs", "2")
    searched = ("--search", "horizon=16,32", "--search", "learning_rate=1e-3..1e-2:log", "--evaluate-episodes", "2")
    printed = succeed(
        "tune", "CartPole-v1", "-a", "native:PPO", "-n", "256", *words, *searched, "--n-trials", "2", "--output", study
    )
    assert "2 trials were complete, 0 pruned, 0 failed." in printed
    assert f"rl-framework train --preset {study / 'best.yaml'}" in printed

    run = RunDirectory(study / "trials" / "00001" / "seed_0")
    chosen = run.read_config()["parameters"]
    assert chosen["horizon"] in (16, 32)
    assert 1e-3 <= chosen["learning_rate"] <= 1e-2
    assert chosen["epochs"] == 1
    assert chosen["network"] == {"hidden_sizes": [8]}
    assert timesteps(run.path) == 256
    assert load_agent(run.path / "agent").is_trained
    assert json.loads(run.result.read_text())["score"] > 1.0

    best = preset_named(str(study / "best.yaml"))
    assert (best.algorithm, best.environment, best.n_envs) == ("native:PPO", "CartPole-v1", 2)
    succeed(
        "train", "--preset", study / "best.yaml", "-n", "64", "--output", tmp_path / "run", "--evaluate-episodes", "0"
    )
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["parameters"]["horizon"] == read_plain(study / "best.yaml")["parameters"]["horizon"]
    assert timesteps(tmp_path / "run") == 64


def test_what_is_said_takes_the_place_of_the_usual_search() -> None:
    usual = {"rate": {"low": 0.1, "high": 1.0}, "size": {"choices": [1, 2]}, "network.width": {"choices": [8, 16]}}
    assert chosen_space(usual, {}, ["size=1..8", "rate=none"]) == {
        "size": SearchRange(low=1, high=8, whole=True),
        "network.width": SearchChoices((8, 16)),
    }
    assert set(chosen_space(usual, {"network": {}, "rate": 1}, [])) == {"size"}


def test_an_experiment_is_the_same_in_a_worker() -> None:
    fixed = {"environment": "CartPole-v1", "algorithm": "PPO", "total_timesteps": 5, "parameters": {"gamma": 0.9}}
    space = {
        "parameters.n_steps": SearchChoices((8, 16)),
        "parameters.policy_kwargs.net_arch": SearchChoices(([8], [16])),
    }
    experiment = AgentExperiment(fixed, space)
    twin = agent_experiment(json.loads(json.dumps(experiment.description())))
    assert twin.description() == experiment.description()
    assert twin.search_space() == space
    chosen = {"parameters.n_steps": 8, "parameters.policy_kwargs.net_arch": [16]}
    assert twin.best_tree(chosen)["parameters"] == {"gamma": 0.9, "n_steps": 8, "policy_kwargs": {"net_arch": [16]}}
    assert AgentSettings(**twin.whole_tree(chosen)).total_timesteps == 5


def test_tuples_survive_where_they_are_needed() -> None:
    assert as_json("TD3", {"train_freq": (1, "episode")}) == {"train_freq": {"@tuple": [1, "episode"]}}
    assert as_json("native:PPO", {"horizon": 8}) == {"horizon": 8}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("CartPole-v1",), "Say how long to train"),
        (("CartPole-v1", "-n", "9", "-a", "PPPO"), "Unknown algorithm: 'PPPO'"),
        (("CartPole-v1", "-n", "9", "--search", "rate=1,2"), "Unknown parameter of PPO: 'rate'"),
        (
            ("CartPole-v1", "-n", "9", "-a", "native:A2C", "--search", "rate=1,2"),
            "Unknown parameter of native:A2C: 'rate'",
        ),
        (("CartPole-v1", "-n", "9", "-P", "gama=1"), "Unknown parameter of PPO: 'gama'"),
        (("CartPole-v1", "-n", "9", "-P", "gamma=1", "--search", "gamma=0,1"), "cannot be fixed by --parameter"),
        (("CartPole-v1", "-n", "9", "-P", "seed=3"), "Say the seed by --seed"),
        (("CartPole-v1", "-n", "9", "--search", "seed=1,2"), "Say the seed by --seed"),
        (("CartPole-v1", "-n", "9", "--storage", "sqlite://"), "which do not see the database sqlite://"),
        (("CartPole-v1", "-n", "9", "--time-limit", "0"), "time_limit lies above 0"),
        (("CartPole-v1", "-n", "9", "--search", "gamma"), "Expected --search name=range"),
        (("CartPole-v1", "-n", "9", "--search", "gamma=2..1"), "low < high"),
        (("CartPole-v1", "-n", "9", "-a", "TRPO"), "There is nothing to tune"),
        (("CartPole-v1", "-n", "9", "--sampler", "best"), "Unknown sampler"),
        (("CartPole-v1", "-n", "9", "--pruner", "all"), "Unknown pruner"),
    ],
)
def test_mistakes_are_told_before_a_study_begins(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    assert message in fail("tune", *words, "--output", tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("algorithm: PPO", "need a value: environment, total_timesteps"),
        ("algoritm: PPO", "Did you mean 'algorithm'"),
        ("algorithm: PPO\nenvironment: CartPole-v1\ntotal_timesteps: many", "total_timesteps needs int; got 'many'"),
    ],
)
def test_a_file_that_is_no_preset_is_told(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        preset_named(str(tmp_path / "best.yaml"))
    assert "cannot be read" in fail("train", "--preset", tmp_path / "nothing.yaml")
