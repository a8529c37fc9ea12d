"""The back-ends as a fixture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rl_framework.envs.vector_env import VectorEnv
from tests.envs.backends import BACKENDS, Factory, Opener, open_backend


@pytest.fixture(params=BACKENDS)
def opened(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens environments in one back-end and closes them after the test."""
    to_close: list[VectorEnv] = []

    def opener(*factories: Factory) -> VectorEnv:
        to_close.append(open_backend(request.param, factories))
        return to_close[-1]

    yield opener
    for environments in to_close:
        environments.close()
