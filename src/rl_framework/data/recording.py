"""Records the episodes that anybody plays in an environment: a person, a script or a policy."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import gymnasium as gym
import numpy as np

from rl_framework.core.spaces import check_supported, leaf_shape, map_space
from rl_framework.core.trees import Tree, map_tree, stack
from rl_framework.data.episode import Episode
from rl_framework.data.episode_source import EpisodeSource, InMemorySource
from rl_framework.data.formats.memory_mapped import MemoryMappedSource
from rl_framework.data.formats.memory_mapped_writer import MemoryMappedWriter
from rl_framework.data.playing import environment_id
from rl_framework.data.storage import tell_losses
from rl_framework.errors import ArchiveError, InvalidInputError, SpaceError

if TYPE_CHECKING:
    from rl_framework.data.episode_sequence import EpisodeSequence

Info = dict[str, Any]


class EpisodeRecorder(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that writes down every episode that is played in it.

    Arrays are copied and have the types that the spaces say. With a path, each episode is handed to the operating
    system when it ends, its length last: if the process dies, `EpisodeSequence.from_dataset(path)` opens the episodes
    that were complete by then. Without one, episodes are held in memory.

    Use it as a context manager, or call `close`.

    Args:
        environment: The environment.
        path: A folder that does not exist yet, or is empty; None to hold the episodes in memory.
        keep_cut: Keep episodes that are cut by a `reset` or `close` before their end; they count as truncated.
        keep_infos: Also record what the environment says beside each step.

    Raises:
        SpaceError: The environment has spaces whose values are no arrays.
        InvalidInputError: Something is at the path already.
        ArchiveError: The folder cannot be made.
    """

    def __init__(
        self,
        environment: gym.Env[Any, Any],
        path: str | Path | None = None,
        *,
        keep_cut: bool = True,
        keep_infos: bool = False,
    ) -> None:
        super().__init__(environment)
        check_supported(environment.observation_space, "observation")
        check_supported(environment.action_space, "action")
        self._keep_cut = keep_cut
        self._keep_infos = keep_infos
        self._running: _RunningEpisode | None = None
        known = {
            "observation_space": environment.observation_space,
            "action_space": environment.action_space,
            "metadata": {"environment_id": environment_id(environment), "source": "recording"},
        }
        self._store: _Store = _Memory(known) if path is None else _Folder(Path(path).expanduser(), known)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Open an episode; one that was not over yet is cut."""
        self._cut()
        observation, info = self.env.reset(seed=seed, options=options)
        self._running = _RunningEpisode(self.env, observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Info]:
        """Take a step and write it down.

        Raises:
            SpaceError: An observation or action does not have the form that its space says.
        """
        kept = None if self._running is None else self._running.kept_action(action)
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._running is not None:
            self._running.add(kept, observation, float(reward), info if self._keep_infos else None)
            if terminated or truncated:
                self._finish(bool(terminated))
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Complete the recording and close the environment; calling it twice is fine."""
        try:
            self._cut()
            self._store.finish()
        finally:
            super().close()

    @property
    def episodes(self) -> EpisodeSequence:
        """The episodes that ended so far.

        Raises:
            InvalidInputError: None did.
        """
        from rl_framework.data.episode_sequence import EpisodeSequence

        return EpisodeSequence(self._store.source())

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        """Two recorders of one recording cannot be; whoever wants more environments makes them."""
        raise TypeError("An EpisodeRecorder cannot be copied. Record one environment at a time.")

    def _cut(self) -> None:
        if self._running is not None and self._running.n_steps and self._keep_cut:
            self._finish(terminated=False)
        self._running = None

    def _finish(self, terminated: bool) -> None:
        running, self._running = self._running, None
        if running is not None:
            self._store.append(running.episode(terminated))


class _RunningEpisode:
    """The steps of an episode that is being played."""

    def __init__(self, env: gym.Env[Any, Any], observation: Tree) -> None:
        self._spaces = (env.observation_space, env.action_space)
        self._observations = [_copied(env.observation_space, observation, "observation")]
        self._actions: list[Tree] = []
        self._rewards: list[float] = []
        self._infos: list[Mapping[str, Any]] = []

    @property
    def n_steps(self) -> int:
        """Steps so far."""
        return len(self._actions)

    def kept_action(self, action: Tree) -> Tree:
        """A copy of an action, which an environment may change while it steps."""
        return _copied(self._spaces[1], action, "action")

    def add(self, action: Tree, observation: Tree, reward: float, info: Info | None) -> None:
        """Note one step."""
        self._observations.append(_copied(self._spaces[0], observation, "observation"))
        self._actions.append(action)
        self._rewards.append(reward)
        if info is not None:
            self._infos.append(copy.deepcopy(info))

    def episode(self, terminated: bool) -> Episode:
        """All of it."""
        return Episode(
            observations=stack(self._observations),
            actions=stack(self._actions),
            rewards=np.array(self._rewards),
            terminated=terminated,
            infos=tuple(self._infos) if self._infos else None,
        )


class _Store(Protocol):
    """Where recorded episodes go."""

    def append(self, episode: Episode) -> None: ...
    def finish(self) -> None: ...
    def source(self) -> EpisodeSource: ...


class _Memory:
    """Recorded episodes in memory."""

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known
        self._episodes: list[Episode] = []

    def append(self, episode: Episode) -> None:
        self._episodes.append(episode)

    def finish(self) -> None:
        """Nothing is left to do."""

    def source(self) -> EpisodeSource:
        return InMemorySource(self._episodes, **self._known)


class _Folder:
    """Recorded episodes in a folder, readable at any time."""

    def __init__(self, path: Path, known: dict[str, Any]) -> None:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise InvalidInputError(f"{path} exists; a recording needs a new folder, or an empty one.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArchiveError(f"Cannot record into {path}: {error}.") from error
        self._path = path
        self._writer = MemoryMappedWriter(path, **known)
        self._is_finished = False

    def append(self, episode: Episode) -> None:
        self._writer.append(episode)
        self._writer.publish()

    def finish(self) -> None:
        if not self._is_finished and self._writer.n_episodes:
            self._is_finished = True
            tell_losses(self._writer.finish())

    def source(self) -> EpisodeSource:
        if not self._writer.n_episodes:
            raise InvalidInputError(f"No episode has ended yet in the recording at {self._path}.")
        return MemoryMappedSource(self._path)


def _copied(space: gym.Space[Any], value: Tree, role: str) -> Tree:
    """A copy of a value with the types of its space.

    Raises:
        SpaceError: Another structure or shape.
    """
    try:
        copied = map_tree(_copied_leaf, map_space(lambda leaf: leaf, space), value)
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise SpaceError(f"The {role} {value!r:.200} is not of the environment's {role} space {space}.") from error
    return copied


def _copied_leaf(leaf: gym.Space[Any], value: Any) -> np.ndarray:
    array = np.array(value, dtype=leaf.dtype)
    if array.shape != leaf_shape(leaf):
        raise ValueError(f"shape {array.shape}, expected {leaf_shape(leaf)}")
    return array
