from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO as SB3PPO

from rl_framework.agent.base_agent import Agent
from rl_framework.agent.independent_agents import INDEX_FILE, IndependentAgents
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.algorithms.ppo import PPO
from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.core.policy import Policy
from rl_framework.core.reports import Report
from rl_framework.errors import (
    CorruptArchiveError,
    EnvironmentFailure,
    InvalidInputError,
    MissingArchiveError,
    NotTrainedError,
    RLFrameworkError,
    SpaceError,
    UnknownOptionError,
)
from tests.envs.pettingzoo.uneven_games import Hunt


def native(seed: int = 0) -> NativeAgent:
    return NativeAgent(PPO, {"horizon": 8, "epochs": 1, "network": {"hidden_sizes": (8,)}, "seed": seed})


def foreign(seed: int = 0) -> StableBaselinesAgent:
    parameters = {"policy": "MlpPolicy", "n_steps": 8, "batch_size": 8, "n_epochs": 1, "seed": seed, "device": "cpu"}
    return StableBaselinesAgent(SB3PPO, parameters)


def team() -> IndependentAgents:
    return IndependentAgents({"hunter": native(), "hare_*": foreign()})


def weights(agents: IndependentAgents) -> list[Any]:
    hunter, hares = agents.agents["hunter"], agents.agents["hare_*"]
    assert isinstance(hunter, NativeAgent)
    assert isinstance(hares, StableBaselinesAgent)
    network = hunter.algorithm.policy.network  # type: ignore[attr-defined]
    return [each.detach().numpy().copy() for each in (*network.parameters(), *hares.model.policy.parameters())]


@pytest.fixture(scope="module")
def trained() -> IndependentAgents:
    agents = team()
    agents.train(Hunt, 3 * 2 * 16, n_envs=2)
    return agents


def test_agents_of_different_kinds_learn_in_one_game_from_the_steps_of_their_own(trained: IndependentAgents) -> None:
    agents = team()
    summaries = agents.train(Hunt, 3 * 2 * 16, n_envs=2)
    assert list(summaries) == ["hunter", "hare_*"]
    assert summaries["hunter"].taken_timesteps == 2 * 16
    assert summaries["hare_*"].taken_timesteps == 4 * 16
    assert summaries["hunter"].mean_return == 4.0
    assert summaries["hare_*"].mean_return == pytest.approx((8 + 12) / 2)
    for one, other in zip(weights(agents), weights(trained), strict=True):
        assert np.array_equal(one, other)


def test_no_thread_outlives_a_call(trained: IndependentAgents) -> None:
    before = threading.active_count()
    trained.evaluate(Hunt, 2, seed=0)
    assert threading.active_count() == before


class Watcher(Callback):
    """Keeps the step counts of the reports, and fails when it is asked to."""

    every_timesteps = 1

    def __init__(self, fails_at: int | None = None) -> None:
        self.heard: list[int] = []
        self.fails_at = fails_at

    def on_report(self, run: RunHandle, report: Report) -> None:
        self.heard.append(report.timesteps)
        if self.fails_at is not None and report.timesteps >= self.fails_at:
            raise ZeroDivisionError("deliberate")


def test_one_that_is_done_first_goes_on_acting() -> None:
    game = Hunt()
    patient = NativeAgent(PPO, {"horizon": 32, "epochs": 1, "network": {"hidden_sizes": (8,)}})
    agents = IndependentAgents({"hunter": patient, "hare_0": foreign(), "hare_1": foreign(1)})
    summaries = agents.train(game, 3)
    assert [summary.taken_timesteps for summary in summaries.values()] == [32, 8, 8]
    assert len(game.played) == 32
    assert all(set(actions) >= {"hunter"} for actions in game.played)


def test_callbacks_and_checkpoints_belong_to_one_agent_each(tmp_path: Path) -> None:
    agents, watcher = team(), Watcher()
    agents.train(Hunt, 3 * 32, callbacks={"hunter": [watcher]}, checkpoint=tmp_path / "points", checkpoint_every=16)
    assert watcher.heard == [8, 16, 24, 32]
    loaded = IndependentAgents.load(tmp_path / "points")
    assert [agent.timesteps for agent in loaded.agents.values()] == [32, 64]  # type: ignore[attr-defined]
    for one, other in zip(weights(agents), weights(loaded), strict=True):
        assert np.array_equal(one, other)


