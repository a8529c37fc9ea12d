"""Which column of a LeRobot data set holds which array, and how its entries are encoded; see `lerobot`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rl_framework.core.trees import Path as TreePath
from rl_framework.core.trees import Tree, leaves, leaves_with_paths, map_tree
from rl_framework.data.episode_layout import ArrayType, EpisodeLayout
from rl_framework.data.formats.arrow_arrays import from_arrow, is_list, to_arrow
from rl_framework.data.formats.picture_files import decode_pictures, encode_pictures
from rl_framework.errors import CorruptArchiveError, InvalidInputError

OBSERVATION, ACTION, REWARD, DONE = "observation", "action", "next.reward", "next.done"
SINGLE = ("observation", "observation.state", "observation.image")
NOT_NUMBERS = ("string", "language", "audio")
INDEX_COLUMNS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
LARGEST_RANK = 5


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers.

    Attributes:
        name: Its name.
        is_picture: Whether its entries are PNG files.
        type: What its entries are, None where only the column itself tells.
    """

    name: str
    is_picture: bool
    type: ArrayType | None

    @property
    def size(self) -> int:
        """Numbers in an entry, 0 where that is not known."""
        return 0 if self.type is None else math.prod(self.type.shape)

    def encode(self, entries: np.ndarray) -> pa.Array:
        """Entries as rows. `[n, ...]`"""
        if self.is_picture:
            files = pa.array(encode_pictures(entries), pa.binary())
            return pa.StructArray.from_arrays([files, pa.nulls(len(entries), pa.string())], ["bytes", "path"])
        return to_arrow(entries.reshape(len(entries)) if entries.shape[1:] == (1,) else entries)

    def decode(self, rows: pa.Array) -> np.ndarray:
        """Rows as entries. `[n, ...]`

        Raises:
            CorruptArchiveError: They are no pictures.
            InvalidInputError: They hold no numbers, or differ in shape.
        """
        if not self.is_picture:
            entries = from_arrow(rows)
        else:
            entries = decode_pictures(_files(rows, self.name), None if self.type is None else self.type.shape)
        if self.type is None:
            return entries
        return entries.reshape(len(rows), *self.type.shape).astype(self.type.dtype, copy=False)

    def feature(self) -> dict[str, Any]:
        """What `meta/info.json` says of it."""
        if self.type is None:
            raise InvalidInputError(f"The type of column {self.name!r} is not known.")
        if self.is_picture:
            return {"dtype": "image", "shape": list(self.type.shape), "names": ["height", "width", "channels"]}
        return {"dtype": self.type.dtype.name, "shape": list(self.type.shape) or [1], "names": None}


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a data set: trees of `Column`, and one for the rewards, None where there are none."""

    observations: Tree
    actions: Tree
    rewards: Column | None

    @classmethod
    def of_layout(cls, layout: EpisodeLayout) -> Columns:
        """The columns for episodes with these arrays.

        Raises:
            InvalidInputError: Two arrays would get the same name, or one has too many axes.
        """
        root = "observation.image" if _is_picture(layout.observations) else "observation.state"
        made = cls(
            _named(layout.observations, OBSERVATION, root),
            _named(layout.actions, ACTION, ACTION),
            None if layout.rewards is None else Column(REWARD, False, layout.rewards),
        )
        names = [column.name for column in made]
        twice = [name for name in names if names.count(name) > 1 or "/" in name]
        if twice:
            raise InvalidInputError(
                f"An array would be stored as {twice[0]!r}, which LeRobot does not allow: names must differ and have "
                "no slash. Rename it with sequence.map, or save in the format 'rl_framework'."
            )
        return made

    @classmethod
    def of_features(cls, features: Mapping[str, Any]) -> Columns:
        """The columns of a data set by other software.

        Raises:
            InvalidInputError: There is no observation, no action, or one is stored as a video.
        """
        videos = [name for name, feature in features.items() if feature["dtype"] == "video"]
        if videos:
            raise InvalidInputError(
                f"The data set stores {', '.join(map(repr, videos))} as videos, which are not decoded. Convert it to "
                "pictures with LeRobot first (`use_videos=False`)."
            )
        known = {name: feature for name, feature in features.items() if feature["dtype"] not in NOT_NUMBERS}
        rewards = Column(REWARD, False, None) if REWARD in known else None
        return cls(_found(known, OBSERVATION), _found(known, ACTION), rewards)

    def __iter__(self) -> Iterator[Column]:
        """All columns."""
        yield from (*leaves(self.observations), *leaves(self.actions))
        if self.rewards is not None:
            yield self.rewards


def _is_picture(types: Tree) -> bool:
    return isinstance(types, ArrayType) and types.dtype == np.uint8 and len(types.shape) == 3 and types.shape[2] == 3


def _named(types: Tree, prefix: str, root: str) -> Tree:
    paths = iter([where for where, _ in leaves_with_paths(types)])
    return map_tree(lambda found: _column(found, prefix, root, next(paths)), types)


def _column(found: ArrayType, prefix: str, root: str, where: TreePath) -> Column:
    name = ".".join([prefix, *map(str, where)]) if where else root
    if len(found.shape) > LARGEST_RANK:
        raise InvalidInputError(f"{name} has entries of shape {found.shape}; LeRobot knows up to {LARGEST_RANK} axes.")
    return Column(name, _is_picture(found), found)


def _found(features: Mapping[str, Any], prefix: str) -> Tree:
    """One column for a single array, else a dict of them."""
    names = [name for name in features if name == prefix or name.startswith(f"{prefix}.")]
    if not names:
        raise InvalidInputError(f"The data set has no column {prefix!r}; it has: {', '.join(features)}.")
    made = {name: Column(name, features[name]["dtype"] == "image", _told(features[name])) for name in names}
    if names == [prefix] or (len(names) == 1 and names[0] in SINGLE):
        return made[names[0]]
    return {name.removeprefix(f"{prefix}."): column for name, column in made.items()}


def _told(feature: Mapping[str, Any]) -> ArrayType | None:
    """The type that the data set tells; pictures tell it themselves."""
    if feature["dtype"] == "image":
        return None
    return ArrayType(np.dtype(str(feature["dtype"])), tuple(int(size) for size in feature["shape"]))


def _files(rows: pa.Array, name: str) -> list[bytes]:
    if not pa.types.is_struct(rows.type) or rows.type.get_field_index("bytes") < 0 or is_list(rows.type):
        raise CorruptArchiveError(f"The column {name!r} should hold pictures, it has the type {rows.type}.")
    files: Sequence[bytes | None] = rows.field("bytes").to_pylist()
    if any(content is None for content in files):
        raise CorruptArchiveError(f"Pictures in the column {name!r} are missing from the file.")
    return [content for content in files if content is not None]
