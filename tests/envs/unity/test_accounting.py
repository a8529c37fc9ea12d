"""Every return and every flag of the rows equals what the game itself wrote into its book."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.settings import UnitySettings
from rl_framework.envs.unity.vector_env import UnityVectorEnv
from tests.envs.unity.peer.book import BookedEpisode, read_book
from tests.envs.unity.peer.players import make_player

STEPS = 60
HORIZONS = (7, 11, 23, 50)
TOLERANCE = 1e-4

# What one agent does must be told from what another does, in any of these.
WORLDS: dict[str, Mapping[str, Any]] = {
    "staggered": {"agents": 5, "period": 3, "stagger": True},
    "unequal periods": {"agents": 4, "periods": (1, 5)},
    "unequal periods, staggered": {"agents": 5, "periods": (1, 5, 3), "stagger": True},
    "respawn delay": {"agents": 4, "respawn_delay": 8},
    "shorter than a decision": {"agents": 3, "horizons": (2, 7, 30), "period": 4},
    "fresh ids": {"agents": 4, "fresh_ids": True, "respawn_delay": 3},
    "groups": {"agents": 6, "group_size": 2},
    "groups, slow": {"agents": 6, "group_size": 3, "period": 5, "actions": "hybrid"},
    "masks": {"agents": 4, "actions": "multi", "masks": True},
    "areas": {"agents": 2, "areas": 3},
    "two players": {"agents": 2, "n_players": 2},
    "a later behaviour beside": {"agents": 3, "others": ({"name": "Late?team=1", "from_tick": 10, "agents": 2},)},
}


@dataclass(frozen=True)
class Observed:
    """An episode as the rows told it.

    Attributes:
        agent: Id of the row's agent after the step: the same as before unless ids are fresh.
        total: Of the summary.
        earned: Sum of the row's rewards in its steps; None for an episode that began and ended within one step.
        truncated: The row's flag; None likewise.
        actions: Sum of all numbers that the row was given; None likewise.
        length: Of the summary.
    """

    agent: int
    total: float
    earned: float | None
    truncated: bool | None
    actions: float | None
    length: int


class RowAccount:
    """Keeps account of rows by what their steps give."""

    def __init__(self, environments: UnityVectorEnv) -> None:
        self._environments, self._rng = environments, np.random.default_rng(5)
        environments.spec.action_space.seed(5)
        self._observations = environments.reset(seed=0)
        count = environments.spec.n_envs
        self._earned, self._actions = np.zeros(count), np.zeros(count)
        self.episodes: list[Observed] = []

    def step(self) -> None:
        """One step of all rows."""
        actions = _tries(self._environments, self._observations, self._rng)
        self._environments.send(actions)
        step = self._environments.recv()
        self._observations = step.observations
        self._earned += step.rewards
        self._actions += _sums(actions)
        told: set[int] = set()
        for summary in step.episodes:
            row, is_first = summary.row, summary.row not in told
            told.add(row)
            self.episodes.append(
                Observed(
                    agent=int(step.infos[row]["agent_id"]),
                    total=summary.total_reward,
                    earned=float(self._earned[row]) if is_first else None,
                    truncated=bool(step.truncated[row]) if is_first else None,
                    actions=float(self._actions[row]) if is_first else None,
                    length=summary.length,
                )
            )
        over = step.terminated | step.truncated
        assert set(np.flatnonzero(over).tolist()) == told == set(step.final)
        self._earned[over] = self._actions[over] = 0.0


def observed(
    folder: Path, *, areas: int = 1, n_players: int = 1, **world: Any
) -> tuple[list[Observed], list[BookedEpisode]]:
    """Play in a world, and give both accounts."""
    launch = UnityLaunch(file=make_player(folder, **world), num_areas=areas, timeout=20.0)
    environments = UnityVectorEnv(UnitySettings(launch=launch, n_players=n_players, behavior="Reach", others="random"))
    try:
        assert environments.spec.n_envs == world.get("agents", 1) * areas * n_players
        account = RowAccount(environments)
        for _ in range(STEPS):
            account.step()
    finally:
        environments.close()
    book = read_book(folder)
    assert {one.behavior for one in book.episodes} == {
        "Reach?team=0",
        *(one["name"] for one in world.get("others", ())),
    }
    return account.episodes, [one for one in book.since_last_reset() if one.behavior == "Reach?team=0"]


def compare(episodes: list[Observed], book: list[BookedEpisode]) -> None:
    """Both accounts tell the same episodes."""
    by_row, by_game = sorted(episodes, key=lambda one: one.total), sorted(book, key=_booked_total)
    np.testing.assert_allclose([one.total for one in by_row], [_booked_total(one) for one in by_game], atol=TOLERANCE)
    for told, booked in zip(by_row, by_game, strict=True):
        if told.truncated is not None:
            assert told.truncated == booked.interrupted
            assert told.earned == pytest.approx(_booked_total(booked), abs=TOLERANCE)


def compare_agents(episodes: list[Observed], book: list[BookedEpisode], *, decisions: bool) -> None:
    """Both accounts tell the same episodes of each agent, in the same order."""
    told, booked = defaultdict(list), defaultdict(list)
    for one in episodes:
        told[one.agent].append(one)
    for entry in book:
        booked[entry.agent].append(entry)
    assert told.keys() == booked.keys()
    for agent, entries in booked.items():
        assert [one.total for one in told[agent]] == pytest.approx([_booked_total(each) for each in entries], abs=1e-4)
        if decisions:
            assert [one.length for one in told[agent]] == [each.decisions for each in entries]
            given = [one.actions for one in told[agent]]
            assert given == pytest.approx([each.actions for each in entries], abs=1e-3)


@pytest.mark.parametrize("period", [1, 5])
@pytest.mark.parametrize("agents", [1, 4, 16])
@pytest.mark.parametrize("actions", ["continuous", "discrete", "hybrid"])
def test_rows_agree_with_the_book(tmp_path: Path, actions: str, agents: int, period: int) -> None:
    horizons = HORIZONS if agents > 1 else (11,)
    episodes, book = observed(tmp_path, actions=actions, agents=agents, period=period, horizons=horizons)
    assert len(book) >= (7 if period == 1 else 20) * agents // 4
    assert {one.interrupted for one in book} == {True, False}
    compare(episodes, book)
    compare_agents(episodes, book, decisions=True)


@pytest.mark.parametrize("name", WORLDS)
def test_rows_agree_with_the_book_of_uneven_worlds(tmp_path: Path, name: str) -> None:
    world = {"horizons": HORIZONS, **WORLDS[name]}
    episodes, book = observed(tmp_path, **world)
    assert len(book) >= 15
    compare(episodes, book)
    if "fresh_ids" not in world and "n_players" not in world:
        compare_agents(episodes, book, decisions=False)
    assert all(entry.violations == entry.out_of_range == 0 for entry in book)
    if name == "respawn delay":
        assert any(one.earned is None for one in episodes), "no episode began and ended within one step"


def test_group_rewards_count_as_much_as_is_asked(tmp_path: Path) -> None:
    launch = UnityLaunch(file=make_player(tmp_path, agents=4, group_size=2, horizons=(7, 9)), timeout=20.0)
    environments = UnityVectorEnv(UnitySettings(launch=launch, group_weight=0.25))
    try:
        account = RowAccount(environments)
        for _ in range(40):
            account.step()
    finally:
        environments.close()
    book = read_book(tmp_path).since_last_reset()
    wanted = sorted(one.individual + 0.25 * one.group_return for one in book)
    assert len(wanted) >= 16
    assert min(abs(one.group_return) for one in book) > 0.01
    np.testing.assert_allclose(sorted(one.total for one in account.episodes), wanted, atol=TOLERANCE)


def test_who_is_left_out_comes_into_a_row_with_a_whole_episode(tmp_path: Path) -> None:
    """A row is free for some messages after each end, and the others ask meanwhile in the middle of theirs."""
    launch = UnityLaunch(file=make_player(tmp_path, agents=5, respawn_delay=4, horizons=HORIZONS), timeout=20.0)
    environments = UnityVectorEnv(UnitySettings(launch=launch, max_agents=2, others="random"))
    try:
        assert environments.spec.n_envs == 2
        account = RowAccount(environments)
        for _ in range(STEPS):
            account.step()
    finally:
        environments.close()
    booked = [(one.agent, one.individual) for one in read_book(tmp_path).since_last_reset()]
    assert len(account.episodes) >= 10
    for told in account.episodes:
        assert min(abs(told.total - total) for _, total in booked) < TOLERANCE


def _tries(environments: UnityVectorEnv, observations: Any, rng: np.random.Generator) -> Any:
    """At random, but seven rows in ten go to their targets, so that episodes end either way."""
    space, count = environments.spec.action_space, environments.spec.n_envs
    drawn = [space.sample() for _ in range(count)]
    way, aims = np.sign(observations[:, 2]), rng.random(count) < 0.7
    if isinstance(space, gym.spaces.Dict):
        actions = {key: np.stack([each[key] for each in drawn]) for key in space}
        actions["continuous"][aims, 0], actions["discrete"][aims] = way[aims], 1
        return actions
    chosen = np.stack(drawn)
    if isinstance(space, gym.spaces.Box):
        chosen[aims, 0] = way[aims]
    else:
        chosen.reshape(count, -1)[aims, 0] = np.where(way > 0, 2, 1)[aims]
    return chosen


def _sums(actions: Any) -> Any:
    parts = list(actions.values()) if isinstance(actions, Mapping) else [actions]
    return sum(np.asarray(part, np.float64).reshape(len(part), -1).sum(axis=1) for part in parts)


def _booked_total(entry: BookedEpisode) -> float:
    return entry.individual + entry.group_return
