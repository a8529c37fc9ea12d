"""The episode trainer from recordings: from them alone, which is offline learning, or beside what it does itself.

Of recordings nobody knows how likely their actions were for those who chose them. Their ratios of probabilities count
as 1: values are those of whoever was recorded, by TD(lambda), and the policy becomes better than theirs by one step of
advantage-weighted regression. It never leaves what was recorded, which is where offline learning goes astray.

Sources: Peng et al., Advantage-Weighted Regression, 2019 (https://arxiv.org/abs/1910.00177), section 5.3, for learning
from recordings alone; Brandfonbrener et al., Offline RL Without Off-Policy Evaluation, 2021
(https://arxiv.org/abs/2106.08909), for why one step from the values of those who were recorded does well.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch

from rl_framework.algorithms.base import CollectReport, UpdateReport
from rl_framework.algorithms.episode_replay import EpisodeCodec, EpisodeRecord, EpisodeReplay, as_numbers
from rl_framework.algorithms.processes import Processes
from rl_framework.algorithms.recorded_turns import RecordedTurns
from rl_framework.algorithms.vtrace_awr import TensorEpisodes, VTraceAWR
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.core.trees import Tree
from rl_framework.data.episode import Episode
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.tensor_env import TensorEnv
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import InvalidInputError


class OfflineVTraceAWR(VTraceAWR):
    """`VTraceAWR` that also learns from recordings, alone or beside what it does itself.

    Each update learns from a turn of the recordings, read when its turn comes: all of them if they are few, else as
    many as are wanted at once, in an order that changes from epoch to epoch. Where it acts, the turn lies in the
    replay beside its own episodes. Episodes longer than a turn, or than `max_episode_length`, are divided, as if by a
    time limit.

        learner = OfflineVTraceAWR(DetachedEnv(spec), VTraceAWRConfig(entropy_coefficient=0.0))
        learner.open_recordings(episodes, limit=20_000, acts=False)
        learner.collect()
        learner.update()

    Attributes:
        Config: The class of its hyper-parameters.
        replay: Its own episodes, and the recordings whose turn it is.
        has_ever_acted: Whether it has ever acted in environments.
    """

    replay: ReplayBesideRecordings

    def __init__(
        self,
        env: VectorEnv | TensorEnv,
        config: VTraceAWRConfig | None = None,
        *,
        processes: Processes | None = None,
    ) -> None:
        """Make the network; see `VTraceAWR`."""
        super().__init__(env, config, processes=processes)
        self.replay = ReplayBesideRecordings(self.config, TensorEpisodes(self.device))
        self.has_ever_acted = False
        self._acts = True
        self._turns: RecordedTurns | None = None
        self._saved_turns: dict[str, int] | None = None
        self._first_number = self._opened_at = 0
        self._single: list[EpisodeRecord] = []

    def open_recordings(
        self, episodes: EpisodeSequence | None, *, limit: int, acts: bool, resumes: bool = False
    ) -> None:
        """Say what the next run learns from; `begin` follows.

        Args:
            episodes: The recordings, with rewards; None for none.
            limit: Most recorded steps that an update learns from.
            acts: Whether it acts in its environments. Otherwise its own earlier episodes are forgotten.
            resumes: Whether this is the run that was interrupted, with the same recordings.

        Raises:
            InvalidInputError: There is nothing to learn from, recordings have no rewards, or they are not those of the
                interrupted run.
        """
        if episodes is None and not acts:
            raise InvalidInputError("There is nothing to learn from: give recordings, or environments to act in.")
        if resumes and (episodes is None) != (self._saved_turns is None):
            given, before = ("none", "recordings") if episodes is None else ("recordings", "none")
            raise InvalidInputError(f"The interrupted run had {before}, and {given} were given. Resume it as it began.")
        self._acts, self._turns, self._single = acts, None, []
        if not acts:
            self.replay.clear()
            self._saved_rows = None
        if episodes is not None:
            self._turns = self._opened(episodes, limit, self._saved_turns if resumes else None)
        self._saved_turns = None

    def begin(self, observations: Tree, *, timesteps: int, target_timesteps: int, resumes: bool = False) -> None:
        """Take up a run; see `Algorithm.begin`. Without environments there are no observations, and None are given."""
        if self._acts:
            super().begin(observations, timesteps=timesteps, target_timesteps=target_timesteps, resumes=resumes)
        else:
            self._taken, self._target = timesteps, target_timesteps

    def collect(self) -> CollectReport:
        """Act for `steps_per_update` steps, if it acts, and take the next turn of the recordings.

        Returns:
            Environment steps; where it does not act, recorded steps as often as the policy will learn from them.
        """
        acted = super().collect() if self._acts else None
        self.has_ever_acted |= self._acts
        self.replay.recorded = self._taken_turn()
        if acted is not None:
            return acted
        timesteps = self.config.epochs * sum(record.length or 0 for record in self.replay.recorded)
        self._taken += timesteps
        return CollectReport(timesteps=timesteps)

    def update(self) -> UpdateReport:
        """Learn from the episodes that are kept, and from the recordings whose turn it is.

        Raises:
            InvalidInputError: Nothing was collected since the last update.
            TrainingDivergedError: A number became NaN or infinite; the weights are those from before.
        """
        try:
            report = super().update()
        finally:
            self.replay.recorded = []
        if self._turns is None or not report.metrics:
            return report
        return UpdateReport(metrics={**report.metrics, "train/recorded_epochs": self._turns.epochs})

    def state_dict(self) -> dict[str, Any]:
        """What `VTraceAWR` has, and which turn of the recordings is next; they themselves are not in it."""
        recordings = {"turns": self._turns_state(), "has_ever_acted": self.has_ever_acted}
        return {**super().state_dict(), "recordings": recordings}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; `open_recordings` and `begin` must follow before the next `collect`."""
        super().load_state_dict(state)
        self._saved_turns, self.has_ever_acted = state["recordings"]["turns"], state["recordings"]["has_ever_acted"]
        self._turns, self._single = None, []

    def _can_learn(self, *, has_news: bool) -> bool:
        return super()._can_learn(has_news=has_news or bool(self.replay.recorded))

    # Recordings

    def _opened(self, episodes: EpisodeSequence, limit: int, saved: dict[str, int] | None) -> RecordedTurns:
        """The recordings from their beginning, in an order of their own, or from where a run was interrupted."""
        seed = int(torch.randint(2**31, (), generator=self.generator)) if saved is None else saved["seed"]
        turns = RecordedTurns(episodes, limit=limit, longest=self.config.max_episode_length, seed=seed)
        if saved is not None:
            turns.load_state_dict(saved)
            self._first_number, self._opened_at = saved["first_number"], saved["opened_at"]
            return turns
        self._first_number, self._opened_at = self.n_episodes, self.updates
        self.n_episodes += turns.n_parts
        return turns

    def _taken_turn(self) -> list[EpisodeRecord]:
        """The recordings that the next update learns from; those that are the same every time are read once."""
        turns = self._turns
        if turns is None:
            return []
        if self._single:
            turns.skip()
            return self._single
        added_at = self._opened_at if turns.epoch else self.updates
        records = [self._record(number, episode, added_at) for number, episode in next(turns).items()]
        self._single = records if turns.is_single else []
        return records

    def _record(self, number: int, episode: Episode, added_at: int) -> EpisodeRecord:
        """What the trainer knows of a recording: only in the first epoch it is news, for statistics."""
        return EpisodeRecord(
            number=self._first_number + number,
            episode=self._episodes.prepare(episode),
            rewards=as_numbers(episode.rewards),
            terminated=episode.terminated,
            log_prob=None,
            added_at=added_at,
            length=len(episode),
        )

    def _turns_state(self) -> dict[str, int] | None:
        if self._turns is None:
            return self._saved_turns
        return {**self._turns.state_dict(), "first_number": self._first_number, "opened_at": self._opened_at}


