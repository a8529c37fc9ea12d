"""The agents' contract, over the algorithms of the imitation library."""

from __future__ import annotations

import pytest

from rl_framework.testing.agent_contract import AgentCase, AgentContract
from tests.agent.imitation.imitation.cases import ADVERSARIAL, CLONING


class TestImitationAgents(AgentContract):
    @pytest.fixture(scope="class", params=[*CLONING, *ADVERSARIAL], ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> AgentCase:
        case: AgentCase = request.param
        return case
