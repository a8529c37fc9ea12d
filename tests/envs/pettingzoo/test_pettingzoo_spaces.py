"""Action masks, agents with different spaces, and their padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from pettingzoo.utils import BaseParallelWrapper

from rl_framework.envs.pettingzoo.padding import PaddedGame
from rl_framework.envs.pettingzoo.source import PettingZooGame
from rl_framework.envs.pettingzoo.vector_env import PettingZooVectorEnv
from rl_framework.errors import EnvironmentFailure, SpaceError
from tests.envs.backends import step
from tests.envs.pettingzoo.small_games import MaskedStage, Stage, Stays, UnlikeStage

WIDE, NARROW = spaces.Box(-1, 1, (4,), np.float32), spaces.Box(-2, 1, (2,), np.float32)
TWO, FIVE = spaces.Discrete(2), spaces.Discrete(5)
DYING: Stays = {"a": [(0, 4)], "b": [(0, 1)]}


@pytest.mark.parametrize("in_info", [False, True])
def test_masks_come_out_of_observations_and_infos(in_info: bool) -> None:
    environments = PettingZooVectorEnv([MaskedStage(in_info=in_info)])
    observations = environments.reset(seed=0)
    assert environments.spec.observation_space == Stage().observation_space("a")
    assert environments.spec.has_action_masks
    for _ in range(6):
        allowed = environments.action_masks
        assert allowed is not None
        assert allowed.dtype == np.bool_
        assert allowed.tolist() == np.eye(3, dtype=bool)[observations[:, 1].astype(int) % 3].tolist()
        observations = step(environments, [0, 0]).observations


@pytest.mark.parametrize("in_info", [False, True])
def test_an_agent_that_is_not_there_may_do_anything(in_info: bool) -> None:
    environments = PettingZooVectorEnv([MaskedStage(DYING, in_info=in_info)])
    environments.reset(seed=0)
    step(environments, [0, 0])
    assert environments.action_masks is not None
    assert environments.action_masks.tolist() == [[False, True, False], [True, True, True]]


class Stuck(MaskedStage):
    """A game in which agent b may do nothing at all after a step."""

    def _wrapped(self, observations: dict[str, Any]) -> dict[str, Any]:
        wrapped = super()._wrapped(observations)
        if self.steps and "b" in wrapped:
            wrapped["b"]["action_mask"] = np.zeros(3, np.int8)
        return wrapped


def test_a_mask_that_allows_nothing_names_the_agent() -> None:
    environments = PettingZooVectorEnv([Stuck()])
    environments.reset(seed=0)
    with pytest.raises(EnvironmentFailure, match="agent 'b': the action mask allows no action") as caught:
        step(environments, [0, 0])
    assert caught.value.row == 1


def test_no_masks_where_there_are_none() -> None:
    environments = PettingZooVectorEnv([Stage()])
    environments.reset(seed=0)
    assert environments.action_masks is None
    assert not environments.spec.has_action_masks


SPACES: dict[str, gym.Space[Any]] = {
    "box": spaces.Box(-1, 1, (2, 3), np.float32),
    "discrete": spaces.Discrete(5, start=2),
    "multi_discrete": spaces.MultiDiscrete([3, 4]),
    "multi_binary": spaces.MultiBinary(4),
    "dict": spaces.Dict({"x": spaces.Discrete(3), "y": spaces.Dict({"z": spaces.Box(-1, 1, (2,))})}),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.MultiBinary(2))),
}


class AnySpaces(Stage):
    """A game whose agents observe and do values of any space; each step gives what its space drew last."""

    def __init__(self, space: gym.Space[Any], stays: Stays) -> None:
        super().__init__(stays)
        self._action_spaces = dict.fromkeys(stays, space)
        self._spaces = self._action_spaces
        self.shown: list[dict[str, Any]] = []

    def _observations(self, agents: Sequence[str]) -> dict[str, Any]:
        self.shown.append({agent: self._spaces[agent].sample() for agent in agents})
        return self.shown[-1]


def flat(space: gym.Space[Any], value: Any) -> list[float]:
    """All numbers of a value."""
    return np.asarray(gym.spaces.utils.flatten(space, value)).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", SPACES)
def test_every_space_travels_both_ways(name: str) -> None:
    space = SPACES[name]
    game = AnySpaces(space, DYING)
    environments = PettingZooVectorEnv([game])
    observations = environments.reset(seed=0)
    assert environments.spec.observation_space == environments.spec.action_space == space
    together = gym.vector.utils.batch_space(space, 2)
    together.seed(0)
    for number in range(3):
        expected = game.shown[-1].get("a")
        rows = list(gym.vector.utils.iterate(together, observations))
        assert space.contains(rows[0])
        assert flat(space, rows[0]) == flat(space, expected)
        actions = together.sample()
        observations = step(environments, actions).observations
        sent = list(gym.vector.utils.iterate(together, actions))
        for agent, action in game.given[number].items():
            assert space.contains(action if not isinstance(space, spaces.Discrete) else np.int64(action))
            row = game.possible_agents.index(agent)
            assert flat(space, action) == flat(space, sent[row])


@pytest.mark.parametrize(
    ("game", "role", "listed"),
    [
        (UnlikeStage([WIDE, NARROW], [TWO, TWO]), "observation", r"a: Box\(-1.0.*; b: Box\(-2.0"),
        (UnlikeStage([WIDE, WIDE], [TWO, FIVE]), "action", r"a: Discrete\(2\); b: Discrete\(5\)"),
    ],
)
def test_different_spaces_are_refused_with_the_ways_out(game: Stage, role: str, listed: str) -> None:
    message = rf"different {role} spaces.*\({listed}.*padding=True.*IndependentAgents"
    with pytest.raises(SpaceError, match=message):
        PettingZooGame(game).open()
    with pytest.raises(SpaceError, match=message):
        PettingZooGame(lambda: game).open()
    assert not game.is_open


def test_padding_widens_observations_with_zeros() -> None:
    environments = PettingZooGame(UnlikeStage([WIDE, NARROW], [TWO, TWO]), padding=True).open()
    space = environments.spec.observation_space
    assert isinstance(space, spaces.Box)
    assert space.low.tolist() == [-2, -2, -2, -2]
    assert environments.reset(seed=0).tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert step(environments, [0, 1]).observations.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert not environments.spec.has_action_masks


def test_choices_that_an_agent_lacks_are_masked_and_count_as_its_first() -> None:
    environments = PettingZooGame(UnlikeStage([WIDE, WIDE], [TWO, FIVE]), padding=True).open()
    environments.reset(seed=0)
    assert environments.spec.action_space == FIVE
    assert environments.action_masks is not None
    assert environments.action_masks.tolist() == [[True, True, False, False, False], [True] * 5]
    step(environments, [4, 4])
    step(environments, [1, 0])
    assert environments.get_attribute("given", rows=[0]) == [[{"a": 0, "b": 4}, {"a": 1, "b": 0}]]


def test_continuous_actions_are_cut_to_what_an_agent_has() -> None:
    environments = PettingZooGame(UnlikeStage([WIDE, WIDE], [NARROW, WIDE]), padding=True).open()
    environments.reset(seed=0)
    actions = np.arange(8, dtype=np.float32).reshape(2, 4)
    step(environments, actions)
    given = environments.get_attribute("given", rows=[0])[0][0]
    assert {agent: action.tolist() for agent, action in given.items()} == {"a": [0, 1], "b": [4, 5, 6, 7]}


class Choosy(UnlikeStage):
    """A game with masks of its own, whose agents have different numbers of choices."""

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        observations, infos = super().reset(seed, options)
        return observations, {agent: {**info, "action_mask": np.array([0, 1])} for agent, info in infos.items()}


def test_masks_of_a_padded_game_are_widened_too() -> None:
    environments = PettingZooGame(Choosy([WIDE, WIDE], [TWO, spaces.Discrete(3)]), padding=True).open()
    environments.reset(seed=0)
    assert environments.action_masks is not None
    assert environments.action_masks[0].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("observations", "actions", "why"),
    [
        ([TWO, FIVE], [TWO, TWO], "only Boxes of observations"),
        ([WIDE, WIDE], [TWO, WIDE], "general shape"),
        ([WIDE, WIDE], [TWO, spaces.Discrete(3, start=1)], "start at 0"),
        ([WIDE, spaces.Box(-1, 1, (2, 2), np.float32)], [TWO, TWO], "same shape"),
        ([WIDE, spaces.Box(0, 255, (4,), np.uint8)], [TWO, TWO], "dtype"),
    ],
)
def test_spaces_that_cannot_be_padded_say_why(observations: Any, actions: Any, why: str) -> None:
    with pytest.raises(SpaceError, match=rf"{why}.*IndependentAgents"):
        PaddedGame(UnlikeStage(observations, actions))


def test_padding_changes_nothing_where_spaces_are_alike() -> None:
    plain, padded = PettingZooGame(MaskedStage()).open(), PettingZooGame(MaskedStage(), padding=True).open()
    assert padded.spec == plain.spec
    assert np.array_equal(plain.reset(seed=2), padded.reset(seed=2))
    assert np.array_equal(np.asarray(plain.action_masks), np.asarray(padded.action_masks))


def test_masks_that_the_spaces_show_are_known_before_the_first_reset() -> None:
    masked, padded = MaskedStage(), UnlikeStage([WIDE, WIDE], [TWO, FIVE])
    assert PettingZooVectorEnv([masked]).spec.has_action_masks
    assert PettingZooGame(padded, padding=True).open().spec.has_action_masks
    assert not PettingZooVectorEnv([Stage()]).spec.has_action_masks


class Undeclared(BaseParallelWrapper):  # type: ignore[misc]  # PettingZoo has no types.
    """A game that keeps its possible agents to itself."""

    def __getattr__(self, name: str) -> Any:
        if name == "possible_agents":
            raise AttributeError(name)
        return super().__getattr__(name)


def test_a_game_that_does_not_declare_its_agents_can_be_padded() -> None:
    game = UnlikeStage([WIDE, NARROW], [TWO, FIVE])
    silent = Undeclared(game)
    environments = PettingZooGame(silent, padding=True, agents=["a", "b"]).open()
    assert environments.spec.row_agents == ("a", "b")
    assert environments.spec.action_space == FIVE


class ManyChoices(MaskedStage):
    """A stage on which the second of two choices is bound."""

    def __init__(self) -> None:
        super().__init__(in_info=True)
        self._action_spaces = {agent: spaces.MultiDiscrete([2, 3], start=[0, 5]) for agent in self.possible_agents}

    def _mask(self) -> Any:
        return np.array([1, 1, 0, 1, 0], np.int8)


def test_masks_of_several_choices_at_once_travel_too() -> None:
    game = ManyChoices()
    environments = PettingZooGame(game).open()
    environments.reset(seed=0)
    assert environments.action_masks is not None
    assert environments.action_masks.tolist() == [[True, True, False, True, False]] * 2
    step(environments, np.array([[0, 6], [1, 6]]))
    assert [given.tolist() for given in game.given[0].values()] == [[0, 6], [1, 6]]


class Silent(MaskedStage):
    """A stage that forgets to show one agent what it sees."""

    def step(self, actions: Any) -> Any:
        observations, *rest = super().step(actions)
        return {"a": observations["a"]}, *rest


def test_an_agent_that_is_shown_nothing_is_named() -> None:
    environments = PettingZooGame(Silent()).open()
    environments.reset(seed=0)
    with pytest.raises(EnvironmentFailure, match="agent 'b': it is there, but the game gave no observation"):
        step(environments, [0, 0])


def test_a_first_observation_that_does_not_fit_names_its_agent() -> None:
    game = UnlikeStage([spaces.Box(0, 9, (2,), np.int64)] * 2, [spaces.Discrete(3)] * 2)
    game._observations = lambda agents: {  # type: ignore[method-assign]
        agent: np.full(2, 0.5 if agent == "b" else 1.0) for agent in agents
    }
    with pytest.raises(EnvironmentFailure, match="agent 'b': the observation"):
        PettingZooGame(game).open().reset(seed=0)
