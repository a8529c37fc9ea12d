"""Every algorithm of the library `imitation` as an agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from typing_extensions import override

from rl_framework.agent.base_agent import trained_part
from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation.imitation.choices import (
    build_apart,
    check_installed,
    check_saved,
    find_row,
    generator_plan,
    generator_to_json,
    reward_net_plan,
)
from rl_framework.agent.imitation.imitation.environment_socket import SocketVecEnv
from rl_framework.agent.imitation.imitation.expert import as_expert, check_expert
from rl_framework.agent.imitation.imitation.horizons import check_horizons, warn_of_horizons
from rl_framework.agent.imitation.imitation.rows import Learner, LearnerPlan, saved_part
from rl_framework.agent.imitation_learning_agent import ILAgent, Lessons
from rl_framework.agent.reinforcement.stable_baselines.model import ModelPlan, check_masks
from rl_framework.agent.reinforcement.stable_baselines.normalization import Normalization, as_normalization
from rl_framework.agent.reinforcement.stable_baselines.parameters import decode, encode
from rl_framework.callbacks.run import TrainingRun
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.networks import load_network, save_network
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.core.policy import Policy
from rl_framework.core.references import reference_to, resolve
from rl_framework.core.seeding import restore_random_state, seed_everything
from rl_framework.core.spaces import space_from_json, space_to_json
from rl_framework.envs.vector_env import StateLevel, VectorEnv
from rl_framework.errors import CorruptArchiveError, InvalidInputError, SpaceError
from rl_framework.export.onnx import OnnxNetwork

if TYPE_CHECKING:
    from imitation.rewards.reward_nets import RewardNet

    from rl_framework.agent.imitation.imitation.reward_nets import RewardNetPlan

TRAINING_STATE = "training_state"


class ImitationAgent(ILAgent):
    """An agent whose engine is an algorithm of the library `imitation`.

    Args:
        algorithm_class: The algorithm, as the library's class (or one derived from it) or by name: `"BC"`, `"DAgger"`,
            `"GAIL"`, `"AIRL"`, ...
        algorithm_parameters: What the algorithm's constructor takes, without what is given elsewhere.
        generator_class: The algorithm of Stable-Baselines3 or sb3-contrib that acts, for those that have one, as class
            or by name; the algorithm's own choice if None, which is PPO for most.
        generator_parameters: What its constructor takes, without `env`.
        reward_net: The network that learns the reward, for those that have one: `"basic"`, `"basic_shaped"`, `"cnn"`,
            or a class derived from the library's `RewardNet`; the algorithm's own choice if None.
        reward_net_parameters: What its constructor takes beside the spaces, e.g. `normalize_input_layer`.
        normalization: Running normalisation (`VecNormalize`) of what the generator sees and earns, for those that have
            one; True for its defaults.
        expert: Who says what to do, for those that ask: an agent, a policy, a model of Stable-Baselines3, or a
            function that gives an action for one observation (by asking a person, say). It is not saved with the
            agent: give it again to `load_agent`.
        allow_variable_horizon: Whether episodes of different lengths are allowed where they bias a learned reward; None
            allows them and says once why it matters.
        seed: Where initial weights, the order of demonstrations, exploration and episodes come from.

    Raises:
        MissingExtraError: The library is not installed.
        InvalidInputError: A part is of the wrong kind, or the algorithm has no such part.
        UnknownOptionError: A name or parameter is not known.
    """

    kind: ClassVar[str] = "imitation"
    changeable: ClassVar[tuple[str, ...]] = (
        "algorithm_parameters",
        "generator_parameters",
        "reward_net_parameters",
        "expert",
    )

    def __init__(
        self,
        algorithm_class: type[Any] | str = "BC",
        algorithm_parameters: Mapping[str, Any] | None = None,
        *,
        generator_class: type[BaseAlgorithm] | str | None = None,
        generator_parameters: Mapping[str, Any] | None = None,
        reward_net: type[RewardNet] | str | None = None,
        reward_net_parameters: Mapping[str, Any] | None = None,
        normalization: bool | Normalization | None = None,
        expert: Any = None,
        allow_variable_horizon: bool | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        check_installed()
        self.row = find_row(algorithm_class)
        self.algorithm_class = self.row.algorithm_class() if isinstance(algorithm_class, str) else algorithm_class
        self.algorithm_parameters = self.row.prepare(self.algorithm_class, algorithm_parameters or {})
        self.normalization = as_normalization(normalization)
        self.generator = generator_plan(self.row, generator_class, generator_parameters, self.normalization)
        self.reward_net = reward_net_plan(self.row, reward_net, reward_net_parameters)
        self.allow_variable_horizon = allow_variable_horizon
        self.seed = seed
        if expert is not None:
            check_expert(expert)
        self.expert = expert
        self._plan: LearnerPlan | None = None
        self._learner: Learner | None = None

    # What an agent is asked

    @property
    def learner(self) -> Learner:
        """What learns: the library's own objects are its attributes, for what only they can do.

        Raises:
            NotTrainedError: The agent was never trained.
        """
        return trained_part(self._learner, "policy")

    @property
    def policy(self) -> Policy:
        """What acts."""
        return self.learner.policy

    @property
    def is_trained(self) -> bool:
        """Whether there is a policy."""
        return self._learner is not None

    @property
    def timesteps(self) -> int:
        """What it has learned from in its life, as its algorithm counts it: transitions or environment steps."""
        return 0 if self._learner is None else self._learner.timesteps

    @property
    def needs_episodes(self) -> bool:
        """Whether there must be demonstrations."""
        return self.row.needs_episodes

    @property
    def needs_environments(self) -> bool:
        """Whether it acts while it learns."""
        return self.row.needs_environments

    @property
    def needs_rewards(self) -> bool:
        """Whether the demonstrations must have rewards."""
        return self.row.needs_rewards

    # Training

    @override
    def _attach(self, lessons: Lessons, env: VectorEnv | None) -> None:
        self._check_ready(lessons)
        is_first = self._learner is None
        if is_first and self.row.minds_horizons and self.allow_variable_horizon is None:
            warn_of_horizons(self.row)
        plan, learner = self._learner_for(lessons, env)
        if env is not None and self.row.needs_environments:
            self._check_masks(env)
            plan.venv.plug(env)
        try:
            learner.attach(lessons)
        except BaseException:
            plan.venv.unplug()
            raise
        self._plan, self._learner = plan, learner

    @override
    def _begin(self, env: VectorEnv | None, resumption: Resumption | None) -> None:
        if env is not None and resumption is None and not self.row.needs_environments:
            env.reset()  # it only told the spaces; a run that is interrupted asks where it is nevertheless
        self.learner.begin(resumption)
        if resumption is not None:
            restore_random_state(resumption.random)

    def _learn(self, run: TrainingRun) -> None:
        if run.target_timesteps > self.timesteps:
            self.learner.learn(run)
            run.at_boundary(self.timesteps)

    def _detach(self) -> None:
        self.learner.detach()
        self._known_plan().venv.unplug()

    @property
    @override
    def _agent_level(self) -> StateLevel:
        return self.row.resumes

    @property
    @override
    def _name(self) -> str:
        return f"{type(self).__name__} with {self.row.name}"

    # Files

    def _manifest(self) -> Manifest:
        plan = self._known_plan()
        return Manifest(
            kind=self.kind,
            algorithm=reference_to(self.algorithm_class),
            parameters=encode(self.algorithm_parameters),
            options={
                "generator": None if self.generator is None else generator_to_json(self.generator),
                "normalization": None if self.normalization is None else encode(dataclasses.asdict(self.normalization)),
                "reward_net": None if self.reward_net is None else self.reward_net.to_json(),
                "allow_variable_horizon": self.allow_variable_horizon,
                "seed": self.seed,
                "n_envs": plan.venv.num_envs,
            },
            observation_space=space_to_json(plan.observation_space),
            action_space=space_to_json(plan.action_space),
            timesteps=self.timesteps,
            notes={"environment_id": self.environment_id},
        )

    def _write(self, folder: Path) -> None:
        for name, network in self.learner.networks().items():
            save_network(network, folder / f"{name}.safetensors")
        state_folder = folder / TRAINING_STATE
        state_folder.mkdir()
        rng = self._known_plan().rng
        write_state(state_folder, "learner", {"learner": self.learner.state(), "rng": rng.bit_generator.state})
        self._write_continuation(state_folder)

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any) -> ImitationAgent:
        check_installed()
        agent = _make_agent(cls, manifest, trust, changes)
        if manifest.observation_space is None or manifest.action_space is None:
            raise CorruptArchiveError("The manifest tells no spaces.")
        spaces = space_from_json(manifest.observation_space), space_from_json(manifest.action_space)
        state = read_state(folder / TRAINING_STATE, "learner")
        rng = np.random.default_rng(0)
        rng.bit_generator.state = state["rng"]
        plan = agent._make_plan(SocketVecEnv(int(manifest.options["n_envs"]), *spaces), spaces, rng)
        learner = build_apart(plan)
        for name, network in learner.networks().items():
            load_network(network, folder / f"{name}.safetensors")
        learner.load_state(state["learner"])
        agent._plan, agent._learner = plan, learner
        agent.environment_id = manifest.notes.get("environment_id")
        agent._read_continuation(folder / TRAINING_STATE)
        return agent

    @override
    def _onnx_network(self) -> OnnxNetwork:
        return self.learner.onnx_network()

    # Parts

    def _known_plan(self) -> LearnerPlan:
        return trained_part(self._plan, "spaces")

    def _learner_for(self, lessons: Lessons, env: VectorEnv | None) -> tuple[LearnerPlan, Learner]:
        """The learner for so many environments: the present one, one filled from it, or the first one."""
        acts = env is not None and self.row.needs_environments
        n_envs = env.spec.n_envs if env is not None and acts else 1
        if self._plan is None or self._learner is None:
            return self._first_learner(lessons, n_envs)
        if n_envs == self._plan.venv.num_envs:
            return self._plan, self._learner
        spaces = self._plan.observation_space, self._plan.action_space
        plan = self._make_plan(SocketVecEnv(n_envs, *spaces), spaces, self._plan.rng)
        learner = build_apart(plan)
        for name, network in self._learner.networks().items():
            learner.networks()[name].load_state_dict(network.state_dict())
        learner.load_state(self._learner.state())
        return plan, learner

    def _first_learner(self, lessons: Lessons, n_envs: int) -> tuple[LearnerPlan, Learner]:
        spaces = lessons.observation_space, lessons.action_space
        seed = self.seed
        if seed is None and self.generator is not None:
            seed = self.generator.parameters.get("seed")
        if seed is not None:
            seed_everything(seed)
        venv = SocketVecEnv(n_envs, *spaces)
        venv.seed(seed)
        drawn = np.random.randint(2**31)  # noqa: NPY002  # the process's generator, which the libraries draw from, too
        plan = self._make_plan(venv, spaces, np.random.default_rng(drawn if seed is None else seed))
        return plan, self.row.learner_class()(plan)

    def _make_plan(self, venv: SocketVecEnv, spaces: Any, rng: np.random.Generator) -> LearnerPlan:
        if hasattr(venv.observation_space, "spaces") and not self.row.takes_dict_observations:
            raise SpaceError(
                f"{self.row.name} of the imitation library takes no Dict or Tuple observations, such as {spaces[0]}. "
                "Wrap the environments to flatten them, or use an algorithm that does, such as BC."
            )
        return LearnerPlan(
            row=self.row,
            algorithm_class=self.algorithm_class,
            parameters=saved_part(self.algorithm_parameters),
            observation_space=spaces[0],
            action_space=spaces[1],
            venv=venv,
            generator=self._generator_to_build(),
            reward_net=self._reward_net_to_build(),
            expert=None if self.expert is None else as_expert(self.expert, *spaces),
            allow_variable_horizon=self.allow_variable_horizon is not False,
            rng=rng,
        )

    def _generator_to_build(self) -> ModelPlan | None:
        plan = self.generator
        if plan is None:
            return None
        seed = {} if self.seed is None else {"seed": self.seed}
        return ModelPlan(plan.algorithm_class, {**seed, **saved_part(plan.parameters)}, plan.normalization)

    def _reward_net_to_build(self) -> RewardNetPlan | None:
        plan = self.reward_net
        return None if plan is None else dataclasses.replace(plan, parameters=saved_part(plan.parameters))

    def _check_ready(self, lessons: Lessons) -> None:
        if self.row.needs_expert and self.expert is None:
            raise InvalidInputError(
                f"{self._name} asks an expert while it trains, and has none. Give expert=... to the agent, or to "
                "load_agent for one that was saved: experts are not saved with those who learn from them."
            )
        if lessons.validation is not None and not self.row.takes_validation:
            raise InvalidInputError(f"{self._name} measures nothing on a validation_episode_sequence; leave it out.")
        if self.row.minds_horizons and self.allow_variable_horizon is False and lessons.episodes is not None:
            check_horizons(self.row, lessons.episodes)
        check_saved("algorithm_parameters", self.algorithm_parameters)
        check_saved("generator_parameters", {} if self.generator is None else self.generator.parameters)
        check_saved("reward_net_parameters", {} if self.reward_net is None else self.reward_net.parameters)

    def _check_masks(self, env: VectorEnv) -> None:
        if self.generator is not None:
            check_masks(self.generator.algorithm_class, has_action_masks=env.spec.has_action_masks)


def _make_agent(
    cls: type[ImitationAgent], manifest: Manifest, trust: Sequence[str], changes: Mapping[str, Any]
) -> ImitationAgent:
    """The untrained agent that a manifest describes."""
    options = manifest.options
    generator, net = options["generator"], options["reward_net"]
    generator_parameters = {} if generator is None else decode(generator["parameters"], trust=trust)
    net_parameters = {} if net is None else decode(net["parameters"], trust=trust)
    found = options["normalization"]
    return cls(
        resolve(manifest.algorithm, trust=trust),
        {**decode(manifest.parameters, trust=trust), **changes.get("algorithm_parameters", {})},
        generator_class=None if generator is None else resolve(generator["class"], trust=trust),
        generator_parameters={**generator_parameters, **changes.get("generator_parameters", {})},
        reward_net=None if net is None else resolve(net["class"], trust=trust),
        reward_net_parameters={**net_parameters, **changes.get("reward_net_parameters", {})},
        normalization=None if found is None else Normalization(**decode(found)),
        expert=changes.get("expert"),
        allow_variable_horizon=options["allow_variable_horizon"],
        seed=options["seed"],
    )
