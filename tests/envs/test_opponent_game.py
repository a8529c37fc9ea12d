from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rl_framework.core.policy import PolicyOutput
from rl_framework.core.trees import Tree
from rl_framework.envs.opponent_game import OpponentGame
from rl_framework.envs.opponents import ChancePolicy
from rl_framework.envs.pettingzoo.source import PettingZooGame
from rl_framework.envs.vector_env import EnvSpec, StateLevel
from rl_framework.errors import InvalidInputError, MissingArchiveError, RLFrameworkError, SpaceError, UnknownOptionError
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.testing.environments import CountingEnv
from tests.envs.pettingzoo.uneven_games import Duel

ROCK, PAPER, SCISSORS = 0, 1, 2


class Thrower:
    """Always throws the same; remembers how often it was asked since an episode began."""

    def __init__(self, throw: int = ROCK, *, remembers: bool = False) -> None:
        self.observation_space = Duel().observation_space("left")
        self.action_space = Duel().action_space("left")
        self.throw = throw
        self.remembers = remembers
        self.counts: list[list[int]] = []

    def act(self, observations: Any, state: Tree = None, *, episode_starts: Any = None, **_: Any) -> PolicyOutput:
        count = np.zeros(len(observations), np.int64) if state is None else np.where(episode_starts, 0, state)
        self.counts.append((count + 1).tolist())
        return PolicyOutput(np.full(len(observations), self.throw), count + 1 if self.remembers else None)


class Pool:
    """Opponents by name, drawn in turns."""

    def __init__(self, **policies: Thrower) -> None:
        self.policies = policies
        self.draws = 0

    def draw(self, generator: np.random.Generator) -> str | None:
        self.draws += 1
        return list(self.policies)[(self.draws - 1) % len(self.policies)]

    def policy(self, name: str) -> Thrower:
        if name not in self.policies:
            raise MissingArchiveError(name)
        return self.policies[name]


def step(game: OpponentGame, *throws: int) -> Any:
    game.send(np.array(throws))
    return game.recv()


def test_only_the_learners_rows_are_visible() -> None:
    game = OpponentGame(PettingZooGame(Duel), "left", opponents=Thrower(ROCK), n_games=3)
    assert (game.spec.n_envs, game.spec.row_agents, game.spec.rows_per_game) == (3, ("left",) * 3, 1)
    assert game.reset(0).tolist() == [[0.0, 0.0, 0.0]] * 3
    taken = step(game, ROCK, PAPER, SCISSORS)
    assert taken.rewards.tolist() == [0.0, 1.0, -1.0]
    assert taken.observations.tolist() == [[1.0, 0.0, 0.0]] * 3
    game.close()


def test_an_episode_is_that_of_the_learners_agent() -> None:
    game = OpponentGame(PettingZooGame(Duel), "right", opponents=Thrower(ROCK), n_games=2)
    game.reset(0)
    for _ in range(2):
        assert step(game, PAPER, SCISSORS).episodes == ()
    last = step(game, PAPER, SCISSORS)
    assert [(each.row, each.agent, each.total_reward, each.length) for each in last.episodes] == [
        (0, "right", 3.0, 3),
        (1, "right", -3.0, 3),
    ]
    assert last.terminated.all()
    assert last.final[1].tolist() == [1.0, 0.0, 0.0]
    assert last.observations.tolist() == [[0.0] * 3] * 2
    game.close()


def test_sides_alternate_from_episode_to_episode_and_from_copy_to_copy() -> None:
    game = OpponentGame(PettingZooGame(lambda: Duel(1)), opponents=Thrower(ROCK), n_games=2)
    assert game.spec.row_agents is None
    game.reset(0)
    sides = [[each.agent for each in step(game, PAPER, PAPER).episodes] for _ in range(3)]
    assert sides == [["left", "right"], ["right", "left"], ["left", "right"]]
    game.close()


def test_the_learner_earns_its_own_rewards_on_either_side() -> None:
    game = OpponentGame(PettingZooGame(lambda: Duel(2)), opponents=Thrower(ROCK), n_games=1)
    game.reset(0)
    assert [step(game, PAPER).rewards.tolist() for _ in range(6)] == [[1.0]] * 6
    game.close()


def test_an_opponent_is_drawn_for_each_game_and_acts_in_its_own_only() -> None:
    pool = Pool(rock=Thrower(ROCK), scissors=Thrower(SCISSORS))
    game = OpponentGame(PettingZooGame(lambda: Duel(1)), "left", opponents=pool, n_games=2)
    game.reset(0)
    assert game.opponent_names == ("rock", "scissors")
    taken = step(game, PAPER, PAPER)
    assert taken.rewards.tolist() == [1.0, -1.0]
    assert pool.draws == 4
    game.close()


def test_an_opponents_memory_is_cleared_where_its_episode_begins() -> None:
    thrower = Thrower(remembers=True)
    game = OpponentGame(PettingZooGame(Duel), "left", opponents=thrower, n_games=1)
    game.reset(0)
    for _ in range(5):
        step(game, ROCK)
    assert [count[1] for count in thrower.counts] == [1, 2, 3, 1, 2]
    assert game.get_state().level is StateLevel.APPROXIMATE
    game.close()


def test_a_schedule_is_played_and_then_rests() -> None:
    game = OpponentGame(PettingZooGame(lambda: Duel(1)), opponents=Thrower(ROCK), n_games=2)
    game.reset_to_schedule([[4, 5], [6]])
    ended = [each for _ in range(4) for each in step(game, PAPER, PAPER).episodes]
    assert [(each.row, each.seed) for each in ended] == [(0, 4), (1, 6), (0, 5)]
    game.close()


