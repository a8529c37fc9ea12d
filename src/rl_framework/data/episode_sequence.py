"""Any number of recorded episodes, from memory or disk, read when they are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import index as as_index
from pathlib import Path
from typing import Any, overload

import gymnasium as gym
import numpy as np

from rl_framework.core.seeding import fresh_seed
from rl_framework.data.episode import Episode
from rl_framework.data.episode_layout import EpisodeLayout, check_same_layout
from rl_framework.data.episode_source import (
    NOTHING,
    ConcatenatedSource,
    EpisodeSource,
    InMemorySource,
    IntArray,
    MappedSource,
    SelectedSource,
    knows_lengths,
)
from rl_framework.data.episode_statistics import EpisodeStatistics, summarise
from rl_framework.data.generic_episodes import generic_episodes
from rl_framework.data.playing import PlayingAgent, ended_after, environment_id
from rl_framework.data.recording import EpisodeRecorder
from rl_framework.data.storage import checked_episodes, open_dataset, save_dataset, stream_to_disk
from rl_framework.errors import InvalidInputError

Space = gym.Space[Any]


class EpisodeSequence(Sequence[Episode]):
    """Episodes with the same arrays, each read when it is asked for.

    A sequence is a view: slices, `filter`, `split` and `shuffle` choose episodes without reading or copying them,
    and `map` changes them when they are read.

    Args:
        source: Where the episodes come from.
        indices: Numbers of the chosen ones in the source; all of them for None. `[N]`

    Attributes:
        source: Where the episodes come from.
        indices: Numbers of the chosen ones in the source. Cannot be written to. `[N]`
    """

    def __init__(self, source: EpisodeSource, indices: IntArray | None = None) -> None:
        chosen = np.arange(len(source.lengths)) if indices is None else np.array(indices, dtype=np.int64)
        chosen.setflags(write=False)
        self.source = source
        self.indices = chosen

    @classmethod
    def from_dataset(cls, path: str | Path) -> EpisodeSequence:
        """Open a data set without reading it.

        Args:
            path: A file or folder, whose form is found by its content, or `"name://..."`: `"minari://D4RL/door/human-v2"`
                for a data set in Minari's own folder, `"lerobot://folder"`, ...

        Raises:
            MissingArchiveError: Nothing is there.
            InvalidInputError: Its form is not known, or it holds no episodes.
            CorruptArchiveError: It is truncated or contradicts itself.
            NewerFormatError: Only newer software reads it.
            UnsafeArchiveError: It could only be read by running code in it; nothing of it was run.
            MissingExtraError: A package that reads it is not installed.
        """
        return cls(open_dataset(path))

    @classmethod
    def from_episodes(
        cls,
        episodes: Iterable[Episode],
        *,
        observation_space: Space | None = None,
        action_space: Space | None = None,
        metadata: Mapping[str, Any] = NOTHING,
    ) -> EpisodeSequence:
        """Hold episodes in memory.

        Args:
            episodes: At least one; all with the same arrays.
            observation_space: Space of one observation, if known.
            action_space: Space of one action, if known.
            metadata: What else is known, as JSON values.

        Raises:
            InvalidInputError: There are none, or something that is no episode, or one has other arrays, by name.
        """
        held = tuple(checked_episodes(episodes))
        expected = EpisodeLayout.of(held[0])
        for number, episode in enumerate(held):
            check_same_layout(expected, EpisodeLayout.of(episode), who=f"Episode {number}")
        return cls(InMemorySource(held, observation_space, action_space, dict(metadata)))

    @classmethod
    def from_episode_generator(
        cls,
        generator: Iterable[Episode] | Callable[[], Iterable[Episode]],
        n_episodes: int | None = None,
        path: str | Path | None = None,
        *,
        observation_space: Space | None = None,
        action_space: Space | None = None,
        metadata: Mapping[str, Any] = NOTHING,
    ) -> EpisodeSequence:
        """Stream episodes to disk as they come, one at a time in memory, and open them there.

        Args:
            generator: Gives the episodes; or a function that returns what gives them.
            n_episodes: How many to take; all for None.
            path: Where they stay, in this library's own layout; None for a temporary folder that is removed when the
                sequence, and all that was made of it, is gone.
            observation_space: Space of one observation, if known.
            action_space: Space of one action, if known.
            metadata: What else is known, as JSON values.

        Raises:
            InvalidInputError: It gives none, or fewer than `n_episodes`, or something that is no episode, or an
                episode with other arrays, by name. Nothing is left on the disk, as when the generator raises.
            ArchiveError: The disk refused.
        """
        known = {"observation_space": observation_space, "action_space": action_space, "metadata": dict(metadata)}
        return cls(stream_to_disk(checked_episodes(generator, n_episodes), path, **known))

    @classmethod
    def from_agent(
        cls,
        agent: PlayingAgent,
        environments: Any,
        n_episodes: int,
        seed: int | None = None,
        *,
        deterministic: bool = False,
        n_envs: int | None = None,
        path: str | Path | None = None,
    ) -> EpisodeSequence:
        """Let an agent play, and stream its episodes to disk.

        Args:
            agent: Any trained agent.
            environments: Whatever `agent.evaluate` takes.
            n_episodes: How many.
            seed: From which the seeds of all episodes are derived; the same seed gives the same episodes. Drawn if
                None, and written down in `metadata`.
            deterministic: The most probable actions instead of sampled ones.
            n_envs: Number of environments side by side.
            path: Where the episodes stay; None for a temporary folder, as in `from_episode_generator`.

        Raises:
            NotTrainedError: The agent was never trained.
            SpaceError: The environments do not have the agent's spaces.
            EnvironmentFailure: An environment raised, or gave an invalid number.
        """
        seed = fresh_seed() if seed is None else seed
        known = {"observation_space": agent.policy.observation_space, "action_space": agent.policy.action_space}
        told = {"environment_id": environment_id(environments), "seed": seed, "deterministic": deterministic}
        played = agent.play_episodes(environments, n_episodes, deterministic=deterministic, seed=seed, n_envs=n_envs)
        with ended_after(played):
            episodes = checked_episodes(played, n_episodes)
            return cls(stream_to_disk(episodes, path, metadata={"source": type(agent).__name__, **told}, **known))

    @staticmethod
    def record(
        environment: gym.Env[Any, Any],
        path: str | Path | None = None,
        *,
        keep_cut: bool = True,
        keep_infos: bool = False,
    ) -> EpisodeRecorder:
        """Wrap an environment so that every episode is recorded that a person or any policy plays in it.

        Args:
            environment: The environment.
            path: A new folder into which episodes are written as they end; None to hold them in memory.
            keep_cut: Keep episodes that are cut by a `reset` or `close` before their end.
            keep_infos: Also record what the environment says beside each step.
        """
        return EpisodeRecorder(environment, path, keep_cut=keep_cut, keep_infos=keep_infos)

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> EpisodeSequence: ...
    def __getitem__(self, index: int | slice) -> Episode | EpisodeSequence:
        if isinstance(index, slice):
            return self._choose(self.indices[index])
        number, count = as_index(index), len(self)
        if not -count <= number < count:
            raise IndexError(f"There is no episode {number} in a sequence of {count}.")
        return self.source.read(int(self.indices[number]))

    def __iter__(self) -> Iterator[Episode]:
        return map(self.source.read, self.indices.tolist())

    def __add__(self, other: EpisodeSequence) -> EpisodeSequence:
        return self.concat(other) if isinstance(other, EpisodeSequence) else NotImplemented

    def __repr__(self) -> str:
        parts = [f"{len(self)} episodes"]
        if knows_lengths(self.source):
            parts.append(f"{self.n_transitions} transitions")
        parts += [f"{key}={value!r}" for key, value in self.metadata.items() if key in ("environment_id", "source")]
        return f"EpisodeSequence({', '.join(parts)})"

    @property
    def lengths(self) -> IntArray:
        """Steps of each episode; read from the episodes only after a `map`. `[N]`"""
        return self.source.lengths[self.indices]

    @property
    def n_transitions(self) -> int:
        """Steps of all episodes together."""
        return int(self.lengths.sum())

    @property
    def observation_space(self) -> Space | None:
        """Space of one observation, None where the data set does not tell."""
        return self.source.observation_space

    @property
    def action_space(self) -> Space | None:
        """Space of one action, None where the data set does not tell."""
        return self.source.action_space

    @property
    def has_rewards(self) -> bool:
        """Whether the episodes were recorded with rewards."""
        return self.source.has_rewards

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What else is known, as JSON values: `environment_id`, `source`, ..."""
        return self.source.metadata

    def map(self, function: Callable[[Episode], Episode]) -> EpisodeSequence:
        """The episodes as a function makes them; it is called each time one is read.

        Args:
            function: Makes an episode of an episode; it may be shorter or longer.
        """
        return EpisodeSequence(MappedSource(SelectedSource(self.source, self.indices), function), np.arange(len(self)))

    def filter(self, predicate: Callable[[Episode], bool]) -> EpisodeSequence:
        """The episodes for which a function is true; it is called once for each, now."""
        kept = [number for number, episode in zip(self.indices, self, strict=True) if predicate(episode)]
        return self._choose(np.array(kept, dtype=np.int64))

    def shuffle(self, seed: int) -> EpisodeSequence:
        """The episodes in an order drawn from a seed."""
        return self._choose(np.random.default_rng(seed).permutation(self.indices))

    def split(self, *fractions: float, seed: int | None = None) -> tuple[EpisodeSequence, ...]:
        """Parts of given sizes, e.g. `train, rest = sequence.split(0.8, seed=0)`. Episodes stay whole.

        Args:
            *fractions: Shares of the episodes. What they leave is one further part.
            seed: From which the episodes are shuffled before; None to cut them in their order.

        Raises:
            InvalidInputError: The fractions are impossible, or there are fewer episodes than parts.
        """
        whole = self if seed is None else self.shuffle(seed)
        cuts = _cuts(fractions, len(self))
        return tuple(whole[start:stop] for start, stop in zip([0, *cuts[:-1]], cuts, strict=True))

    def concat(self, *others: EpisodeSequence) -> EpisodeSequence:
        """These episodes and then those of others, without copying any.

        Raises:
            InvalidInputError: Their arrays differ; the message names the field.
            SpaceError: Their spaces differ.
        """
        return EpisodeSequence(ConcatenatedSource([SelectedSource(one.source, one.indices) for one in (self, *others)]))

    def statistics(self) -> EpisodeStatistics:
        """Lengths, returns, observations and actions in numbers; reads each episode once.

        Raises:
            InvalidInputError: The sequence is empty, or holds arrays that are not real numbers.
        """
        return summarise(self)

    def save(self, path: str | Path, format: str | None = None) -> Path:  # noqa: A002  the word for it
        """Save the episodes; what was there before is replaced in one step once the new files are complete.

        What the format cannot carry is told in one `LossyConversionWarning`.

        Args:
            path: The folder or file, or `"name://..."` as in `from_dataset`.
            format: `"rl_framework"` (this library's own, the default), `"imitation"`, `"minari"`, `"lerobot"`,
                `"d4rl"`, ...

        Returns:
            Where they are.

        Raises:
            UnknownOptionError: No such format.
            InvalidInputError: The sequence is empty, the format cannot hold it, or something else is in the way.
            ArchiveError: The disk refused; what was there before is untouched.
            MissingExtraError: A package that writes the format is not installed.
        """
        return save_dataset(self, path, format)

    def to_imitation_episodes(self) -> list[Any]:
        """The episodes as trajectories of the `imitation` library.

        Raises:
            MissingExtraError: It is not installed.
        """
        from rl_framework.data.formats.imitation_objects import to_imitation

        return to_imitation(self)

    def to_d3rlpy_episodes(self) -> list[Any]:
        """The episodes as those of `d3rlpy`.

        Raises:
            MissingExtraError: It is not installed.
        """
        from rl_framework.data.formats.d3rlpy_objects import to_d3rlpy

        return to_d3rlpy(self)

    def to_minari(self, dataset_id: str) -> Any:
        """Make a data set in Minari's own local folder.

        Args:
            dataset_id: Its id, e.g. `"cartpole/expert-v0"`.

        Returns:
            The `MinariDataset`.

        Raises:
            MissingExtraError: Minari is not installed.
        """
        from rl_framework.data.formats.minari_objects import to_minari

        return to_minari(self, dataset_id)

    def to_generic_episodes(self) -> Iterator[dict[str, Any]]:
        """Each episode as a dict of NumPy arrays: see `generic_episodes`."""
        return generic_episodes(self)

    def _choose(self, indices: IntArray) -> EpisodeSequence:
        return EpisodeSequence(self.source, indices)


def _cuts(fractions: Sequence[float], count: int) -> list[int]:
    """Where each part ends, such that none is empty."""
    total = sum(fractions)
    if not fractions or min(fractions) <= 0 or total > 1 + 1e-9:
        raise InvalidInputError(f"Expected fractions above 0 that add up to at most 1, got {fractions}.")
    shares = list(fractions) if len(fractions) > 1 and total > 1 - 1e-9 else [*fractions, 1 - total]
    if len(shares) > count or shares[-1] <= 0:
        raise InvalidInputError(
            f"{count} episodes cannot be split by {fractions} into {len(shares)} parts of which none is empty."
        )
    ends = [round(end * count) for end in accumulate(shares)]
    for part in range(len(ends)):
        least, most = part + 1 if part == 0 else ends[part - 1] + 1, count - (len(ends) - 1 - part)
        ends[part] = min(max(ends[part], least), most)
    return [*ends[:-1], count]
