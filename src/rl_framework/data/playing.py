"""What a sequence needs of an agent that plays its episodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rl_framework.core.policy import Policy
from rl_framework.data.episode import Episode


class PlayingAgent(Protocol):
    """An agent that can play episodes."""

    @property
    def policy(self) -> Policy:
        """What acts."""
        ...

    def play_episodes(
        self,
        environments: Any,
        n_episodes: int,
        *,
        deterministic: bool = False,
        seed: int | None = None,
        n_envs: int | None = None,
    ) -> Iterator[Episode]:
        """Play episodes, one after the other as they are asked for."""
        ...


@contextmanager
def ended_after(episodes: Iterator[Episode]) -> Iterator[Iterator[Episode]]:
    """Close what gives episodes after a block, and with it the environments that it plays in."""
    try:
        yield episodes
    finally:
        close = getattr(episodes, "close", None)
        if close is not None:
            close()


def environment_id(environments: Any) -> str | None:
    """The registered id of what a user calls environments; None if there is none."""
    if isinstance(environments, str):
        return environments
    if isinstance(environments, (list, tuple)):
        return environment_id(environments[0]) if environments else None
    found = getattr(getattr(environments, "spec", None), "id", None)
    return found if isinstance(found, str) else None
