from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.algorithms.intrinsic_rewards import RNDBonus, RNDBonusConfig, as_intrinsic_config
from rl_framework.algorithms.parts import Experience, Parts, Workshop
from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL, OBSERVATION
from rl_framework.core.trees import Tree, batch_size
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import InvalidInputError, UnknownOptionError

PLANE = spaces.Box(-np.inf, np.inf, (2,), np.float32)
GOALS = spaces.Dict({OBSERVATION: PLANE, ACHIEVED_GOAL: PLANE, DESIRED_GOAL: PLANE})
SMALL = RNDBonusConfig(batch_size=8, learning_rate=1e-3, hidden_sizes=(32,), n_outputs=16)


def made(config: RNDBonusConfig = SMALL, space: gym.Space[Any] = PLANE, seed: int = 0) -> RNDBonus:
    bonus = RNDBonus(config)
    bonus.set_up(
        Workshop(
            spec=EnvSpec(n_envs=4, observation_space=space, action_space=spaces.Discrete(2)),
            device=torch.device("cpu"),
            generator=torch.Generator().manual_seed(seed),
            gammas=(0.9, 0.99),
            goal_reward=None,
            parts=Parts({}),
        )
    )
    return bonus


def experience(led_to: Tree) -> Experience:
    n = batch_size(led_to)
    nothing = torch.zeros(n, dtype=torch.bool)
    return Experience(
        observations=led_to,
        actions=torch.zeros(n, dtype=torch.int64),
        rewards=torch.zeros(n),
        next_observations=led_to,
        terminated=nothing,
        truncated=nothing,
        following=led_to,
    )


def batch(led_to: Tree) -> ReplayBatch:
    n = batch_size(led_to)
    return ReplayBatch(
        observations=led_to,
        actions=torch.zeros(n, dtype=torch.int64),
        rewards=torch.arange(n * 2).float().reshape(n, 2),
        next_observations=led_to,
        discounts=torch.ones(n, 2),
        rows=torch.arange(n),
    )


def around(place: float, n: int, seed: int) -> Tensor:
    return place + 0.3 * torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def test_what_was_seen_often_pays_less_than_what_is_new() -> None:
    bonus = made()
    bonus.process(experience(torch.cat([around(-1.0, 2, seed=900), around(1.0, 2, seed=901)])))
    for number in range(400):
        bonus.process(experience(around(-1.0, 4, seed=number)))

    old, new = bonus.bonus(batch(around(-1.0, 50, seed=902))), bonus.bonus(batch(around(3.0, 50, seed=903)))

    assert new.min().item() > 5.0 * old.max().item()


def test_it_is_measured_in_standard_deviations_of_discounted_sums() -> None:
    config = RNDBonusConfig(batch_size=10_000, gamma=0.5, weight=3.0, hidden_sizes=(8,), n_outputs=4)
    bonus, places = made(config), [around(0.0, 4, seed=number) for number in range(30)]
    sums, all_sums = np.zeros(4), []

    for place in places:
        bonus.process(experience(place))
        with torch.no_grad():
            novelty = bonus.network(place)
        sums = 0.5 * sums + novelty.double().numpy()
        all_sums.append(sums)

    asked = batch(around(1.0, 6, seed=99))
    with torch.no_grad():
        expected = 3.0 * bonus.network(asked.next_observations) / float(np.concatenate(all_sums).std())
    assert bonus.bonus(asked).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_it_is_added_under_every_discount_factor_and_changes_nothing_else() -> None:
    bonus, given = made(), batch(around(0.0, 5, seed=1))
    before = given.rewards.clone()

    richer = bonus.enrich(given)

    assert torch.allclose(richer.rewards - given.rewards, bonus.bonus(given)[:, None].expand(5, 2), atol=1e-5)
    assert torch.equal(given.rewards, before)
    assert richer.discounts is given.discounts
    assert richer.next_observations is given.next_observations


def test_paying_never_waits_for_the_device() -> None:
    bonus, given = made(), batch(around(0.0, 5, seed=1))

    with HostAccessRefused(torch.device("cpu")):
        paid = bonus.bonus(given)

    assert paid.shape == (5,)


