"""The contract of vector environments notices back-ends that break it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from typing_extensions import override

from rl_framework.core.policy import BoolArray
from rl_framework.core.trees import Tree
from rl_framework.envs.serial import SerialVectorEnv
from rl_framework.envs.vector_env import EnvironmentState, EnvSpec, VectorStep
from rl_framework.errors import InvalidInputError
from rl_framework.testing.environments import MaskedCorridor
from rl_framework.testing.vector_env_case import RandomPlayer, VectorEnvCase
from rl_framework.testing.vector_env_contract import VectorEnvContract

Contract = Callable[[VectorEnvContract, VectorEnvCase, SerialVectorEnv], None]

SEED_OF_NOTHING = 3


class Poles(SerialVectorEnv):
    """Two poles, as they should be."""

    def __init__(self, make: Callable[[], gym.Env[Any, Any]] | None = None) -> None:
        make = make or partial(gym.make, "CartPole-v1", max_episode_steps=11)
        super().__init__([make() for _ in range(2)], owned=True)


class Corridors(Poles):
    """Two corridors with masks, as they should be."""

    def __init__(self) -> None:
        super().__init__(MaskedCorridor)


class Editing(Poles):
    """Changes each step; a subclass says how."""

    def edit(self, step: VectorStep) -> VectorStep:
        """The step that is told."""
        return step

    @override
    def recv(self) -> VectorStep:
        return self.edit(super().recv())


class WrongType(Editing):
    """Observations of another type than the space's."""

    @override
    def edit(self, step: VectorStep) -> VectorStep:
        return replace(step, observations=step.observations.astype(np.float64))


class Float32Rewards(Editing):
    """Rewards that lost digits."""

    @override
    def edit(self, step: VectorStep) -> VectorStep:
        return replace(step, rewards=step.rewards.astype(np.float32))


class NoFinal(Editing):
    """Keeps the last observations for itself."""

    @override
    def edit(self, step: VectorStep) -> VectorStep:
        return replace(step, final={})


class FinalOfTheNext(Editing):
    """Gives the next episode's first observation as the last one of the ended episode."""

    @override
    def edit(self, step: VectorStep) -> VectorStep:
        return replace(step, final={row: step.observations[row] for row in step.final})


class LostReward(Editing):
    """Tells a reward that the summaries do not count."""

    @override
    def edit(self, step: VectorStep) -> VectorStep:
        return replace(step, rewards=step.rewards + 0.01)


class LostStep(Editing):
    """Counts a step less than there were."""

    @override
    def edit(self, step: VectorStep) -> VectorStep:
        return replace(step, episodes=tuple(replace(one, length=one.length - 1) for one in step.episodes))


class Nameless(Editing):
    """Says that its rows are agents, and not in the summaries whose they are."""

    @property
    @override
    def spec(self) -> EnvSpec:
        return replace(super().spec, row_agents=("left", "right"), rows_per_game=2)


class SameArrays(Editing):
    """Writes each step into the same arrays."""

    rewards = np.zeros(2)
    observations = np.zeros((2, 4), np.float32)

    @override
    def edit(self, step: VectorStep) -> VectorStep:
        self.rewards[:], self.observations[:] = step.rewards, step.observations
        return replace(step, rewards=self.rewards, observations=self.observations)


class Unseeded(Poles):
    """Ignores the seed."""

    @override
    def reset(self, seed: int | None = None) -> Tree:
        return super().reset(None)


class Unscheduled(Poles):
    """Plays one seed only, and goes on after it."""

    @override
    def reset_to_schedule(self, seeds: Sequence[Sequence[int]]) -> Tree:
        return super().reset(SEED_OF_NOTHING)


class Restless(Poles):
    """Gives rewards while it rests."""

    @override
    def recv(self) -> VectorStep:
        step = super().recv()
        return replace(step, rewards=np.ones(2))


class Trusting(Poles):
    """Takes any actions."""

    @override
    def send(self, actions: Tree) -> None:
        try:
            super().send(actions)
        except InvalidInputError:
            super().send(np.zeros(2, np.int64))


class StaleMasks(Corridors):
    """Gives the same mask array again and again."""

    kept: BoolArray | None = None

    @property
    @override
    def action_masks(self) -> BoolArray | None:
        given = super().action_masks
        if self.kept is None or given is None:
            self.kept = given
        else:
            self.kept[:] = given
        return self.kept


