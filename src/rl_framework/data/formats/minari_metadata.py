"""What a Minari data set says of itself: `metadata.json`, and where data sets of an id lie.

Source: `minari.dataset.minari_storage` and `minari.dataset.minari_dataset` of Minari 0.5.4.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from rl_framework.core.spaces import map_space
from rl_framework.core.trees import Tree, leaves_with_paths
from rl_framework.data.episode_layout import EpisodeLayout
from rl_framework.data.episode_source import IntArray
from rl_framework.data.formats.damage import read_json, refuse_empty
from rl_framework.data.formats.foreign_notes import NOTES_KEY, EpisodeStream, Notes
from rl_framework.data.formats.minari_spaces import guessed_space, space_from_minari, space_to_minari
from rl_framework.errors import CorruptArchiveError, InvalidInputError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

METADATA_FILE = "metadata.json"
MINARI_VERSION = "0.5.4"
DATASET_ID = re.compile(r"([-_\w][-_\w/]*[-_\w]/)?[-_\w]+-v\d+")
STAGING_FOLDER = re.compile(r"\.(?P<name>.+)\.saving-[0-9a-f]+")


@dataclass(frozen=True, kw_only=True)
class MinariDescription:
    """A data set's metadata, as far as they matter for reading it.

    Attributes:
        folder: The folder with the data and the metadata.
        n_episodes: Number of episodes.
        observation_space: Space of one observation, None if it does not tell.
        action_space: Space of one action, None if it does not tell.
        stored_as: The types of its arrays, if this library wrote it.
        lengths: Steps of each episode, if this library wrote it. `[N]`
        metadata: What else is known.
    """

    folder: Path
    n_episodes: int
    observation_space: gym.Space[Any] | None
    action_space: gym.Space[Any] | None
    stored_as: EpisodeLayout | None
    lengths: IntArray | None
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> MinariDescription:
        """The metadata in a folder.

        Raises:
            CorruptArchiveError: They are damaged.
            InvalidInputError: There are no episodes.
            SpaceError: A space is of a kind that is not supported.
        """
        place = folder / METADATA_FILE
        node = read_json(place)
        try:
            n_episodes = int(node["total_episodes"])
            notes = _valid_notes(node, place)
            lengths = None if notes is None else np.array(node[NOTES_KEY]["lengths"], np.int64)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptArchiveError(f"{place} is damaged: {error!r}.") from error
        refuse_empty(folder, n_episodes)
        return cls(
            folder=folder,
            n_episodes=n_episodes,
            observation_space=notes.observation_space if notes else _space(node, "observation_space", place),
            action_space=notes.action_space if notes else _space(node, "action_space", place),
            stored_as=notes.layout if notes else None,
            lengths=lengths,
            metadata=notes.metadata if notes else _metadata(node),
        )


def data_folder(path: Path) -> Path:
    """The folder with the data of a data set: `data` in its own folder, or that itself."""
    inner = path / "data"
    return inner if (inner / METADATA_FILE).is_file() else path


def data_set_path(rest: str) -> Path:
    """What stands behind `minari://`: an id in Minari's local folder, or a path (absolute, or with a dot in front)."""
    path = Path(rest).expanduser()
    if DATASET_ID.fullmatch(rest) and not path.is_absolute():
        return minari_root() / rest
    return path


def minari_root() -> Path:
    """Where Minari keeps its data sets on this machine."""
    chosen = os.environ.get("MINARI_DATASETS_PATH")
    return Path(chosen) if chosen else Path.home() / ".minari" / "datasets"


