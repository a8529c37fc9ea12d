"""What a foreign layout has no place for, noted beside its data: exact number types, nesting, spaces, metadata.

Other software does not know the notes and ignores them. They count only as long as they agree with the data, because
other software may have added or removed episodes since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from rl_framework.checkpoints.plain_values import checked_dtype, decode
from rl_framework.core.spaces import space_from_json
from rl_framework.core.trees import Tree, map_tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import ArrayType, EpisodeLayout, check_same_layout
from rl_framework.data.formats.memory_mapped_table import described_space, encode_metadata
from rl_framework.errors import CorruptArchiveError, InvalidInputError, NewerFormatError, SpaceError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

NOTES_KEY = "rl_framework"
NOTES_VERSION = 1
NUMBERS = "biuf"
READ_ERRORS = (KeyError, TypeError, ValueError, AttributeError, SpaceError)


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What is noted of a data set.

    Attributes:
        layout: The arrays of its episodes.
        n_episodes: How many there were when it was written.
        n_transitions: The sum of their lengths then.
        observation_space: Space of one observation, None if unknown.
        action_space: Space of one action, None if unknown.
        metadata: What else is known.
    """

    layout: EpisodeLayout
    n_episodes: int
    n_transitions: int
    observation_space: gym.Space[Any] | None
    action_space: gym.Space[Any] | None
    metadata: Mapping[str, Any]

    @classmethod
    def from_json(cls, node: Any, where: str) -> Notes:
        """The notes that `EpisodeStream.notes` gave.

        Args:
            node: The JSON value.
            where: Where it was found, for the message.

        Raises:
            CorruptArchiveError: It is damaged.
            NewerFormatError: Only a newer version of this library reads it.
        """
        try:
            if node["version"] > NOTES_VERSION:
                raise NewerFormatError(
                    f"{where} has notes of version {node['version']}, this library reads up to {NOTES_VERSION}. "
                    "Install a newer rl_framework."
                )
            return _read_notes(node)
        except READ_ERRORS as error:
            raise CorruptArchiveError(f"The notes of this library in {where} are damaged: {error!r}.") from error


class EpisodeStream:
    """Episodes on their way into a foreign layout: all with the same arrays, in the same order of keys.

    Args:
        episodes: The episodes.
        form: Name of the layout, for messages, e.g. `"Minari"`.

    Attributes:
        layout: The arrays that they have.
        lost: What the layout cannot carry, one sentence each; complete once all episodes were taken.

    Raises:
        InvalidInputError: There are none, or an array holds something else than numbers.
    """

    def __init__(self, episodes: EpisodeSequence, form: str) -> None:
        if not len(episodes):
            raise InvalidInputError(f"There are no episodes to store in the layout of {form}.")
        self._episodes = episodes
        self._form = form
        self.layout = EpisodeLayout.of(episodes[0])
        self.lost: list[str] = []
        for name, found in self.layout.named_arrays():
            _check_numbers(name, found, form)

    def __iter__(self) -> Iterator[Episode]:
        """The episodes, each checked, one at a time."""
        has_infos = False
        for number, episode in enumerate(self._episodes):
            check_same_layout(self.layout, EpisodeLayout.of(episode), who=f"Episode {number}")
            has_infos = has_infos or episode.infos is not None
            yield Episode(
                observations=_in_order(self.layout.observations, episode.observations),
                actions=_in_order(self.layout.actions, episode.actions),
                rewards=episode.rewards,
                terminated=episode.terminated,
            )
        told = f"The infos are left out: the layout of {self._form} has no safe place for them."
        if has_infos and told not in self.lost:
            self.lost.append(told)

    def require_rewards(self) -> None:
        """Refuse episodes without rewards.

        Raises:
            InvalidInputError: They have none.
        """
        if self.layout.rewards is None:
            raise InvalidInputError(
                f"These episodes have no rewards, and the layout of {self._form} cannot say so. Save them in a format "
                "that can ('rl_framework', 'imitation' or 'lerobot'), or give them rewards with sequence.map."
            )

    def notes(self, **further: Any) -> dict[str, Any]:
        """What to note beside the data, as JSON.

        Args:
            **further: JSON values that the layout itself needs; they are noted along.

        Raises:
            InvalidInputError: The metadata are no JSON values.
        """
        episodes = self._episodes
        return {
            "version": NOTES_VERSION,
            "n_episodes": len(episodes),
            "n_transitions": int(episodes.n_transitions),
            "observations": _tree_to_json(self.layout.observations),
            "actions": _tree_to_json(self.layout.actions),
            "rewards": None if self.layout.rewards is None else _tree_to_json(self.layout.rewards),
            "observation_space": described_space(episodes.observation_space, "observation", self.lost),
            "action_space": described_space(episodes.action_space, "action", self.lost),
            "metadata": encode_metadata(episodes.metadata),
            **further,
        }


def is_nested(tree: Tree) -> bool:
    """Whether a tree of a layout is more than one array."""
    return isinstance(tree, (dict, tuple))


def as_noted(found: ArrayType, array: np.ndarray, rows: int) -> np.ndarray:
    """Entries in the number type and shape that were noted. `[rows, ...]`

    Raises:
        ValueError: They are not as many.
    """
    return array.reshape(rows, *found.shape).astype(found.dtype, copy=False)


def _in_order(structure: Tree, tree: Tree) -> Tree:
    return map_tree(lambda _, leaf: leaf, structure, tree)


def _check_numbers(name: str, found: ArrayType, form: str) -> None:
    if found.dtype.kind not in NUMBERS or found.dtype.itemsize > 8:
        raise InvalidInputError(
            f"{name} is an array of {found.dtype}; the layout of {form} holds booleans, integers and floats of up to "
            "64 bits. Convert it first, e.g. with sequence.map, or save in the format 'rl_framework'."
        )
    if 0 in found.shape:
        raise InvalidInputError(
            f"{name} has entries of shape {found.shape}, which hold no number; the layout of {form} cannot tell them "
            "from nothing. Leave the array out with sequence.map, or save in the format 'rl_framework'."
        )


def _tree_to_json(tree: Tree) -> Any:
    if isinstance(tree, dict):
        wrong = [key for key in tree if type(key) is not str]
        if wrong:
            raise InvalidInputError(f"The names of parts are strings in a stored data set; got the key {wrong[0]!r}.")
        return {"dict": [[key, _tree_to_json(part)] for key, part in tree.items()]}
    if isinstance(tree, tuple):
        return {"tuple": [_tree_to_json(part) for part in tree]}
    return {"dtype": tree.dtype.str, "shape": list(tree.shape)}


def _tree_from_json(node: Any) -> Tree:
    if "dict" in node:
        return {str(key): _tree_from_json(part) for key, part in node["dict"]}
    if "tuple" in node:
        return tuple(_tree_from_json(part) for part in node["tuple"])
    return ArrayType(checked_dtype(node["dtype"]), tuple(int(size) for size in node["shape"]))


def _read_notes(node: Any) -> Notes:
    rewards = node["rewards"]
    observations, actions = _tree_from_json(node["observations"]), _tree_from_json(node["actions"])
    return Notes(
        layout=EpisodeLayout(observations, actions, None if rewards is None else _tree_from_json(rewards)),
        n_episodes=int(node["n_episodes"]),
        n_transitions=int(node["n_transitions"]),
        observation_space=_space(node["observation_space"]),
        action_space=_space(node["action_space"]),
        metadata=dict(decode(node["metadata"])),
    )


def _space(node: Any) -> gym.Space[Any] | None:
    return None if node is None else space_from_json(node)