def test_an_error_of_one_ends_all_and_says_whose_it_is() -> None:
    watcher = Watcher(fails_at=16)
    before = threading.active_count()
    with pytest.raises(RLFrameworkError, match=r"'hare_\*' failed: ZeroDivisionError: deliberate") as caught:
        team().train(Hunt, 3000, callbacks={"hare_*": [watcher]})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert threading.active_count() == before


def test_a_failure_of_the_game_is_one() -> None:
    class Broken(Hunt):
        def step(self, actions: dict[str, Any]) -> Any:
            observations, rewards, *rest = super().step(actions)
            if self.step_count == 3:
                rewards["hare_1"] = np.nan
            return observations, rewards, *rest

    with pytest.raises(EnvironmentFailure, match="hare_1"):
        team().train(Broken, 300)


def test_every_agent_of_the_game_is_evaluated_by_name(trained: IndependentAgents) -> None:
    results = trained.evaluate(lambda: Hunt(deaths=(2, None)), 5, seed=3, n_envs=2)
    assert list(results) == ["hunter", "hare_0", "hare_1"]
    assert [result.returns.tolist() for result in results.values()] == [[4.0] * 5, [4.0] * 5, [12.0] * 5]
    assert results["hunter"].agents == ("hunter",) * 5
    assert results["hare_1"].seeds == results["hunter"].seeds
    assert len(set(results["hunter"].seeds)) == 5


def test_the_seeds_of_an_evaluation_do_not_depend_on_the_number_of_copies(trained: IndependentAgents) -> None:
    one, many = (trained.evaluate(Hunt, 4, seed=3, n_envs=n_envs)["hunter"].seeds for n_envs in (1, 3))
    assert one == many


def test_an_evaluation_disturbs_no_generator(trained: IndependentAgents) -> None:
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    trained.evaluate(Hunt, 2, seed=3)
    assert np.random.random() == expected  # noqa: NPY002


def test_what_is_saved_comes_back(trained: IndependentAgents, tmp_path: Path) -> None:
    trained.save(tmp_path / "team")
    loaded = IndependentAgents.load(tmp_path / "team")
    assert list(loaded.agents) == ["hunter", "hare_*"]
    for one, other in zip(weights(trained), weights(loaded), strict=True):
        assert np.array_equal(one, other)


def test_saving_again_replaces_the_agents_and_leaves_what_others_put_there(
    trained: IndependentAgents, tmp_path: Path
) -> None:
    trained.save(tmp_path / "team")
    (tmp_path / "team" / "README.md").write_text("mine")
    single = IndependentAgents({"*": trained.agents["hunter"]})
    single.save(tmp_path / "team")
    assert list(IndependentAgents.load(tmp_path / "team").agents) == ["*"]
    assert sorted(each.name for each in (tmp_path / "team").iterdir()) == ["0_agents", "README.md", INDEX_FILE]


def test_an_interrupted_run_is_finished(tmp_path: Path) -> None:
    agents = team()

    class Stop(Callback):
        every_timesteps = 8

        def on_report(self, run: RunHandle, report: Report) -> None:
            if report.timesteps >= 16:
                run.stop("enough")

    summaries = agents.train(Hunt, 3 * 64, callbacks={"hunter": [Stop()], "hare_*": [Stop()]})
    assert [summary.stop_reason for summary in summaries.values()] == ["enough"] * 2
    agents.save(tmp_path / "team")
    finished = IndependentAgents.load(tmp_path / "team").resume(Hunt)
    assert [summary.total_timesteps for summary in finished.values()] == [64, 128]
    assert finished["hunter"].taken_timesteps == 64 - summaries["hunter"].total_timesteps
    assert finished["hunter"].resume_level == "approximate"


