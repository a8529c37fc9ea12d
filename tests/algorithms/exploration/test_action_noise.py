from __future__ import annotations

from typing import Any

import pytest
import torch

from rl_framework.algorithms.exploration.action_noise import (
    ActionNoise,
    GaussianNoise,
    GaussianNoiseConfig,
    OrnsteinUhlenbeckNoise,
    OrnsteinUhlenbeckNoiseConfig,
    PolicyRandomness,
    PolicyRandomnessConfig,
)
from rl_framework.algorithms.exploration.configs import EXPLORATIONS, as_exploration_config
from rl_framework.algorithms.host_access import HostAccessRefused
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError
from tests.algorithms.exploration.noisy_actors import (
    CHOICES,
    NUMBERS,
    AlreadyThere,
    SameEverywhere,
    experience,
    observations,
    workshop,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gaussian_noise_has_the_spread_that_was_asked_for_and_is_independent() -> None:
    noise, actor = GaussianNoise(GaussianNoiseConfig(std=0.05)), SameEverywhere(torch.tensor([0.1, -0.2, 0.3]))
    workshop(NUMBERS, {"exploration": noise})

    actions = noise.act(actor, observations(20_000), generator=generator())

    assert actor.asked == [False]
    assert actions.mean(0).tolist() == pytest.approx([0.1, -0.2, 0.3], abs=2e-3)
    assert actions.std(0).tolist() == pytest.approx([0.05] * 3, rel=0.02)
    assert (actions.t().corrcoef() - torch.eye(3)).abs().max().item() < 0.03


@pytest.mark.parametrize("kind", ["gaussian", "ornstein_uhlenbeck"])
def test_noise_becomes_less_in_a_straight_line_over_the_steps_of_all_environments(kind: str) -> None:
    settings = {"kind": kind, "std": 0.4, "final_std": 0.1, "decay_steps": 30}
    noise, other = (as_exploration_config(settings).make() for _ in range(2))
    assert isinstance(noise, ActionNoise)
    assert isinstance(other, ActionNoise)
    workshop(NUMBERS, {"exploration": noise})
    workshop(NUMBERS, {"exploration": other})
    seen = []

    for _ in range(4):
        seen.append(noise.std)
        noise.act(SameEverywhere(torch.zeros(3)), observations(10), generator=generator())
        noise.process(experience(10, torch.zeros(10, dtype=torch.bool)))
        other.load_state_dict(noise.state_dict())

    assert seen == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert (noise.std, other.std) == (0.1, 0.1)
    as_given = as_exploration_config({"kind": kind, "std": 0.4}).make()
    assert isinstance(as_given, ActionNoise)
    assert as_given.std == 0.4


def test_the_noise_that_is_drawn_is_that_of_now() -> None:
    noise = GaussianNoise(GaussianNoiseConfig(std=0.2, final_std=0.05, decay_steps=10))
    workshop(NUMBERS, {"exploration": noise})
    spread = []

    for _ in range(2):
        actions = noise.act(SameEverywhere(torch.zeros(3)), observations(5000), generator=generator())
        spread.append(float(actions.std()))
        noise.process(experience(10, torch.zeros(10, dtype=torch.bool)))

    assert spread == pytest.approx([0.2, 0.05], rel=0.03)


def test_actions_stay_within_bounds() -> None:
    noise = GaussianNoise(GaussianNoiseConfig(std=5.0))
    workshop(NUMBERS, {"exploration": noise})

    actions = noise.act(SameEverywhere(torch.ones(3)), observations(1000), generator=generator())

    assert actions.abs().max().item() == 1.0
    assert actions.min().item() == -1.0


def test_varied_noise_grows_from_environment_to_environment() -> None:
    noise = GaussianNoise(GaussianNoiseConfig(std=0.1, varied=True))
    workshop(NUMBERS, {"exploration": noise})
    source = generator()

    drawn = torch.stack(
        [noise.act(SameEverywhere(torch.zeros(3)), observations(5), generator=source) for _ in range(2000)]
    )

    assert drawn.std((0, 2)).tolist() == pytest.approx([0.0, 0.025, 0.05, 0.075, 0.1], rel=0.05, abs=1e-9)


def test_varied_noise_of_a_single_environment_is_the_whole_of_it() -> None:
    noise = GaussianNoise(GaussianNoiseConfig(std=0.1, varied=True))
    workshop(NUMBERS, {"exploration": noise})

    assert noise.act(SameEverywhere(torch.zeros(3)), observations(1), generator=generator()).abs().min().item() > 0.0


@pytest.mark.parametrize("make", [PolicyRandomnessConfig, GaussianNoiseConfig, OrnsteinUhlenbeckNoiseConfig])
def test_some_actions_are_replaced_by_random_ones_row_by_row(make: Any) -> None:
    settings = {} if make is PolicyRandomnessConfig else {"std": 0.0}
    exploration = make(epsilon=0.3, **settings).make()
    workshop(NUMBERS, {"exploration": exploration})

    actions = exploration.act(SameEverywhere(torch.full((3,), 0.5)), observations(10_000), generator=generator())

    random = (actions != 0.5).all(1)
    assert bool(((actions == 0.5).all(1) | random).all())  # a row is replaced as a whole
    assert random.float().mean().item() == pytest.approx(0.3, abs=0.015)
    counts = torch.histc(actions[random], bins=10, min=-1.0, max=1.0)
    expected = random.sum() * 3 / 10
    assert ((counts - expected).square() / expected).sum().item() < 27.9  # 9 degrees of freedom, one in a thousand


def test_random_actions_are_likelier_where_the_goal_is_reached() -> None:
    exploration = PolicyRandomness(PolicyRandomnessConfig(epsilon=0.1))
    extra = torch.tensor([0.0, 0.2, 5.0]).repeat(5000)
    workshop(NUMBERS, {"goals": AlreadyThere(extra), "exploration": exploration})

    actions = exploration.act(SameEverywhere(torch.full((3,), 0.5)), observations(15_000), generator=generator())

    share = (actions != 0.5).all(1).float().reshape(5000, 3).mean(0)
    assert share.tolist() == pytest.approx([0.1, 0.3, 1.0], abs=0.02)


def test_without_epsilon_nothing_is_drawn_for_it() -> None:
    exploration, source = PolicyRandomness(), generator()
    workshop(NUMBERS, {"exploration": exploration})
    before = source.get_state()

    exploration.act(SameEverywhere(torch.zeros(3)), observations(4), generator=source)

    assert torch.equal(source.get_state(), before)


def test_ornstein_uhlenbeck_noise_is_its_recurrence_and_starts_anew_with_an_episode() -> None:
    config = OrnsteinUhlenbeckNoiseConfig(std=0.3, theta=0.4, dt=0.1)
    noise, source, twin = OrnsteinUhlenbeckNoise(config), generator(3), generator(3)
    workshop(NUMBERS, {"exploration": noise})
    wanted = torch.zeros(2, 3)

    for step in range(12):
        actions = noise.act(SameEverywhere(torch.zeros(3)), observations(2), generator=source)
        wanted = wanted + 0.4 * (0.0 - wanted) * 0.1 + 0.3 * 0.1**0.5 * torch.randn(2, 3, generator=twin)
        assert torch.allclose(actions, wanted, atol=1e-6)
        ended = torch.tensor([step == 5, False])
        noise.process(experience(2, ended))
        wanted = torch.where(ended[:, None], torch.zeros(2, 3), wanted)


def test_ornstein_uhlenbeck_noise_starts_anew_where_environments_were_reset() -> None:
    noise = OrnsteinUhlenbeckNoise()
    workshop(NUMBERS, {"exploration": noise})
    actor = SameEverywhere(torch.zeros(3))
    first = noise.act(actor, observations(2), generator=generator(7))
    noise.act(actor, observations(2), generator=generator(8))

    noise.begin(observations(2))

    assert torch.equal(noise.act(actor, observations(2), generator=generator(7)), first)


def test_ornstein_uhlenbeck_noise_goes_on_where_it_was_saved() -> None:
    noise, source = OrnsteinUhlenbeckNoise(), generator(4)
    workshop(NUMBERS, {"exploration": noise})
    actor = SameEverywhere(torch.zeros(3))
    for _ in range(5):
        noise.act(actor, observations(2), generator=source)
    saved, drawn = noise.state_dict(), source.get_state()
    other, twin = OrnsteinUhlenbeckNoise(), generator()
    workshop(NUMBERS, {"exploration": other})
    expected = noise.act(actor, observations(2), generator=source)

    other.load_state_dict(saved)
    twin.set_state(drawn)

    assert torch.equal(other.act(actor, observations(2), generator=twin), expected)


@pytest.mark.parametrize("kind", ["gaussian", "ornstein_uhlenbeck", "policy"])
def test_acting_never_waits_for_the_device(kind: str) -> None:
    exploration = as_exploration_config({"kind": kind, "epsilon": 0.2}).make()
    workshop(NUMBERS, {"goals": AlreadyThere(torch.full((4,), 0.5)), "exploration": exploration})
    actor = SameEverywhere(torch.zeros(3))

    with HostAccessRefused(torch.device("cpu")):
        actions = exploration.act(actor, observations(4), generator=generator())
        exploration.process(experience(4))

    assert actions.shape == (4, 3)


def test_noise_on_choices_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"GaussianNoise needs actions that are a Box, got Discrete\(5\)"):
        workshop(CHOICES, {"exploration": GaussianNoise()})


@pytest.mark.parametrize("kind", EXPLORATIONS)
def test_kinds_can_be_named_and_written_in_json(kind: str) -> None:
    assert as_exploration_config(kind) == EXPLORATIONS[kind]()
    assert as_exploration_config({"kind": kind}).kind == kind
    assert as_exploration_config(kind).make().config == EXPLORATIONS[kind]()  # type: ignore[attr-defined]  # all have one


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"std of noise .*\[0, inf\], got -1"):
        GaussianNoiseConfig(std=-1.0)
    with pytest.raises(InvalidInputError, match=r"epsilon of an exploration .*\[0, 1\], got 1.5"):
        as_exploration_config({"kind": "policy", "epsilon": 1.5})
    with pytest.raises(InvalidInputError, match="theta of Ornstein-Uhlenbeck noise"):
        OrnsteinUhlenbeckNoiseConfig(theta=float("nan"))
    with pytest.raises(UnknownOptionError, match=r"Unknown exploration: 'gausian'\. Did you mean 'gaussian'"):
        as_exploration_config("gausian")