class ReplayBesideRecordings(EpisodeReplay):
    """A replay that also shows the recordings whose turn it is; it neither counts them to its limits nor saves them.

    Attributes:
        recorded: Those recordings.
    """

    def __init__(self, config: VTraceAWRConfig, codec: EpisodeCodec) -> None:
        super().__init__(config, codec)
        self.recorded: list[EpisodeRecord] = []

    def __len__(self) -> int:
        """Number of episodes."""
        return super().__len__() + len(self.recorded)

    def __iter__(self) -> Iterator[EpisodeRecord]:
        """In the order in which they came."""
        return iter(sorted(chain(self.recorded, super().__iter__()), key=lambda record: record.number))

    @property
    def timesteps(self) -> int:
        """Steps of all episodes whose length is known."""
        return super().timesteps + self._recorded_timesteps

    def forget(self, updates: int) -> None:
        """Let go of the oldest of its own episodes beyond the limits.

        Args:
            updates: Number of updates so far.
        """
        recorded, self.recorded = self.recorded, []
        super().forget(updates)
        self.recorded = recorded

    def mean_age(self, updates: int) -> tuple[float, float]:
        """See `EpisodeReplay`; recordings have no age."""
        total, count = super().mean_age(updates)
        return total, count + self._recorded_timesteps

    @property
    def _recorded_timesteps(self) -> int:
        return sum(record.length or 0 for record in self.recorded)
