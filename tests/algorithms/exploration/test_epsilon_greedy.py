from __future__ import annotations

import pytest
import torch

from rl_framework.algorithms.exploration.epsilon_greedy import EpsilonGreedy, EpsilonGreedyConfig
from rl_framework.errors import InvalidInputError, SpaceError
from tests.algorithms.exploration.noisy_actors import (
    CHOICES,
    NUMBERS,
    AlreadyThere,
    SameEverywhere,
    experience,
    observations,
    workshop,
)


def test_epsilon_falls_in_a_straight_line_over_the_steps_of_all_environments() -> None:
    exploration = EpsilonGreedy(EpsilonGreedyConfig(initial=1.0, final=0.1, decay_steps=100))
    found = [exploration.epsilon]

    for _ in range(30):
        exploration.process(experience(4))
        found.append(exploration.epsilon)

    assert found == pytest.approx([1.0 - 0.9 * min(1.0, 4 * step / 100) for step in range(31)])


def test_choices_are_random_row_by_row_and_the_best_otherwise() -> None:
    exploration = EpsilonGreedy(EpsilonGreedyConfig(initial=0.4, final=0.4))
    actor = SameEverywhere(torch.tensor(2))
    workshop(CHOICES, {"exploration": exploration})

    choices = exploration.act(actor, observations(20_000), generator=torch.Generator().manual_seed(0))

    expected = torch.full((5,), 20_000 * 0.4 / 5)
    expected[2] += 20_000 * 0.6
    counts = torch.bincount(choices, minlength=5)
    assert actor.asked == [True]
    assert choices.dtype == torch.int64
    assert ((counts - expected).square() / expected).sum().item() < 18.5  # 4 degrees of freedom, one in a thousand


def test_random_choices_are_likelier_where_the_goal_is_reached() -> None:
    exploration = EpsilonGreedy(EpsilonGreedyConfig(final=0.0, decay_steps=0))
    workshop(CHOICES, {"goals": AlreadyThere(torch.tensor([0.0, 1.0]).repeat(500)), "exploration": exploration})

    choices = exploration.act(
        SameEverywhere(torch.tensor(2)), observations(1000), generator=torch.Generator().manual_seed(0)
    )

    assert bool((choices[::2] == 2).all())
    assert set(choices[1::2].tolist()) == {0, 1, 2, 3, 4}


def test_it_goes_on_where_it_was_saved() -> None:
    exploration, other = EpsilonGreedy(), EpsilonGreedy()
    for _ in range(100):
        exploration.process(experience(7))

    other.load_state_dict(exploration.state_dict())

    assert other.epsilon == exploration.epsilon == pytest.approx(1.0 - 0.9 * 0.07)


def test_numbers_are_refused() -> None:
    with pytest.raises(SpaceError, match="EpsilonGreedy needs actions that are a Discrete, got Box"):
        workshop(NUMBERS, {"exploration": EpsilonGreedy()})


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"final of epsilon-greedy exploration .*\[0, 1\], got 2"):
        EpsilonGreedyConfig(final=2)
    with pytest.raises(InvalidInputError, match=r"decay_steps .* whole number from 0, got -1"):
        EpsilonGreedyConfig(decay_steps=-1)
