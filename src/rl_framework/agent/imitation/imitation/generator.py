"""The algorithm of Stable-Baselines3 that acts and learns from a reward that is itself being learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import VecEnv

from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation.imitation.rows import LearnerPlan
from rl_framework.agent.reinforcement.stable_baselines.algorithms import is_contrib
from rl_framework.agent.reinforcement.stable_baselines.bridge import make_logger
from rl_framework.agent.reinforcement.stable_baselines.episodes import open_episodes, reopen_episodes
from rl_framework.agent.reinforcement.stable_baselines.onnx_export import exported_network
from rl_framework.agent.reinforcement.stable_baselines.policy import StableBaselinesPolicy
from rl_framework.agent.reinforcement.stable_baselines.training_state import (
    load_noise_state,
    load_training_state,
    noise_state,
    training_state,
)
from rl_framework.callbacks.run import TrainingRun
from rl_framework.core.seeding import capture_random_state, restore_random_state
from rl_framework.envs.vector_env import StateLevel
from rl_framework.errors import InvalidInputError
from rl_framework.export.onnx import OnnxNetwork


class Generator:
    """A model over the socket, or over a learner's wrappers around it.

    The library calls `learn` once per round, by which every schedule runs out within a round. Here one call of
    `learn` goes through all rounds of a run, and what happens between them happens where a rollout begins: nothing
    else is different, and schedules run over the whole of what was asked for.

    Args:
        plan: How the model is made.
        venv: What it acts in; the socket itself if None, until `act_in` moves it behind wrappers.

    Attributes:
        model: The library's own object.

    Raises:
        InvalidInputError: The library refuses a parameter, or the algorithm collects no rollouts.
        SpaceError: The algorithm does not fit the spaces.
    """

    def __init__(self, plan: LearnerPlan, venv: VecEnv | None = None) -> None:
        if plan.generator is None:
            raise InvalidInputError(f"{plan.row.name} has no generator.")
        self._plan = plan
        self._model_plan = plan.generator
        check_generator(plan)
        self.model = self._model_plan.build(plan.venv if venv is None else venv)

    @property
    def policy(self) -> StableBaselinesPolicy:
        """What acts."""
        plan = self._plan
        return StableBaselinesPolicy(self.model, plan.translation, plan.observation_space, plan.action_space)

    @property
    def timesteps(self) -> int:
        """Environment steps in its life."""
        return self.model.num_timesteps

    def act_in(self, venv: VecEnv) -> None:
        """Act in environments that are wrapped around the socket, with the normalisation around them."""
        self.model.set_env(self._model_plan.surround(venv), force_reset=False)

    def begin(self, resumption: Resumption | None) -> None:
        """Open the first episodes, or go on in those of an interrupted run."""
        if resumption is None:
            open_episodes(self.model)
        elif resumption.level < StateLevel.EPISODE_BOUNDARY:
            reopen_episodes(self.model, self._plan.translation.observations(resumption.observations))

    def learn(
        self,
        run: TrainingRun,
        *,
        steps_per_round: int = 1,
        between: Callable[[], None] | None = None,
        from_start: bool = False,
        callback: BaseCallback | None = None,
    ) -> None:
        """Act and learn in rounds until the run's target is reached; the last round may be shorter.

        Args:
            run: Who is told of episodes, numbers and boundaries. There is one boundary before the first round, and
                one after each.
            steps_per_round: Environment steps of a round at least; it ends where the rollout does that reaches them.
            between: What to do after each round, before its boundary; it may step the environments if it opens
                episodes afterwards.
            from_start: Also do so before the first round.
            callback: The library's own, if it needs one.
        """
        model = self.model
        missing = run.target_timesteps - model.num_timesteps
        if missing <= 0:
            return
        self._plan.venv.listen(run.record_episodes)
        model.set_logger(make_logger(model, run))
        bridge = RoundBridge(run, steps_per_round, between, self._restoration(), from_start=from_start)
        model.learn(
            missing,
            callback=CallbackList([bridge] if callback is None else [callback, bridge]),
            reset_num_timesteps=False,
        )
        bridge.end_round()

    def state(self) -> dict[str, Any]:
        """Everything but the networks, as a plain tree."""
        return training_state(self.model)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave; the policy's networks are filled by then."""
        load_training_state(self.model, state)

    def onnx_network(self) -> OnnxNetwork:
        """The deterministic policy as a network."""
        return exported_network(self.model, self._plan.translation, self.policy)

    def _restoration(self) -> Callable[[], None]:
        """Puts back what `learn` disturbs when it begins: noise is reset, exploration matrices are drawn."""
        model = self.model
        noise, random = noise_state(model), capture_random_state()

        def restore() -> None:
            load_noise_state(model, noise)
            restore_random_state(random)

        return restore


class RoundBridge(BaseCallback):
    """Ends a round where enough steps were taken, and tells the run.

    Args:
        run: The run.
        steps_per_round: Environment steps of a round at least.
        between: What to do after each round.
        restore: Called once, where the first rollout begins.
        from_start: Whether `between` also comes before the first round.
    """

    def __init__(
        self,
        run: TrainingRun,
        steps_per_round: int,
        between: Callable[[], None] | None,
        restore: Callable[[], None],
        *,
        from_start: bool,
    ) -> None:
        super().__init__()
        self._run = run
        self._steps = steps_per_round
        self._between = between
        self._restore: Callable[[], None] | None = restore
        self._from_start = from_start
        self._began = 0

    def end_round(self) -> None:
        """Do what is done after a round; the run may end by it."""
        if self._between is not None:
            self._between()
        self._began = self.model.num_timesteps
        self._run.at_boundary(self._began)

    def _on_rollout_start(self) -> None:
        if self._restore is not None:
            self._restore()
            self._restore, self._began = None, self.model.num_timesteps
            if self._from_start:
                self.end_round()
            else:
                self._run.at_boundary(self._began)
        elif self.model.num_timesteps - self._began >= self._steps:
            self.end_round()

    def _on_step(self) -> bool:
        return True


def check_generator(plan: LearnerPlan) -> None:
    """Refuse an algorithm that does not collect rollouts between its updates.

    Raises:
        InvalidInputError: It is ARS.
    """
    algorithm_class = None if plan.generator is None else plan.generator.algorithm_class
    if algorithm_class is not None and is_contrib(algorithm_class, "ARS"):
        raise InvalidInputError(
            f"ARS changes its policy in the middle of a rollout, which {plan.row.name} cannot learn a reward from. "
            "Take another generator_class, such as PPO."
        )
