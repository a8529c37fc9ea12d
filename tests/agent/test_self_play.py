from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO as SB3PPO

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.agent.self_play import SelfPlay
from rl_framework.algorithms.ppo import PPO
from rl_framework.callbacks.base import Callback, RunHandle
from rl_framework.core.reports import Report
from rl_framework.envs.opponent_game import OpponentGame
from rl_framework.envs.pettingzoo.source import PettingZooGame
from rl_framework.errors import InvalidInputError, UnknownOptionError
from tests.envs.pettingzoo.uneven_games import Duel

PARAMETERS: dict[str, Any] = {"horizon": 16, "epochs": 1, "network": {"hidden_sizes": (8,)}, "seed": 0}


def agent() -> NativeAgent:
    return NativeAgent(PPO, PARAMETERS)


def game_of(pool: SelfPlay, **options: Any) -> OpponentGame:
    return OpponentGame(PettingZooGame(Duel), opponents=pool, n_games=2, **options)


def train(pool: SelfPlay, total_timesteps: int, learner: NativeAgent, *callbacks: Callback) -> None:
    game = game_of(pool)
    learner.train(game, total_timesteps, callbacks=[pool, *callbacks], progress_bar=False)
    game.close()


def weights(learner: Any) -> list[Any]:
    return [each.detach().numpy().copy() for each in learner.policy.network.parameters()]


def steps_of(pool: SelfPlay) -> list[int]:
    return [int(name.removeprefix("step_")) for name in pool.names]


