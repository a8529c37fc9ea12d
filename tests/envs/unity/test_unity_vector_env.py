"""Rows of Unity players: opening, resets, steps, masks, seeds, failures, several players."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_framework.envs.source import environment_source, open_environments
from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.unity.source import UnityGame, unity_source
from rl_framework.envs.unity.vector_env import UnityVectorEnv
from rl_framework.envs.vector_env import ReportsStatistics, StateLevel, VectorStep
from rl_framework.errors import EnvironmentFailure, InvalidInputError, RLFrameworkError, UnityPlayerDied
from tests.envs.unity.peer.players import make_player
from tests.envs.unity.scripted_player import Script

Opener = Callable[..., UnityVectorEnv]
LAUNCH = UnityLaunch(file=Path("Game"), seed=7)


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens scripted games and closes them at the end."""
    environments: list[UnityVectorEnv] = []

    def opener(script: Script, **settings: Any) -> UnityVectorEnv:
        environments.append(UnityVectorEnv(UnitySettings(**{"launch": LAUNCH, **settings}), start=script.start))
        return environments[-1]

    yield opener
    for one in environments:
        one.close()


def take(env: UnityVectorEnv, *actions: float) -> VectorStep:
    """One step of continuous actions."""
    env.send(np.array(actions, np.float32)[:, None])
    return env.recv()


def test_every_agent_is_a_row(opened: Opener) -> None:
    env = opened(Script(agents=3))
    assert env.spec.n_envs == 3
    assert not env.spec.seeds_episodes
    assert env.spec.n_games == 1
    np.testing.assert_array_equal(env.reset(), [[0, 0, 0], [1, 0, 0], [2, 0, 0]])
    step = take(env, 0.25, 0.5, 1.0)
    np.testing.assert_array_equal(step.observations, [[0, 1, 0.25], [1, 1, 0.5], [2, 1, 1]])
    np.testing.assert_array_equal(step.rewards, [0.25, 0.5, 1])
    assert [info["agent_id"] for info in step.infos] == [0, 1, 2]


def test_episodes_end_and_go_on_in_the_same_step(opened: Opener) -> None:
    env = opened(Script(agents=2, horizons=(2, 3), interrupts=(1,)))
    env.reset()
    take(env, 0.5, 0.25)
    step = take(env, 0.5, 0.25)
    np.testing.assert_array_equal(step.terminated, [True, False])
    np.testing.assert_array_equal(step.final[0], [0, 2, 1])
    np.testing.assert_array_equal(step.observations, [[0, 0, 0], [1, 2, 0.5]])
    (summary,) = step.episodes
    assert (summary.row, summary.total_reward, summary.length) == (0, 1, 2)
    step = take(env, 0.5, 0.25)
    np.testing.assert_array_equal(step.truncated, [False, True])
    assert not step.terminated.any()
    assert step.episodes[0].total_reward == 0.75


def test_agents_that_speak_late_are_found_and_counted(opened: Opener) -> None:
    env = opened(Script(agents=3, late={1: 1}, horizons=(9,)))
    assert env.spec.n_envs == 3
    env.reset()
    assert take(env, 0.5, 0.5, 0.5).rewards.tolist() == [0.5, 0.5, 0.5]


def test_no_game_time_passes_between_opening_and_the_first_step(opened: Opener) -> None:
    script = Script(agents=2)
    env = opened(script)
    (player,) = script.players
    exchanges, resets = len(player.acts), player.resets
    env.reset()
    assert (len(player.acts), player.resets) == (exchanges, resets)


def test_reset_in_mid_episode_restarts_the_scene_and_a_fresh_one_is_left_alone(opened: Opener) -> None:
    script = Script(agents=2, horizons=(2,))
    env = opened(script)
    (player,) = script.players
    env.reset()
    before = player.resets
    take(env, 0.5, 0.5)
    np.testing.assert_array_equal(env.reset(), [[0, 0, 0], [1, 0, 0]])
    assert player.resets == before + 1
    take(env, 0.5, 0.5)
    take(env, 0.5, 0.5)
    env.reset()
    assert player.resets == before + 1
    env.reset(hard=True)
    assert player.resets == before + 2
    step = take(env, 0.5, 0.5), take(env, 0.5, 0.5)
    assert [one.total_reward for one in step[1].episodes] == [1, 1]


