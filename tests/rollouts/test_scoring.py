from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import pytest
import torch
from torch import Tensor

from rl_framework.core.trees import Tree
from rl_framework.data.rollout import Rollout, concatenate_rows
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.nn.actor_critic import ActorCritic, ActorCriticConfig
from rl_framework.nn.distributions import Categorical
from rl_framework.nn.model import Model, ModelOutput
from rl_framework.rollouts.sampling import sample
from rl_framework.rollouts.scoring import Scores, score
from tests.rollouts.counting_env import CountingEnv, NestedCountingEnv
from tests.rollouts.tiny_models import TinyModel, TinyRecurrent, generator, gradients

every_model = pytest.mark.parametrize("make", [TinyModel, TinyRecurrent])
GAMMA = 0.9


def recorded(policy: Model, *, n_steps: int = 12, state_interval: int | None = None, masked: bool = False) -> Rollout:
    env = CountingEnv([3, 5, 4, 7], is_cut=[True, False, True, False], masked=masked)
    return sample(policy, env, n_steps, generator=generator(), state_interval=state_interval)


def middle(policy: Model) -> Rollout:
    """A rollout that begins within episodes, with a memory that is not that of a beginning."""
    env = CountingEnv([3, 50, 4, 70], is_cut=[True, False, True, False])
    first = sample(policy, env, 5, generator=generator())
    return sample(policy, env, 8, after=first, generator=generator(1))


def total(scores: Scores, rollout: Rollout) -> Tensor:
    """A loss to which everything that is scored contributes, different for each step."""
    assert scores.values is not None
    weight = rollout.extras["returns"]
    return (weight * scores.log_prob + scores.entropy * scores.values + scores.values.square()).mean()


def assert_same_scores(one: Scores, log_prob: Tensor | None, values: Tensor | None) -> None:
    assert one.values is not None
    assert log_prob is not None
    assert values is not None
    assert torch.allclose(one.log_prob, log_prob, atol=1e-6)
    assert torch.allclose(one.values, values, atol=1e-6)


@every_model
@pytest.mark.parametrize("make_rollout", [recorded, middle])
def test_the_same_weights_say_the_same_again(
    make: Callable[[], Model], make_rollout: Callable[[Model], Rollout]
) -> None:
    policy = make()
    rollout = make_rollout(policy)
    again = score(policy, rollout)

    assert_same_scores(again, rollout.log_prob, rollout.values)
    assert again.log_prob.shape == again.entropy.shape == (len(rollout), 4)
    for name, numbers in rollout.extras.items():
        assert torch.allclose(again.extras[name], numbers, atol=1e-6)
    assert torch.equal(again.entropy.flatten(), again.distribution.entropy())


@every_model
def test_scores_of_scores_are_the_scores(make: Callable[[], Model]) -> None:
    policy, rollout = make(), recorded(make())
    once = score(policy, rollout)
    twice = score(policy, replace(rollout, log_prob=once.log_prob.detach(), values=None))

    assert torch.equal(once.log_prob, twice.log_prob)


def test_masks_count() -> None:
    rollout = recorded(TinyModel(), masked=True)

    assert_same_scores(score(TinyModel(), rollout), rollout.log_prob, rollout.values)
    assert not torch.allclose(
        score(TinyModel(), replace(rollout, masks=None)).entropy, score(TinyModel(), rollout).entropy
    )


@every_model
def test_any_other_policy_can_be_asked(make: Callable[[], Model]) -> None:
    actor, other = TinyModel(seed=5), make()
    rollout = recorded(actor)
    found = score(other, rollout)
    state = other.initial_state(4)

    for step in range(len(rollout)):
        if other.has_memory:
            assert isinstance(other, TinyRecurrent)
            fresh = other.initial_state(4)
            state = {name: pick(rollout.starts[step], fresh[name], state[name]) for name in state}
        output = other.step(rollout.observations[step], state)
        state = output.state
        assert torch.allclose(found.log_prob[step], output.distribution.log_prob(rollout.actions[step]), atol=1e-6)
    assert rollout.log_prob is not None
    assert not torch.allclose(found.log_prob, rollout.log_prob)