def test_a_policy_is_evaluated_against_opponents() -> None:
    game = OpponentGame(PettingZooGame(Duel), opponents=Thrower(ROCK), n_games=2)
    result = evaluate_policy(Thrower(PAPER), game, 6, seed=0)
    assert result.returns.tolist() == [3.0] * 6
    assert {name: len(part.returns) for name, part in result.by_agent().items()} == {"left": 3, "right": 3}
    game.close()


def test_where_the_games_are_can_be_put_back() -> None:
    pool = Pool(rock=Thrower(ROCK), scissors=Thrower(SCISSORS))
    game = OpponentGame(PettingZooGame(Duel), opponents=pool, n_games=2)
    game.reset(0)
    for _ in range(4):
        step(game, PAPER, ROCK)
    state = game.get_state()
    if state.level is not StateLevel.EXACT:
        pytest.fail(f"the games of this test can be captured, but the level is {state.level}")
    expected = [step(game, PAPER, ROCK) for _ in range(2)]
    other = OpponentGame(PettingZooGame(Duel), opponents=Pool(**pool.policies), n_games=2)
    other.set_state(state)
    for one in expected:
        again = step(other, PAPER, ROCK)
        assert again.rewards.tolist() == one.rewards.tolist()
        assert again.observations.tolist() == one.observations.tolist()
        assert again.episodes == one.episodes
    game.close()
    other.close()


def test_an_opponent_that_is_gone_is_replaced_when_the_games_are_put_back() -> None:
    game = OpponentGame(PettingZooGame(Duel), opponents=Pool(rock=Thrower()), n_games=1)
    game.reset(0)
    other = OpponentGame(PettingZooGame(Duel), opponents=Pool(paper=Thrower(PAPER)), n_games=1)
    other.set_state(game.get_state())
    assert other.opponent_names == ("paper",)
    game.close()
    other.close()


def test_chance_plays_where_there_is_no_opponent_and_the_same_for_the_same_seed() -> None:
    def rewards(seed: int) -> list[float]:
        game = OpponentGame(PettingZooGame(lambda: Duel(40)), "left", n_games=1, seed=seed)
        game.reset(0)
        found = [float(step(game, ROCK).rewards[0]) for _ in range(30)]
        game.close()
        return found

    assert set(rewards(1)) == {-1.0, 0.0, 1.0}
    assert rewards(1) == rewards(1) != rewards(2)


def test_chance_takes_allowed_actions_only() -> None:
    spec = EnvSpec(n_envs=2, observation_space=Duel().observation_space(""), action_space=Duel().action_space(""))
    policy = ChancePolicy(spec)
    masks = np.array([[True, False, True], [False, True, False]])
    drawn = np.array([policy.act(np.zeros((2, 3)), action_masks=masks).actions for _ in range(40)])
    assert set(drawn[:, 0].tolist()) == {0, 2}
    assert set(drawn[:, 1].tolist()) == {1}


class Wide(Thrower):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = CountingEnv().observation_space


def test_an_opponent_of_other_spaces_is_refused() -> None:
    game = OpponentGame(PettingZooGame(Duel), opponents=Wide(), n_games=1)
    with pytest.raises(SpaceError, match="opponent"):
        game.reset(0)
    game.close()


def test_bad_arguments_are_answered() -> None:
    with pytest.raises(InvalidInputError, match="several agents"):
        OpponentGame(CountingEnv)
    with pytest.raises(UnknownOptionError, match="'left'"):
        OpponentGame(PettingZooGame(Duel), "lefft")
    with pytest.raises(InvalidInputError, match="not all"):
        OpponentGame(PettingZooGame(Duel), ["left", "right"])
    with pytest.raises(InvalidInputError, match="pool of opponents"):
        OpponentGame(PettingZooGame(Duel), opponents=7)  # type: ignore[arg-type]


def test_misuse_is_answered() -> None:
    game = OpponentGame(PettingZooGame(Duel), opponents=Thrower(), n_games=2)
    with pytest.raises(RLFrameworkError, match="reset"):
        game.send(np.zeros(2, np.int64))
    game.reset(0)
    with pytest.raises(InvalidInputError, match="shape"):
        game.send(np.zeros(4, np.int64))
    with pytest.raises(InvalidInputError, match="one list of seeds"):
        game.reset_to_schedule([[1]])
    game.close()


class Walled(Duel):
    """A game with a part that has no plain form."""

    def __init__(self) -> None:
        super().__init__()
        self.wall = (number for number in range(3))


def test_the_opponents_of_games_at_their_beginning_are_put_back_too() -> None:
    """Also where the games can only be put back there."""
    game = OpponentGame(PettingZooGame(Walled), "left", n_games=1, seed=3)
    game.reset(5)
    state = game.get_state()
    assert state.level is StateLevel.EPISODE_BOUNDARY
    expected = [step(game, ROCK).rewards.tolist() for _ in range(3)]
    for other_seed in range(3):
        other = OpponentGame(PettingZooGame(Walled), "left", n_games=1, seed=3)
        other.reset(other_seed)
        other.set_state(state)
        assert [step(other, ROCK).rewards.tolist() for _ in range(3)] == expected
        other.close()
    game.close()


def test_a_state_with_an_opponent_that_has_left_the_pool_does_not_claim_to_be_exact() -> None:
    pool = Pool(rock=Thrower())
    game = OpponentGame(PettingZooGame(Duel), opponents=pool, n_games=1)
    game.reset(0)
    assert game.get_state().level is StateLevel.EXACT
    del pool.policies["rock"]
    assert game.get_state().level is StateLevel.APPROXIMATE
    game.close()