def test_ctrl_c_ends_all_where_they_can_be_continued_from() -> None:
    agents = team()

    class Pressed(Callback):
        every_timesteps = 16

        def on_report(self, run: RunHandle, report: Report) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        agents.train(Hunt, 3 * 100_000, callbacks={"hunter": [Pressed()]})
    assert all(0 < agent.timesteps < 50_000 for agent in agents.agents.values())  # type: ignore[attr-defined]


class Statue(Agent):
    """Acts as another agent has learned to, and learns nothing."""

    kind = "statue"

    def __init__(self, model: Agent) -> None:
        self._model = model

    @property
    def policy(self) -> Policy:
        return self._model.policy

    @property
    def is_trained(self) -> bool:
        return True

    def _manifest(self) -> Any:
        raise AssertionError("never saved here")

    def _write(self, folder: Path) -> None:
        raise AssertionError("never saved here")

    @classmethod
    def _read(cls, *arguments: Any, **options: Any) -> Any:
        raise AssertionError("never loaded here")


def test_an_agent_that_cannot_learn_by_acting_plays_its_part(trained: IndependentAgents) -> None:
    before = weights(trained)
    game = Hunt()
    mixed = IndependentAgents({"hunter": Statue(trained.agents["hunter"]), "hare_*": foreign()})
    summaries = mixed.train(game, 3 * 16)
    assert list(summaries) == ["hare_*"]
    assert len({actions["hunter"] for actions in game.played}) > 1
    assert all(np.array_equal(one, other) for one, other in zip(before, weights(trained), strict=True))
    with pytest.raises(InvalidInputError, match="learns by acting"):
        IndependentAgents({"*": Statue(trained.agents["hunter"])}).train(Hunt, 10)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["hunter", "hare_0"], "hare_1"),
        (["hunter", "hare_*", "*"], "exactly one"),
        (["hunter", "hare_*", "fox"], "'fox'"),
    ],
)
def test_every_agent_of_the_game_has_exactly_one_owner(patterns: list[str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        IndependentAgents({pattern: native() for pattern in patterns}).train(Hunt, 10)


def test_agents_of_the_game_with_different_spaces_need_different_owners() -> None:
    with pytest.raises(SpaceError, match="hunter"):
        IndependentAgents({"*": native()}).train(Hunt, 10)


def test_an_agent_of_other_spaces_is_refused(trained: IndependentAgents) -> None:
    swapped = IndependentAgents({"hunter": trained.agents["hare_*"], "hare_*": trained.agents["hunter"]})
    with pytest.raises(SpaceError):
        swapped.evaluate(Hunt, 1)
    with pytest.raises(InvalidInputError, match="failed"):
        swapped.train(Hunt, 10)


def test_bad_arguments_are_answered(trained: IndependentAgents, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="at least one"):
        IndependentAgents({})
    with pytest.raises(InvalidInputError, match="Expected an agent for 'a'"):
        IndependentAgents({"a": "b"})  # type: ignore[dict-item]
    with pytest.raises(InvalidInputError, match="two patterns"):
        IndependentAgents(dict.fromkeys(("hunter", "hare_*"), native()))
    with pytest.raises(InvalidInputError, match="total_timesteps"):
        trained.train(Hunt, 0)
    with pytest.raises(UnknownOptionError, match="hare"):
        trained.train(Hunt, 10, callbacks={"hare": []})
    with pytest.raises(InvalidInputError, match="ParallelEnv"):
        trained.train(7, 10)
    with pytest.raises(NotTrainedError):
        team().save(tmp_path / "team")
    with pytest.raises(NotTrainedError):
        team().evaluate(Hunt, 1)
    with pytest.raises(InvalidInputError, match="n_eval_episodes"):
        trained.evaluate(Hunt, 0)


def test_a_folder_of_something_else_is_left_alone(trained: IndependentAgents, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="another folder"):
        trained.save(tmp_path)
    with pytest.raises(MissingArchiveError, match=INDEX_FILE):
        IndependentAgents.load(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("agents", [{"hunter": "../elsewhere"}, {"hunter": 3}, 5])
def test_a_damaged_index_is_refused(agents: Any, tmp_path: Path) -> None:
    (tmp_path / INDEX_FILE).write_text(json.dumps({"format": 1, "agents": agents}))
    with pytest.raises(CorruptArchiveError):
        IndependentAgents.load(tmp_path)


def test_a_game_by_its_name_is_played_by_hunters_and_hunted() -> None:
    agents = IndependentAgents({"adversary_*": native(), "agent_0": foreign()})
    summaries = agents.train("pettingzoo:mpe/simple_tag?max_cycles=10", 4 * 2 * 16, n_envs=2)
    assert [summary.taken_timesteps for summary in summaries.values()] == [3 * 2 * 16, 2 * 16]
    results = agents.evaluate("pettingzoo:mpe/simple_tag?max_cycles=10", 3, seed=0, n_envs=2)
    assert list(results) == ["adversary_0", "adversary_1", "adversary_2", "agent_0"]
    assert all(result.lengths.tolist() == [10] * 3 for result in results.values())


def test_ctrl_c_ends_those_too_that_have_not_begun() -> None:
    agents = team()

    class Pressed(Callback):
        def on_training_start(self, run: RunHandle) -> None:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.5)  # The calling thread answers it, which looks around five times a second.

    with pytest.raises(KeyboardInterrupt):
        agents.train(Hunt, 3 * 32, callbacks={"hunter": [Pressed()]})
    assert [agent.timesteps for agent in agents.agents.values()] == [0, 0]  # type: ignore[attr-defined]
    finished = agents.resume(Hunt)
    assert [summary.total_timesteps for summary in finished.values()] == [32, 64]


class Companion(Statue):
    """One that can be saved."""

    def save(self, path: str | Path) -> Path:
        return self._model.save(path)


def test_checkpoints_are_complete_where_one_agent_only_plays(trained: IndependentAgents, tmp_path: Path) -> None:
    mixed = IndependentAgents({"hunter": Companion(trained.agents["hunter"]), "hare_*": foreign()})
    mixed.train(Hunt, 3 * 16, checkpoint=tmp_path)
    loaded = IndependentAgents.load(tmp_path)
    assert list(loaded.agents) == ["hunter", "hare_*"]
    assert list(loaded.evaluate(Hunt, 1, seed=0)) == ["hunter", "hare_0", "hare_1"]


def test_games_that_cannot_be_played_together_are_refused() -> None:
    game = Hunt()
    with pytest.raises(InvalidInputError, match="same object"):
        team().train([game, game], 96)
    with pytest.raises(InvalidInputError, match="empty"):
        team().train([], 96)
    with pytest.raises(InvalidInputError, match="n_envs must be at least 1, got 0"):
        team().train(Hunt, 96, n_envs=0)


def test_a_game_that_raises_is_not_taken_for_an_agent_that_failed() -> None:
    class Broken(Hunt):
        def step(self, actions: dict[str, Any]) -> Any:
            raise ValueError("out of order")

    def make() -> Any:
        raise ValueError("no game today")

    with pytest.raises(EnvironmentFailure, match="out of order"):
        team().train(Broken, 300)
    with pytest.raises(EnvironmentFailure, match="no game today"):
        team().train(make, 300)


class Dependent(Hunt):
    """A hunt in which the hares earn what the hunter does."""

    def step(self, actions: dict[str, Any]) -> Any:
        observations, rewards, *rest = super().step(actions)
        return observations, {**rewards, "hare_0": float(actions["hunter"])}, *rest


def test_a_run_does_not_depend_on_what_others_draw_from_the_generators_of_the_process() -> None:
    """Also where one agent has learned enough and only plays on."""
    learned = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        patient = NativeAgent(PPO, {"horizon": 64, "epochs": 1, "network": {"hidden_sizes": (8,)}, "seed": 1})
        IndependentAgents({"hunter": native(), "hare_*": patient}).train(Dependent, 96, seed=3)
        learned.append([each.detach().numpy().copy() for each in patient.policy.network.parameters()])  # type: ignore[attr-defined]
    for one, other in zip(*learned, strict=True):
        assert np.array_equal(one, other)