def test_the_others_go_on_with_their_last_action_while_one_is_away(opened: Opener) -> None:
    script = Script(agents=2, horizons=(1, 50), respawns={0: 3})
    env = opened(script)
    env.reset()
    step = take(env, 0.5, 0.25)
    np.testing.assert_array_equal(step.terminated, [True, False])
    np.testing.assert_array_equal(step.rewards, [0.5, 0.25 * 4])
    np.testing.assert_array_equal(step.observations[1], [1, 4, 1])


def test_an_agent_that_stays_away_is_an_error_that_names_it(opened: Opener) -> None:
    env = opened(Script(agents=2, horizons=(1, 50), respawns={1: 0, 0: 10**9}), respawn_limit=20)
    env.reset()
    with pytest.raises(EnvironmentFailure, match=r"1 of 2 agents .* within 20 messages .*\(ids \[0\]\)"):
        take(env, 0.5, 0.5)
    with pytest.raises(RLFrameworkError, match="closed"):
        env.reset()


def test_agents_beyond_the_most_are_left_out(opened: Opener) -> None:
    script = Script(agents=4)
    env = opened(script, max_agents=2, others="random")
    assert env.spec.n_envs == 2
    env.reset()
    take(env, 0.5, 0.25)
    (continuous, _) = script.players[0].acts[-1]["Count?team=0"]
    np.testing.assert_array_equal(continuous[:2, 0], [0.5, 0.25])
    assert (np.abs(continuous[2:, 0]) > 0).all()


def test_other_behaviours_stand_still_or_do_as_they_are_told(opened: Opener) -> None:
    script = Script(behaviors=("Goalie?team=1", "Striker?team=0"))
    env = opened(script, behavior="Striker")
    env.reset()
    take(env, 0.5, 0.5)
    assert list(script.players[0].acts[-1]) == ["Striker?team=0"]

    def others(name: str, spec: Any, decisions: Any) -> tuple[Any, None]:
        return np.full((len(decisions.agent_id), spec.action_spec.continuous_size), 0.125), None

    script = Script(behaviors=("Goalie?team=1", "Striker?team=0"))
    env = opened(script, behavior="Striker", others=others)
    env.reset()
    take(env, 0.5, 0.5)
    np.testing.assert_array_equal(script.players[0].acts[-1]["Goalie?team=1"][0], [[0.125], [0.125]])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "name the one to learn"),
        ({"behavior": "Keeper", "respawn_limit": 5}, "Unknown behaviour of the game: 'Keeper'"),
        ({"behavior": "Striker", "others": lambda *_: (np.zeros((1, 9)), None)}, r"shape \(1, 9\) for .*Goalie"),
        ({"behavior": "Striker", "action_masks": True}, "cannot be masked"),
    ],
)
def test_what_does_not_fit_the_game_is_refused_and_the_player_closed(settings: dict[str, Any], words: str) -> None:
    script = Script(behaviors=("Goalie?team=1", "Striker?team=0"))
    with pytest.raises(InvalidInputError, match=words):
        UnityVectorEnv(UnitySettings(launch=LAUNCH, **settings), start=script.start)
    assert [player.closed for player in script.players] == [1]


def test_agents_that_act_by_chance_keep_to_what_is_allowed(opened: Opener) -> None:
    script = Script(
        agents=40,
        behaviors=("Goalie?team=1", "Striker?team=0"),
        continuous=0,
        branches=(3, 2),
        forbids=(True, False, False, False, False),
    )
    env = opened(script, behavior="Striker", others="random")
    env.reset()
    env.send(np.ones((40, 2), np.int64))
    env.recv()
    chosen = script.players[0].acts[-1]["Goalie?team=1"][1]
    assert [set(branch.tolist()) for branch in chosen.T] == [{1, 2}, {0, 1}]


def test_masks_are_shown_where_the_game_forbids_something(opened: Opener) -> None:
    env = opened(Script(continuous=0, branches=(3,), forbids=(True, False, False)))
    assert env.spec.has_action_masks
    env.reset()
    np.testing.assert_array_equal(env.action_masks, [[False, True, True]] * 2)
    assert not opened(Script(continuous=0, branches=(3,))).spec.has_action_masks
    assert opened(Script(continuous=0, branches=(3,)), action_masks=True).spec.has_action_masks


