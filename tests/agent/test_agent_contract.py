"""The contract, over every algorithm of Stable-Baselines3 and sb3-contrib and over the native ones."""

from __future__ import annotations

import pytest

from rl_framework.testing.agent_contract import AgentCase, AgentContract
from tests.agent.cases import CONTRIB, NATIVE, STABLE_BASELINES


class TestAgents(AgentContract):
    @pytest.fixture(scope="class", params=[*STABLE_BASELINES, *CONTRIB, *NATIVE], ids=str)
    @classmethod
    def case(cls, request: pytest.FixtureRequest) -> AgentCase:
        case: AgentCase = request.param
        return case
