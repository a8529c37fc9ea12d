"""The off-policy learner as an agent, from recordings, in environments, and from both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.off_policy import OffPolicyAgent
from rl_framework.agent.reinforcement.native import NativeAgent
from rl_framework.algorithms.off_policy import OffPolicy
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.goal_tasks.gymnasium_tasks import BitFlippingEnv
from rl_framework.errors import InvalidInputError, NotTrainedError, UnknownOptionError
from rl_framework.testing.agent_contract import AgentContract, ImitationCase
from rl_framework.testing.demonstrations import recordings

SMALL = {"hidden_sizes": (8,)}


def rewarded(env: gym.Env[Any, Any]) -> EpisodeSequence:
    """Random recordings of an environment's spaces with rewards; every second one is cut."""
    found = recordings(env.observation_space, env.action_space)
    made = [
        Episode(
            observations=one.observations,
            actions=one.actions,
            rewards=np.sin(np.arange(len(one)) + number),
            terminated=number % 2 == 0,
        )
        for number, one in enumerate(found)
    ]
    return EpisodeSequence.from_episodes(
        made, observation_space=found.observation_space, action_space=found.action_space
    )


def parameters(rule: str, **settings: Any) -> dict[str, Any]:
    return {
        "rule": {"kind": rule, "network": SMALL},
        "replay": {"batch_size": 8, "capacity": 300},
        "learning_starts": 30,
        "random_steps": 10,
        "seed": 0,
        "device": "cpu",
        **settings,
    }


def case(
    name: str, make: Callable[[], gym.Env[Any, Any]], rule: str, *, acts: bool = False, **more: Any
) -> ImitationCase:
    return ImitationCase(
        name=name,
        make_agent=lambda: OffPolicyAgent(parameters(rule, **more)),
        make_environments=lambda: [make(), make()],
        make_episodes=lambda: rewarded(make()),
        trains_in_environments=acts,
        total_timesteps=150,
    )


def cart_pole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


def pendulum() -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1")


CASES = [
    case("offline TD3+BC", pendulum, "td3_bc", steps_per_collect=2),
    case("offline conservative SAC", pendulum, "conservative_sac"),
    case("offline batch-constrained", pendulum, "batch_constrained"),
    case("offline DQN by errors", cart_pole, "dqn", replay={"batch_size": 8, "selection": "prioritized"}),
    case("both", pendulum, "td3_bc", acts=True),
]


class TestContract(AgentContract):
    @pytest.fixture(scope="class", params=CASES, ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> ImitationCase:
        found: ImitationCase = request.param
        return found


def weights(agent: OffPolicyAgent | NativeAgent) -> list[torch.Tensor]:
    algorithm = agent.algorithm
    assert isinstance(algorithm, OffPolicy)
    return [tensor.clone() for tensor in algorithm.policy.rule.policy_network.state_dict().values()]


def test_online_it_is_the_native_agent() -> None:
    offline, native = OffPolicyAgent(parameters("sac")), NativeAgent(OffPolicy, parameters("sac"))
    offline.train(None, 100, training_environments=[pendulum()], progress_bar=False)
    native.train([pendulum()], 100, progress_bar=False)
    assert all(map(torch.equal, weights(offline), weights(native)))


def test_goes_on_online_with_what_it_learned_offline(tmp_path: Path) -> None:
    agent = OffPolicyAgent(parameters("td3_bc"))
    agent.train(rewarded(pendulum()), 200, progress_bar=False)
    learned = weights(agent)
    agent.save(tmp_path / "agent")
    for each in (agent, load_agent(tmp_path / "agent")):
        assert isinstance(each, OffPolicyAgent)
        each.train(None, 20, training_environments=[pendulum()], progress_bar=False)
        assert each.timesteps == 220
        assert all(map(torch.equal, learned, weights(each)))  # 20 stored transitions are too few to learn from
        each.train(None, 40, training_environments=[pendulum()], progress_bar=False)
        assert not all(map(torch.equal, learned, weights(each)))


def test_its_share_of_recordings_can_be_changed_on_loading(tmp_path: Path) -> None:
    agent = OffPolicyAgent(parameters("td3_bc"), recorded_share=0.75)
    agent.train(rewarded(pendulum()), 16, progress_bar=False)
    agent.save(tmp_path / "agent")
    assert OffPolicyAgent.load(tmp_path / "agent").recorded_share == 0.75
    changed = OffPolicyAgent.load(
        tmp_path / "agent", recorded_share=0.1, algorithm_parameters={"rule": {"kind": "td3_bc", "network": SMALL}}
    )
    assert (changed.recorded_share, changed.config.optimize_every) == (0.1, 1)


@pytest.mark.parametrize(("is_saved", "level"), [(True, "exact"), (False, "approximate")])
def test_says_how_exactly_it_can_be_resumed(is_saved: bool, level: str) -> None:
    replay = {"batch_size": 8, "capacity": 300, "is_saved": is_saved}
    agent = NativeAgent(OffPolicy, parameters("sac", replay=replay))
    assert agent.train([pendulum()], 20, progress_bar=False).resume_level == level


class TestErrors:
    def test_shares_out_of_range(self) -> None:
        with pytest.raises(InvalidInputError, match="recorded_share"):
            OffPolicyAgent(recorded_share=1.5)

    def test_misspelt_parameters(self) -> None:
        with pytest.raises(UnknownOptionError, match="learning_starts"):
            OffPolicyAgent({"learning_start": 3})

    def test_nothing_to_learn_from(self) -> None:
        with pytest.raises(InvalidInputError, match="neither recordings nor environments"):
            OffPolicyAgent(parameters("sac")).train(None, 10, progress_bar=False)

    def test_validation_recordings_are_of_no_use(self) -> None:
        episodes = rewarded(pendulum())
        with pytest.raises(InvalidInputError, match="validation"):
            OffPolicyAgent(parameters("sac")).train(
                episodes, 10, validation_episode_sequence=episodes, progress_bar=False
            )

    def test_what_fails_at_the_start_leaves_it_untrained(self) -> None:
        agent = OffPolicyAgent(parameters("dqn", replay={"relabel": "future_4", "batch_size": 8}))
        with pytest.raises(InvalidInputError, match="training_environments beside"):
            agent.train(rewarded(BitFlippingEnv(n_bits=4)), 10, progress_bar=False)
        with pytest.raises(NotTrainedError):
            agent.policy  # noqa: B018  (asking is the test)
