from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.trees import Tree, leaves
from rl_framework.data.rollout import Rollout
from rl_framework.envs.source import open_environments
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.nn.distributions import Bernoulli, Categorical
from rl_framework.nn.model import Model, ModelOutput
from rl_framework.rollouts.sampling import sample, start
from rl_framework.rollouts.scoring import score
from tests.data.rollouts import assert_same
from tests.rollouts.counting_env import CountingEnv
from tests.rollouts.tiny_models import TinyModel, TinyRecurrent, generator, gradients, randomize

CART_POLE = gym.make("CartPole-v1")
MODELS: dict[str, Callable[[], Model]] = {
    "values with the actions": TinyModel,
    "values apart": lambda: TinyModel(separate=True),
    "recurrent": TinyRecurrent,
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def mixed_ends() -> CountingEnv:
    return CountingEnv([3, 5, 4, 7], is_cut=[True, False, True, False])


def assert_equal_trees(one: Tree, other: Tree) -> None:
    assert all(torch.equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


# --------------------------------------------------------------------------------------------- the books


@every_model
def test_columns_say_what_happened(make: Callable[[], Model]) -> None:
    env = CountingEnv([3, 5], is_cut=[True, False])
    rollout = sample(make(), env, 7, generator=generator())

    assert (len(rollout), rollout.n_rows) == (7, 2)
    assert rollout.observations[:, 0].tolist() == [
        [0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2], [0, 2, 0],
    ]  # fmt: skip
    assert rollout.rewards.t().tolist() == [[1, 2, 3, 1, 2, 3, 1], [1, 2, 3, 4, 5, 1, 2]]
    assert rollout.truncated.t().int().tolist() == [[0, 0, 1, 0, 0, 1, 0], [0] * 7]
    assert rollout.terminated.t().int().tolist() == [[0] * 7, [0, 0, 0, 0, 1, 0, 0]]
    assert rollout.starts.t().int().tolist() == [[1, 0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 0, 1, 0]]
    assert torch.equal(rollout.actions, torch.stack(env.actions))
    assert rollout.valid is rollout.masks is None


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_returns_of_a_counting_episode(gamma: float) -> None:
    rollout = sample(TinyModel(), CountingEnv([4, 9]), 6)
    found = rollout.returns(gamma, bootstrap=False)

    for row, end in ((0, 4), (1, 6)):
        for step in range(end):
            total = sum(gamma ** (k - step) * (k + 1) for k in range(step, end))
            assert float(found[step, row]) == pytest.approx(total, abs=1e-5)
    assert torch.equal(rollout[:-1].rewards, rollout.rewards[:6][:-1])


@every_model
def test_episodes_are_summed_up_over_horizons(make: Callable[[], Model]) -> None:
    policy, books = make(), CountingEnv([3, 5, 40], is_cut=[True, False, False], keeps_books=True)
    kept: list[EpisodeSummary] = []
    derived: list[EpisodeSummary] = []
    rollout = twin = None
    env = CountingEnv([3, 5, 40], is_cut=[True, False, False])
    for horizon in (4, 1, 7, 2, 11):
        rollout = sample(policy, books, horizon, after=rollout)
        twin = sample(policy, env, horizon, after=twin)
        kept.extend(rollout.episodes)
        derived.extend(twin.episodes)
        assert rollout.next is not None
        assert rollout.next.episode_lengths.tolist() == books.count.tolist()
        assert rollout.next.episode_returns.tolist() == [n * (n + 1) / 2 for n in books.count.tolist()]

    assert len(derived) == 13
    assert [replace(summary, success=None) for summary in kept] == derived
    assert all(summary.success for summary in kept)


@every_model
def test_two_halves_are_one_whole(make: Callable[[], Model]) -> None:
    policy, once, twice = make(), generator(), generator()
    whole = sample(policy, mixed_ends(), 12, generator=once)
    env = mixed_ends()
    first = sample(policy, env, 5, generator=twice)
    second = sample(policy, env, 7, generator=twice, after=first)
    joined = first + second

    assert_same(joined, whole)
    assert joined.stream is first.stream
    assert whole.next is not None
    assert joined.next is not None
    if policy.has_memory:
        assert_equal_trees(joined.next.state, whole.next.state)
    assert [*first.episodes, *second.episodes] == list(whole.episodes)
    assert env.n_resets == 1


class Asked(Categorical):
    """Says how it was asked for choices."""

    __slots__ = ()
    calls: ClassVar[list[str]] = []

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        self.calls.append("sample")
        return super().sample(generator)

    def sample_by(self, noise: Tensor) -> Tensor:
        self.calls.append("sample_by")
        return super().sample_by(noise)


@pytest.mark.parametrize("has_generator", [True, False])
def test_what_steps_draw_is_drawn_at_once_where_nobody_else_draws(
    monkeypatch: pytest.MonkeyPatch, *, has_generator: bool
) -> None:
    monkeypatch.setattr("tests.rollouts.tiny_models.Categorical", Asked)
    monkeypatch.setattr(Asked, "calls", [])
    once, twin = generator(), generator()
    rollout = sample(TinyModel(), mixed_ends(), 6, generator=once if has_generator else None)
    assert Asked.calls == ["sample"] + 5 * ["sample_by" if has_generator else "sample"]
    if has_generator:
        distribution = score(TinyModel(), rollout).distribution
        assert isinstance(distribution, Categorical)
        logits = distribution.logits.detach().view(6, 4, -1)
        expected = torch.stack([Categorical(step).sample(twin) for step in logits])
        assert torch.equal(rollout.actions, expected)
        assert torch.equal(once.get_state(), twin.get_state())


@every_model
def test_old_columns_are_written_over(make: Callable[[], Model]) -> None:
    policy = make()
    used = sample(policy, mixed_ends(), 6, generator=generator(1)).with_extras(mine=torch.zeros(6, 4))
    memory = used.rewards.data_ptr(), used.observations.data_ptr(), used.actions.data_ptr()
    fresh = sample(policy, mixed_ends(), 6, generator=generator())
    again = sample(policy, mixed_ends(), 6, generator=generator(), into=used)
    other = sample(policy, mixed_ends(), 9, generator=generator(), into=used)

    assert_same(again, fresh)
    assert (again.rewards.data_ptr(), again.observations.data_ptr(), again.actions.data_ptr()) == memory
    assert "mine" not in again.extras
    assert len(other) == 9
    assert_same(again, fresh)


def test_large_steps_go_straight_to_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = sample(TinyRecurrent(), mixed_ends(), 6, generator=generator(), state_interval=2)
    monkeypatch.setattr("rl_framework.rollouts.step_columns.LARGE_STEP", 1)
    large = sample(TinyRecurrent(), mixed_ends(), 6, generator=generator(), state_interval=2)
    pointer = large.rewards.data_ptr()
    again = sample(TinyRecurrent(), mixed_ends(), 6, generator=generator(), state_interval=2, into=large)

    assert_same(large, fresh)
    assert_same(again, fresh)
    assert_equal_trees(again.states, fresh.states)
    assert again.rewards.data_ptr() == pointer


# ------------------------------------------------------------------------------------- what is bootstrapped


@every_model
def test_a_cut_is_valued_by_what_really_followed(make: Callable[[], Model]) -> None:
    policy = make()
    rollout = sample(policy, CountingEnv([3, 3], is_cut=[True, False]), 5, generator=generator())
    assert rollout.values is not None
    assert rollout.next_values is not None
    assert rollout.next is not None
    actions_before = sample(policy, CountingEnv([9, 9]), 4, generator=generator())
    last = policy.values(rollout.next.observations, rollout.next.state)

    assert torch.equal(rollout.next_values[:2], rollout.values[1:3])
    assert torch.equal(rollout.next_values[3], rollout.values[4])
    assert torch.allclose(rollout.next_values[4], last, atol=1e-6)
    assert float(rollout.next_values[2, 1]) == 0.0, "nothing follows an ending"
    uncut = actions_before.values
    assert uncut is not None
    assert torch.allclose(rollout.next_values[2, 0], uncut[3, 0], atol=1e-6), "as if the episode had gone on"
    assert not torch.allclose(rollout.next_values[2, 0], rollout.values[3, 0])


def test_cuts_are_found_without_looking_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = {name: sample(make(), mixed_ends(), 9, generator=generator()) for name, make in MODELS.items()}
    monkeypatch.setattr("rl_framework.rollouts.step_recorder.can_look", lambda device: False)

    for name, make in MODELS.items():
        blind = sample(make(), mixed_ends(), 9, generator=generator())
        assert_same(blind, looked[name])


def test_values_in_blocks_are_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sample(TinyModel(separate=True), mixed_ends(), 9, generator=generator())
    monkeypatch.setattr("rl_framework.rollouts.bootstrap_values.CACHED_ROWS", 5)
    blocked = sample(TinyModel(separate=True), mixed_ends(), 9, generator=generator())

    for one, other in ((whole.values, blocked.values), (whole.next_values, blocked.next_values)):
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other, atol=1e-6)


class Wordless(TinyModel):
    """A policy without values."""

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        return self.act(observations, state, masks)


def test_a_policy_need_not_have_values() -> None:
    rollout = sample(Wordless(), mixed_ends(), 9)

    assert rollout.values is None
    assert rollout.next_values is None
    assert rollout.returns(0.9).shape == (9, 4)


# -------------------------------------------------------------------------------------------- how it acts


def test_masks_are_obeyed_and_kept() -> None:
    rollout = sample(TinyModel(), CountingEnv([5, 7], masked=True), 20)

    assert rollout.masks is not None
    assert rollout.masks.shape == (20, 2, 3)
    assert (~rollout.masks).sum(2).eq(1).all()
    assert rollout.masks.gather(2, rollout.actions.unsqueeze(2)).all()


@every_model
def test_deterministic_actions_are_the_modes(make: Callable[[], Model]) -> None:
    rollout = sample(make(), mixed_ends(), 9, deterministic=True)

    assert torch.equal(rollout.actions.flatten(), score(make(), rollout).distribution.mode())


@every_model
def test_nothing_else_is_touched(make: Callable[[], Model]) -> None:
    policy = make()
    policy.train()
    before = torch.get_rng_state()
    rollout = sample(policy, mixed_ends(), 5, generator=generator())

    assert policy.training
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert not any(column.requires_grad for _, column in rollout.named_columns())


def test_extras_are_carried() -> None:
    policy = TinyModel(separate=True)
    rollout = sample(policy, mixed_ends(), 5)

    assert torch.allclose(rollout.extras["logits"], policy.policy_layer(rollout.observations * 0.1), atol=1e-6)
    assert sample(TinyRecurrent(), mixed_ends(), 5).extras["age"][:, 0].tolist() == [1, 2, 3, 1, 2]


def test_memory_is_saved_now_and_then() -> None:
    rollout = sample(TinyRecurrent(), mixed_ends(), 8, state_interval=3)

    assert rollout.state_interval == 3
    assert rollout.states["age"][:, 1].tolist() == [0, 3, 1]
    assert sample(TinyRecurrent(), mixed_ends(), 8).states["hidden"].shape == (1, 4, 4)


class Balancer(Model):
    """Pushes a CartPole."""

    def __init__(self) -> None:
        super().__init__(CART_POLE.observation_space, CART_POLE.action_space)
        self.layer = torch.nn.Linear(4, 2)
        randomize(self, 0)

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        outputs = self.layer(observations)
        return ModelOutput(Categorical(outputs), outputs.sum(1))


def test_environments_on_the_host() -> None:
    with closing(open_environments([lambda: gym.make("CartPole-v1")] * 2, vectorization="serial")) as env:
        first = sample(Balancer(), env, 30, seed=1, generator=generator())
        second = sample(Balancer(), env, 30, after=first, generator=generator())

    assert first.observations.dtype == torch.float32
    assert first.episodes
    for episode in first.episodes:
        assert episode.total_reward == episode.length
    assert (
        sum(episode.length for episode in [*first.episodes, *second.episodes])
        + int(second.next.episode_lengths.sum() if second.next else 0)
        == 2 * 60
    )
    assert_same(first, _cart_poles(1))


def _cart_poles(seed: int) -> Rollout:
    with closing(open_environments([lambda: gym.make("CartPole-v1")] * 2, vectorization="serial")) as env:
        return sample(Balancer(), env, 30, seed=seed, generator=generator())


class Rounded(TinyModel):
    """Gives its numbers in another precision, as under autocast."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def act(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        return ModelOutput(Categorical(self.policy_layer(observations * 0.1).to(self.dtype)))

    def values(self, observations: Tree, state: Tree = None) -> Tensor:
        return super().values(observations, state).to(self.dtype)


@pytest.mark.parametrize(("dtype", "kept"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_mixed_precision_ends_with_the_policy(dtype: torch.dtype, kept: torch.dtype) -> None:
    rollout = sample(Rounded(dtype), mixed_ends(), 9)

    for column in (rollout.values, rollout.next_values, rollout.log_prob):
        assert column is not None
        assert column.dtype == kept


# ------------------------------------------------------------------------------------------------ gradients


@every_model
def test_gradients_of_sampling_are_those_of_scoring(make: Callable[[], Model]) -> None:
    policy, twin = make(), make()
    rollout = sample(policy, mixed_ends(), 9, gradients=True, generator=generator())
    again = score(twin, rollout.detach())

    assert not rollout.actions.requires_grad
    assert rollout.next_values is not None
    assert not rollout.next_values.requires_grad
    assert rollout.values is not None
    sampled = gradients(policy, _loss(rollout.log_prob, rollout.extras["entropy"], rollout.values))
    scored = gradients(twin, _loss(again.log_prob, again.entropy, again.values))
    for one, other in zip(sampled, scored, strict=True):
        assert float(one.abs().sum()) > 0
        assert torch.allclose(one, other, atol=1e-5)


def _loss(log_prob: Tensor | None, entropy: Tensor, values: Tensor | None) -> Tensor:
    assert log_prob is not None
    assert values is not None
    weights = torch.linspace(-1, 1, log_prob.numel()).view(log_prob.shape)
    return (weights * log_prob).sum() + entropy.square().sum() + (weights * values).sum()


def test_gradients_end_where_a_call_begins() -> None:
    policy, env = TinyRecurrent(), CountingEnv([50])
    first = sample(policy, env, 3, gradients=True)
    with torch.no_grad():
        second = sample(policy, env, 3, gradients=True, after=first)

    assert first.next is not None
    assert not any(leaf.requires_grad for leaf in leaves(first.next.state))
    assert not any(leaf.requires_grad for leaf in leaves(first.states))
    assert second.log_prob is not None
    assert first.log_prob is not None
    names = [name for name, _ in policy.named_parameters()]
    inside, outside = (
        gradients(policy, log_prob.sum())[names.index("begin")] for log_prob in (first.log_prob, second.log_prob)
    )
    assert inside.any()
    assert not outside.any()


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("horizon", {"horizon": 0}),
        ("horizon", {"horizon": 2.0}),
        ("state_interval", {"horizon": 3, "state_interval": 0}),
    ],
)
def test_numbers_are_refused_before_anything_happens(message: str, options: dict[str, Any]) -> None:
    env = CountingEnv([3])

    with pytest.raises(InvalidInputError, match=message):
        sample(TinyModel(), env, **options)
    assert env.n_resets == 0


def test_positions_that_do_not_belong_here_are_refused() -> None:
    rollout = sample(TinyModel(), mixed_ends(), 5)
    env = mixed_ends()

    for message, options in (
        ("4 rows, the environments have 2", {"env": CountingEnv([3, 3]), "after": rollout}),
        ("piece of another", {"env": env, "after": rollout[:3]}),
        ("seed=3", {"env": env, "after": rollout, "seed": 3}),
        ("TinyRecurrent has a memory", {"policy": TinyRecurrent(), "env": env, "after": rollout}),
    ):
        with pytest.raises(InvalidInputError, match=message):
            sample(**{"policy": TinyModel(), "horizon": 3, **options})  # type: ignore[arg-type]  # they go together


def test_another_policy_may_go_on() -> None:
    env = mixed_ends()
    rollout = sample(TinyRecurrent(), env, 5)
    beginning = start(TinyModel(), env, env.reset())

    assert sample(TinyModel(), env, 5, after=rollout).states is None
    assert sample(TinyRecurrent(), env, 5, after=beginning).states["age"].tolist() == [[0] * 4]


class Unfit(TinyModel):
    """Wrong in one way."""

    def __init__(self, wrong: str) -> None:
        super().__init__()
        self.wrong = wrong

    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        output = super().step(observations)
        match self.wrong:
            case "log_prob":
                return replace(output, distribution=Bernoulli(torch.zeros(4, 1)))
            case "rows":
                return replace(output, distribution=Categorical(torch.zeros(3, 3)))
            case "value":
                return replace(output, value=torch.zeros(4, 1))
            case "extras":
                return replace(output, extras={"mine": torch.zeros(())})
        return output


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("log_prob", r"\[4, 1\].*\[4\]"),
        ("rows", r"log-probabilities .*\[3\].*\[4\]"),
        ("value", r"values .*\[4, 1\].*\[4\]"),
        ("extras", r"'mine' .*\[\].*\[4, \.\.\.\]"),
    ],
)
def test_outputs_that_do_not_fit_are_named_in_the_first_step(wrong: str, message: str) -> None:
    env = mixed_ends()

    with pytest.raises(SpaceError, match=message):
        sample(Unfit(wrong), env, 5)
    assert not env.actions


def test_actions_of_another_space_are_named() -> None:
    env = CountingEnv([3, 3], action_space=spaces.MultiDiscrete([3, 3]))

    with pytest.raises(SpaceError, match=r"\[2\].*\[2, 2\]"):
        sample(TinyModel(), env, 5)
