"""Episodes that an episode trainer keeps, first in, first out, and how they are saved."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.data.episode import Episode

KIND = "rl_framework.Episode"


@dataclass(slots=True, kw_only=True)
class EpisodeRecord:
    """An episode with what the trainer knows of it.

    Attributes:
        number: Which of all episodes that were ever added it is, from 0.
        episode: What the model looks into.
        rewards: float64; None if the model tells them. `[T]`
        terminated: Whether the task ended; otherwise the episode was cut.
        log_prob: Of the actions under the policy that acted, float64; None if unknown. `[T]`
        added_at: Number of updates that there were before it was added.
        length: Number of its steps, T; None before the model told.
    """

    number: int
    episode: Any
    rewards: Tensor | None
    terminated: bool
    log_prob: Tensor | None
    added_at: int
    length: int | None

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"episode {self.number}"


class EpisodeCodec(Protocol):
    """Turns episodes into what can be saved and back."""

    def encode(self, episode: Any) -> Any:
        """A plain tree: dicts, lists, numbers, text, None, arrays and tensors."""
        ...

    def decode(self, tree: Any) -> Any:
        """The episode that `encode` was given."""
        ...


class PlainEpisodes:
    """Saves records of `rl_framework.data.Episode`, and episodes that are plain trees themselves."""

    def encode(self, episode: Any) -> Any:
        """A plain tree."""
        if not isinstance(episode, Episode):
            return episode
        infos = None if episode.infos is None else [dict(info) for info in episode.infos]
        return {
            "kind": KIND,
            "observations": episode.observations,
            "actions": episode.actions,
            "rewards": episode.rewards,
            "terminated": episode.terminated,
            "infos": infos,
        }

    def decode(self, tree: Any) -> Any:
        """The episode."""
        if not isinstance(tree, dict) or tree.get("kind") != KIND:
            return tree
        return Episode(**{name: part for name, part in tree.items() if name != "kind"})


class EpisodeReplay:
    """The latest episodes, in the order in which they came.

    Args:
        config: For how long, how many steps and how many episodes are kept.
        codec: How episodes are saved.
    """

    def __init__(self, config: VTraceAWRConfig, codec: EpisodeCodec) -> None:
        self._config = config
        self._codec = codec
        self._records: deque[EpisodeRecord] = deque()

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._records)

    def __iter__(self) -> Iterator[EpisodeRecord]:
        """From the oldest to the latest."""
        return iter(self._records)

    @property
    def timesteps(self) -> int:
        """Steps of all episodes whose length is known."""
        return sum(record.length or 0 for record in self._records)

    def add(self, record: EpisodeRecord) -> None:
        """Keep an episode."""
        self._records.append(record)

    def clear(self) -> None:
        """Forget everything."""
        self._records.clear()

    def forget(self, updates: int) -> None:
        """Let go of the oldest episodes beyond the limits, but of none that no update has seen.

        Args:
            updates: Number of updates so far.
        """
        timesteps = self.timesteps
        while self._records and self._is_too_much(timesteps, updates):
            timesteps -= self._records.popleft().length or 0

    def mean_age(self, updates: int) -> tuple[float, float]:
        """Sum over all steps of the number of updates since they were added, and the number of steps."""
        lengths = [(record.length or 0, updates - record.added_at) for record in self._records]
        return float(sum(length * age for length, age in lengths)), float(sum(length for length, _ in lengths))

    def state_dict(self) -> dict[str, Any]:
        """All episodes, as plain trees."""
        return {"records": [self._encode(record) for record in self._records]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        decoded = (
            EpisodeRecord(**{**saved, "episode": self._codec.decode(saved["episode"])}) for saved in state["records"]
        )
        self._records = deque(decoded)

    def _is_too_much(self, timesteps: int, updates: int) -> bool:
        config, age = self._config, updates - self._records[0].added_at
        return age > 0 and (
            (config.replay_updates is not None and age >= config.replay_updates)
            or (config.replay_timesteps is not None and timesteps > config.replay_timesteps)
            or (config.replay_episodes is not None and len(self._records) > config.replay_episodes)
        )

    def _encode(self, record: EpisodeRecord) -> dict[str, Any]:
        saved = {name: getattr(record, name) for name in EpisodeRecord.__dataclass_fields__}
        return {**saved, "episode": self._codec.encode(record.episode)}


def as_numbers(values: Any) -> Tensor:
    """Rewards or log-likelihoods as the replay keeps them: float64, on the CPU, without gradient. `[T]`"""
    if isinstance(values, Tensor):
        return values.detach().to(device="cpu", dtype=torch.float64, copy=True)
    return torch.from_numpy(np.array(values, dtype=np.float64))
