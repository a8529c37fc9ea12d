"""How a decision transformer acts: its memory, its target, and d3rlpy's own wrapper as the slow twin."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from rl_framework.agent.imitation.d3rlpy.agent import D3RLPYAgent
from rl_framework.agent.imitation.d3rlpy.transformer_policy import TransformerPolicy
from rl_framework.compat.d3rlpy import import_d3rlpy
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from tests.agent.imitation.d3rlpy.recordings import (
    CONTEXT,
    TARGET_RETURN,
    make_agent,
    observations_for,
    recordings,
    trained_agent,
)

NAMES = ["DecisionTransformer", "DiscreteDecisionTransformer", "TACR"]


def policy_of(agent: D3RLPYAgent) -> TransformerPolicy:
    assert isinstance(agent.policy, TransformerPolicy)
    return agent.policy


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
def test_acts_as_the_wrapper_of_d3rlpy_when_told_rewards(name: str, scaled: bool) -> None:
    """Over more steps than the context holds and than the transformer counts, several episodes side by side."""
    d3rlpy = import_d3rlpy()
    scalers = {
        "observation_scaler": d3rlpy.preprocessing.StandardObservationScaler(),
        "reward_scaler": d3rlpy.preprocessing.MultiplyRewardScaler(0.1),
    }
    agent = make_agent(name, max_timestep=60, **(scalers if scaled else {}))
    sequence = recordings(name).filter(lambda episode: len(episode) <= 60)
    agent.train(sequence, 5, progress_bar=False)
    policy = policy_of(agent)
    greedy = d3rlpy.algos.GreedyTransformerActionSampler() if agent.row.discrete else None
    twins = [agent.algorithm.as_stateful_wrapper(TARGET_RETURN, greedy) for _ in range(3)]
    rng = np.random.default_rng(0)
    policy.observation_space.seed(0)
    state, rewards = None, np.zeros(3)
    for _ in range(2 * CONTEXT):
        observations = np.stack([policy.observation_space.sample() for _ in range(3)]).clip(-5, 5)
        output = policy.act(observations, state, deterministic=True)
        told = zip(twins, observations, rewards, strict=True)
        expected = [twin.predict(seen, float(reward)) for twin, seen, reward in told]
        np.testing.assert_allclose(output.actions, np.stack(expected), rtol=1e-4, atol=1e-5)
        rewards = rng.normal(size=3)
        state = policy.with_rewards(output.state, rewards)


def test_without_rewards_it_aims_at_the_whole_target_at_every_step() -> None:
    agent = trained_agent("DiscreteDecisionTransformer", 3)
    policy, batch = policy_of(agent), observations_for("DiscreteDecisionTransformer")
    state = policy.act(batch, deterministic=True).state
    state = policy.act(batch, state, deterministic=True).state
    assert state["returns_to_go"][:, -2:].tolist() == [[TARGET_RETURN] * 2] * len(batch)
    state = policy.with_rewards(state, np.arange(len(batch), dtype=np.float32))
    latest = policy.act(batch, state, deterministic=True).state["returns_to_go"][:, -1]
    assert latest.tolist() == (TARGET_RETURN - np.arange(len(batch))).tolist()


def test_an_episode_start_clears_its_row_alone() -> None:
    agent = trained_agent("DecisionTransformer", 3)
    policy, batch = policy_of(agent), observations_for("DecisionTransformer", 3)
    first = policy.act(batch, deterministic=True)
    kept = policy.act(batch, first.state, episode_starts=np.array([False, True, False]), deterministic=True)
    fresh = policy.act(batch, episode_starts=np.ones(3, dtype=bool), deterministic=True)
    on = policy.act(batch, first.state, deterministic=True)
    assert kept.state["timesteps"][:, -1].tolist() == [2, 1, 2]
    for name in kept.state:
        np.testing.assert_allclose(kept.state[name][1], fresh.state[name][1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(kept.state[name][[0, 2]], on.state[name][[0, 2]], rtol=1e-5, atol=1e-6)


def test_acting_leaves_the_memory_that_it_was_given() -> None:
    agent = trained_agent("DecisionTransformer", 3)
    policy, batch = policy_of(agent), observations_for("DecisionTransformer")
    state = policy.act(batch, deterministic=True).state
    before = {name: column.copy() for name, column in state.items()}
    policy.act(batch, state, deterministic=True)
    for name, column in before.items():
        np.testing.assert_array_equal(column, state[name])


def test_sampling_draws_by_the_probabilities() -> None:
    agent = trained_agent("DiscreteDecisionTransformer", 3)
    policy = policy_of(agent)
    batch = np.repeat(observations_for("DiscreteDecisionTransformer", 1), 200, axis=0)
    share = policy.act(batch).actions.mean()
    assert 0.1 < share < 0.9


def test_the_target_decides_what_is_done() -> None:
    """Action 1 earns 1 and action 0 earns nothing; what is aimed at is what is done."""
    observation_space = gym.spaces.Box(-1, 1, (2,), dtype=np.float32)
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            observations=rng.uniform(-1, 1, (6, 2)).astype(np.float32),
            actions=np.full(5, number % 2),
            rewards=np.full(5, number % 2, dtype=np.float32),
            terminated=True,
        )
        for number in range(20)
    ]
    sequence = EpisodeSequence.from_episodes(
        episodes, observation_space=observation_space, action_space=gym.spaces.Discrete(2)
    )
    agent = make_agent("DiscreteDecisionTransformer", learning_rate=0.01, batch_size=32, warmup_tokens=1)
    agent.train(sequence, 150, progress_bar=False)
    batch = rng.uniform(-1, 1, (8, 2)).astype(np.float32)
    for target, action in ((5.0, 1), (0.0, 0)):
        agent.target_return = target
        assert agent.policy.act(batch, deterministic=True).actions.tolist() == [action] * 8


def test_evaluates_many_episodes_side_by_side() -> None:
    agent = trained_agent("DiscreteDecisionTransformer", 3)
    evaluation = agent.evaluate("CartPole-v1", 6, n_envs=3, seed=1)
    assert len(evaluation.returns) == 6


def test_choosing_one_action_warns_of_the_memory() -> None:
    agent = trained_agent("DecisionTransformer", 3)
    with pytest.warns(UserWarning, match="has memory"):
        agent.choose_action(observations_for("DecisionTransformer")[0])
