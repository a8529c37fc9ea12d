"""The peer's game: its best return is the best, and its messages come as Unity's do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from rl_framework.envs.unity.launch import UnityLaunch
from rl_framework.envs.unity.player import UnityPlayer
from tests.envs.unity.peer.book import read_book
from tests.envs.unity.peer.players import make_player
from tests.envs.unity.peer.reacher import Reacher
from tests.envs.unity.peer.world import World, best_from, best_return, make_world

NAME = "Reach?team=0"


def play(agent: Reacher, aims_at: float) -> float:
    """The return of an episode that goes at full speed, and stops at a point."""
    agent.begin()
    agent.open_account()
    while not agent.reached and agent.ticks < agent.horizon:
        agent.obey([float(np.clip((agent.target + aims_at - agent.position) / 0.1, -1, 1))], [])
        agent.move()
    assert agent.account is not None
    return agent.account.individual


@pytest.mark.parametrize("horizon", [5, 50])
def test_going_straight_earns_the_best_return_and_nothing_else_more(horizon: int) -> None:
    world = make_world(horizons=(horizon,))
    agent = Reacher(world.behaviors[0], 0, 0, Random(1))
    for _ in range(200):
        straight = play(agent, aims_at=0.0)
        assert agent.account is not None
        assert straight == pytest.approx(agent.account.best, abs=1e-9)
        assert play(agent, aims_at=0.04) <= agent.account.best + 1e-9


def test_best_return_is_the_mean_over_starts() -> None:
    world = make_world(horizons=(10, 50))
    found = []
    for index in (0, 1):
        agent = Reacher(world.behaviors[0], index, index, Random(index))
        for _ in range(4000):
            agent.begin()
            found.append(best_from(agent.distance, agent.horizon))
    assert np.mean(found) == pytest.approx(best_return(world), abs=0.02)


def test_world_survives_its_file() -> None:
    world = make_world(sensors=[{"kind": "picture", "frames": 2}], horizons=[3, 4], fault="hang")
    assert World.from_dict(world.to_dict()) == world
    assert world.behaviors[0].sensors[0].shape == (6, 6, 10)
    assert replace(world.behaviors[0].sensors[0], layout="hwc").shape == (6, 10, 6)


@pytest.mark.parametrize(("period", "together"), [(1, True), (5, False)])
def test_end_comes_with_the_next_decision_only_where_every_tick_decides(
    tmp_path: Path, period: int, together: bool
) -> None:
    player = UnityPlayer(UnityLaunch(file=make_player(tmp_path, agents=1, horizons=(11,), period=period), timeout=20))
    try:
        player.reset()
        ends = [_end_and_decisions(player) for _ in range(40)]
    finally:
        player.close()
    found = [n_decisions for n_ends, n_decisions in ends if n_ends]
    assert len(found) >= 2
    assert (0 in found) is not together


def test_reset_starts_over_without_ends_and_notes_it(tmp_path: Path) -> None:
    player = UnityPlayer(UnityLaunch(file=make_player(tmp_path, agents=2), seed=7, timeout=20))
    try:
        player.reset()
        player.exchange()
        player.set_parameter("target", 0.5)
        player.reset()
        decisions, ends = player.steps(NAME)
    finally:
        player.close()
    assert len(ends.agent_id) == 0
    np.testing.assert_allclose(decisions.obs[0][:, 1], 0.5)
    book = read_book(tmp_path)
    assert book.of_kind("handshake")[0]["seed"] == 7
    assert {"name": "target", "value": 0.5} in book.of_kind("parameter")
    assert len(book.of_kind("reset")) == 2


def _end_and_decisions(player: UnityPlayer) -> tuple[int, int]:
    player.exchange()
    decisions, ends = player.steps(NAME)
    return len(ends.agent_id), len(decisions.agent_id)
