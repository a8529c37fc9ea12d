"""The game's own book: what it did, one JSON object a line, for tests to compare with what arrived."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class BookedEpisode:
    """An episode by the game's account: from its first decision to its end.

    Attributes:
        behavior: Name of the behaviour.
        agent: Id of the agent when the episode ended.
        index: Number of the agent within its behaviour.
        group: Id of its group, 0 without.
        individual: Sum of its own rewards.
        group_return: Sum of its group's rewards.
        decisions: Number of decisions.
        interrupted: Whether it was cut.
        actions: Sum of all numbers it was told to do: velocities and choices.
        violations: Forbidden choices it was told.
        out_of_range: Velocities beyond -1 and 1 it was told.
        best: The best return from where it started.
        resets: How often Python had reset the game by then.
        player: Process id of the game.
    """

    behavior: str
    agent: int
    index: int
    group: int
    individual: float
    group_return: float
    decisions: int
    interrupted: bool
    actions: float
    violations: int
    out_of_range: int
    best: float
    resets: int
    player: int


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Anything else that the game noted.

    Attributes:
        kind: `start`, `handshake`, `reset`, `parameter`, `engine`, `message`, `quit`.
        values: What it noted.
        player: Process id of the game.
    """

    kind: str
    values: Mapping[str, Any]
    player: int


class BookWriter:
    """Writes a game's book; every line is on the disk when the call returns."""

    def __init__(self, path: Path, player: int) -> None:
        self._file = path.open("a")
        self._player, self._resets = player, 0

    def episode(self, **values: Any) -> None:
        """Note an episode that ended."""
        self._write({"kind": "episode", **asdict(BookedEpisode(player=self._player, resets=self._resets, **values))})

    def remark(self, kind: str, **values: Any) -> None:
        """Note anything else."""
        self._resets += kind == "reset"
        self._write({"kind": kind, "player": self._player, "values": values})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


@dataclass(frozen=True)
class Book:
    """What all games that were started from one folder noted, in the order of each game.

    Attributes:
        episodes: That ended.
        remarks: All else.
    """

    episodes: tuple[BookedEpisode, ...]
    remarks: tuple[Remark, ...]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The values of all remarks of a kind."""
        return [dict(remark.values) for remark in self.remarks if remark.kind == kind]

    def since_last_reset(self) -> list[BookedEpisode]:
        """The episodes that began after the last reset of their game."""
        resets = Counter(remark.player for remark in self.remarks if remark.kind == "reset")
        return [episode for episode in self.episodes if episode.resets == resets[episode.player]]


def read_book(folder: Path) -> Book:
    """Read what the games of a folder have noted by now; a line that is being written is left out."""
    episodes, remarks = [], []
    for path in sorted(folder.glob("book-*.jsonl")):
        for text in path.read_text().splitlines(keepends=True):
            if not text.endswith("\n"):
                continue
            line = json.loads(text)
            if (kind := line.pop("kind")) == "episode":
                episodes.append(BookedEpisode(**line))
            else:
                remarks.append(Remark(kind=kind, **line))
    return Book(tuple(episodes), tuple(remarks))