def test_forbidden_choices_of_who_sees_no_masks_are_replaced_and_counted(opened: Opener) -> None:
    script = Script(continuous=0, branches=(3,), forbids=(True, False, False))
    env = opened(script, action_masks=False)
    assert not env.spec.has_action_masks
    env.reset()
    assert env.action_masks is None
    env.drain_statistics()
    env.send(np.array([0, 2]))
    env.recv()
    np.testing.assert_array_equal(script.players[0].acts[-1]["Count?team=0"][1], [[1], [2]])
    assert env.drain_statistics()["environment/forbidden_choices_replaced"] == 1
    assert env.drain_statistics()["environment/forbidden_choices_replaced"] == 0


def test_what_a_group_earns_is_added_and_told_apart(opened: Opener) -> None:
    env = opened(Script(agents=2, groups={1: 4}), group_weight=2.0)
    env.reset()
    step = take(env, 0.25, 0.25)
    np.testing.assert_array_equal(step.rewards, [0.25, 1.25])
    assert step.infos[1] == {"agent_id": 1, "group_id": 4, "group_reward": 0.5, "individual_reward": 0.25}
    assert step.infos[0] == {"agent_id": 0}


def test_arrays_are_the_callers_to_keep(opened: Opener) -> None:
    env = opened(Script(agents=2, horizons=(1, 3)))
    shown = env.reset()
    first = take(env, 0.5, 0.5)
    kept = [shown.copy(), first.observations.copy(), first.final[0].copy(), first.rewards.copy()]
    take(env, 0.25, 0.25)
    for before, now in zip(kept, [shown, first.observations, first.final[0], first.rewards], strict=True):
        np.testing.assert_array_equal(before, now)


@pytest.mark.parametrize("actions", [np.zeros(2), np.zeros((3, 1)), np.full((2, 1), np.nan), {"a": np.zeros((2, 1))}])
def test_bad_actions_are_refused_before_anything_moves(opened: Opener, actions: Any) -> None:
    script = Script()
    env = opened(script)
    env.reset()
    exchanges = script.exchanges
    with pytest.raises(InvalidInputError):
        env.send(actions)
    assert script.exchanges == exchanges
    assert take(env, 0.5, 0.5).rewards.tolist() == [0.5, 0.5]


def test_verbs_in_the_wrong_order_are_refused(opened: Opener) -> None:
    env = opened(Script())
    with pytest.raises(RLFrameworkError, match=r"reset\(\) first"):
        env.send(np.zeros((2, 1), np.float32))
    env.reset()
    with pytest.raises(RLFrameworkError, match="without send"):
        env.recv()
    env.send(np.full((2, 1), 0.5, np.float32))
    with pytest.raises(RLFrameworkError, match="twice without recv"):
        env.send(np.full((2, 1), 0.25, np.float32))
    assert env.recv().rewards.tolist() == [0.5, 0.5]
    with pytest.raises(InvalidInputError, match="cannot be seeded one by one"):
        env.reset_to_schedule([[1], [2]])
    env.close()
    env.close()
    with pytest.raises(RLFrameworkError, match="closed"):
        env.reset()


def test_a_seed_goes_to_the_parameter_that_the_game_reads(opened: Opener) -> None:
    script = Script()
    env = opened(script, seed_parameter="seed", n_players=2)
    resets = [player.resets for player in script.players]
    env.reset(seed=3)
    seeds = [player.parameters["seed"] for player in script.players]
    assert seeds[0] != seeds[1]
    assert all(seed == int(np.float32(seed)) for seed in seeds)
    assert [player.resets for player in script.players] == [count + 1 for count in resets]
    env.reset(seed=4)
    assert seeds[0] != script.players[0].parameters["seed"]
    env.reset(seed=3)
    assert [player.parameters["seed"] for player in script.players] == seeds


