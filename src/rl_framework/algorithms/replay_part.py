"""The replay as a part of a learner: it keeps what happens, and gives minibatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.algorithms.intrinsic_rewards import IntrinsicReward
from rl_framework.algorithms.parts import Experience, Part, Workshop
from rl_framework.algorithms.replay_config import ReplayConfig, TrajectoryPriorityConfig
from rl_framework.algorithms.replay_sampling import make_sampler
from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL, is_goal_space
from rl_framework.core.trees import Tree
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.data.replay_batch import ReplayBatch
from rl_framework.data.replay_buffer import ReplayBuffer
from rl_framework.data.replay_columns import transition_columns
from rl_framework.data.replay_filling import fill_from_episodes
from rl_framework.data.sampling.mixing import MixedSampler
from rl_framework.data.sampling.replay_sampler import ReplaySampler, Sampler
from rl_framework.data.sampling.trajectory_priorities import MixtureDensity, TrajectorySelection
from rl_framework.envs.vector_env import EnvSpec
from rl_framework.errors import InvalidInputError, SpaceError
from rl_framework.nn.tensors import as_tensor
from rl_framework.nn.unit_actions import UnitActions


class ReplayPart(Part):
    """Keeps transitions, and samples them for whoever learns.

    Beside its own transitions it may have recordings, of which every minibatch takes a share.

    Args:
        config: Settings.

    Attributes:
        config: Settings.
        recordings: Where recorded transitions are, None if there are none.
        recorded_share: Their share of every minibatch.
    """

    def __init__(self, config: ReplayConfig | None = None) -> None:
        self.config = config or ReplayConfig()
        self.recorded_share = 0.0
        self.recordings: ReplayBuffer | None = None
        self._workshop: Workshop | None = None
        self._intrinsic: IntrinsicReward | None = None
        self._buffer: ReplayBuffer | None = None
        self._own: ReplaySampler | None = None
        self._recorded: ReplaySampler | None = None
        self._saved_recorded: dict[str, Any] | None = None

    @property
    def buffer(self) -> ReplayBuffer:
        """Where its own transitions are.

        Raises:
            InvalidInputError: The replay was not set up.
        """
        if self._buffer is None:
            raise InvalidInputError("The replay is not set up: make a learner of which it is a part.")
        return self._buffer

    @property
    def sampler(self) -> Sampler:
        """Which transitions are learned from, and as what."""
        own = self._own_sampler
        if self._recorded is None:
            return own
        return MixedSampler((own, self._recorded), (1.0 - self.recorded_share, self.recorded_share))

    @property
    def relabels(self) -> bool:
        """Whether transitions are learned from with other goals than those that were pursued."""
        return self.config.relabel is not None

    @property
    def heeds_errors(self) -> bool:
        """Whether what is sampled depends on how wrong the learner was."""
        return self.config.selection is not None and not isinstance(self.config.selection, TrajectoryPriorityConfig)

    @property
    def can_draw_ahead(self) -> bool:
        """Whether several minibatches may be drawn in one piece."""
        return not self.heeds_errors and (self._recorded is None or self.recorded_share == 1.0)

    @property
    def n_learnable(self) -> int:
        """How many transitions there ever were to learn from: all recorded ones if nothing else is learned from."""
        recordings = self.recordings
        return self.buffer.total if recordings is None or self.recorded_share < 1.0 else recordings.total

    def set_up(self, workshop: Workshop) -> None:
        """Make room for the transitions of the environments, once; what is kept stays."""
        self._workshop = workshop
        self._intrinsic = workshop.parts.find(IntrinsicReward)
        if self._buffer is None:
            columns = replay_columns(workshop.spec)
            self._buffer = ReplayBuffer(
                self.config.capacity, columns, device=workshop.device, folder=self.config.folder
            )
            self._own = make_sampler(self._buffer, self.config, workshop.gammas, workshop.goal_reward)

    def begin(self, observations: Tree) -> None:
        """Running episodes end here: the environments were reset."""
        del observations
        self.buffer.cut()

    def process(self, experience: Experience) -> None:
        """Keep a step."""
        entries = {
            "observations": experience.observations,
            "next_observations": experience.next_observations,
            "actions": experience.actions,
            "rewards": experience.rewards,
            "terminated": experience.terminated,
        }
        if experience.environment_goals is not None:
            entries["environment_goals"] = experience.environment_goals
        before = self.buffer.total
        self._own_sampler.added(self.buffer.add(entries, ended=experience.ended))
        self._rank_if_due(before)

    def sample(self, n: int | None = None) -> ReplayBatch:
        """Draw transitions; what an `IntrinsicReward` pays for them is in their rewards.

        Args:
            n: How many; `config.batch_size` if None.
        """
        batch = self.sampler.sample(self.config.batch_size if n is None else n, self._shop.generator)
        return batch if self._intrinsic is None else self._intrinsic.enrich(batch)

    def achieved(self, n: int, generator: torch.Generator) -> Tensor:
        """Goals that were achieved after transitions that are drawn at random. `[n, G]`, float32

        Args:
            n: How many.
            generator: What is drawn comes from here.

        Raises:
            SpaceError: The environments have no goals.
        """
        if not is_goal_space(self.buffer.columns["observations"]):
            raise SpaceError("Nothing is achieved in environments without goals; leave the selection of goals out.")
        name = f"next_observations.{ACHIEVED_GOAL}"
        goals: Tensor = self.buffer.read([name], self.buffer.uniform_rows(n, generator))[name]
        return goals.reshape(n, -1).float()

    def update_priorities(self, rows: Tensor, errors: Tensor) -> None:
        """Tell how large the errors of sampled transitions were.

        Args:
            rows: `ReplayBatch.rows`. `[N]`
            errors: Absolute temporal-difference errors. `[N]`
        """
        self.sampler.update_priorities(rows, errors)

    # Recordings

    def open_demonstrations(self, *, resumes: bool = False) -> None:
        """Open the recordings that the settings name, if they name some and none are open.

        Args:
            resumes: Whether this is the run that was interrupted.

        Raises:
            RLFrameworkError: There is no such data set, or it cannot be used; see `open_recordings`.
        """
        if self.config.demonstrations is not None and self.recordings is None:
            episodes = EpisodeSequence.from_dataset(self.config.demonstrations)
            self.open_recordings(episodes, self.config.demonstration_share, resumes=resumes)

    def open_recordings(self, episodes: EpisodeSequence, share: float, *, resumes: bool = False) -> None:
        """Learn from recorded episodes, too.

        Args:
            episodes: With rewards, and with the spaces of the environments.
            share: Of every minibatch; 1 to learn from nothing else.
            resumes: Whether these are the recordings of the run that was interrupted.

        Raises:
            SpaceError: They do not fit the replay.
            InvalidInputError: They have no rewards.
        """
        shop, saved = self._shop, self._saved_recorded
        buffer = ReplayBuffer(episodes.n_transitions, self.buffer.columns, device=shop.device)
        fill_from_episodes(
            buffer,
            episodes,
            encode_actions=_encoder(UnitActions(shop.spec.action_space)),
            goal_reward=shop.goal_reward,
        )
        self.recordings, self.recorded_share, self._saved_recorded = buffer, share, None
        self._recorded = make_sampler(buffer, self.config, shop.gammas, shop.goal_reward)
        if resumes and saved is not None:
            self._recorded.load_state_dict(saved)
        elif isinstance(self.config.selection, TrajectoryPriorityConfig):
            self._rank(self._recorded, self.config.selection)

    def close_recordings(self, *, remembers: bool) -> None:
        """Learn from its own transitions only.

        Args:
            remembers: Whether the run that learned from the recordings may be resumed.
        """
        if not remembers:
            self._saved_recorded = None
        elif self._recorded is not None:
            self._saved_recorded = self._recorded.state_dict()
        self.recordings = self._recorded = None
        self.recorded_share = 0.0

    def recorded_observations(self) -> Tree:
        """All that was observed in the recordings. `[N, ...]` per leaf

        Raises:
            InvalidInputError: There are none.
        """
        if self.recordings is None:
            raise InvalidInputError("There are no recordings; call open_recordings(...) first.")
        rows = torch.arange(len(self.recordings), device=self.recordings.device)
        return self.recordings.read(["observations"], rows)["observations"]

    # State

    def state_dict(self) -> dict[str, Any]:
        """The transitions, and what the samplers remember; recordings are not in it."""
        if not self.config.is_saved:
            return {}
        recorded = self._saved_recorded if self._recorded is None else self._recorded.state_dict()
        return {"buffer": self.buffer.state_dict(), "own": self._own_sampler.state_dict(), "recorded": recorded}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave, unless transitions are not saved; recordings are opened afterwards."""
        if state and self.config.is_saved:
            self.buffer.load_state_dict(state["buffer"])
            self._own_sampler.load_state_dict(state["own"])
            self._saved_recorded = state["recorded"]

    def _rank_if_due(self, before: int) -> None:
        """See anew which episodes are rare, if it is time to and that matters.

        Args:
            before: How many transitions had been stored before those of this step.
        """
        config = self.config.selection
        if not isinstance(config, TrajectoryPriorityConfig):
            return
        if before // config.refit_every < self.buffer.total // config.refit_every:
            self._rank(self._own_sampler, config)

    def _rank(self, sampler: ReplaySampler, config: TrajectoryPriorityConfig) -> None:
        if isinstance(sampler.selection, TrajectorySelection):
            sampler.selection.refit(MixtureDensity(generator=self._shop.generator, n_components=config.n_components))

    @property
    def _own_sampler(self) -> ReplaySampler:
        if self._own is None:
            raise InvalidInputError("The replay is not set up: make a learner of which it is a part.")
        return self._own

    @property
    def _shop(self) -> Workshop:
        if self._workshop is None:
            raise InvalidInputError("The replay is not set up: make a learner of which it is a part.")
        return self._workshop


def replay_columns(spec: EnvSpec) -> dict[str, gym.Space[Any]]:
    """What is kept of a transition, by name.

    Raises:
        SpaceError: Actions are neither a Box nor Discrete.
    """
    space, goals = spec.observation_space, None
    if isinstance(space, spaces.Dict) and is_goal_space(space):
        goals = space[DESIRED_GOAL]
    return transition_columns(space, _kept_actions(spec.action_space), goals)


def _kept_actions(space: gym.Space[Any]) -> gym.Space[Any]:
    """The form of `ReplayBatch.actions`."""
    if isinstance(space, spaces.Box):
        return spaces.Box(-1.0, 1.0, (int(np.prod(space.shape)),), np.float32)
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    raise SpaceError(
        f"Off-policy learners need a Box or a Discrete action space, got {space}. Wrap the environment, or take an "
        "algorithm for such actions (PPO, VTraceAWR)."
    )


def _encoder(scale: UnitActions) -> Callable[[Tree], Tensor]:
    """From the environment's actions to those of the replay. `[T, ...]`"""
    return lambda actions: scale.from_environment(as_tensor(actions))