class Immortal(Poles):
    """Can be used after it was closed."""

    @override
    def close(self) -> None:
        self._is_open = True


class Forgetful(Poles):
    """Says that it can be put back exactly, and begins anew."""

    @override
    def set_state(self, state: EnvironmentState) -> Tree:
        return self.reset(SEED_OF_NOTHING)


def case_of(make: Callable[[], SerialVectorEnv]) -> VectorEnvCase:
    """A case of two rows."""
    upright = None if issubclass(make, Corridors) else lambda observation: bool(np.abs(observation).max() <= 0.05)  # type: ignore[arg-type]  # Classes.
    return VectorEnvCase(name=str(make), open=make, n_envs=2, is_first=upright, has_masks=upright is None)


BROKEN: list[tuple[Callable[[], SerialVectorEnv], str]] = [
    (WrongType, "test_observations_are_batches_of_their_space"),
    (Float32Rewards, "test_rewards_flags_and_infos_have_one_value_per_row"),
    (NoFinal, "test_an_ended_row_has_its_last_observation_and_a_summary"),
    (FinalOfTheNext, "test_an_ended_row_has_its_last_observation_and_a_summary"),
    (LostReward, "test_summaries_agree_with_books_kept_beside"),
    (LostStep, "test_summaries_agree_with_books_kept_beside"),
    (Nameless, "test_the_rows_of_a_game_end_together"),
    (SameArrays, "test_arrays_are_the_callers_to_keep"),
    (Unseeded, "test_the_same_seed_gives_the_same_steps"),
    (Unscheduled, "test_a_schedule_gives_each_row_its_episodes_and_then_rest"),
    (Unscheduled, "test_a_resting_row_does_not_hold_up_the_others"),
    (Unscheduled, "test_a_scheduled_episode_is_the_same_in_any_game"),
    (Unscheduled, "test_a_schedule_needs_one_list_per_row"),
    (Unscheduled, "test_a_state_carries_schedule_and_rest"),
    (Restless, "test_a_schedule_gives_each_row_its_episodes_and_then_rest"),
    (StaleMasks, "test_masks_fit_the_actions"),
    (Trusting, "test_invalid_actions_are_refused_before_anything_moves"),
    (Immortal, "test_verbs_are_refused_out_of_turn_and_after_closing"),
    (Forgetful, "test_a_state_goes_on_as_exactly_as_it_says"),
]


@pytest.mark.parametrize(("make", "name"), BROKEN, ids=lambda part: getattr(part, "__name__", part))
def test_what_breaks_the_contract_fails_and_what_keeps_it_passes(
    make: Callable[[], SerialVectorEnv], name: str, tmp_path: Any
) -> None:
    sound = Corridors if make is StaleMasks else Poles
    run(sound, name, tmp_path)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(make, name, tmp_path)


def run(make: Callable[[], SerialVectorEnv], name: str, folder: Any) -> None:
    """One test of the contract, by hand."""
    given = {"case": case_of(make), "environments": make(), "elsewhere": make(), "tmp_path": folder}
    test = getattr(VectorEnvContract(), name)
    wanted = test.__func__.__code__.co_varnames[1 : test.__func__.__code__.co_argcount]
    test(**{argument: given[argument] for argument in wanted})


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(4, start=-2),
        gym.spaces.MultiDiscrete([2, 3], start=[5, 7]),
        gym.spaces.MultiBinary(3),
    ],
)
def test_a_random_player_takes_all_allowed_actions_and_no_other(space: Any) -> None:
    masks = {
        gym.spaces.Discrete: [0, 1, 0, 1],
        gym.spaces.MultiDiscrete: [0, 1, 1, 0, 1],
        gym.spaces.MultiBinary: [1, 1, 0, 1, 1, 0],
    }
    allowed: dict[Any, set[Any]] = {
        gym.spaces.Discrete: {-1, 1},
        gym.spaces.MultiDiscrete: {(6, 7), (6, 9)},
        gym.spaces.MultiBinary: {(0, 1, 0), (1, 1, 0)},
    }
    environments = Corridors()
    environments._spec = replace(environments.spec, n_envs=40)
    environments._masks = np.tile(np.array(masks[type(space)], np.bool_), (40, 1))
    drawn = RandomPlayer(space, 0).draw(environments)
    assert all(space.contains(action) for action in drawn)
    assert {tuple(action) if np.ndim(action) else int(action) for action in drawn} == allowed[type(space)]
