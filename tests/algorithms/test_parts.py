from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from gymnasium import spaces

from rl_framework.algorithms.parts import Experience, Part, Parts, Workshop, flatten_parts
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError


class First(Part):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.processed = self.optimized = 0

    def process(self, experience: Experience) -> None:
        del experience
        self.processed += 1

    def optimize(self, step: int) -> dict[str, float]:
        self.optimized += 1
        return {"train/first": float(step)}

    def state_dict(self) -> dict[str, Any]:
        return {"processed": self.processed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.processed = state["processed"]


class Second(Part):
    needs: ClassVar[tuple[type[Part], ...]] = (First,)


class Unfit(First):
    """Cannot be set up."""

    def set_up(self, workshop: Workshop) -> None:
        raise SpaceError(f"not here, in {workshop.spec.action_space}")


class Third(Part):
    """Remembers whether all parts were there when it was set up."""

    found: First | None = None

    def set_up(self, workshop: Workshop) -> None:
        self.found = workshop.parts.find(First)


def workshop(parts: Parts) -> Workshop:
    spec = EnvSpec(n_envs=2, observation_space=spaces.Box(-1, 1, (3,)), action_space=spaces.Discrete(2))
    device = torch.device("cpu")
    return Workshop(spec=spec, device=device, generator=torch.Generator(), gammas=(0.9,), goal_reward=None, parts=parts)


def experience(n_envs: int = 2) -> Experience:
    nothing = torch.zeros(n_envs, dtype=torch.bool)
    seen = torch.zeros(n_envs, 3)
    return Experience(
        observations=seen,
        actions=torch.zeros(n_envs, dtype=torch.int64),
        rewards=torch.zeros(n_envs),
        next_observations=seen,
        terminated=nothing,
        truncated=nothing,
        following=seen,
    )


def traced(parts: Any) -> tuple[Parts, list[tuple[str, str]]]:
    trace: list[tuple[str, str]] = []
    return Parts(flatten_parts(parts), lambda name, hook: trace.append((name, hook))), trace


class TestOrder:
    def test_hooks_are_called_in_the_order_of_nested_lists(self) -> None:
        parts, trace = traced([Third(), [First(), [Second()]], []])
        parts.set_up(workshop(parts))
        parts.begin(torch.zeros(2, 3))
        parts.process(experience())
        metrics = parts.optimize(1)
        parts.load_state_dict(parts.state_dict())
        names = ("Third", "First", "Second")
        hooks = ("set_up", "begin", "process", "optimize", "save", "load")
        assert trace == [(name, hook) for hook in hooks for name in names]
        assert metrics == {"train/first": 1.0}

    def test_parts_find_those_behind_them_when_they_are_set_up(self) -> None:
        third, first = Third(), First()
        parts = Parts({"third": third, "first": first})
        parts.set_up(workshop(parts))
        assert third.found is first

    def test_a_part_may_be_left_out_of_learning(self) -> None:
        first, other = First(), First()
        parts = Parts({"one": first, "other": other})
        parts.optimize(3, without=first)
        assert (first.optimized, other.optimized) == (0, 1)


class TestNeeds:
    def test_what_is_missing_is_named(self) -> None:
        with pytest.raises(InvalidInputError, match=r"'second' \(Second\) needs a First.*third \(Third\)"):
            Parts({"second": Second(), "third": Third()})

    def test_none_stands_for_no_part(self) -> None:
        with pytest.raises(InvalidInputError, match="needs a First"):
            Parts({"first": None, "second": Second()})

    def test_get_names_what_there_is(self) -> None:
        with pytest.raises(InvalidInputError, match=r"no First, but third \(Third\)"):
            Parts({"third": Third()}).get(First)

    def test_an_unknown_name_is_told(self) -> None:
        with pytest.raises(UnknownOptionError, match="third"):
            Parts({"third": Third()})["thrid"]


class TestReplacing:
    def test_the_old_part_never_hears_of_anything_again(self) -> None:
        old, new = First(), First()
        parts, trace = traced({"first": old, "second": Second()})
        parts.set_up(workshop(parts))
        parts.process(experience())
        parts.replace("first", new, workshop(parts))
        trace.clear()
        parts.process(experience())
        parts.optimize(1)
        assert (old.processed, old.optimized) == (1, 0)
        assert (new.processed, new.optimized) == (1, 1)
        assert trace == [("first", "process"), ("second", "process"), ("first", "optimize"), ("second", "optimize")]

    def test_all_parts_meet_the_new_one(self) -> None:
        third, new = Third(), First()
        parts = Parts({"first": First(), "third": third})
        parts.set_up(workshop(parts))
        parts.replace("first", new, workshop(parts))
        assert third.found is new

    def test_a_part_that_others_need_cannot_be_replaced_by_another_kind(self) -> None:
        first = First()
        parts = Parts({"first": first, "second": Second()})
        with pytest.raises(InvalidInputError, match="needs a First"):
            parts.replace("first", Third(), workshop(parts))
        assert parts["first"] is first

    def test_a_part_that_cannot_be_set_up_changes_nothing(self) -> None:
        third, first = Third(), First()
        parts = Parts({"first": first, "third": third})
        parts.set_up(workshop(parts))
        with pytest.raises(SpaceError, match="not here"):
            parts.replace("first", Unfit(), workshop(parts))
        assert parts["first"] is first
        assert third.found is first

    def test_a_new_name_stands_behind_all_others(self) -> None:
        parts = Parts({"first": First()})
        parts.replace("second", Second(), workshop(parts))
        assert list(parts) == ["first", "second"]


class TestNames:
    def test_two_of_one_name_are_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="Two parts are called 'First'"):
            flatten_parts([First(), First()])

    def test_what_is_no_part_is_refused(self) -> None:
        with pytest.raises(InvalidInputError, match="Expected a Part for 'first', got int"):
            flatten_parts({"first": 3})

    def test_mappings_name_their_parts(self) -> None:
        assert list(flatten_parts({"one": First(), "more": [Second(), {"three": Third()}], "none": None})) == [
            "one",
            "Second",
            "three",
        ]


def test_the_state_of_other_parts_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"with the parts first; this one has third \(Third\)"):
        Parts({"third": Third()}).load_state_dict(Parts({"first": First()}).state_dict())
