"""Agents of d3rlpy under the contract of all agents: one of each kind; `test_every_algorithm` has the rest."""

from __future__ import annotations

from functools import partial

import pytest

from rl_framework.testing.agent_contract import AgentContract, ImitationCase
from tests.agent.imitation.d3rlpy.recordings import make_agent, make_environment, recordings

NAMES = ("CQL", "BCQ", "DiscreteCQL", "DiscreteBC", "DecisionTransformer", "DiscreteDecisionTransformer")


def case_of(name: str) -> ImitationCase:
    return ImitationCase(
        name=name,
        make_agent=partial(make_agent, name),
        make_environments=lambda: [make_environment(name)],
        make_episodes=partial(recordings, name),
        trains_in_environments=False,
        total_timesteps=12,
    )


class TestD3RLPYAgent(AgentContract):
    @pytest.fixture(scope="class", params=[case_of(name) for name in NAMES], ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> ImitationCase:
        found: ImitationCase = request.param
        return found
