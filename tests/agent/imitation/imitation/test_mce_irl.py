"""Maximum causal entropy IRL: its visits become the expert's, by the library's own numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from imitation.algorithms.mce_irl import MCEIRL, mce_occupancy_measures
from imitation.rewards.reward_nets import BasicRewardNet
from seals.base_envs import ExposePOMDPStateWrapper, TabularModelMDP

from rl_framework.agent.catalog import load_agent
from rl_framework.agent.imitation.imitation.agent import ImitationAgent
from rl_framework.agent.imitation.imitation.mce_irl import MCEIRLLearner, state_occupancy
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.imitation.imitation.tabular_model import States, read_model
from rl_framework.envs.source import open_environments
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.testing.agent_contract import AgentCase, AgentContract, ImitationCase
from tests.agent.imitation.imitation.scripted import balanced_poles, cart_pole
from tests.agent.imitation.imitation.tabular_worlds import (
    HORIZON,
    cliff,
    cliff_demonstrations,
    demonstrations,
    ring,
    ring_demonstrations,
    with_equal_looks,
)

SMALL_NET: dict[str, Any] = {"hid_sizes": (16,)}


def make_agent(**parameters: Any) -> ImitationAgent:
    settings = {"linf_eps": 0.0, "grad_l2_eps": 0.0, **parameters}
    return ImitationAgent("MCE IRL", settings, reward_net_parameters=SMALL_NET, seed=0)


CASES = [
    ImitationCase(
        name="MCE-IRL-coordinates",
        make_agent=make_agent,
        make_environments=lambda: [cliff()],
        make_episodes=cliff_demonstrations,
        total_timesteps=30,
    ),
    ImitationCase(
        name="MCE-IRL-states-discounted",
        make_agent=lambda: make_agent(discount=0.9),
        make_environments=lambda: [ring(), ring()],
        make_episodes=ring_demonstrations,
        total_timesteps=30,
    ),
]


class TestContract(AgentContract):
    @pytest.fixture(scope="class", params=CASES, ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> AgentCase:
        case: AgentCase = request.param
        return case


def train(agent: ImitationAgent, env: Any, episodes: Any, iterations: int, **options: Any) -> Any:
    return agent.train(episodes, iterations, training_environments=[env], progress_bar=False, **options)


def learner_of(agent: ImitationAgent) -> MCEIRLLearner:
    learner = agent.learner
    assert isinstance(learner, MCEIRLLearner)
    return learner


@pytest.mark.parametrize("world", ["cliff", "ring"])
def test_visits_become_the_expert_s(world: str) -> None:
    env: Any = cliff() if world == "cliff" else ring()
    episodes = cliff_demonstrations() if world == "cliff" else ring_demonstrations()
    agent = make_agent(optimizer_kwargs={"lr": 0.05})
    train(agent, env, episodes, 300)
    learner = learner_of(agent)
    model = read_model(open_environments([env], vectorization="serial"))
    expert = state_occupancy(episodes, model)
    _, learned = mce_occupancy_measures(model.pomdp, pi=learner.policy.probabilities)
    _, uniform = mce_occupancy_measures(
        model.pomdp, pi=np.full_like(learner.policy.probabilities, 1 / env.action_space.n)
    )
    assert np.abs(learned - expert).max() < 0.1
    assert np.abs(uniform - expert).max() > 0.5


def test_plays_as_well_as_the_expert() -> None:
    agent = make_agent(optimizer_kwargs={"lr": 0.05})
    train(agent, cliff(), cliff_demonstrations(), 300)
    expert = np.mean([episode.total_reward for episode in cliff_demonstrations()])
    assert agent.evaluate(cliff(), 200, seed=1).mean == pytest.approx(expert, abs=1.5)


def test_is_the_library_s_own_training() -> None:
    env: Any = cliff()
    agent = make_agent()
    train(agent, env, cliff_demonstrations(), 20)
    learner = learner_of(agent)
    torch.manual_seed(0)
    net = BasicRewardNet(
        env.observation_space, env.action_space, use_action=False, use_next_state=False, use_done=False, **SMALL_NET
    )
    model = read_model(open_environments([env], vectorization="serial"))
    library = MCEIRL(
        state_occupancy(cliff_demonstrations(), model),
        env,
        net,
        np.random.default_rng(0),
        linf_eps=0.0,
        grad_l2_eps=0.0,
        log_interval=None,
        custom_logger=RunLogger(),
    )
    library.train(max_iter=20)
    ours, theirs = learner.networks()["reward"].state_dict(), net.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    table: Any = library.policy
    assert np.array_equal(learner.policy.probabilities, table.pi)


def test_counts_what_is_visited_and_discounts_it() -> None:
    model = read_model(open_environments([ring()], vectorization="serial"))
    episodes = demonstrations(ring(), 3)
    occupancy = state_occupancy(episodes, model, 0.5)
    expected = np.zeros(5)
    for episode in episodes:
        for step, state in enumerate(episode.observations):
            expected[state] += 0.5**step / 3
    assert occupancy == pytest.approx(expected)


def test_ends_early_once_the_expert_is_matched() -> None:
    summary = train(make_agent(linf_eps=10.0), ring(), ring_demonstrations(), 50)
    assert summary.taken_timesteps == 1
    assert summary.stop_reason == "the expert's state occupancy is matched"


def test_memory_is_how_far_the_episode_is() -> None:
    agent = make_agent()
    train(agent, ring(), ring_demonstrations(), 5)
    policy = learner_of(agent).policy
    table = np.zeros((HORIZON, 5, 2))
    table[0::2, :, 0] = table[1::2, :, 1] = 1.0
    policy.probabilities = table
    observations, memory, seen = np.array([1, 2]), None, []
    for step in range(4):
        output = policy.act(observations, memory, episode_starts=np.array([False, step == 3]), deterministic=True)
        memory = output.state
        seen.append(output.actions.tolist())
    assert seen == [[0, 0], [1, 1], [0, 0], [1, 0]]
    assert policy.act(observations, {"step": np.array([99, 99])}).actions.tolist() == [1, 1]


def test_draws_actions_as_probable_as_the_table_says() -> None:
    agent = make_agent()
    train(agent, ring(), ring_demonstrations(), 5)
    policy = learner_of(agent).policy
    np.random.seed(0)  # noqa: NPY002
    actions = policy.act(np.full(20_000, 1)).actions
    assert actions.mean() == pytest.approx(policy.probabilities[0, 1, 1], abs=0.02)
    masks = np.tile([False, True], (20, 1))
    assert policy.act(np.full(20, 1), action_masks=masks).actions.tolist() == [1] * 20


def test_states_may_be_shown_by_a_wrapper() -> None:
    world: Any = cliff()
    wrapped: Any = ExposePOMDPStateWrapper(world)
    episodes = demonstrations(cliff(), 50)
    model = read_model(open_environments([cliff()], vectorization="serial"))
    shown = episodes.map(lambda one: _with_states(one, model.states))
    agent = make_agent()
    train(agent, wrapped, list(shown), 5)
    assert agent.policy.observation_space == gym.spaces.Discrete(12)


def _with_states(episode: Any, states: States) -> Any:
    return type(episode)(
        observations=states.numbers(episode.observations),
        actions=episode.actions,
        rewards=episode.rewards,
        terminated=episode.terminated,
    )


def test_goes_on_after_loading_as_if_nothing_had_happened(tmp_path: Path) -> None:
    straight, broken = make_agent(), make_agent()
    train(straight, cliff(), cliff_demonstrations(), 10)
    train(straight, cliff(), cliff_demonstrations(), 10)
    train(broken, cliff(), cliff_demonstrations(), 10)
    broken.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    assert isinstance(loaded, ImitationAgent)
    train(loaded, cliff(), cliff_demonstrations(), 10)
    assert np.array_equal(learner_of(loaded).policy.probabilities, learner_of(straight).policy.probabilities)


def test_refuses_environments_without_tables() -> None:
    with pytest.raises(InvalidInputError, match=r"tabular environment with a horizon.*transition_matrix"):
        train(make_agent(), cart_pole(), balanced_poles(), 5)


def test_refuses_an_endless_environment() -> None:
    base: Any = ring()
    endless = TabularModelMDP(transition_matrix=base.transition_matrix, reward_matrix=base.reward_matrix)
    with pytest.raises(InvalidInputError, match="has no horizon"):
        train(make_agent(), endless, ring_demonstrations(), 5)


def test_refuses_states_that_look_the_same() -> None:
    env = with_equal_looks()
    episodes = demonstrations(env, 2)
    with pytest.raises(InvalidInputError, match="2 states give only 1 different observations"):
        train(make_agent(), env, episodes, 5)


def test_refuses_demonstrations_that_were_cut() -> None:
    cut = ring_demonstrations().map(lambda one: one[:4])
    with pytest.raises(InvalidInputError, match="whole horizon of 6 steps; demonstration 0 has 4"):
        train(make_agent(), ring(), cut, 5)


def test_refuses_observations_of_no_state() -> None:
    agent = make_agent()
    train(agent, cliff(), cliff_demonstrations(), 2)
    with pytest.raises(SpaceError, match="not of any of the 12 states"):
        agent.policy.act(np.array([[0.123, 0.5]], dtype=np.float32))


def test_refuses_a_reward_of_actions() -> None:
    agent = ImitationAgent("MCE IRL", reward_net_parameters={"use_action": True})
    with pytest.raises(InvalidInputError, match="states alone; it cannot take use_action"):
        train(agent, ring(), ring_demonstrations(), 5)


def test_has_no_network_to_export(tmp_path: Path) -> None:
    agent = make_agent()
    train(agent, ring(), ring_demonstrations(), 2)
    with pytest.raises(InvalidInputError, match="acts by tables"):
        agent.export_onnx(tmp_path / "agent.onnx")
