"""Numbers on their way from a learner to those who watch it: records, so that a misspelt name fails at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeSummary:
    """One finished episode.

    Attributes:
        row: Index of the environment that played it.
        total_reward: Sum of its rewards, undiscounted and before any normalisation.
        length: Number of steps.
        success: What the environment said in `info["is_success"]` at the end, None if it said nothing.
        seed: Seed of the reset that opened it, None if the environment's generator ran on.
        agent: Name of the agent that the row played for in a game of several agents, None where rows are not agents.
    """

    row: int
    total_reward: float
    length: int
    success: bool | None = None
    seed: int | None = None
    agent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The state of a training run at one moment.

    Attributes:
        timesteps: Environment steps that the agent has learned from in its life, over all environments.
        target_timesteps: The value of `timesteps` at which this run ends.
        episodes: Episodes that ended since the previous report.
        mean_return: Mean total reward of the last 100 episodes, None before the first has ended.
        mean_length: Mean length of the last 100 episodes in steps, None before the first has ended.
        success_rate: Share of successes among the last 100 episodes that said so, None if none did.
        steps_per_second: Environment steps per second of this run so far.
        elapsed_seconds: Wall time of this run so far.
        metrics: What the algorithm itself reported since the previous report, under its own names
            (`train/loss`, `train/entropy_loss`, ...), and what the environments measured (`environment/...`).
    """

    timesteps: int
    target_timesteps: int
    episodes: tuple[EpisodeSummary, ...] = ()
    mean_return: float | None = None
    mean_length: float | None = None
    success_rate: float | None = None
    steps_per_second: float = 0.0
    elapsed_seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSummary:
    """How a call of `train` or `resume` ended.

    Attributes:
        requested_timesteps: Environment steps asked for in this call.
        taken_timesteps: Environment steps taken in this call.
        total_timesteps: Environment steps in the agent's life.
        episodes: Episodes that ended in this call.
        mean_return: Mean total reward of the last 100 episodes, None before the first has ended.
        duration_seconds: Wall time of this call.
        stop_reason: Why it ended before the requested steps, None if it did not.
        resume_level: How exactly the run could be continued from its last checkpoint: `exact`,
            `exact at episode boundary` or `approximate`.
        warnings: What went wrong without ending the run (a checkpoint that could not be written, ...).
    """

    requested_timesteps: int
    taken_timesteps: int
    total_timesteps: int
    episodes: int
    mean_return: float | None
    duration_seconds: float
    stop_reason: str | None
    resume_level: str
    warnings: tuple[str, ...] = ()

    @property
    def extra_timesteps(self) -> int:
        """Steps beyond the request, which the algorithm's rollout size forced."""
        return max(0, self.taken_timesteps - self.requested_timesteps)
