"""The table of a data set in this library's own layout: `dataset.json`, which says which file holds which array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rl_framework.checkpoints.manifest import check_inside, library_version, utc_now
from rl_framework.checkpoints.plain_values import decode, dump_json, encode, parse_json
from rl_framework.core.spaces import space_from_json, space_to_json
from rl_framework.core.trees import Tree, leaves, map_tree
from rl_framework.data.episode_layout import ArrayType, EpisodeLayout
from rl_framework.data.npy_files import KINDS
from rl_framework.errors import ArchiveError, CorruptArchiveError, InvalidInputError, NewerFormatError, SpaceError

FORMAT_NAME = "rl_framework.episodes"
FORMAT_VERSION = 1
TABLE_FILE = "dataset.json"
LENGTHS_FILE = "lengths.npy"
TERMINATED_FILE = "terminated.npy"
INFOS_FILE = "infos.jsonl"
INFO_ENDS_FILE = "info_ends.npy"
READ_ERRORS = (KeyError, TypeError, ValueError, AttributeError, SpaceError)


@dataclass(frozen=True, slots=True)
class StoredArray:
    """A file with the entries of one array of all episodes, one after the other.

    Attributes:
        file: Its name.
        type: What its entries are.
    """

    file: str
    type: ArrayType


@dataclass(frozen=True, kw_only=True)
class DatasetTable:
    """What a data set says of itself.

    Attributes:
        observations: A tree of `StoredArray`; an episode of T steps takes T + 1 entries.
        actions: A tree of `StoredArray`.
        rewards: None where there are none.
        has_infos: Whether there are `infos.jsonl` and `info_ends.npy`.
        observation_space: As `core.spaces.space_to_json` writes it, None if unknown.
        action_space: Likewise.
        metadata: What else is known.
        n_episodes: Number of episodes; counts only in a complete data set.
        n_transitions: Sum of their lengths; likewise.
        complete: Whether the data set was finished. An unfinished one holds the episodes that `lengths.npy` lists.
    """

    observations: Tree
    actions: Tree
    rewards: StoredArray | None
    has_infos: bool
    observation_space: Any = None
    action_space: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    n_episodes: int = 0
    n_transitions: int = 0
    complete: bool = False

    @classmethod
    def of(cls, layout: EpisodeLayout, has_infos: bool, **known: Any) -> DatasetTable:
        """The table of a new data set.

        Args:
            layout: The arrays of its episodes.
            has_infos: Whether they have infos.
            **known: Further attributes of the table.
        """
        return cls(
            observations=_stored("observations", layout.observations),
            actions=_stored("actions", layout.actions),
            rewards=None if layout.rewards is None else StoredArray("rewards.npy", layout.rewards),
            has_infos=has_infos,
            **known,
        )

    def files(self) -> Iterator[str]:
        """Names of all files that belong to the data set."""
        yield from (TABLE_FILE, LENGTHS_FILE, TERMINATED_FILE)
        if self.has_infos:
            yield from (INFOS_FILE, INFO_ENDS_FILE)
        rewards = [] if self.rewards is None else [self.rewards]
        for array in (*leaves(self.observations), *leaves(self.actions), *rewards):
            yield array.file

    def write(self, folder: Path) -> None:
        """Write `dataset.json`; one that is there is replaced in one step.

        Raises:
            OSError: It cannot be written.
        """
        node = {
            "format": FORMAT_NAME,
            "version": FORMAT_VERSION,
            "created": utc_now(),
            "created_by": f"rl_framework {library_version()}",
            "complete": self.complete,
            "n_episodes": self.n_episodes,
            "n_transitions": self.n_transitions,
            "observations": _tree_to_json(self.observations),
            "actions": _tree_to_json(self.actions),
            "rewards": None if self.rewards is None else _tree_to_json(self.rewards),
            "has_infos": self.has_infos,
            "observation_space": encode(self.observation_space),
            "action_space": encode(self.action_space),
            "metadata": encode_metadata(self.metadata),
        }
        draft = folder / f"{TABLE_FILE}.new"
        draft.write_text(dump_json(node, indent=1) + "\n", encoding="ascii")
        draft.replace(folder / TABLE_FILE)

    @classmethod
    def read(cls, folder: Path) -> DatasetTable:
        """The table of a folder.

        Raises:
            CorruptArchiveError: It is damaged.
            NewerFormatError: Only a newer version of this library reads it.
            UnsafeArchiveError: It names files outside its folder.
        """
        place = folder / TABLE_FILE
        try:
            node = parse_json(place.read_bytes(), str(place))
            _check_version(node, place)
            table = _from_json(node)
        except READ_ERRORS as error:
            raise CorruptArchiveError(f"{place} is damaged: {error!r}.") from error
        for name in table.files():
            check_inside(name, str(place))
        return table


def encode_metadata(metadata: Mapping[str, Any]) -> Any:
    """Metadata as JSON.

    Raises:
        InvalidInputError: It holds something that JSON cannot say, which is named.
    """
    try:
        return encode(dict(metadata))
    except ArchiveError as error:
        raise InvalidInputError(f"The metadata of episodes are numbers, text, lists and dicts. {error}") from error


def described_space(space: Any, role: str, lost: list[str]) -> Any:
    """A space as JSON; one of a kind that this library cannot describe is left out, which is noted."""
    if space is None:
        return None
    try:
        return space_to_json(space)
    except SpaceError:
        lost.append(f"The {role} space, {space}, is not stored: it is of a kind that has no description.")
        return None


def _check_version(node: dict[str, Any], place: Path) -> None:
    if node["format"] != FORMAT_NAME:
        raise ValueError(f"the format is {node['format']!r}")
    if type(node["version"]) is not int:
        raise ValueError(f"the version is {node['version']!r}")
    if node["version"] > FORMAT_VERSION:
        raise NewerFormatError(
            f"{place} has version {node['version']} of its format, this library reads up to {FORMAT_VERSION}. "
            "Install a newer rl_framework."
        )


def _from_json(node: dict[str, Any]) -> DatasetTable:
    observation_space, action_space = decode(node["observation_space"]), decode(node["action_space"])
    for space in (observation_space, action_space):
        if space is not None:
            space_from_json(space)
    return DatasetTable(
        observations=_tree_from_json(node["observations"]),
        actions=_tree_from_json(node["actions"]),
        rewards=None if node["rewards"] is None else _tree_from_json(node["rewards"]),
        has_infos=bool(node["has_infos"]),
        observation_space=observation_space,
        action_space=action_space,
        metadata=dict(decode(node["metadata"])),
        n_episodes=int(node["n_episodes"]),
        n_transitions=int(node["n_transitions"]),
        complete=bool(node["complete"]),
    )


def _stored(role: str, tree: Tree) -> Tree:
    """A file for each leaf; numbered, because keys may be anything and differ in capitals only."""
    if isinstance(tree, ArrayType):
        return StoredArray(f"{role}.npy", tree)
    numbers = iter(range(len(leaves(tree))))
    return map_tree(lambda leaf: StoredArray(f"{role}-{next(numbers)}.npy", leaf), tree)


def _tree_to_json(tree: Tree) -> Any:
    if isinstance(tree, dict):
        wrong = [key for key in tree if type(key) is not str]
        if wrong:
            raise InvalidInputError(f"The names of parts are strings in a stored data set; got the key {wrong[0]!r}.")
        return {"dict": [[key, _tree_to_json(part)] for key, part in tree.items()]}
    if isinstance(tree, tuple):
        return {"tuple": [_tree_to_json(part) for part in tree]}
    return {"file": tree.file, "dtype": tree.type.dtype.str, "shape": list(tree.type.shape)}


def _tree_from_json(node: dict[str, Any]) -> Tree:
    if "dict" in node:
        return {str(key): _tree_from_json(part) for key, part in node["dict"]}
    if "tuple" in node:
        return tuple(_tree_from_json(part) for part in node["tuple"])
    dtype = np.dtype(str(node["dtype"]))
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        raise ValueError(f"{dtype} is no type of stored numbers")
    shape = tuple(int(size) for size in node["shape"])
    if any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    return StoredArray(str(node["file"]), ArrayType(dtype, shape))