def test_it_learns_from_every_transition_once_where_gradients_are_off() -> None:
    bonus = made()
    weights = [each.clone() for each in bonus.network.predictor.parameters()]

    def is_changed() -> bool:
        return any(not torch.equal(a, b) for a, b in zip(weights, bonus.network.predictor.parameters(), strict=True))

    with torch.no_grad():
        bonus.process(experience(around(0.0, 4, seed=0)))
        assert not is_changed()
        bonus.process(experience(around(0.0, 4, seed=1)))
    assert is_changed()
    assert bonus.state_dict()["new"] is None
    assert bonus.optimize(1)["intrinsic/novelty"] > 0.0


def test_what_is_desired_is_no_novelty() -> None:
    bonus = made(space=GOALS)
    place = around(0.0, 5, seed=0)

    def seen(wish: float) -> dict[str, Tensor]:
        return {OBSERVATION: place, ACHIEVED_GOAL: place, DESIRED_GOAL: place + wish}

    bonus.process(experience(seen(0.0)))

    assert torch.equal(bonus.bonus(batch(seen(0.0))), bonus.bonus(batch(seen(100.0))))


def test_it_goes_on_bit_for_bit_where_it_was_saved() -> None:
    first, second = made(space=GOALS, seed=1), made(space=GOALS, seed=2)

    def take(bonus: RNDBonus, numbers: range) -> None:
        for number in numbers:
            place = around(0.1 * number, 3, seed=number)
            bonus.process(experience({OBSERVATION: place, ACHIEVED_GOAL: place, DESIRED_GOAL: place}))

    take(first, range(10))  # 30 transitions; 3 are still to be learned from
    saved = first.state_dict()
    take(first, range(10, 20))
    take(second, range(2))
    second.load_state_dict(saved)
    take(second, range(10, 20))

    place = around(0.0, 10, seed=77)
    asked = batch({OBSERVATION: place, ACHIEVED_GOAL: place, DESIRED_GOAL: place})
    assert torch.equal(first.bonus(asked), second.bonus(asked))
    assert batch_size(saved["new"]) == 3


def test_pictures_are_seen() -> None:
    bonus = made(
        RNDBonusConfig(batch_size=4, hidden_sizes=(8,), n_outputs=4), spaces.Box(0, 255, (10, 10, 1), np.uint8)
    )
    pictures = torch.randint(256, (4, 10, 10, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = bonus.bonus(batch(pictures))

    for _ in range(20):
        bonus.process(experience(pictures))

    assert bonus.network(pictures).mean().item() < before.mean().item()


def test_setting_up_again_keeps_what_is_known() -> None:
    bonus = made()
    asked = batch(around(0.0, 4, seed=0))
    before = bonus.bonus(asked)

    bonus.set_up(
        Workshop(
            spec=EnvSpec(n_envs=4, observation_space=PLANE, action_space=spaces.Discrete(2)),
            device=torch.device("cpu"),
            generator=torch.Generator().manual_seed(5),
            gammas=(0.9,),
            goal_reward=None,
            parts=Parts({}),
        )
    )

    assert torch.equal(bonus.bonus(asked), before)


def test_settings_are_checked() -> None:
    assert as_intrinsic_config("rnd") == RNDBonusConfig()
    assert as_intrinsic_config({"kind": "rnd", "hidden_sizes": [8, 8]}) == RNDBonusConfig(hidden_sizes=(8, 8))
    with pytest.raises(UnknownOptionError, match=r"Unknown intrinsic reward: 'rdn'\. Did you mean 'rnd'"):
        as_intrinsic_config("rdn")
    with pytest.raises(InvalidInputError, match=r"gamma of the RND bonus .*\[0, 1\], got 1\.5"):
        RNDBonusConfig(gamma=1.5)
    with pytest.raises(InvalidInputError, match="batch_size of the RND bonus"):
        RNDBonusConfig(batch_size=0)
    with pytest.raises(InvalidInputError, match="not set up"):
        RNDBonus().bonus(batch(torch.zeros(1, 2)))