def pick(where: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(where.view(-1, *[1] * (one.dim() - 1)), one, other)


def test_memory_is_handed_on_with_all_its_gradients() -> None:
    policy, twin = TinyRecurrent(), TinyRecurrent()
    rollout = middle(policy)
    rollout = rollout.with_extras(returns=rollout.returns(GAMMA))
    assert not rollout.starts[0].all(), "some memory is that of steps before"

    found = gradients(policy, total(score(policy, rollout), rollout))
    expected = gradients(twin, total(by_hand(twin, rollout), rollout))
    for one, other in zip(found, expected, strict=True):
        assert other.any()
        assert torch.allclose(one, other, atol=1e-6)


def by_hand(policy: TinyRecurrent, rollout: Rollout) -> Scores:
    """Row by row and step by step, as one would write it down."""
    columns = []
    for row in range(rollout.n_rows):
        hidden, cells = rollout.states["hidden"][0, row], []
        for step in range(len(rollout)):
            if rollout.starts[step, row]:
                hidden = policy.begin
            hidden = policy.cell(rollout.observations[step, row] * 0.1, hidden)
            log_probs = torch.log_softmax(policy.policy_layer(hidden), 0)
            entropy = -(log_probs.exp() * log_probs).sum()
            cells.append(torch.stack([log_probs[rollout.actions[step, row]], entropy, policy.value_layer(hidden)[0]]))
        columns.append(torch.stack(cells))
    log_prob, entropies, values = torch.stack(columns, 1).unbind(2)
    empty = Categorical(torch.zeros(1, 1))
    return Scores(log_prob=log_prob, entropy=entropies, values=values, extras={}, distribution=empty)


@every_model
def test_episodes_of_unequal_length_are_scored_as_one_by_one(make: Callable[[], Model]) -> None:
    policy = make()
    rollout = recorded(policy)
    together = score(policy, rollout)

    for row in range(4):
        begins = [*rollout.starts[:, row].nonzero().flatten().tolist(), len(rollout)]
        for first, stop in pairwise(begins):
            alone = score(policy, rollout[first:stop].rows(row))
            assert torch.allclose(alone.log_prob[:, 0], together.log_prob[first:stop, row], atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_sequences_go_on_from_the_memory_that_was_saved(length: int) -> None:
    policy = TinyRecurrent()
    rollout = recorded(policy, state_interval=length)

    for batch in rollout.minibatches(4 * length, sequence_length=length, generator=generator(2)):
        assert_same_scores(score(policy, batch), batch.log_prob, batch.values)
    if length in {3, 6}:
        assert_same_scores(score(policy, rollout[6:]), rollout.log_prob[6:], rollout.values[6:])  # type: ignore[index]  # it has them


@every_model
def test_loss_and_gradient_do_not_depend_on_order(make: Callable[[], Model]) -> None:
    policy = make()
    rollout = recorded(policy)
    rollout = rollout.with_extras(returns=rollout.returns(GAMMA))
    whole = gradients(policy, total(score(policy, rollout), rollout))

    mixed = rollout.shuffled(generator(3))
    joined = concatenate_rows([rollout.rows([2, 0]), rollout.rows([1, 3])])
    (batch,) = rollout.minibatches()
    for other in (mixed, joined, batch):
        loss = total(score(policy, other), other)
        assert torch.allclose(loss, total(score(policy, rollout), rollout), atol=1e-6)
        for one, twin in zip(gradients(policy, loss), whole, strict=True):
            assert torch.allclose(one, twin, atol=1e-6)


@every_model
def test_parts_add_up_to_the_whole_gradient(make: Callable[[], Model]) -> None:
    policy = make()
    rollout = recorded(policy)
    (batch,) = rollout.with_extras(returns=rollout.returns(GAMMA)).minibatches()
    whole = gradients(policy, total(score(policy, batch), batch))

    shares = [
        gradients(policy, total(score(policy, part), part) * (part.n_transitions / batch.n_transitions))
        for part in batch.parts(15)
    ]
    assert len(shares) > 1
    for one, *pieces in zip(whole, *shares, strict=True):
        assert torch.allclose(one, torch.stack(pieces).sum(0), atol=1e-6)


def test_a_rollout_in_two_times_scores_like_its_pieces() -> None:
    policy = TinyRecurrent()
    env = CountingEnv([3, 50])
    first = sample(policy, env, 4, generator=generator())
    second = sample(policy, env, 5, generator=generator(), after=first)
    joined = score(policy, first + second)

    assert first.log_prob is not None
    assert second.log_prob is not None
    assert torch.allclose(joined.log_prob, torch.cat([first.log_prob, second.log_prob]), atol=1e-6)


@pytest.mark.parametrize("memory", [None, "lstm", "attention"])
def test_the_shipped_networks_on_nested_spaces(memory: Literal["lstm", "attention"] | None) -> None:
    env = NestedCountingEnv([3, 5, 4], is_cut=[True, False, True])
    config = ActorCriticConfig(hidden_sizes=(8,), memory=memory, memory_size=8)
    policy = ActorCritic(env.spec.observation_space, env.spec.action_space, config)
    rollout = sample(policy, env, 8, generator=generator(), state_interval=4)

    assert_same_scores(score(policy, rollout), rollout.log_prob, rollout.values)
    for batch in rollout.minibatches(12, generator=generator(), sequence_length=4 if memory else None):
        assert_same_scores(score(policy, batch), batch.log_prob, batch.values)
    assert {name: tuple(leaf.shape) for name, leaf in env.actions[0].items()} == {
        "button": (3,), "levers": (3, 2), "push": (3, 2),
    }  # fmt: skip
    again = policy.targets(env.actions[3])
    assert torch.equal(again["button"], rollout.actions["button"][3])


class BothAtOnce:
    """A distribution that knows a shorter way to both."""

    def __init__(self, inner: Categorical) -> None:
        self.inner = inner

    def log_prob_and_entropy(self, targets: Tree) -> tuple[Tensor, Tensor]:
        return self.inner.log_prob(targets) + 1, self.inner.entropy() + 2


class Short(TinyModel):
    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        output = super().step(observations)
        return replace(output, distribution=BothAtOnce(output.distribution))  # type: ignore[arg-type]  # score needs no more


def test_the_shorter_way_to_both_is_taken() -> None:
    rollout = recorded(TinyModel())
    plain, short = score(TinyModel(), rollout), score(Short(), rollout)

    assert torch.equal(short.log_prob, plain.log_prob + 1)
    assert torch.equal(short.entropy, plain.entropy + 2)


def test_lost_memory_is_not_guessed() -> None:
    rollout = recorded(TinyRecurrent(), state_interval=12)
    unrelated = replace(rollout[2:], states=torch.zeros(1, 4, 9))

    for piece, message in ((rollout[2:], "missing"), (unrelated, "of another form")):
        with pytest.raises(InvalidInputError, match=message):
            score(TinyRecurrent(), piece)
    opening = replace(rollout, states=None)
    assert rollout.log_prob is not None
    assert torch.allclose(score(TinyRecurrent(), opening).log_prob, rollout.log_prob, atol=1e-6)


class PerPart(BothAtOnce):
    """Forgets to add up the parts of an action."""

    def log_prob_and_entropy(self, targets: Tree) -> tuple[Tensor, Tensor]:
        log_prob, entropy = super().log_prob_and_entropy(targets)
        return log_prob.unsqueeze(1), entropy


class Unfit(TinyModel):
    def step(self, observations: Tree, state: Tree = None, masks: Tensor | None = None) -> ModelOutput:
        output = super().step(observations)
        return replace(output, distribution=PerPart(output.distribution))  # type: ignore[arg-type]  # as above


def test_outputs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"log-probabilities .*\[48, 1\] for 48 observations"):
        score(Unfit(), recorded(TinyModel()))
