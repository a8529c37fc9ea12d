"""Agents that learn from recorded episodes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_framework.agent.base_agent import Agent
from rl_framework.callbacks.base import Callback
from rl_framework.callbacks.checkpoint_schedule import CheckpointSchedule
from rl_framework.core.reports import Report, TrainingSummary
from rl_framework.data.episode import Episode

if TYPE_CHECKING:
    from rl_framework.connectors.base import Tracker


class ILAgent(Agent):
    """Base of agents that learn from recorded episodes, some of them with environments to try themselves in."""

    @abstractmethod
    def train(
        self,
        episode_sequence: Sequence[Episode],
        total_timesteps: int,
        *,
        training_environments: Any = None,
        validation_episode_sequence: Sequence[Episode] | None = None,
        connector: Tracker | None = None,
        callbacks: Sequence[Callback | Callable[[Report], Any]] = (),
        checkpoint: CheckpointSchedule | str | Path | None = None,
    ) -> TrainingSummary:
        """Learn from recorded episodes.

        Args:
            episode_sequence: The episodes.
            total_timesteps: Steps to learn from, counted as the algorithm counts them.
            training_environments: Whatever `RLAgent.train` takes, for algorithms that act; for the others they tell
                the spaces.
            validation_episode_sequence: Episodes kept apart to measure progress with.
            connector: Where the numbers go.
            callbacks: What watches the run.
            checkpoint: When and where to save.
        """
