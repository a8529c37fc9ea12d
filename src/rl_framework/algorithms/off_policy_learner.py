"""The off-policy learner: parts that stand in their order, and what they go through together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import torch
from torch import Tensor

from rl_framework.algorithms.base import CollectReport, UpdateReport
from rl_framework.algorithms.cuda_graphs import GraphBackend
from rl_framework.algorithms.deferred_goal_reward import DeferredGoalReward
from rl_framework.algorithms.exploration.exploration import Exploration
from rl_framework.algorithms.goal_selection.goal_selection import GoalSelection
from rl_framework.algorithms.good_parts import GoodParts, is_finite
from rl_framework.algorithms.off_policy_acting import RulePolicy
from rl_framework.algorithms.off_policy_config import LearnerConfig
from rl_framework.algorithms.off_policy_updates import OffPolicyUpdates
from rl_framework.algorithms.parts import Experience, Part, Parts, Trace, Workshop, flatten_parts
from rl_framework.algorithms.replay_part import ReplayPart
from rl_framework.algorithms.running_totals import RunningTotals
from rl_framework.algorithms.updates.base import UpdateRule
from rl_framework.core.goals import ACHIEVED_GOAL, DESIRED_GOAL, is_goal_space
from rl_framework.core.reports import EpisodeSummary
from rl_framework.core.seeding import derive_seeds, fresh_seed, isolated_randomness
from rl_framework.core.trees import Tree, map_tree
from rl_framework.envs.tensor_env import TensorEnv, as_tensor_env
from rl_framework.envs.vector_env import StateLevel, VectorEnv
from rl_framework.errors import InvalidInputError, TrainingDivergedError
from rl_framework.nn.tensors import choose_device, to_tensor
from rl_framework.nn.threads import threads_for
from rl_framework.nn.unit_actions import UnitActions

REPORT_EVERY = 100
"""Gradient steps between two looks at their numbers, for which the device is waited for."""

HINT = "Lower the learning rate, clip targets or gradients, or look for NaN in what is observed."


class OffPolicyLearner:
    """Acts, keeps what happens, and learns from it again and again, by parts that are given.

    In each step of the environments, all parts process the experience, one after the other; in each optimisation step,
    all of them learn. There must be a `ReplayPart` and an `UpdateRule`; there may be an `Exploration`, a
    `GoalSelection`, and any others.

        learner = OffPolicyLearner(
            open_environments("Pendulum-v1"),
            {
                "replay": ReplayPart(ReplayConfig(batch_size=128)),
                "exploration": GaussianNoise(GaussianNoiseConfig(std=0.1)),
                "rule": TD3(TD3Config()),
            },
        )
        learner.collect()
        learner.update()

    Attributes:
        config: Settings of the learner itself.
        device: Where everything is computed.
        environments: Where it acts, as tensors on the device.
        generator: From which minibatches and what the rule draws come.
        parts: All parts, by name, in their order.
        policy: Acts as the rule does.
        timesteps: Environment steps in its life.
        updates: Optimisation steps in its life.
    """

    Config: ClassVar[type[LearnerConfig]] = LearnerConfig

    def __init__(
        self,
        env: VectorEnv | TensorEnv,
        parts: Mapping[str, Any] | Sequence[Any],
        config: LearnerConfig | None = None,
        *,
        trace: Trace | None = None,
        graphs: GraphBackend | None = None,
    ) -> None:
        """Set the parts up.

        Args:
            env: Where it will learn; only `spec` is read here.
            parts: Named parts in their order, or parts that are named after their classes; nested as one likes. None
                stands for no part.
            config: Settings; the defaults if None.
            trace: Is told of every call of a part's hook.
            graphs: What captures updates; CUDA graphs on CUDA, if None.

        Raises:
            InvalidInputError: A part needs another one that is not there, or the device does not exist here.
            SpaceError: A part cannot do with the environment's spaces.
        """
        self.config = config or self.Config()
        self.device = choose_device(self.config.device)
        self.environments = as_tensor_env(env, self.device)
        self._seeds = derive_seeds(fresh_seed() if self.config.seed is None else self.config.seed, 4)
        self.generator = torch.Generator(self.device).manual_seed(self._seeds[1])
        self._acting = torch.Generator(self.device).manual_seed(self._seeds[2])
        self._goal_reward = DeferredGoalReward(self.environments)
        self._scale = UnitActions(self.environments.spec.action_space).to(self.device)
        self._graphs = graphs
        self.timesteps = self.updates = self._due = 0
        self._totals = RunningTotals(self.device)
        self._observations: Tree = None
        self._saved_rows: dict[str, Any] | None = None
        self._metrics: dict[str, Tensor | float] = {}
        self._good: GoodParts | None = None
        self.parts = Parts(flatten_parts(parts), trace)
        with isolated_randomness(self._seeds[0]):
            self.parts.set_up(self._workshop())
        self._look_around()

    # The verbs

    def begin(self, observations: Tree, *, timesteps: int, target_timesteps: int, resumes: bool = False) -> None:
        """Take up a run from the environments' current observations; see `Algorithm.begin`."""
        del timesteps, target_timesteps
        self._observations = map_tree(self._on_device, observations)
        rows, self._saved_rows = self._saved_rows, None
        self._totals.begin(self.environments.n_envs, rows if resumes else None)
        if self._pays_for_goals:
            self._goal_reward.found  # noqa: B018  (an environment without one is refused before the first step)
        self._replay.open_demonstrations(resumes=resumes)
        self._updates.forget()
        if not resumes:
            self._due = 0
            self.parts.begin(self._observations)

    def collect(self) -> CollectReport:
        """Take `steps_per_collect` steps. The environments are reset first if nobody has called `begin`."""
        if self._observations is None:
            self.begin(self.environments.reset(self._seeds[3]), timesteps=0, target_timesteps=0)
        n_envs = self.environments.n_envs
        episodes: list[EpisodeSummary] = []
        with threads_for(n_envs * self._widest), torch.no_grad():
            for _ in range(self.config.steps_per_collect):
                episodes.extend(self._step())
        return CollectReport(timesteps=n_envs * self.config.steps_per_collect, episodes=tuple(episodes))

    def update(self) -> UpdateReport:
        """Learn as often as is due since the last time.

        Raises:
            TrainingDivergedError: A number became NaN or infinite. The parts are what they were when all numbers were
                last seen to be finite, up to 100 updates ago; the replay keeps what happened since.
        """
        due = self._due - self._due % self._updates.at_once
        if due == 0:
            return UpdateReport()
        self._due -= due
        return self.optimize(due)

    def optimize(self, count: int = 1) -> UpdateReport:
        """Take optimisation steps now, whatever is due.

        Args:
            count: How many; on CUDA a multiple of `updates_per_graph`, unless that is 0.

        Raises:
            TrainingDivergedError: See `update`.
            InvalidInputError: It is no such multiple.
        """
        if count < 1 or count % self._updates.at_once:
            raise InvalidInputError(f"Expected a positive multiple of {self._updates.at_once} steps, got {count}.")
        self._good = self._good or GoodParts(self.parts, self.updates)
        with threads_for(self._replay.config.batch_size * self._widest):
            self._metrics.update(self._updates.run(self.updates, count))
        before, self.updates = self.updates, self.updates + count
        if before and before // REPORT_EVERY == self.updates // REPORT_EVERY:
            if self._is_watched:
                self._look()
            return UpdateReport()
        metrics = self._look()
        if not is_finite(self._rule.state_dict()):
            self._diverged("A weight", math.nan)
        self._good = GoodParts(self.parts, self.updates)
        return UpdateReport(metrics={**metrics, "train/updates": float(self.updates)})

    # Parts

    def replace(self, name: str, part: Part) -> None:
        """Put a part in the place of another one, or behind all others, between `update` and `collect`.

        Raises:
            InvalidInputError: It needs a part that is not there, or another one needs what it replaces.
            RLFrameworkError: Some part cannot be set up with it. In either case, the parts are those from before.
        """
        self.parts.replace(name, part, self._workshop())
        self._good = None
        self._look_around()

    def move_to(self, env: VectorEnv | TensorEnv) -> None:
        """Learn in other environments with the same spaces from now on; `begin` follows.

        Args:
            env: Only `spec` is read before `begin`.
        """
        self._saved_rows = self._rows()
        self.environments = as_tensor_env(env, self.device)
        self._goal_reward.move_to(self.environments)
        self._observations = None
        self._replay.buffer.close()

    # State

    @property
    def resume_level(self) -> StateLevel:
        """How exactly a run goes on from what is saved: not exactly without the transitions."""
        return StateLevel.EXACT if self._replay.config.is_saved else StateLevel.APPROXIMATE

    def state_dict(self) -> dict[str, Any]:
        """All parts, generators, counters, and what is known of running episodes."""
        return {
            "parts": self.parts.state_dict(),
            "generators": {"learning": self.generator.get_state(), "acting": self._acting.get_state()},
            "counters": {"timesteps": self.timesteps, "updates": self.updates, "due": self._due},
            "rows": self._rows(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave; `begin` must follow before the next `collect`.

        Raises:
            InvalidInputError: It is the state of a learner with other parts.
        """
        self.parts.load_state_dict(state["parts"])
        _restore(self.generator, state["generators"]["learning"])
        _restore(self._acting, state["generators"]["acting"])
        counters = state["counters"]
        self.timesteps, self.updates, self._due = counters["timesteps"], counters["updates"], counters["due"]
        self._saved_rows, self._observations = state["rows"], None
        self._good = None

    # One step

    def _step(self) -> Sequence[EpisodeSummary]:
        seen = self._observations
        pursued = seen if self._goals is None else self._goals.relabel(seen)
        if self._rule.features.is_normalized:
            self._rule.features.update_normalization(pursued)
        actions = self._choose(pursued)
        if self._is_watched and not bool(actions.isfinite().all()):
            self._diverged("An action", math.nan)
        step = self.environments.step(self._scale.to_environment(actions))
        led_to = step.observations if step.final is None else step.final
        rewards = step.rewards
        if self._goals is not None:
            led_to = {**led_to, DESIRED_GOAL: pursued[DESIRED_GOAL]}
            rewards = self._goal_reward(led_to[ACHIEVED_GOAL], pursued[DESIRED_GOAL])
        experience = Experience(
            observations=pursued,
            actions=actions,
            rewards=rewards,
            next_observations=led_to,
            terminated=step.terminated,
            truncated=step.truncated,
            following=step.observations,
            environment_goals=seen[DESIRED_GOAL] if self._has_goals else None,
        )
        self.parts.process(experience)
        self._observations = step.observations
        self._count()
        return self._totals.after(step, self.environments)

    def _choose(self, observations: Tree) -> Tensor:
        """Actions for the next step, in the form of `ReplayBatch.actions`."""
        if self.timesteps < self.config.random_steps:
            return self._scale.uniform(self.environments.n_envs, self._acting)
        if self._exploration is None:
            return self._rule.act(observations, deterministic=False, generator=self._acting)
        return self._exploration.act(self._rule, observations, generator=self._acting)

    def _count(self) -> None:
        every, before = self.config.optimize_every, self.timesteps
        self.timesteps += self.environments.n_envs
        if self._can_learn:
            self._due += self.config.updates * (self.timesteps // every - before // every)

    @property
    def _can_learn(self) -> bool:
        """Whether enough is stored."""
        return self._replay.n_learnable >= max(1, self.config.learning_starts)

    @property
    def _is_watched(self) -> bool:
        """Whether numbers are looked at in every step, as it costs next to nothing where the host has them."""
        return self.device.type == "cpu"

    def _look(self) -> dict[str, float]:
        """The latest numbers, all of them finite."""
        metrics = {name: float(value) for name, value in self._metrics.items()}
        wrong = next((name for name, value in metrics.items() if not math.isfinite(value)), None)
        if wrong is not None:
            self._diverged(wrong, metrics[wrong])
        return metrics

    def _diverged(self, what: str, value: float) -> NoReturn:
        """Go back to good weights, and end the run.

        Raises:
            TrainingDivergedError: In any case.
        """
        good, kept = self._good, self.updates
        if good is not None:
            good.put_back()
            kept = good.updates
        self._good, self._metrics = None, {}
        raise TrainingDivergedError(what, value, self.updates, HINT, kept=kept)

    # What it is made of

    def _workshop(self) -> Workshop:
        spec = self.environments.spec
        if spec.has_action_masks:
            raise InvalidInputError(
                "The environments tell which actions are allowed, and off-policy learners cannot heed that. Take PPO "
                "or VTraceAWR, or wrap the environments so that every action is allowed."
            )
        return Workshop(
            spec=spec,
            device=self.device,
            generator=self.generator,
            gammas=self.config.gammas,
            goal_reward=self._goal_reward if is_goal_space(spec.observation_space) else None,
            parts=self.parts,
        )

    def _look_around(self) -> None:
        """Find the parts that the learner itself calls."""
        self._rule = self.parts.get(UpdateRule)  # type: ignore[type-abstract]  # it is but looked for
        self._replay = self.parts.get(ReplayPart)
        self._goals = self.parts.find(GoalSelection)
        self._exploration = self.parts.find(Exploration)  # type: ignore[type-abstract]  # likewise
        self._rule.config.check_with(self.config.gammas, self._replay.config.n_step)
        shape = self._rule.config.shape
        self._widest = max(shape.hidden_sizes, default=1) * self._rule.config.n_critics
        self._updates = OffPolicyUpdates(self.parts, self.generator, self.config.updates_per_graph, self._graphs)
        self.policy = RulePolicy(self._rule, self.environments.spec, self.device)

    @property
    def _has_goals(self) -> bool:
        return is_goal_space(self.environments.spec.observation_space)

    @property
    def _pays_for_goals(self) -> bool:
        """Whether some part needs to know what environments pay for reaching goals."""
        return self._goals is not None or self._replay.relabels

    def _rows(self) -> dict[str, Any] | None:
        return self._saved_rows if self._observations is None else self._totals.state_dict()

    def _on_device(self, leaf: Any) -> Tensor:
        return leaf.to(self.device) if isinstance(leaf, Tensor) else to_tensor(leaf, self.device)


def _restore(generator: torch.Generator, state: Tensor) -> None:
    """Put a generator back, or, where the state is that of another kind of device, begin a stream that it decides."""
    if len(state) == len(generator.get_state()):
        generator.set_state(state)
    else:
        generator.manual_seed(int.from_bytes(bytes(state[:8].tolist()), "little") % 2**63)
