"""Schedules, attributes, failures and state of games whose agents are rows."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rl_framework.core.seeding import derive_seeds
from rl_framework.core.trees import Tree
from rl_framework.envs.pettingzoo.source import PettingZooGame
from rl_framework.envs.pettingzoo.vector_env import PettingZooVectorEnv
from rl_framework.envs.vector_env import StateLevel, VectorEnv, VectorStep
from rl_framework.errors import EnvironmentFailure, InvalidInputError, InvalidNumberError
from tests.envs.backends import step
from tests.envs.pettingzoo.small_games import EVERYBODY, Stage, make_stage

BACKENDS = ("serial", "subprocess")


def played(environments: VectorEnv, steps: int) -> list[VectorStep]:
    """Steps in which every row chooses the first action."""
    return [step(environments, [0] * environments.spec.n_envs) for _ in range(steps)]


def random_play(environments: VectorEnv, steps: int, seed: int) -> list[VectorStep]:
    """Steps with drawn actions that the masks allow."""
    rng = np.random.default_rng(seed)
    taken = []
    for _ in range(steps):
        space, masks = environments.spec.action_space, environments.action_masks
        assert isinstance(space, Discrete)
        allowed = np.ones((environments.spec.n_envs, space.n), bool) if masks is None else masks
        taken.append(step(environments, np.array([rng.choice(np.flatnonzero(row)) for row in allowed])))
    return taken


def episodes(taken: list[VectorStep]) -> list[tuple[int, int | None]]:
    """Row and seed of each episode that ended."""
    return [(one.row, one.seed) for each in taken for one in each.episodes]


def noise(observations: Tree) -> list[float]:
    """What each row sees of its game's seed."""
    return np.asarray(observations)[:, 3].tolist()  # type: ignore[no-any-return]


def expected_noise(seed: int) -> float:
    """What a game draws that was seeded so."""
    return float(np.float32(np.random.default_rng(seed).random()))


def test_games_are_seeded_one_by_one_and_their_rows_share_the_seed() -> None:
    environments = PettingZooVectorEnv([Stage(), Stage()])
    first, second = derive_seeds(7, 2)
    shown = noise(environments.reset(seed=7))
    assert shown == [expected_noise(first)] * 2 + [expected_noise(second)] * 2
    assert episodes(played(environments, 4)) == [(0, first), (1, first), (2, second), (3, second)]


def test_the_rows_of_a_game_follow_the_longest_of_their_schedules() -> None:
    environments = PettingZooVectorEnv([Stage(), Stage()])
    shown = environments.reset_to_schedule([[11, 12], [13], [14], [15]])
    assert noise(shown) == [expected_noise(11)] * 2 + [expected_noise(14)] * 2
    taken = played(environments, 8)
    assert episodes(taken) == [(0, 11), (1, 11), (2, 14), (3, 14), (0, 12)]
    assert list(taken[7].final) == [0]


def test_a_row_with_a_shorter_schedule_plays_on_unreported() -> None:
    environments = PettingZooVectorEnv([Stage()])
    environments.reset_to_schedule([[3], []])
    taken = [step(environments, [1, 2]) for _ in range(4)]
    assert [one.rewards.tolist() for one in taken] == [[1, 0], [2, 0], [3, 0], [4, 0]]
    assert [np.asarray(one.observations)[1, 1] for one in taken[:3]] == [1, 2, 3]
    assert environments.get_attribute("given", rows=[1])[0][3] == {"a": 1, "b": 2}
    assert episodes(taken) == [(0, 3)]
    assert taken[3].truncated.tolist() == [True, False]


def test_used_up_schedules_rest() -> None:
    environments = PettingZooVectorEnv([Stage(), Stage()])
    environments.reset_to_schedule([[1], [1], [], []])
    taken = played(environments, 6)
    assert [one.rewards.tolist() for one in taken[3:]] == [[4, 14, 0, 0], [0] * 4, [0] * 4]
    assert taken[5].infos == [{}] * 4
    environments.reset(seed=0)
    assert played(environments, 1)[0].rewards.tolist() == [1, 11, 1, 11]


def test_methods_are_called_once_per_game() -> None:
    environments = PettingZooVectorEnv([Stage(), Stage()])
    assert environments.call("brighten", 2, rows=[0, 1, 3]) == [5, 5, 5]
    environments.set_attribute("brightness", 9, rows=[2, 3])
    assert environments.get_attribute("brightness") == [5, 5, 9, 9]
    environments.set_attribute("brand_new", 1)
    assert environments.get_attribute("brand_new", rows=[3]) == [1]
    with pytest.raises(InvalidInputError, match="no attribute 'brightnes'"):
        environments.get_attribute("brightnes")
    with pytest.raises(InvalidInputError, match="rows 0 to 3"):
        environments.call("brighten", 1, rows=[4])


