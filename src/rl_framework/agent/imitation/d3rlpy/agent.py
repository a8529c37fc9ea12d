"""Offline reinforcement learning by the algorithms of d3rlpy, as an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from typing_extensions import override

from rl_framework.agent.base_agent import trained_part
from rl_framework.agent.continuation import Resumption
from rl_framework.agent.imitation.d3rlpy.batches import Batches
from rl_framework.agent.imitation.d3rlpy.configuration import (
    change_config,
    config_from_json,
    config_to_json,
    make_config,
)
from rl_framework.agent.imitation.d3rlpy.defaults import fitted_config
from rl_framework.agent.imitation.d3rlpy.policy import D3RLPYPolicy
from rl_framework.agent.imitation.d3rlpy.table import AlgorithmRow, find_row
from rl_framework.agent.imitation.d3rlpy.training_state import load_training_state, networks, training_state
from rl_framework.agent.imitation.d3rlpy.transformer_policy import TransformerPolicy
from rl_framework.agent.imitation.d3rlpy.translation import Translation
from rl_framework.agent.imitation.d3rlpy.validation import agreement
from rl_framework.agent.imitation_learning_agent import ILAgent, Lessons
from rl_framework.callbacks.run import TrainingRun
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.networks import load_network, save_network
from rl_framework.checkpoints.state_tree import read_state, write_state
from rl_framework.compat.d3rlpy import import_d3rlpy
from rl_framework.core.seeding import capture_random_state, restore_random_state, seed_everything
from rl_framework.core.spaces import space_from_json, space_to_json
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import CorruptArchiveError, InvalidInputError, NotTrainedError
from rl_framework.export.onnx import OnnxNetwork

POLICY_FILE = "policy.safetensors"
TRAINING_STATE = "training_state"


class D3RLPYAgent(ILAgent):
    """An agent that learns from recordings alone, by an algorithm of d3rlpy.

    Steps are counted as d3rlpy counts them: one step is one update from one batch. Observations are vectors or
    images; actions are numbered, or vectors of real numbers in the environment's own units, which are scaled to what
    d3rlpy's actors choose from unless an `action_scaler` is given. Bytes of images are scaled to 0 and 1 unless an
    `observation_scaler` is given. Scalers are fitted to the first recordings and stay.

    Training and acting write nothing but what `save` and checkpoints are asked to.

    Args:
        algorithm_class: An algorithm of `d3rlpy.algos`, its configuration class, or its name: CQL, IQL, BCQ, AWAC,
            TD3PlusBC, BC, DecisionTransformer, ...; for numbered actions DiscreteCQL, DiscreteBCQ, DiscreteBC,
            DiscreteDecisionTransformer, ...
        algorithm_parameters: Fields of its configuration: learning rates, `batch_size`, encoder and optimiser
            factories, scalers.
        target_return: For transformers: the return to aim at when acting, undiscounted, in the environment's units.
        device: Where the networks are: `"auto"` (a GPU if there is one), `"cpu"`, `"cuda"` or `"cuda:1"`.
        seed: Seeds the process's random generators before the networks are made, and the drawing of batches.

    Raises:
        MissingExtraError: d3rlpy is not installed.
        UnknownOptionError: d3rlpy has no such algorithm, or the algorithm no such parameter.
        InvalidInputError: A value is of the wrong kind, or `target_return` is missing or has no use.
    """

    kind: ClassVar[str] = "d3rlpy"
    changeable: ClassVar[tuple[str, ...]] = ("algorithm_parameters", "target_return", "device")

    def __init__(
        self,
        algorithm_class: Any,
        algorithm_parameters: Mapping[str, Any] | None = None,
        *,
        target_return: float | None = None,
        device: str = "auto",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        import_d3rlpy()
        self.row = find_row(algorithm_class)
        self.algorithm_parameters = dict(algorithm_parameters or {})
        self.target_return = _check_target(self.row, target_return)
        self.device = _check_device(device)
        self.seed = seed
        self._config = make_config(self.row, self.algorithm_parameters)
        self._algorithm: Any = None
        self._translation: Translation | None = None
        self._rng: np.random.Generator | None = None
        self._batches: Batches | None = None
        self._validation: EpisodeSequence | None = None

    # What an agent is asked

    @property
    def algorithm(self) -> Any:
        """The library's own object, for what only it can do.

        Raises:
            NotTrainedError: The agent was never trained.
        """
        return trained_part(self._algorithm, "policy")

    @property
    def policy(self) -> D3RLPYPolicy | TransformerPolicy:
        """What acts."""
        algorithm, translation = self.algorithm, self._known_translation()
        if self.target_return is not None:
            return TransformerPolicy(algorithm, translation, self.target_return)
        return D3RLPYPolicy(self.row, algorithm, translation)

    @property
    def is_trained(self) -> bool:
        """Whether there is a policy."""
        return self._algorithm is not None

    @property
    def timesteps(self) -> int:
        """Updates in the agent's life."""
        return 0 if self._algorithm is None else int(self._algorithm.grad_step)

    @property
    def needs_rewards(self) -> bool:
        """Whether the algorithm learns from rewards; behavioural cloning does not."""
        return self.row.needs_rewards

    # Training

    @override
    def _attach(self, lessons: Lessons, env: VectorEnv | None) -> None:
        translation = Translation.between(self.row, lessons.observation_space, lessons.action_space)
        episodes = self._checked_recordings(lessons)
        if self._algorithm is None and self.seed is not None:
            seed_everything(self.seed)
        rng = self._rng or np.random.default_rng(_fresh_seed(self.seed))
        batches = Batches(episodes, translation, rng)
        if self._algorithm is None:
            config = fitted_config(self.row, self._config, set(self.algorithm_parameters), translation, batches)
            self._algorithm = _build(config, translation, self.device)
        self._translation, self._rng, self._batches, self._validation = translation, rng, batches, lessons.validation

    @override
    def _begin(self, env: VectorEnv | None, resumption: Resumption | None) -> None:
        if resumption is not None:
            restore_random_state(resumption.random)

    @override
    def _learn(self, run: TrainingRun) -> None:
        algorithm = self.algorithm
        with _compiling(algorithm):
            while algorithm.grad_step < run.target_timesteps:
                metrics = algorithm.update(self._next_batch())
                run.record_metrics({f"train/{name}": float(value) for name, value in metrics.items()})
                if self._validation is not None and algorithm.grad_step % run.report_every == 0:
                    run.record_metrics(agreement(self.policy, self._validation))
                run.at_boundary(algorithm.grad_step)

    @override
    def _detach(self) -> None:
        self._batches = self._validation = None

    def _next_batch(self) -> Any:
        batches, config = self._batches, self.algorithm.config
        if batches is None:
            raise NotTrainedError("There are no recordings to learn from outside of a call of train or resume.")
        if self.row.is_transformer:
            return batches.stretches(config.batch_size, config.context_size)
        return batches.transitions(config.batch_size)

    def _checked_recordings(self, lessons: Lessons) -> EpisodeSequence:
        if lessons.episodes is None:
            raise InvalidInputError(f"{self._name} learns from recorded episodes; give it an episode_sequence.")
        if self.row.is_transformer:
            self._check_for_transformer(lessons.episodes, lessons.validation)
        return lessons.episodes

    def _check_for_transformer(self, episodes: EpisodeSequence, validation: EpisodeSequence | None) -> None:
        if validation is not None:
            raise InvalidInputError(
                f"{self.row.name} measures nothing on validation episodes; leave validation_episode_sequence away."
            )
        config = self._config if self._algorithm is None else self._algorithm.config
        longest = int(np.max(episodes.lengths))
        if longest > config.max_timestep:
            raise InvalidInputError(
                f"{self.row.name} counts {config.max_timestep} steps of an episode, and the longest recorded one has "
                f"{longest}. Give algorithm_parameters={{'max_timestep': {longest}}}, or cut the episodes."
            )

    # Files

    @override
    def _manifest(self) -> Manifest:
        translation = self._known_translation()
        return Manifest(
            kind=self.kind,
            algorithm=self.row.reference,
            parameters=config_to_json(self.algorithm.config),
            options={
                "target_return": self.target_return,
                "device": self.device,
                "seed": self.seed,
                "d3rlpy": import_d3rlpy().__version__,
            },
            observation_space=space_to_json(translation.observation_space),
            action_space=space_to_json(translation.action_space),
            timesteps=self.timesteps,
            notes={"environment_id": self.environment_id},
        )

    @override
    def _write(self, folder: Path) -> None:
        save_network(networks(self.algorithm), folder / POLICY_FILE)
        state_folder = folder / TRAINING_STATE
        state_folder.mkdir()
        draws = None if self._rng is None else dict(self._rng.bit_generator.state)
        write_state(state_folder, "algorithm", {**training_state(self.row, self.algorithm), "draws": draws})
        self._write_continuation(state_folder)

    @classmethod
    @override
    def _read(cls, folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any) -> D3RLPYAgent:
        options = {**manifest.options, **changes}
        parameters: Mapping[str, Any] = changes.get("algorithm_parameters", {})
        agent = cls(
            manifest.algorithm.partition(":")[2],
            target_return=options["target_return"],
            device=options["device"],
            seed=options["seed"],
        )
        config = change_config(agent.row, config_from_json(agent.row, manifest.parameters), parameters)
        agent._restore(config, folder, manifest, keep_rates=not any(name.endswith("_rate") for name in parameters))
        agent.environment_id = manifest.notes.get("environment_id")
        agent._read_continuation(folder / TRAINING_STATE)
        return agent

    def _restore(self, config: Any, folder: Path, manifest: Manifest, *, keep_rates: bool) -> None:
        if manifest.observation_space is None or manifest.action_space is None:
            raise CorruptArchiveError("The manifest tells no spaces.")
        spaces = (space_from_json(manifest.observation_space), space_from_json(manifest.action_space))
        self._translation = Translation.between(self.row, *spaces)
        before = capture_random_state()
        try:
            algorithm = _build(config, self._translation, self.device)
        finally:
            restore_random_state(before)
        load_network(networks(algorithm), folder / POLICY_FILE)
        state = read_state(folder / TRAINING_STATE, "algorithm")
        load_training_state(self.row, algorithm, state, keep_rates=keep_rates)
        self._rng = _generator(state.get("draws"))
        self._config, self._algorithm = config, algorithm

    @override
    def _onnx_network(self) -> OnnxNetwork:
        raise InvalidInputError(
            f"Agents of d3rlpy are not exported to .onnx files; save(path) keeps this {self.row.name} whole."
        )

    def _known_translation(self) -> Translation:
        return trained_part(self._translation, "spaces")

    @property
    @override
    def _name(self) -> str:
        return f"{type(self).__name__} with {self.row.name}"


