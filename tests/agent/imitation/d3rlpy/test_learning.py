"""What agents of d3rlpy learn from recordings, repeatably and measured on episodes kept apart."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

from rl_framework.core.reports import Report
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.errors import InvalidInputError
from tests.agent.imitation.d3rlpy.recordings import (
    make_agent,
    make_environment,
    observations_for,
    record,
    recordings,
    trained_agent,
)


def test_the_same_seed_gives_the_same_agent() -> None:
    batch = observations_for("CQL")
    first, second = (trained_agent("CQL", 4).policy.act(batch, deterministic=True).actions for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_cloning_finds_a_rule_and_tells_how_well() -> None:
    env = make_environment("DiscreteBC")
    sequence = record(env, 30, lambda observation: int(observation[2] > 0))
    learned, kept = sequence[:24], sequence[24:]
    agent = make_agent("DiscreteBC", learning_rate=0.01, batch_size=64)
    reports: list[Report] = []
    agent.train(learned, 600, validation_episode_sequence=kept, callbacks=[reports.append], progress_bar=False)
    assert reports[-1].metrics["validation/accuracy"] > 0.95
    assert "train/loss" in reports[-1].metrics


@pytest.mark.parametrize("name", ["TD3PlusBC", "CQL"])
def test_rewards_beat_the_play_that_was_recorded(name: str) -> None:
    """One step per episode; the best action is half of what is seen."""
    rng = np.random.default_rng(0)
    observation_space = gym.spaces.Box(-1, 1, (1,), dtype=np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), dtype=np.float32)
    seen = rng.uniform(-1, 1, (600, 1)).astype(np.float32)
    done = rng.uniform(-2, 2, (600, 1)).astype(np.float32)
    episodes = [
        Episode(
            observations=np.stack([one, one]),
            actions=action[None],
            rewards=-((action - one / 2) ** 2).astype(np.float32),
            terminated=True,
        )
        for one, action in zip(seen, done, strict=True)
    ]
    sequence = EpisodeSequence.from_episodes(episodes, observation_space=observation_space, action_space=action_space)
    rates = {"actor_learning_rate": 0.01, "critic_learning_rate": 0.01}
    weights = {"conservative_weight": 0.1} if name == "CQL" else {"alpha": 20.0}
    agent = make_agent(name, batch_size=64, **rates, **weights)
    agent.train(sequence, 250, progress_bar=False)
    chosen = agent.policy.act(seen, deterministic=True).actions
    recorded = np.mean((done - seen / 2) ** 2)
    assert np.mean((chosen - seen / 2) ** 2) < recorded / 4


def test_validation_is_refused_where_nothing_would_be_measured() -> None:
    sequence = recordings("DecisionTransformer")
    with pytest.raises(InvalidInputError, match="leave validation_episode_sequence away"):
        make_agent("DecisionTransformer").train(sequence, 1, validation_episode_sequence=sequence, progress_bar=False)


def test_validation_does_not_change_what_is_learned() -> None:
    sequence, batch = recordings("BCQ"), observations_for("BCQ")
    actions = []
    for validation in (None, sequence):
        agent = make_agent("BCQ")
        agent.train(sequence, 5, validation_episode_sequence=validation, progress_bar=False)
        actions.append(agent.policy.act(batch, deterministic=True).actions)
    np.testing.assert_array_equal(*actions)
