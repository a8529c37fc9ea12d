"""GAIL and AIRL: a generator that tells apart ever less well what it does from what the demonstrations show.

Sources: Ho and Ermon, "Generative Adversarial Imitation Learning" (arXiv 1606.03476); Fu, Luo and Levine, "Learning
Robust Rewards with Adversarial Inverse Reinforcement Learning" (arXiv 1710.11248).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from imitation.algorithms.adversarial.airl import AIRL
from imitation.algorithms.adversarial.common import AdversarialTrainer
from imitation.data.rollout import flatten_trajectories_with_rew
from imitation.rewards.reward_wrapper import RewardVecEnvWrapper
from imitation.util import networks
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecTransposeImage

from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation.imitation.demonstrations import DemonstrationBatches, Preparation
from rl_framework.agent.imitation.imitation.generator import Generator
from rl_framework.agent.imitation.imitation.metrics import RunLogger
from rl_framework.agent.imitation.imitation.quiet import quiet_observations
from rl_framework.agent.imitation.imitation.rewarded import RewardedEnvironments
from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.agent.imitation.imitation.samples import load_samples_state, samples_state
from rl_framework.agent.imitation_learning_agent import Lessons
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.callbacks.run import TrainingRun
from rl_framework.envs.vector_env import StateLevel
from rl_framework.errors import InvalidInputError
from rl_framework.export.onnx import OnnxNetwork

DEMO_BATCH_SIZE = 256


class ActionProbability:
    """How probable actions are to the generator, for observations as the environments give them.

    The library hands its generator's policy what the discriminator sees; a policy whose observations are normalised,
    or whose pictures have their channels first, needs them so here, too.

    Args:
        trainer: Whose method this stands for.
        model: The generator.

    Raises:
        InvalidInputError: The probabilities are needed, and depend on the generator's memory.
    """

    def __init__(self, trainer: AdversarialTrainer, model: BaseAlgorithm) -> None:
        self._is_needed = isinstance(trainer, AIRL)
        self._original = trainer._get_log_policy_act_prob
        self._model = model
        if self._is_needed and hasattr(model, "_last_lstm_states"):
            raise InvalidInputError(
                f"AIRL needs how probable single actions are; to {type(model).__name__} they depend on what came "
                "before. Take a generator without memory, such as PPO, or GAIL."
            )

    def __call__(self, observations: torch.Tensor, actions: torch.Tensor) -> torch.Tensor | None:
        """Logarithms of the probabilities, None where nobody needs them. `[B]`"""
        return self._original(self._as_seen(observations), actions) if self._is_needed else None

    def _as_seen(self, observations: torch.Tensor) -> torch.Tensor:
        normalize, env = self._model.get_vec_normalize_env(), self._model.get_env()
        if normalize is None and not isinstance(env, VecTransposeImage):
            return observations
        seen: Any = observations.cpu().numpy()
        seen = seen if normalize is None else normalize.normalize_obs(seen)
        seen = env.transpose_observations(seen) if isinstance(env, VecTransposeImage) else seen
        return torch.as_tensor(seen, device=observations.device)


class AdversarialLearner:
    """The library's trainer of either kind, its generator, and the demonstrations it draws from.

    Args:
        plan: What it is made from.

    Raises:
        InvalidInputError: The library refuses a parameter, the generator or the spaces.
    """

    def __init__(self, plan: LearnerPlan) -> None:
        self._plan = plan
        self._logger = RunLogger()
        self.generator = Generator(plan)
        self.trainer = self._build_trainer()
        self.generator.act_in(self.trainer.venv_train)
        self._rewarded = RewardedEnvironments(self.trainer.venv_buffering, self._rewarding())
        self._batches: DemonstrationBatches | None = None
        self._batches_state: Mapping[str, Any] | None = None

    @property
    def policy(self) -> StableBaselinesPolicy:
        """The generator's."""
        return self.generator.policy

    @property
    def timesteps(self) -> int:
        """The generator's environment steps."""
        return self.generator.timesteps

    def attach(self, lessons: Lessons) -> None:
        """Draw from these demonstrations."""
        if lessons.episodes is None:
            raise InvalidInputError(f"{self._plan.row.name} learns from demonstrations.")
        self._batches = DemonstrationBatches(
            lessons.episodes,
            self.trainer.demo_batch_size,
            Preparation(self._plan.translation, self._plan.action_space),
            rng=self._plan.rng,
            state=self._batches_state,
        )
        self._batches.give_to(self.trainer)

    def begin(self, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run."""
        with quiet_observations():
            if resumption is None:
                self._rewarded.clear()
            else:
                self._rewarded.go_on(
                    self._plan.translation.observations(resumption.observations),
                    same_episodes=resumption.level >= StateLevel.EPISODE_BOUNDARY,
                )
            self.generator.begin(resumption)

    def learn(self, run: TrainingRun) -> None:
        """Alternate between the generator and the discriminator."""
        self._logger.run = run
        with quiet_observations():
            self.generator.learn(
                run,
                steps_per_round=self.trainer.gen_train_timesteps,
                between=self._train_discriminator,
                callback=self.trainer.gen_callback,
            )

    def detach(self) -> None:
        """Let go of the demonstrations."""
        self._logger.run = None
        self._batches_state = self._state_of_batches()
        self._batches = None
        self.trainer._demo_data_loader = self.trainer._endless_expert_iterator = None

    def networks(self) -> dict[str, torch.nn.Module]:
        """The generator's policy and the reward network."""
        return {"policy": self.generator.model.policy, "reward_net": self.trainer._reward_net}

    def state(self) -> dict[str, Any]:
        """Generator, discriminator's optimiser, samples, counters, wrappers, and where the demonstrations stand."""
        trainer = self.trainer
        return {
            "generator": self.generator.state(),
            "discriminator": trainer._disc_opt.state_dict(),
            "samples": samples_state(trainer._gen_replay_buffer),
            "rounds": trainer._global_step,
            "discriminator_steps": trainer._disc_step,
            "horizon": trainer._horizon,
            "episodes": self._rewarded.state(),
            "demonstrations": self._state_of_batches(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        trainer = self.trainer
        self.generator.load_state(state["generator"])
        trainer._disc_opt.load_state_dict(state["discriminator"])
        load_samples_state(trainer._gen_replay_buffer, state["samples"])
        trainer._global_step = state["rounds"]
        trainer._disc_step = state["discriminator_steps"]
        trainer._horizon = state["horizon"]
        self._rewarded.load_state(state["episodes"])
        self._batches_state = state["demonstrations"]

    def onnx_network(self) -> OnnxNetwork:
        """The generator's deterministic policy."""
        return self.generator.onnx_network()

    def _build_trainer(self) -> AdversarialTrainer:
        plan = self._plan
        if plan.reward_net is None:
            raise InvalidInputError(f"{plan.row.name} needs a reward network.")
        reward_net = plan.reward_net.build(plan.venv.observation_space, plan.venv.action_space)
        arguments = {"demo_batch_size": DEMO_BATCH_SIZE, **plan.constructor_arguments()}
        try:
            with quiet_observations():
                trainer: AdversarialTrainer = plan.algorithm_class(
                    demonstrations=None,
                    venv=plan.venv,
                    gen_algo=self.generator.model,
                    reward_net=reward_net,
                    custom_logger=self._logger,
                    allow_variable_horizon=plan.allow_variable_horizon,
                    **arguments,
                )
        except (TypeError, ValueError, AssertionError) as error:
            raise InvalidInputError(f"{plan.row.name} cannot be built with these parameters: {error}") from error
        # Of this one object: what the library itself does would be wrong for some generators.
        vars(trainer)["_get_log_policy_act_prob"] = ActionProbability(trainer, self.generator.model)
        return trainer

    def _rewarding(self) -> RewardVecEnvWrapper:
        wrapper = self.trainer.venv_wrapped
        if not isinstance(wrapper, RewardVecEnvWrapper):
            raise InvalidInputError(f"{self._plan.row.name} learns a reward; its environments must give that reward.")
        return wrapper

    def _train_discriminator(self) -> None:
        """What the library's `train_gen` and `train` do once the generator has learned."""
        trainer = self.trainer
        trajectories, lengths = trainer.venv_buffering.pop_trajectories()
        try:
            trainer._check_fixed_horizon(lengths)
        except ValueError as error:
            raise InvalidInputError(str(error)) from error
        trainer._gen_replay_buffer.store(flatten_trajectories_with_rew(trajectories))
        trainer._global_step += 1
        for _ in range(trainer.n_disc_updates_per_round):
            with networks.training(trainer.reward_train):
                trainer.train_disc()
        self._logger.dump(trainer._global_step)

    def _state_of_batches(self) -> Mapping[str, Any] | None:
        return self._batches_state if self._batches is None else self._batches.state()
