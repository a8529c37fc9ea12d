"""The episode trainer in environments: V-trace and advantage-weighted regression for any observations and actions.

What is learned, and from which papers, is in `episode_trainer`; here a policy acts, and its episodes go there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from rl_framework.algorithms.base import CollectReport, UpdateReport
from rl_framework.algorithms.episode_trainer import EpisodeTrainer
from rl_framework.algorithms.processes import OneProcess, Processes, process_seed
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.core.policy import Policy
from rl_framework.core.seeding import derive_seeds, fresh_seed, isolated_randomness
from rl_framework.core.trees import Tree, map_tree
from rl_framework.envs.tensor_env import TensorEnv, as_tensor_env
from rl_framework.envs.vector_env import EnvSpec, VectorEnv
from rl_framework.nn.encoders import ObservationEncoder
from rl_framework.nn.episode_policy import EpisodePolicy, EpisodePolicyConfig
from rl_framework.nn.episode_tensors import EpisodeTensors, RecordedEpisode
from rl_framework.nn.model import Model
from rl_framework.nn.model_episodes import ModelEpisodes
from rl_framework.nn.network_policy import NetworkPolicy
from rl_framework.nn.tensors import choose_device, to_tensor
from rl_framework.nn.threads import threads_for
from rl_framework.rollouts.episode_collector import EpisodeCollector


class VTraceAWR(EpisodeTrainer):
    """Collects whole episodes, keeps them for some updates, and learns from all that it keeps.

    Policies with memory learn from whole episodes, too; those that are longer than a minibatch are divided, and the
    memory is rebuilt from the steps before. An episode that runs at the end of a collection goes on in the next one,
    and is learned from when it has ended.

        learner = VTraceAWR(open_environments("CartPole-v1", n_envs=8), VTraceAWRConfig(steps_per_update=2000))
        learner.collect()
        learner.update()

    Attributes:
        Config: The class of its hyper-parameters.
        environments: Where it acts, as tensors on the device of its network.
        network: What learns to act.
        policy: Acts as the network does.
    """

    Config: ClassVar[type[VTraceAWRConfig]] = VTraceAWRConfig

    def __init__(
        self,
        env: VectorEnv | TensorEnv,
        config: VTraceAWRConfig | None = None,
        *,
        processes: Processes | None = None,
    ) -> None:
        """Make the network.

        Args:
            env: Where it will learn; only `spec` is read here.
            config: Hyper-parameters; the defaults if None.
            processes: Those that learn together; this one alone if None.

        Raises:
            SpaceError: The network cannot be made for the environment's spaces, or gives no state encodings.
            InvalidInputError: The device does not exist here.
        """
        config = config or VTraceAWRConfig()
        device, processes = choose_device(config.device), processes or OneProcess()
        seeds = derive_seeds(fresh_seed() if config.seed is None else config.seed, 3)
        with isolated_randomness(seeds[0]):
            self.network = make_network(env.spec, config).to(device)
        self._episodes = ModelEpisodes(self.network)
        super().__init__(self._episodes, config, codec=TensorEpisodes(device), processes=processes)
        self.environments = as_tensor_env(env, device)
        self.policy: Policy = NetworkPolicy(self.network)
        self._acting = torch.Generator(device).manual_seed(process_seed(seeds[1], processes.rank))
        self._reset_seed = process_seed(seeds[2], processes.rank)
        self._collector = EpisodeCollector(
            self.network, self.environments, max_length=config.max_episode_length, generator=self._acting
        )
        self._saved_rows: dict[str, Any] | None = None
        self._has_begun = self._has_acted = False
        self._taken, self._target = 0, 0

    # The verbs

    def begin(self, observations: Tree, *, timesteps: int, target_timesteps: int, resumes: bool = False) -> None:
        """Take up a run from the environments' current observations; see `Algorithm.begin`."""
        shown = map_tree(self._on_device, observations)
        self._collector.begin(shown, state=self._saved_rows if resumes else None)
        self._has_begun, self._saved_rows, self._has_acted = True, None, False
        self._taken, self._target = timesteps, target_timesteps

    def collect(self) -> CollectReport:
        """Act for `steps_per_update` steps. The environments are reset first if nobody has called `begin`."""
        if not self._has_begun:
            self.begin(self.environments.reset(self._reset_seed), timesteps=0, target_timesteps=0)
        with threads_for(self.environments.n_envs * self.network.widest_layer):
            collected = self._collector.collect(self.config.steps_per_update)
        for episode in collected.episodes:
            self.add_episode(
                episode.tensors,
                rewards=episode.rewards,
                terminated=episode.terminated,
                log_prob=episode.log_prob,
            )
        self._has_acted = True
        self._taken += collected.timesteps
        return CollectReport(
            timesteps=collected.timesteps,
            episodes=tuple(collected.summaries),
            metrics={"rollout/mean_reward": float(collected.rollout.rewards.mean())},
        )

    def add_episode(
        self, episode: RecordedEpisode | EpisodeTensors, *, rewards: Any, terminated: bool, log_prob: Any = None
    ) -> int:
        """Keep an episode that somebody else has played, such as one of an `EpisodeSequence`.

        Args:
            episode: What was seen and done.
            rewards: What each action earned. `[T]`
            terminated: Whether the task ended with it.
            log_prob: See `EpisodeTrainer.add_episode`. `[T]`

        Returns:
            The episode's number, counted from 0.

        Raises:
            SpaceError: It has actions that the action space does not have.
            InvalidInputError: As for `EpisodeTrainer.add_episode`.
        """
        tensors = self._episodes.prepare(episode)
        return super().add_episode(tensors, rewards=rewards, terminated=terminated, log_prob=log_prob)

    def update(self) -> UpdateReport:
        """Learn from the episodes that are kept; nothing happens after a `collect` in which none has ended.

        Raises:
            InvalidInputError: No episode was ever collected or added.
            TrainingDivergedError: A number became NaN or infinite; the weights are those from before.
        """
        if self._target:
            self.progress = min(1.0, self._taken / self._target)
        self.replay.forget(self.updates)
        has_acted, self._has_acted = self._has_acted, False
        if has_acted and not self._can_learn(has_news=bool(self._news())):
            return UpdateReport()
        return super().update()

    # State

    def state_dict(self) -> dict[str, Any]:
        """What every episode trainer has, the generator of actions, and the episodes that run."""
        rows = self._collector.state_dict() if self._has_begun else self._saved_rows
        counters = {"taken": self._taken, "target": self._target}
        return {**super().state_dict(), "acting": self._acting.get_state(), "rows": rows, "acted": counters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; `begin` must follow before the next `collect`."""
        super().load_state_dict(state)
        self._acting.set_state(state["acting"])
        self._saved_rows = state["rows"]
        self._taken, self._target = state["acted"]["taken"], state["acted"]["target"]
        self._has_begun = self._has_acted = False

    def _on_device(self, leaf: Any) -> Tensor:
        device = self.network.device
        return leaf.to(device) if isinstance(leaf, Tensor) else to_tensor(leaf, device)

    def _can_learn(self, *, has_news: bool) -> bool:
        """Whether some process has an episode that no update has seen, and each has one to learn from."""
        return self.processes.largest(not self.replay) == 0.0 and self.processes.largest(has_news) > 0.0

    def _news(self) -> list[EpisodeTensors]:
        """The episodes that no update has seen."""
        return [record.episode for record in self.replay if record.added_at == self.updates]

    def _prepare_update(self) -> None:
        """Take what was observed into the network's statistics: while it acts, and while it learns, they rest."""
        encoder = getattr(self.network, "encoder", None)
        if not isinstance(encoder, ObservationEncoder) or not encoder.is_normalized:
            return
        seen = [episode.observations for episode in self._news()]
        total = None if self.processes.count == 1 else self.processes.sum
        if seen:
            encoder.update_normalization(map_tree(lambda *parts: torch.cat(parts), *seen), total)
        elif total is not None:
            kept = next(iter(self.replay)).episode
            encoder.update_normalization(map_tree(lambda leaf: leaf[:0], kept.observations), total)


class TensorEpisodes:
    """Turns episodes of tensors into plain trees and back; an `EpisodeCodec`.

    Args:
        device: Where they go on their way back.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def encode(self, episode: EpisodeTensors) -> dict[str, Any]:
        """A plain tree."""
        return episode.to_tree()

    def decode(self, tree: Mapping[str, Any]) -> EpisodeTensors:
        """The episode that `encode` was given."""
        return EpisodeTensors.from_tree(tree, self._device)


def make_network(spec: EnvSpec, config: VTraceAWRConfig) -> Model:
    """The network that a configuration asks for."""
    if config.model is None:
        return EpisodePolicy(spec.observation_space, spec.action_space, EpisodePolicyConfig.of(config.network))
    made: Model = config.model(spec.observation_space, spec.action_space, **config.model_parameters)
    return made