def test_past_states_of_the_agent_become_its_opponents(tmp_path: Path) -> None:
    pool = SelfPlay(tmp_path / "pool", every_timesteps=64)
    learner = agent()
    train(pool, 256, learner)
    assert steps_of(pool) == [64, 128, 192, 256]
    for one, other in zip(weights(learner), weights(load_agent(tmp_path / "pool" / pool.names[-1])), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(weights(learner)[0], weights(load_agent(tmp_path / "pool" / pool.names[0]))[0])


def test_opponents_are_met_as_soon_as_there_are_some(tmp_path: Path) -> None:
    pool = SelfPlay(tmp_path, every_timesteps=64, sampling="latest")
    game = game_of(pool)
    met: list[tuple[str | None, ...]] = []

    class Look(Callback):
        every_timesteps = 32

        def on_report(self, run: RunHandle, report: Report) -> None:
            met.append(game.opponent_names)

    agent().train(game, 192, callbacks=[pool, Look()], progress_bar=False)
    game.close()
    assert met[:2] == [(None, None), (None, None)]
    assert met[3] == ("step_000000000064",) * 2
    assert met[5] == ("step_000000000128",) * 2


def test_only_the_newest_stay(tmp_path: Path) -> None:
    pool = SelfPlay(tmp_path, every_timesteps=32, size=2)
    train(pool, 160, agent())
    assert steps_of(pool) == [128, 160]
    assert sorted(each.name for each in tmp_path.iterdir()) == list(pool.names)


def test_a_run_is_the_same_each_time(tmp_path: Path) -> None:
    learners = [agent(), agent()]
    for number, learner in enumerate(learners):
        train(SelfPlay(tmp_path / str(number), every_timesteps=32), 160, learner)
    for one, other in zip(*(weights(learner) for learner in learners), strict=True):
        assert np.array_equal(one, other)


class StopAt(Callback):
    every_timesteps = 32

    def __init__(self, timesteps: int) -> None:
        self.timesteps = timesteps

    def on_report(self, run: RunHandle, report: Report) -> None:
        if report.timesteps >= self.timesteps:
            run.stop("enough")


def test_a_resumed_run_meets_the_same_opponents_and_learns_the_same(tmp_path: Path) -> None:
    whole = agent()
    train(SelfPlay(tmp_path / "whole", every_timesteps=64), 256, whole, StopAt(1000))
    learner = agent()
    train(SelfPlay(tmp_path / "parts", every_timesteps=64), 256, learner, StopAt(160))
    learner.save(tmp_path / "agent")
    loaded, pool = load_agent(tmp_path / "agent"), SelfPlay(tmp_path / "parts", every_timesteps=64)
    assert isinstance(loaded, NativeAgent)
    assert steps_of(pool) == [64, 128]
    game = game_of(pool)
    summary = loaded.resume(game, callbacks=[pool, StopAt(1000)], progress_bar=False)
    game.close()
    assert (summary.total_timesteps, summary.resume_level) == (256, "exact")
    assert steps_of(pool) == [64, 128, 192, 256]
    for one, other in zip(weights(loaded), weights(whole), strict=True):
        assert np.array_equal(one, other)


def test_what_a_run_that_was_cut_off_left_beyond_is_removed(tmp_path: Path) -> None:
    learner = agent()
    train(SelfPlay(tmp_path / "pool", every_timesteps=64), 256, learner, StopAt(96))
    learner.save(tmp_path / "agent")
    learner.resume(game := game_of(SelfPlay(tmp_path / "elsewhere")), progress_bar=False)
    learner.save(tmp_path / "pool" / "step_000000000192")
    game.close()
    pool = SelfPlay(tmp_path / "pool", every_timesteps=64)
    assert steps_of(pool) == [64, 192]
    seen: list[list[int]] = []

    class Look(Callback):
        def on_training_start(self, run: RunHandle) -> None:
            seen.append(steps_of(pool))

    loaded = load_agent(tmp_path / "agent")
    assert isinstance(loaded, NativeAgent)
    game = game_of(pool)
    loaded.resume(game, callbacks=[pool, Look()], progress_bar=False)
    game.close()
    assert seen == [[64]]


def test_the_pool_of_another_run_is_refused(tmp_path: Path) -> None:
    train(SelfPlay(tmp_path, every_timesteps=64), 128, agent())
    with pytest.raises(InvalidInputError, match="another run"):
        train(SelfPlay(tmp_path, every_timesteps=64), 128, agent())


def test_a_second_call_goes_on_with_the_pool(tmp_path: Path) -> None:
    learner, pool = agent(), SelfPlay(tmp_path, every_timesteps=64)
    train(pool, 128, learner)
    train(pool, 128, learner)
    assert steps_of(pool) == [64, 128, 192, 256]


@pytest.fixture(scope="module")
def four_opponents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pool of four."""
    folder = tmp_path_factory.mktemp("pool")
    train(SelfPlay(folder, every_timesteps=64), 256, agent())
    return folder


@pytest.mark.parametrize(("sampling", "newest"), [("uniform", 0.25), ("latest", 1.0), ("mixed", 0.625)])
def test_opponents_are_drawn_as_asked(sampling: Any, newest: float, four_opponents: Path) -> None:
    pool = SelfPlay(four_opponents, sampling=sampling)
    generator = np.random.default_rng(0)
    drawn = [pool.draw(generator) for _ in range(2000)]
    assert drawn.count(pool.names[-1]) / 2000 == pytest.approx(newest, abs=0.04)
    assert set(drawn) <= set(pool.names)


def test_an_opponent_that_cannot_be_kept_does_not_end_the_run(tmp_path: Path) -> None:
    pool = SelfPlay(tmp_path / "pool", every_timesteps=64)

    class Block(Callback):
        def on_training_start(self, run: RunHandle) -> None:
            (tmp_path / "pool").write_text("a file in the way")

    game = game_of(pool)
    summary = agent().train(game, 128, callbacks=[pool, Block()], progress_bar=False)
    game.close()
    assert summary.taken_timesteps == 128
    assert "could not be kept" in summary.warnings[0]


def test_bad_arguments_are_answered(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="every_timesteps must be at least 1"):
        SelfPlay(tmp_path, every_timesteps=0)
    with pytest.raises(InvalidInputError, match="size must be at least 1"):
        SelfPlay(tmp_path, size=0)
    with pytest.raises(UnknownOptionError, match="'latest'"):
        SelfPlay(tmp_path, sampling="lates")  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="is a file"):
        SelfPlay(tmp_path / "file")


def test_a_classic_game_is_learned_by_its_rules(tmp_path: Path) -> None:
    pool = SelfPlay(tmp_path, every_timesteps=64)
    game = OpponentGame("pettingzoo:classic/tictactoe", opponents=pool, n_games=2)
    returns: list[float] = []
    learner = agent()
    learner.train(
        game,
        256,
        callbacks=[pool, lambda report: returns.extend(each.total_reward for each in report.episodes)],
        progress_bar=False,
    )
    # An illegal move would end the game with -1 for whoever made it and 0 for the other.
    result = learner.evaluate(game, 20, seed=0)
    game.close()
    assert len(returns) > 10
    assert set(returns) <= {-1.0, 0.0, 1.0}
    assert result.lengths.min() >= 5
    assert sorted(result.by_agent()) == ["player_1", "player_2"]


def test_an_agent_of_another_library_plays_itself_too(tmp_path: Path) -> None:
    pool = SelfPlay(tmp_path, every_timesteps=32, sampling="latest")
    parameters = {"policy": "MlpPolicy", "n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 0, "device": "cpu"}
    learner = StableBaselinesAgent(SB3PPO, parameters)
    game = game_of(pool)
    learner.train(game, 96, callbacks=[pool], progress_bar=False)
    assert steps_of(pool) == [32, 64, 96]
    assert game.opponent_names == ("step_000000000064",) * 2
    game.close()


def test_who_the_saved_state_may_draw_stays_until_the_next_is_saved(tmp_path: Path) -> None:
    """A run that is cut off after it has outgrown its pool is resumed with the pool of its checkpoint."""
    learner, pool = agent(), SelfPlay(tmp_path / "pool", every_timesteps=32, size=2)

    class SaveOnce(Callback):
        every_timesteps = 32

        def on_report(self, run: RunHandle, report: Report) -> None:
            if report.timesteps == 96:
                learner.save(tmp_path / "agent")
            elif report.timesteps == 160:
                raise ZeroDivisionError("cut off")

    with pytest.raises(ZeroDivisionError):
        train(pool, 256, learner, SaveOnce())
    assert steps_of(pool) == [128, 160]
    loaded, pool = load_agent(tmp_path / "agent"), SelfPlay(tmp_path / "pool", every_timesteps=32, size=2)
    seen: list[list[int]] = []

    class Look(Callback):
        def on_training_start(self, run: RunHandle) -> None:
            seen.append(steps_of(pool))

    assert isinstance(loaded, NativeAgent)
    game = game_of(pool)
    loaded.resume(game, callbacks=[pool, Look()], progress_bar=False)
    game.close()
    assert seen == [[64, 96]]
