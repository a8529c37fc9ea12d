"""A player's messages as ML-Agents' records, beside what the package itself makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rl_framework.compat.mlagents_protocol import prepare
from rl_framework.envs.unity.decoding import NotFiniteError, steps_of
from rl_framework.errors import InvalidInputError

prepare()
BRANCHES = (3, 2)


def spec(branches: tuple[int, ...] = BRANCHES) -> Any:
    from mlagents_envs.base_env import (
        ActionSpec,
        BehaviorSpec,
        DimensionProperty,
        ObservationSpec,
        ObservationType,
    )

    sensors = [
        ObservationSpec(shape, (DimensionProperty.NONE,) * len(shape), ObservationType.DEFAULT, name)
        for name, shape in (("numbers", (4,)), ("rows", (2, 3)))
    ]
    return BehaviorSpec(sensors, ActionSpec(1, branches))


def agent(seed: int, **fields: Any) -> Any:
    from mlagents_envs.communicator_objects.agent_info_pb2 import AgentInfoProto

    rng = np.random.default_rng(seed)
    info = AgentInfoProto(id=seed, reward=rng.normal(), group_id=seed % 2, group_reward=rng.normal(), **fields)
    for shape in ((4,), (2, 3)):
        observation = info.observations.add(shape=shape)
        observation.float_data.data.extend(rng.normal(size=shape).ravel().tolist())
    return info


def same_columns(ours: Any, theirs: Any) -> None:
    for name in ("reward", "agent_id", "group_id", "group_reward"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    for mine, other in zip(ours.obs, theirs.obs, strict=True):
        assert mine.dtype == other.dtype
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("ended", [[], [0], [1, 3], [0, 1, 2, 3, 4]])
def test_decisions_and_ends_are_those_of_the_package(ended: list[int]) -> None:
    from mlagents_envs.rpc_utils import steps_from_proto

    infos = [
        agent(number, done=number in ended, max_step_reached=number == 3, action_mask=[True, False, False, False, True])
        for number in range(5)
    ]
    (decisions, terminals), (expected, ends) = steps_of(infos, spec()), steps_from_proto(infos, spec())
    same_columns(decisions, expected)
    same_columns(terminals, ends)
    np.testing.assert_array_equal(terminals.interrupted, ends.interrupted)
    if len(decisions):
        for mine, other in zip(decisions.action_mask, expected.action_mask, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_where_nothing_is_forbidden_there_is_no_mask() -> None:
    assert steps_of([agent(0)], spec())[0].action_mask is None
    assert steps_of([agent(0, action_mask=[])], spec(()))[0].action_mask is None


def test_agents_without_a_mask_beside_one_with_may_do_all() -> None:
    decisions, _ = steps_of([agent(0), agent(1, action_mask=[False, True, False, True, False])], spec())
    assert [mask.tolist() for mask in decisions.action_mask] == [
        [[False, False, False], [False, True, False]],
        [[False, False], [True, False]],
    ]


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="mask of 5 choices, got 4"):
        steps_of([agent(0, action_mask=[True] * 4)], spec())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("done", [False, True])
def test_what_is_no_finite_number_is_told_with_the_agent(value: float, *, done: bool) -> None:
    for field in ("reward", "group_reward"):
        bad = agent(7, done=done)
        setattr(bad, field, value)
        with pytest.raises(NotFiniteError, match=rf"^{field} is NaN or infinite for the agents \[7\]"):
            steps_of([agent(1), bad], spec())
    bad = agent(7, done=done)
    bad.observations[1].float_data.data[2] = value
    with pytest.raises(NotFiniteError, match=r"sensor 'rows' gave .* \[7\]"):
        steps_of([agent(1), bad], spec())


def test_great_numbers_are_no_mistake() -> None:
    great = agent(0)
    great.observations[0].float_data.data[:] = [3e38] * 4
    assert np.isfinite(steps_of([great, great], spec())[0].obs[0]).all()


def test_a_missing_sensor_is_named() -> None:
    bad = agent(0)
    del bad.observations[1]
    with pytest.raises(InvalidInputError, match="sensor 'rows'"):
        steps_of([bad], spec())