def _build(config: Any, translation: Translation, device: str) -> Any:
    """The algorithm with fresh networks.

    Raises:
        InvalidInputError: d3rlpy cannot make networks of this configuration for these observations.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    algorithm = config.create(device=f"{device}:0" if device in ("cpu", "cuda") else device)
    try:
        algorithm.create_impl(translation.observation_shape, translation.action_size)
    except (AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"d3rlpy cannot make the networks of {type(algorithm).__name__} for observations of shape "
            f"{translation.observation_shape} with these encoders: {error!r}."
        ) from error
    return algorithm


def _compiling(algorithm: Any) -> AbstractContextManager[Any]:
    """With `compile_graph` on a GPU, gradients are compiled too, as d3rlpy would have it for the whole process."""
    if not algorithm.compiled:
        return nullcontext()
    import torch._dynamo

    patch: AbstractContextManager[Any] = torch._dynamo.config.patch(compiled_autograd=True)
    return patch


def _fresh_seed(seed: int | None) -> int:
    """The given seed, else one from the process's generator, so that a seeded process repeats itself."""
    return int(np.random.randint(2**31)) if seed is None else seed  # noqa: NPY002  # the process's, on purpose


def _generator(state: Any) -> np.random.Generator:
    try:
        rng = np.random.Generator(np.random.PCG64())
        rng.bit_generator.state = state
    except (TypeError, ValueError, LookupError) as error:
        raise CorruptArchiveError(f"The training state tells no generator: {error!r}.") from error
    return rng


def _check_target(row: AlgorithmRow, target_return: float | None) -> float | None:
    if row.is_transformer and target_return is None:
        raise InvalidInputError(
            f"{row.name} acts so as to reach a return that it is told; give target_return=..., such as that of the "
            "best recorded episode."
        )
    if not row.is_transformer and target_return is not None:
        raise InvalidInputError(f"{row.name} aims at no return of its own; leave target_return away.")
    return None if target_return is None else float(target_return)


def _check_device(device: Any) -> str:
    try:
        known = device == "auto" or torch.device(device) is not None
    except (RuntimeError, TypeError):
        known = False
    if not known:
        raise InvalidInputError(f"device must be 'auto', 'cpu', 'cuda' or such as 'cuda:1', got {device!r}.")
    return str(device)
