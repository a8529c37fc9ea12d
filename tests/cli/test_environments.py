from __future__ import annotations

import sys

import gymnasium as gym
import pytest

from rl_framework.cli.environments import registered_environments
from tests.cli.commands import fail, succeed


def test_environments_are_listed_in_groups() -> None:
    groups = registered_environments()
    assert "CartPole-v1" in groups["classic_control"]
    assert "Ant-v5" in groups["mujoco"]
    assert list(groups) == sorted(groups)


def test_a_part_of_the_id_narrows_the_list() -> None:
    assert succeed("environments", "CARTPOLE").splitlines()[:3] == ["classic_control", "  CartPole-v0", "  CartPole-v1"]


def test_environments_that_were_removed_are_not_listed() -> None:
    assert "GymV21Environment-v0" in gym.registry
    assert all("GymV21Environment-v0" not in ids for ids in registered_environments().values())


def test_a_pattern_without_a_match_is_bad_input() -> None:
    assert "Did you mean CartPole-v" in fail("environments", "CartPole-v9")


def test_games_that_are_installed_are_a_group() -> None:
    pytest.importorskip("mpe2")
    games = registered_environments("pettingzoo:")["pettingzoo"]
    assert "pettingzoo:mpe/simple_spread_v3" in games
    assert "pettingzoo:classic/connect_four_v3" in games


def test_without_pettingzoo_there_is_no_such_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    assert "pettingzoo" not in registered_environments()


def test_environments_made_of_tensors_are_a_group() -> None:
    assert "tensor:CartPole" in registered_environments()["tensors"]