def write_metadata(stream: EpisodeStream, episodes: EpisodeSequence, path: Path, data_format: str) -> list[str]:
    """Write the metadata of a new data set.

    Args:
        stream: The episodes, on their way into it.
        episodes: The same episodes.
        path: The data set's own folder; the metadata go into `data` in it.
        data_format: `"hdf5"` or `"arrow"`.

    Returns:
        What the metadata cannot carry, one sentence each.
    """
    lost: list[str] = []
    lengths = [int(length) for length in episodes.lengths]
    node = {
        "total_episodes": len(lengths),
        "total_steps": sum(lengths),
        "data_format": data_format,
        "jpeg_encoding": False,
        "observation_space": json.dumps(
            space_to_minari(minari_space(episodes.observation_space, stream.layout.observations))
        ),
        "action_space": json.dumps(space_to_minari(minari_space(episodes.action_space, stream.layout.actions))),
        "dataset_id": dataset_id(path, episodes.metadata),
        "minari_version": MINARI_VERSION,
        "dataset_size": round(sum(file.stat().st_size for file in path.rglob("*")) / 1e6, 1),
        NOTES_KEY: stream.notes(lengths=lengths),
    } | _environment(episodes.metadata)
    for role, space in (("observation", episodes.observation_space), ("action", episodes.action_space)):
        if space is None:
            lost.append(f"The {role} space is not known; Minari is told the widest one that the arrays fit into.")
    (path / "data" / METADATA_FILE).write_text(json.dumps(node), encoding="utf-8")
    return lost


def minari_space(space: gym.Space[Any] | None, types: Tree) -> gym.Space[Any]:
    """The space to tell Minari: the known one if the arrays are nested as it says, else the widest that they fit."""
    if space is not None:
        told = [where for where, _ in leaves_with_paths(map_space(lambda leaf: leaf, space))]
        if set(told) == {where for where, _ in leaves_with_paths(types)}:
            return space
    return guessed_space(types)


def dataset_id(path: Path, metadata: Mapping[str, Any]) -> str:
    """The id of a data set that is being written.

    Args:
        path: Where it is written, which may be in the staging folder of its final place.
        metadata: May hold a `dataset_id`.

    Raises:
        InvalidInputError: The final place is in Minari's local folder, and what it says there is no id.
    """
    staging = STAGING_FOLDER.fullmatch(path.parent.name)
    final = path.parent.parent / staging["name"] if staging else path
    root = minari_root().resolve()
    if final.resolve().is_relative_to(root):
        return check_dataset_id(final.resolve().relative_to(root).as_posix())
    known = metadata.get("dataset_id")
    if isinstance(known, str) and DATASET_ID.fullmatch(known):
        return known
    name = re.sub(r"[^-_\w]+", "-", final.name) or "episodes"
    return name if DATASET_ID.fullmatch(name) else f"{name}-v0"


def check_dataset_id(given: str) -> str:
    """An id of a Minari data set.

    Raises:
        InvalidInputError: It is none.
    """
    if not isinstance(given, str) or not DATASET_ID.fullmatch(given):
        raise InvalidInputError(
            f"{given!r} is no id of a Minari data set: expected 'name-v0' or 'namespace/name-v0', the namespace of at "
            "least two letters."
        )
    return given


def _valid_notes(node: Mapping[str, Any], place: Path) -> Notes | None:
    """This library's notes, unless Minari has added episodes since."""
    if NOTES_KEY not in node:
        return None
    notes = Notes.from_json(node[NOTES_KEY], str(place))
    same = (notes.n_episodes, notes.n_transitions) == (node["total_episodes"], node["total_steps"])
    return notes if same else None


def _space(node: Mapping[str, Any], key: str, place: Path) -> gym.Space[Any] | None:
    return space_from_minari(node[key], f"The {key} in {place}") if node.get(key) is not None else None


def _metadata(node: Mapping[str, Any]) -> Mapping[str, Any]:
    keys = ("dataset_id", "algorithm_name", "author", "description", "minari_version", "code_permalink")
    known = {key: node[key] for key in keys if isinstance(node.get(key), (str, list))}
    try:
        return known | {"environment_id": json.loads(node["env_spec"])["id"]}
    except (KeyError, TypeError, ValueError):
        return known


def _environment(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The description of the environment from which Minari can make it again, where Gymnasium knows it."""
    known = metadata.get("environment_id")
    # An id with a module in front would import that module.
    if not isinstance(known, str) or ":" in known:
        return {}
    try:
        return {"env_spec": gym.spec(known).to_json()}
    except (gym.error.Error, ValueError, TypeError):
        return {}