def test_the_picture_is_that_of_the_rows_game() -> None:
    environments = PettingZooVectorEnv([Stage(), Stage({"a": [(0, 2)], "b": [(0, 2)]}, length=2)])
    environments.reset(seed=0)
    played(environments, 3)
    pictures = [environments.render(row) for row in range(4)]
    assert [None if one is None else one[0, 0, 0] for one in pictures] == [3, 3, 1, 1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("how", "kind", "message", "row"),
    [
        ("observes", InvalidNumberError, "Environment 1, step 2 of its episode: agent 'b': the observation's", 1),
        ("rewards", InvalidNumberError, "Environment 1, step 2 of its episode: agent 'b': the reward is inf", 1),
        ("raises", EnvironmentFailure, "Environment 0, step 2 of its episode: ValueError: out of order", 0),
    ],
)
def test_what_goes_wrong_names_the_agents_row(backend: str, how: str, kind: type, message: str, row: int) -> None:
    source = PettingZooGame(partial(Stage, breaks=(how, 2)))
    environments = source.open(1, vectorization=backend, timeout=20)
    environments.reset(seed=0)
    played(environments, 1)
    with pytest.raises(EnvironmentFailure) as caught:
        played(environments, 1)
    assert type(caught.value) is kind
    assert (caught.value.row, caught.value.step) == (row, 2)
    assert str(caught.value).startswith(message)
    assert (caught.value.remote_traceback is None) == (backend == "serial")


def test_the_row_of_a_failure_counts_the_rows_of_the_games_before() -> None:
    environments = PettingZooVectorEnv([Stage(), Stage(breaks=("rewards", 1))])
    environments.reset(seed=0)
    with pytest.raises(InvalidNumberError, match="Environment 3") as caught:
        played(environments, 1)
    assert caught.value.row == 3


def test_both_backends_give_the_same_numbers() -> None:
    source = PettingZooGame(make_stage)
    serial, remote = (source.open(2, vectorization=backend, timeout=20) for backend in BACKENDS)
    assert np.array_equal(serial.reset(seed=4), remote.reset(seed=4))
    for here, there in zip(played(serial, 9), played(remote, 9), strict=True):
        assert np.array_equal(here.observations, there.observations)
        assert np.array_equal(here.rewards, there.rewards)
        assert here.episodes == there.episodes
        assert [dict(info) for info in here.infos] == [dict(info) for info in there.infos]
    for environments in (serial, remote):
        environments.close()


def test_games_go_on_elsewhere_from_the_middle_of_an_episode() -> None:
    here, there = (PettingZooVectorEnv([Stage(), Stage({"a": [(0, 2)], "b": [(1, 5)]}, length=5)]) for _ in range(2))
    here.reset(seed=3)
    before = played(here, 3)
    state = here.get_state()
    assert state.level is StateLevel.EXACT
    assert np.array_equal(there.set_state(state), before[-1].observations)
    for ours, theirs in zip(played(here, 9), played(there, 9), strict=True):
        assert np.array_equal(ours.observations, theirs.observations)
        assert ours.episodes == theirs.episodes
        assert ours.episodes == () or all(one.total_reward > 0 for one in ours.episodes)


@pytest.mark.parametrize(("name", "padding"), [("mpe/simple_tag", True), ("classic/tictactoe", False)])
def test_named_games_go_on_elsewhere(name: str, padding: bool) -> None:
    here, there = (PettingZooGame(name, padding=padding).open(2, vectorization="serial") for _ in range(2))
    here.reset(seed=3)
    random_play(here, 3, seed=0)
    state = here.get_state()
    assert state.level is StateLevel.EXACT
    there.set_state(state)
    for ours, theirs in zip(random_play(here, 30, seed=1), random_play(there, 30, seed=1), strict=True):
        assert np.array_equal(ours.observations, theirs.observations)
        assert np.array_equal(ours.rewards, theirs.rewards)
        assert ours.episodes == theirs.episodes
    for environments in (here, there):
        environments.close()


def test_a_game_that_keeps_its_places_in_pictures_library_does_not_claim_to_be_captured() -> None:
    pytest.importorskip("pygame")
    environments = PettingZooGame("butterfly/cooperative_pong").open(1)
    environments.reset(seed=0)
    random_play(environments, 1, seed=0)
    assert environments.get_state().level is StateLevel.APPROXIMATE
    environments.close()


class Walled(Stage):
    """A game with a part that has no plain form."""

    def __init__(self) -> None:
        super().__init__(EVERYBODY)
        self.wall = (number for number in range(3))


def test_a_game_that_cannot_be_captured_starts_its_episode_again() -> None:
    here, there = PettingZooVectorEnv([Walled()]), PettingZooVectorEnv([Walled()])
    start = here.reset(seed=3)
    at_start = here.get_state()
    assert at_start.level is StateLevel.EPISODE_BOUNDARY
    assert np.array_equal(np.asarray(there.set_state(at_start))[:, 1:], np.asarray(start)[:, 1:])
    played(here, 2)
    in_the_middle = here.get_state()
    assert in_the_middle.level is StateLevel.APPROXIMATE
    assert np.asarray(there.set_state(in_the_middle))[:, 1].tolist() == [0, 0]
    assert [one.length for taken in played(there, 4) for one in taken.episodes] == [4, 4]


def test_closing_leaves_the_callers_games_open() -> None:
    games = [Stage(), Stage()]
    environments = PettingZooVectorEnv(games)
    environments.reset(seed=0)
    environments.close()
    environments.close()
    assert all(game.is_open for game in games)
