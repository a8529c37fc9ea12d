from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.core.trees import leaves, map_tree, select, stack
from rl_framework.errors import InvalidInputError, SpaceError, UnknownOptionError
from rl_framework.nn.actor_critic import ActorCritic, ActorCriticConfig
from rl_framework.nn.episode_policy import EpisodePolicy, EpisodePolicyConfig
from rl_framework.nn.tensors import to_arrays, to_tensors
from rl_framework.nn.window_attention import WindowAttention

SEEN = spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Discrete(4)})
OBSERVED: list[gym.Space[Any]] = [
    spaces.Box(-1, 1, (3,)),
    spaces.Box(0, 255, (12, 12, 3), np.uint8),
    spaces.Discrete(5, start=2),
    spaces.MultiBinary(3),
    SEEN,
    spaces.Tuple((spaces.Discrete(2), spaces.Box(-np.inf, np.inf, (2, 2)))),
]
DONE: list[gym.Space[Any]] = [
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(4),
    spaces.Box(-2, 6, (2,)),
    spaces.Dict({"move": spaces.Discrete(3), "force": spaces.Box(-1, 1, (2,))}),
]
MEMORIES = (None, "lstm", "gru", "attention")


def small(**options: Any) -> EpisodePolicyConfig:
    sizes = {"body_sizes": (6, 5), "hidden_sizes": (4,), "image_features": 8, "memory_size": 8, "window": 3}
    return EpisodePolicyConfig(**{**sizes, **options})


def observations(space: gym.Space[Any], count: int) -> Any:
    space.seed(0)
    return to_tensors(stack([space.sample() for _ in range(count)]), torch.device("cpu"))


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("seen", OBSERVED, ids=str)
def test_any_observation_gives_an_encoding(seen: gym.Space[Any], memory: str | None) -> None:
    policy = EpisodePolicy(seen, spaces.Discrete(3), small(memory=memory))
    output = policy.step(observations(seen, 7), policy.initial_state(7))
    assert policy.encoding_size == 5
    assert output.extras["encoding"].shape == (7, 5)
    assert output.value is None
    assert output.distribution.entropy().shape == (7,)
    assert (output.state is None) == (memory is None)


@pytest.mark.parametrize("done", DONE, ids=str)
def test_any_action_is_one_of_the_space(done: gym.Space[Any]) -> None:
    policy = EpisodePolicy(SEEN, done, small())
    actions = to_arrays(policy.environment_actions(policy.act(observations(SEEN, 4)).distribution.sample()))
    for row in range(4):
        assert done.contains(select(actions, row))


@pytest.mark.parametrize("memory", MEMORIES)
def test_acting_does_the_same_without_the_encoding(memory: str | None) -> None:
    policy = EpisodePolicy(SEEN, spaces.Discrete(3), small(memory=memory))
    seen, state = observations(SEEN, 6), policy.initial_state(6)
    stepped, acted = policy.step(seen, state), policy.act(seen, state)
    chosen = torch.zeros(6, dtype=torch.int64)
    assert torch.equal(stepped.distribution.log_prob(chosen), acted.distribution.log_prob(chosen))
    assert dict(acted.extras) == {}
    for one, other in zip(leaves(stepped.state), leaves(acted.state), strict=True):
        assert one is other is None or torch.equal(one, other)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("memory", MEMORIES[1:])
def test_unrolling_equals_stepping_and_memory_is_the_same(memory: str, layers: int) -> None:
    policy = EpisodePolicy(SEEN, spaces.Discrete(3), small(memory=memory, memory_layers=layers))
    seen, starts = observations(SEEN, 15), torch.rand(5, 3) < 0.3
    sequence = map_tree(lambda leaf: leaf.unflatten(0, (5, 3)), seen)
    unrolled = policy.unroll(sequence, policy.initial_state(3), starts)
    stepped = super(EpisodePolicy, policy).unroll(sequence, policy.initial_state(3), starts)
    remembered = policy.remember(sequence, policy.initial_state(3), starts)
    torch.testing.assert_close(unrolled.extras["encoding"], stepped.extras["encoding"], atol=1e-5, rtol=1e-5)
    for one, two, three in zip(leaves(unrolled.state), leaves(stepped.state), leaves(remembered), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
        assert torch.equal(one, three)


@pytest.mark.parametrize(("memory", "reach"), [(None, 0), ("lstm", None), ("gru", None), ("attention", 2)])
def test_how_far_memory_reaches(memory: str | None, reach: int | None) -> None:
    assert EpisodePolicy(SEEN, spaces.Discrete(3), small(memory=memory, memory_layers=2)).memory_reach == reach


def test_layers_of_attention_are_layers() -> None:
    policy = ActorCritic(SEEN, spaces.Discrete(3), ActorCriticConfig(memory="attention", memory_layers=3))
    assert isinstance(policy.core, WindowAttention)
    assert len(policy.core.layers) == 3


def test_masks_hold() -> None:
    policy = EpisodePolicy(SEEN, spaces.Discrete(3), small())
    masks = torch.tensor([[True, False, True]] * 50)
    assert 1 not in policy.act(observations(SEEN, 50), None, masks).distribution.sample().tolist()


def test_without_a_body_the_encoding_is_what_is_remembered() -> None:
    policy = EpisodePolicy(SEEN, spaces.Discrete(3), small(body_sizes=(), memory="gru"))
    output = policy.step(observations(SEEN, 2), policy.initial_state(2))
    assert policy.encoding_size == 8
    assert torch.equal(output.extras["encoding"], output.state["hidden"][:, 0])


def test_a_policy_begins_close_to_uniform() -> None:
    policy = EpisodePolicy(SEEN, spaces.Discrete(3))
    entropy = policy.step(observations(SEEN, 20)).distribution.entropy().detach()
    assert float(entropy.min()) == pytest.approx(np.log(3), abs=1e-3)


class TestConfig:
    def test_fields_in_a_dict(self) -> None:
        config = EpisodePolicyConfig.of({"body_sizes": [8], "memory": "gru"})
        assert config.body_sizes == (8,)
        assert EpisodePolicyConfig.of(config) is config
        assert EpisodePolicyConfig.of(None) == EpisodePolicyConfig()

    def test_mistakes_are_named(self) -> None:
        with pytest.raises(UnknownOptionError, match="EpisodePolicyConfig"):
            EpisodePolicyConfig.of({"value_hidden_sizes": (3,)})
        with pytest.raises(UnknownOptionError, match="memory"):
            EpisodePolicyConfig(memory="lstmm")
        with pytest.raises(InvalidInputError, match="body_sizes"):
            EpisodePolicyConfig(body_sizes=(0,))
        with pytest.raises(InvalidInputError, match="EpisodePolicyConfig"):
            EpisodePolicyConfig.of(3)  # type: ignore[arg-type]  # that is what is refused

    def test_another_learners_configuration_is_not_taken(self) -> None:
        with pytest.raises(InvalidInputError, match="EpisodePolicyConfig"):
            EpisodePolicyConfig.of(ActorCriticConfig())  # type: ignore[arg-type]  # that is what is refused


def test_observations_without_numbers_are_refused() -> None:
    with pytest.raises(SpaceError, match="no numbers"):
        EpisodePolicy(spaces.Box(-1, 1, (0,)), spaces.Discrete(2))
