from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from gymnasium import spaces

from rl_framework.algorithms.base import Algorithm, CollectReport, UpdateReport, make_config, train
from rl_framework.algorithms.detached_env import DetachedEnv
from rl_framework.algorithms.q_learning import QLearning, QLearningConfig
from rl_framework.callbacks.run import TrainingRun
from rl_framework.core.policy import Policy, PolicyOutput
from rl_framework.core.reports import EpisodeSummary, Report
from rl_framework.core.trees import Tree
from rl_framework.envs.vector_env import EnvSpec, VectorEnv
from rl_framework.errors import InvalidInputError, RLFrameworkError, UnknownOptionError
from tests.callbacks.scripted_runs import Recorder


class CountingPolicy:
    observation_space: Any = spaces.Discrete(1)
    action_space: Any = spaces.Discrete(1)

    def act(self, observations: Tree, state: Tree = None, **_: Any) -> PolicyOutput:
        return PolicyOutput(np.zeros(len(observations), np.int64), state)


class CountingAlgorithm:
    Config: ClassVar[type[Any]] = QLearningConfig

    def __init__(self, steps_per_collect: int = 3) -> None:
        self.policy: Policy = CountingPolicy()
        self.steps_per_collect = steps_per_collect
        self.verbs: list[Any] = []

    def begin(self, observations: Tree, *, timesteps: int, target_timesteps: int, resumes: bool = False) -> None:
        self.verbs.append(("begin", observations, timesteps, target_timesteps))

    def collect(self) -> CollectReport:
        self.verbs.append("collect")
        episode = EpisodeSummary(row=0, total_reward=1.0, length=self.steps_per_collect)
        return CollectReport(timesteps=self.steps_per_collect, episodes=(episode,), metrics={"rollout/x": 1.0})

    def update(self) -> UpdateReport:
        self.verbs.append("update")
        return UpdateReport(metrics={"train/y": 2.0})

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def conduct(algorithm: Algorithm, recorder: Recorder, timesteps: int, target: int) -> Any:
    run = TrainingRun(
        timesteps=timesteps, target_timesteps=target, callbacks=[recorder], save=lambda _: None, report_every=1
    )
    return run.conduct(lambda: train(algorithm, run, "observations"))


def test_the_loop_collects_and_updates_in_turns_until_the_target() -> None:
    algorithm, recorder = CountingAlgorithm(), Recorder()
    conduct(algorithm, recorder, timesteps=4, target=10)
    assert algorithm.verbs == [("begin", "observations", 4, 10), "collect", "update", "collect", "update"]
    assert recorder.steps == [7, 10]


def test_no_more_steps_are_taken_than_one_collect_forces() -> None:
    summary = conduct(CountingAlgorithm(steps_per_collect=8), Recorder(), timesteps=0, target=17)
    assert (summary.taken_timesteps, summary.extra_timesteps) == (24, 7)


def test_episodes_and_metrics_reach_the_reports() -> None:
    recorder = Recorder()
    conduct(CountingAlgorithm(), recorder, timesteps=0, target=3)
    assert recorder.reports[0].mean_length == 3.0
    assert recorder.reports[0].metrics == {"rollout/x": 1.0, "train/y": 2.0}


def test_a_callback_stops_the_loop_after_an_update() -> None:
    class StopAtOnce(Recorder):
        def on_report(self, run: Any, report: Report) -> None:
            run.stop("enough")

    algorithm = CountingAlgorithm()
    summary = conduct(algorithm, StopAtOnce(), timesteps=0, target=100)
    assert (summary.stop_reason, algorithm.verbs[1:]) == ("enough", ["collect", "update"])


def test_a_run_that_is_over_takes_no_step() -> None:
    algorithm = CountingAlgorithm()
    conduct(algorithm, Recorder(), timesteps=10, target=10)
    assert "collect" not in algorithm.verbs


def test_an_algorithm_that_takes_no_steps_is_an_error_and_not_an_endless_loop() -> None:
    with pytest.raises(RLFrameworkError, match=r"CountingAlgorithm\.collect took 0 steps"):
        conduct(CountingAlgorithm(steps_per_collect=0), Recorder(), timesteps=0, target=10)


# Hyper-parameters


@dataclass(frozen=True)
class SmallConfig:
    rate: float
    depth: int = 2


def test_a_config_is_made_from_names() -> None:
    assert make_config(SmallConfig, {"rate": 0.5}) == SmallConfig(0.5, 2)


def test_a_misspelt_parameter_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UnknownOptionError, match=r"parameter of SmallConfig: 'dept'\. Did you mean 'depth'"):
        make_config(SmallConfig, {"rate": 0.5, "dept": 3})


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(InvalidInputError, match="missing 1 required positional argument: 'rate'"):
        make_config(SmallConfig, {})


def test_a_value_out_of_range_keeps_its_message() -> None:
    with pytest.raises(InvalidInputError, match="gamma of QLearning"):
        make_config(QLearningConfig, {"gamma": 2.0})


def test_something_else_than_a_dataclass_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="not a dataclass"):
        make_config(dict, {})


# Without environments


def test_a_detached_algorithm_acts_but_cannot_collect() -> None:
    spec = EnvSpec(n_envs=2, observation_space=spaces.Discrete(4), action_space=spaces.Discrete(3))
    env: VectorEnv = DetachedEnv(spec)
    algorithm = QLearning(env, QLearningConfig())
    algorithm.values[2, 1] = 1.0
    assert algorithm.policy.act(np.array([2]), deterministic=True).actions.tolist() == [1]
    with pytest.raises(RLFrameworkError, match="no environments here"):
        env.reset()
    with pytest.raises(RLFrameworkError, match="no environments here"):
        env.send(np.zeros(2))
    env.close()


def test_the_loop_and_tabular_learning_need_no_torch() -> None:
    code = (
        "import sys, rl_framework.algorithms.q_learning, rl_framework.callbacks.tracking; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
