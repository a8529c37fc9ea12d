"""Replays whose every number is known, and a slow twin that says what should be in them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import Space

CAPACITY = 30
PERIOD = 7
COLUMNS: dict[str, Space] = {
    "observations": spaces.Dict(
        image=spaces.Box(0, 255, (2, 3), np.uint8), position=spaces.Box(-np.inf, np.inf, (2,), np.float64)
    ),
    "actions": spaces.Discrete(1000),
    "rewards": spaces.Box(-np.inf, np.inf, (), np.float32),
    "terminated": spaces.Box(0, 1, (), np.bool_),
}


def numbered_entries(numbers: Any) -> dict[str, Any]:
    """Entries that tell their number in every column. `[N]` in"""
    number = np.asarray(numbers, np.int64)
    return {
        "observations": {
            "image": np.broadcast_to(number[:, None, None] % 251, (len(number), 2, 3)).astype(np.uint8),
            "position": np.stack([number, -number], 1).astype(np.float64),
        },
        "actions": number % 1000,
        "rewards": (number / 2).astype(np.float32),
        "terminated": number % 3 == 0,
    }


def check_numbers(
    replay: ReplayBuffer, rows: Tensor, numbers: Any, changed: Mapping[int, float] = MappingProxyType({})
) -> None:
    """All columns of rows tell their numbers, in the types of the columns, but for rewards that were changed."""
    expected, found = numbered_entries(numbers), replay.read(tuple(COLUMNS), rows)
    expected["rewards"] = np.array([changed.get(int(number), number / 2) for number in numbers], np.float32)
    seen = found["observations"]
    np.testing.assert_array_equal(seen["image"].numpy(), expected["observations"]["image"])
    np.testing.assert_array_equal(seen["position"].numpy(), expected["observations"]["position"])
    for name in ("actions", "rewards", "terminated"):
        np.testing.assert_array_equal(found[name].numpy(), expected[name])
    types = [seen["image"].dtype, seen["position"].dtype, *(found[name].dtype for name in tuple(COLUMNS)[1:])]
    assert types == [torch.uint8, torch.float32, torch.int64, torch.float32, torch.bool]


@dataclass
class SlowReplay:
    """What a ring should hold, as lists: the age, the row and the episode of each row that was ever added."""

    capacity: int
    episodes: list[list[int]] = field(default_factory=list)
    over: list[bool] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    total: int = 0
    changed: dict[int, float] = field(default_factory=dict)

    def add(self, ended: list[bool]) -> None:
        if len(ended) != len(self.running):
            self.cut()
            self.running = [self._open() for _ in ended]
        for env, is_over in enumerate(ended):
            self.episodes[self.running[env]].append(self.total)
            self.total += 1
            if is_over:
                self.over[self.running[env]] = True
                self.running[env] = self._open()

    def add_episode(self, length: int) -> None:
        self.cut()
        self.episodes[self._open()] = list(range(self.total, self.total + length))
        self.over[-1] = True
        self.total += length
        self.running = [self._open() for _ in self.running]

    def cut(self) -> None:
        for episode in self.running:
            self.over[episode] = True
        self.running = [self._open() for _ in self.running]

    @property
    def oldest(self) -> int:
        return max(0, self.total - self.capacity)

    def kept(self, age: int) -> list[int]:
        """The ages of what is kept of the episode of an age."""
        return [each for episode in self.episodes if age in episode for each in episode if each >= self.oldest]

    def whole(self) -> list[tuple[int, int]]:
        """First rows and lengths of the episodes that are over and wholly there."""
        chosen = [
            episode
            for episode, over in zip(self.episodes, self.over, strict=True)
            if over and episode and episode[0] >= self.oldest
        ]
        return [(episode[0] % self.capacity, len(episode)) for episode in sorted(chosen)]

    def _open(self) -> int:
        self.episodes.append([])
        self.over.append(False)
        return len(self.episodes) - 1


def check_same(replay: ReplayBuffer, slow: SlowReplay) -> None:
    """The replay holds what its twin says, row by row."""
    ages = np.arange(slow.oldest, slow.total)
    rows = torch.from_numpy(ages % slow.capacity)
    assert len(replay) == len(ages) == int(replay.stored)
    assert replay.total == slow.total == int(replay.added)
    check_numbers(replay, rows, ages, slow.changed)
    assert replay.ages(rows).tolist() == ages.tolist()
    kept = [slow.kept(age) for age in ages.tolist()]
    places = [found.index(age) for found, age in zip(kept, ages.tolist(), strict=True)]
    assert replay.steps_before(rows).tolist() == places
    assert replay.steps_after(rows).tolist() == [
        len(found) - 1 - place for found, place in zip(kept, places, strict=True)
    ]
    for row, found, place in zip(rows, kept, places, strict=True):
        offsets = torch.arange(len(found)) - place
        assert replay.later(row.expand(len(found)), offsets).tolist() == [age % slow.capacity for age in found]
    firsts, lengths = replay.episodes()
    assert list(zip(firsts.tolist(), lengths.tolist(), strict=True)) == slow.whole()


def add_numbered(replay: ReplayBuffer, ended: list[bool]) -> Tensor:
    """One step of environments, numbered by age."""
    ages = replay.total + np.arange(len(ended))
    return replay.add(numbered_entries(ages), ended=np.array(ended, bool))


def scripted(seed: int, steps: int, n_envs: int) -> list[list[bool]]:
    """When episodes end."""
    ends: list[list[bool]] = (np.random.default_rng(seed).random((steps, n_envs)) < 0.15).tolist()
    return ends


def make_replay(capacity: int, folder: Path | None = None) -> ReplayBuffer:
    """An empty one."""
    return ReplayBuffer(capacity, COLUMNS, folder=folder)


def steps_of_age(total: int, n_envs: int) -> list[bool]:
    """When episodes end, told by the number of rows alone."""
    return [(total + env) % PERIOD == 0 for env in range(n_envs)]


def go_on(replay: ReplayBuffer, slow: SlowReplay, steps: int, n_envs: int = 2) -> None:
    """Let environments take some steps, in the replay and in its twin."""
    for _ in range(steps):
        ended = steps_of_age(replay.total, n_envs)
        add_numbered(replay, ended)
        slow.add(ended)


def resumed(folder: Path, state: dict[str, Any], capacity: int = CAPACITY) -> ReplayBuffer:
    """A replay in a folder, with a state."""
    replay = make_replay(capacity, folder)
    replay.load_state_dict(state)
    return replay


def crashed_copy(folder: Path, name: str) -> Path:
    """What another process would find if this one died now."""
    return Path(shutil.copytree(folder, folder.parent / name))