def test_a_seed_can_start_the_players_anew(opened: Opener) -> None:
    script = Script()
    env = opened(script, restart_on_seed=True)
    env.reset(seed=3)
    env.reset()
    env.reset(seed=3)
    assert script.started[0].seed == 7
    assert len(script.started) == 3
    assert script.started[1].seed == script.started[2].seed != 7
    assert [player.closed for player in script.players] == [1, 1, 0]
    assert take(env, 0.5, 0.5).rewards.tolist() == [0.5, 0.5]


def test_a_seed_that_comes_too_late_is_remarked_on_once(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    env = opened(Script())
    with caplog.at_level(logging.WARNING):
        env.reset(seed=7)
        assert not caplog.records
        env.reset(seed=3)
        env.reset(seed=4)
    assert [record.getMessage()[:50] for record in caplog.records] == [
        "Unity can be seeded only when a player starts: res"
    ]


def test_players_step_side_by_side_and_their_rows_follow_each_other(opened: Opener) -> None:
    script = Script(agents=2, horizons=(2,))
    env = opened(script, n_players=3)
    assert env.spec.n_envs == 6
    assert env.spec.n_games == 3
    assert sorted((launch.index, launch.seed) for launch in script.started) == [(0, 7), (1, 8), (2, 9)]
    env.reset()
    actions = np.arange(6) / 8
    np.testing.assert_array_equal(take(env, *actions).rewards, actions)
    step = take(env, *actions)
    assert [(one.row, one.total_reward) for one in step.episodes] == [(row, row / 4) for row in range(6)]
    np.testing.assert_array_equal(step.final[5], [1, 2, 1.25])
    env.close()
    assert [player.closed for player in script.players] == [1, 1, 1]


@pytest.mark.parametrize("n_players", [1, 2])
def test_asking_between_send_and_recv_loses_nothing(opened: Opener, n_players: int) -> None:
    env = opened(Script(agents=1, horizons=(1,)), n_players=n_players)
    env.reset()
    env.send(np.full((n_players, 1), 0.5, np.float32))
    assert env.get_attribute("render_mode") == [None] * n_players
    step = env.recv()
    assert step.rewards.tolist() == [0.5] * n_players
    assert len(step.episodes) == n_players


def test_one_player_that_fails_closes_all(opened: Opener) -> None:
    script = Script()
    env = opened(script, n_players=2)
    env.reset()
    script.dies_at = (script.exchanges + 1,)
    env.send(np.zeros((4, 1), np.float32))
    with pytest.raises(UnityPlayerDied, match="the script says so"):
        env.recv()
    assert [player.closed for player in script.players] == [1, 1]
    with pytest.raises(RLFrameworkError, match="closed"):
        env.send(np.zeros((4, 1), np.float32))


def test_players_are_closed_side_by_side_and_one_that_cannot_be_keeps_none_open(opened: Opener) -> None:
    script = Script()
    env = opened(script, n_players=2)
    meeting = threading.Barrier(2)
    first, second = script.players

    def fail() -> None:
        meeting.wait(10.0)
        raise OSError("the disk is full")

    def close() -> None:
        meeting.wait(10.0)
        second.closed += 1

    first.close, second.close = fail, close  # type: ignore[method-assign]  # the script has no such fault
    with pytest.raises(OSError, match="disk is full"):
        env.close()
    assert second.closed == 1


def test_a_player_that_fails_while_opening_takes_the_others_along() -> None:
    script = Script(dies_at=(1,))
    with pytest.raises(UnityPlayerDied):
        UnityVectorEnv(UnitySettings(launch=LAUNCH, n_players=2), start=script.start)
    assert [player.closed for player in script.players] == [1, 1]


def test_a_failed_player_is_started_anew_and_its_episodes_are_cut(opened: Opener) -> None:
    script = Script(agents=2, horizons=(5,))
    env = opened(script, restarts=1)
    env.reset()
    take(env, 0.5, 0.25)
    script.dies_at = (script.exchanges + 1,)
    step = take(env, 0.5, 0.25)
    np.testing.assert_array_equal(step.truncated, [True, True])
    assert not step.terminated.any()
    np.testing.assert_array_equal(step.final[0], [0, 1, 0.5])
    np.testing.assert_array_equal(step.observations, [[0, 0, 0], [1, 0, 0]])
    assert [one.total_reward for one in step.episodes] == [0.5, 0.25]
    assert all(info["restarted"] for info in step.infos)
    assert [player.closed for player in script.players] == [1, 0]
    assert "restarted" not in take(env, 0.5, 0.25).infos[0]
    script.dies_at = (script.exchanges + 1,)
    with pytest.raises(UnityPlayerDied, match="last words"):
        take(env, 0.5, 0.25)


def test_a_player_that_is_started_anew_does_not_repeat_another(opened: Opener) -> None:
    script = Script()
    env = opened(script, n_players=2, restarts=2)
    env.reset()
    script.dies_at = (script.exchanges + 1, script.exchanges + 2)
    take(env, *[0.5] * 4)
    seeds = [launch.seed for launch in script.started]
    assert len(seeds) > 2
    assert len(set(seeds)) == len(seeds)


def test_agents_with_different_periods_are_all_found(opened: Opener) -> None:
    env = opened(Script(agents=3, late={1: 18}))
    assert env.spec.n_envs == 3
    assert sorted(env.reset()[:, 0]) == [0, 1, 2]


def test_an_end_before_the_failure_stays_what_it_was(opened: Opener) -> None:
    script = Script(agents=2, horizons=(1, 50), respawns={0: 3})
    env = opened(script, restarts=1)
    env.reset()
    script.dies_at = (script.exchanges + 2,)
    step = take(env, 0.5, 0.25)
    np.testing.assert_array_equal(step.terminated, [True, False])
    np.testing.assert_array_equal(step.truncated, [False, True])
    np.testing.assert_array_equal(step.rewards, [0.5, 0.25])
    assert [(one.row, one.total_reward) for one in step.episodes] == [(0, 0.5), (1, 0.25)]


def test_a_failure_in_a_reset_starts_the_player_anew_too(opened: Opener) -> None:
    script = Script(agents=2, late={1: 1})
    env = opened(script, restarts=2)
    env.reset()
    take(env, 0.5, 0.5)
    script.dies_at = (script.exchanges + 1, script.exchanges + 2)
    np.testing.assert_array_equal(env.reset()[0][0], 0)
    assert len(script.started) == 3


def test_parameters_outlive_a_failed_player(opened: Opener) -> None:
    script = Script()
    env = opened(script, restarts=1)
    env.reset()
    env.set_parameter("gravity", 3.0)
    env.call("set_parameter", "wind", 2.0)
    script.dies_at = (script.exchanges + 1,)
    take(env, 0.5, 0.5)
    assert [player.parameters for player in script.players] == [{"gravity": 3.0, "wind": 2.0}] * 2


def test_states_are_approximate(opened: Opener) -> None:
    env = opened(Script())
    env.reset()
    take(env, 0.5, 0.5)
    state = env.get_state()
    assert state.level is StateLevel.APPROXIMATE
    np.testing.assert_array_equal(env.set_state(state), [[0, 0, 0], [1, 0, 0]])


def test_what_the_games_measure_goes_into_the_reports(opened: Opener) -> None:
    script = Script()
    env = opened(script, n_players=2)
    assert isinstance(env, ReportsStatistics)
    script.players[0].statistics = {"Goals": 1.0, "Own/Speed": 4.0}
    script.players[1].statistics = {"Goals": 2.0}
    assert env.drain_statistics() == {"environment/Goals": 1.5, "environment/Own/Speed": 4.0}
    assert env.drain_statistics() == {}


def test_players_can_be_asked_and_called(opened: Opener) -> None:
    script = Script(agents=1)
    env = opened(script, n_players=2)
    env.set_parameter("gravity", 9.5)
    assert [player.parameters for player in script.players] == [{"gravity": 9.5}] * 2
    assert env.call("double", 2.0, plus=1.0) == [5.0, 5.0]
    assert env.call("double", 3.0, rows=[1]) == [6.0]
    assert env.get_attribute("resets", rows=[0]) == [script.players[0].resets]
    assert env.get_attribute("render_mode") == [None, None]
    assert env.render(1) is None
    for refused in (
        lambda: env.call("resets"),
        lambda: env.get_attribute("nothing"),
        lambda: env.set_attribute("resets", 3),
        lambda: env.render(2),
    ):
        with pytest.raises(InvalidInputError):
            refused()
    env.reset()


def test_each_player_gets_side_channels_of_its_own(opened: Opener) -> None:
    script = Script()
    opened(script, n_players=2, side_channels=lambda index: [f"channel {index}"])
    assert sorted((player.launch.index, player.side_channels) for player in script.players) == [
        (0, ("channel 0",)),
        (1, ("channel 1",)),
    ]


def test_a_text_or_a_path_names_a_game() -> None:
    game = unity_source("builds/Game")
    assert (game.settings.launch.file, game.id) == (Path("builds/Game"), "unity:builds/Game")
    assert (game.count, game.copyable) == (1, True)
    editor = unity_source("editor")
    assert editor.settings.launch.file is None
    assert not editor.copyable
    assert UnityGame("builds/Game").settings == game.settings
    assert environment_source(game) is game
    assert isinstance(environment_source("unity:builds/Game"), UnityGame)


@pytest.mark.parametrize(
    ("environments", "options", "words"),
    [
        ("unity:", {}, "Expected unity:path/to/Game"),
        ("unity:Game", {"vectorization": "subprocess"}, "a process of its own already"),
        ("unity:editor", {"n_envs": 2}, "The Editor is one player"),
        ("unity:no/such/Game", {}, "no/such/Game"),
    ],
)
def test_games_that_cannot_be_opened_are_refused(environments: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        open_environments(environments, **options)


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Opener]:
    """Opens games of the peer over the real wire and closes them at the end."""
    environments: list[UnityVectorEnv] = []

    def opener(world: dict[str, Any], **settings: Any) -> UnityVectorEnv:
        launch = UnityLaunch(file=make_player(tmp_path / f"{len(environments)}", **world), timeout=30.0)
        environments.append(UnityVectorEnv(UnitySettings(launch=launch, **settings)))
        return environments[-1]

    yield opener
    for one in environments:
        one.close()


def test_a_population_that_grows_is_refused_or_left_out(played: Opener) -> None:
    world = {"agents": 2, "growth": 1, "growth_tick": 30}
    env = played(world)
    env.reset()
    with pytest.raises(EnvironmentFailure, match=r"population grew .* max_agents=2"):
        play(env, 40)
    env = played(world, max_agents=2)
    env.reset()
    assert len(play(env, 40)) == 40


def test_a_behaviour_that_comes_late_is_waited_for(played: Opener) -> None:
    late = {"name": "Late?team=1", "agents": 2, "from_tick": 15}
    env = played({"agents": 3, "others": (late,)}, behavior="Late", others="random")
    assert env.spec.n_envs == 2
    env.reset()
    assert take(env, 0.5, 0.5).rewards.shape == (2,)


def test_a_seed_parameter_decides_the_episodes(played: Opener) -> None:
    env = played({"agents": 2}, seed_parameter="seed", n_players=2)
    first = env.reset(seed=3)
    other = env.reset(seed=4)
    np.testing.assert_array_equal(env.reset(seed=3), first)
    assert (first != other).any()
    assert (first[:2] != first[2:]).any()


def test_a_game_that_is_killed_again_and_again_is_started_again(played: Opener) -> None:
    env = played({"agents": 2, "fault": "kill", "fault_at": 30}, restarts=2)
    env.reset()
    steps: list[VectorStep] = []
    with pytest.raises(UnityPlayerDied):
        play(env, 60, steps)
    restarts = [step for step in steps if "restarted" in step.infos[0]]
    assert len(restarts) == 2
    assert all(step.truncated.all() and len(step.final) == len(step.episodes) == 2 for step in restarts)


def test_what_the_game_reports_arrives(played: Opener) -> None:
    env = played({"agents": 2, "statistics": True, "horizons": (3, 4)})
    env.reset()
    env.drain_statistics()
    ended = sum(len(step.episodes) for step in play(env, 12))
    assert ended > 0
    assert env.drain_statistics()["environment/Reach/Ends"] == ended


def play(env: UnityVectorEnv, count: int, steps: list[VectorStep] | None = None) -> list[VectorStep]:
    """Several steps; they are kept as they come, for the case that one fails."""
    steps = [] if steps is None else steps
    for _ in range(count):
        steps.append(take(env, 0.0, 0.0))
    return steps
