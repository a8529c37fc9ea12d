"""What every agent can do, whatever library it comes from: act, be evaluated, recorded, saved and shared."""

from __future__ import annotations

import json
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from rl_framework.checkpoints.archive import open_archive, save_archive
from rl_framework.checkpoints.locate import find_agent
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.connectors.model_card import REPLAY_FILE, RESULTS_FILE, publish_card
from rl_framework.core.policy import BoolArray, Policy
from rl_framework.core.spaces import is_batch
from rl_framework.core.trees import Tree, map_tree, select
from rl_framework.data.episode import Episode
from rl_framework.errors import InvalidInputError, NotTrainedError, UnknownOptionError, VideoError
from rl_framework.evaluation.evaluate import evaluate_policy
from rl_framework.evaluation.evaluation import Evaluation
from rl_framework.rollouts.play import play_episodes
from rl_framework.video.recording import record_video

if TYPE_CHECKING:
    from rl_framework.connectors.base import Connector
    from rl_framework.export.onnx import OnnxNetwork

AgentType = TypeVar("AgentType", bound="Agent")
Part = TypeVar("Part")


class Agent(ABC):
    """Base of all agents.

    A subclass gives its policy and fills three blanks: what its manifest says, which files it writes, and how it is
    made from them.

    Attributes:
        kind: Name under which the catalogue knows this class; stands in the manifest.
        changeable: What may be changed on loading, by the names of `load`'s keywords.
    """

    kind: ClassVar[str]
    changeable: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def policy(self) -> Policy:
        """What acts; carries memory in and out for policies that have one.

        Raises:
            NotTrainedError: The agent was never trained.
        """

    @property
    @abstractmethod
    def is_trained(self) -> bool:
        """Whether there is a policy."""

    @abstractmethod
    def _manifest(self) -> Manifest:
        """What the saved agent says of itself."""

    @abstractmethod
    def _write(self, folder: Path) -> None:
        """Write everything but the manifest into a folder."""

    @classmethod
    @abstractmethod
    def _read(
        cls: type[AgentType], folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any
    ) -> AgentType:
        """Make the agent that `_write` wrote."""

    def _write_companions(self, folder: Path) -> None:  # noqa: B027  (most kinds have none)
        """Write what stands beside the agent's own files, whatever its kind; nothing unless overridden."""

    def _read_companions(self, folder: Path) -> None:  # noqa: B027  (most kinds have none)
        """Take back what `_write_companions` wrote; older files may lack it."""

    def choose_action(
        self, observation: Tree, deterministic: bool = False, *, action_masks: BoolArray | None = None
    ) -> Tree:
        """Choose an action for one observation, or actions for a batch of them.

        A policy with memory starts from an empty one at each call and says so in a warning; to carry memory along,
        use `agent.policy.act(...)`.

        Args:
            observation: One observation `[...]` or a batch `[B, ...]`, as the environment gives them.
            deterministic: The most probable action instead of a sampled one.
            action_masks: Allowed actions, `[n]` for one observation, `[B, n]` for a batch.

        Returns:
            One action `[...]`, or a batch `[B, ...]`.

        Raises:
            NotTrainedError: The agent was never trained.
            SpaceError: It is not an observation of the agent's observation space.
        """
        policy = self.policy
        if getattr(policy, "is_recurrent", False):
            warnings.warn(
                "This policy has memory, and choose_action starts from an empty one at each call. "
                "Use agent.policy.act(observations, state, episode_starts=...) to carry it along.",
                stacklevel=2,
            )
        if is_batch(policy.observation_space, observation):
            return policy.act(observation, action_masks=action_masks, deterministic=deterministic).actions
        batch = map_tree(lambda leaf: np.asarray(leaf)[None], observation)
        masks = None if action_masks is None else action_masks[None]
        return select(policy.act(batch, action_masks=masks, deterministic=deterministic).actions, 0)

    def evaluate(
        self,
        evaluation_environment: Any,
        n_eval_episodes: int = 100,
        *,
        deterministic: bool = False,
        seed: int | None = None,
        n_envs: int | None = None,
    ) -> Evaluation:
        """Play episodes and give their returns; unpacks as `mean, std`.

        Args:
            evaluation_environment: Whatever `train` takes as environments. Copies of it are played side by side.
            n_eval_episodes: Number of episodes; every copy plays a fixed share of them.
            deterministic: The most probable actions instead of sampled ones.
            seed: From which the seeds of all episodes are derived: the same seed gives the same result. Drawn and
                written down if None.
            n_envs: Number of copies side by side; chosen from the number of episodes if None.

        Raises:
            NotTrainedError: The agent was never trained.
            SpaceError: The environment's spaces are not the agent's.
            EnvironmentFailure: The environment raised, or gave a NaN or infinite number.
        """
        return evaluate_policy(
            self.policy,
            evaluation_environment,
            n_eval_episodes,
            deterministic=deterministic,
            seed=seed,
            n_envs=n_envs,
        )

    def play_episodes(
        self,
        environments: Any,
        n_episodes: int,
        *,
        deterministic: bool = False,
        seed: int | None = None,
        n_envs: int | None = None,
    ) -> Iterator[Episode]:
        """Play episodes and give each of them as a recording; `EpisodeSequence.from_agent` keeps them.

        Args:
            environments: Whatever `evaluate` takes. Copies of it are played side by side.
            n_episodes: Number of episodes; every copy plays a fixed share of them.
            deterministic: The most probable actions instead of sampled ones.
            seed: From which the seeds of all episodes are derived.
            n_envs: Number of copies side by side; chosen from the number of episodes if None.

        Raises:
            NotTrainedError: The agent was never trained.
            SpaceError: The environment's spaces are not the agent's.
            EnvironmentFailure: The environment raised, or gave a NaN or infinite number.
        """
        return play_episodes(
            self.policy, environments, n_episodes, deterministic=deterministic, seed=seed, n_envs=n_envs
        )

    def record_video(
        self,
        environment: Any,
        path: str | Path,
        n_episodes: int = 1,
        *,
        deterministic: bool = True,
        seed: int | None = None,
        max_steps: int | None = None,
    ) -> Path:
        """Play episodes and write what they look like to an .mp4 (H.264) or .gif file.

        Args:
            environment: An environment with `render_mode="rgb_array"`, or an id.
            path: The file; one that exists is replaced once the new one is complete.
            n_episodes: Number of episodes, one after the other.
            deterministic: The most probable actions instead of sampled ones.
            seed: Seed of the first episode, from which the others' are derived.
            max_steps: End the recording after so many steps.

        Raises:
            NotTrainedError: The agent was never trained.
            MissingExtraError: The extra `video` is not installed.
            VideoError: The environment gives no pictures, or encoding failed.
        """
        return record_video(
            self.policy, environment, path, n_episodes, deterministic=deterministic, seed=seed, max_steps=max_steps
        )

    def save(self, path: str | Path) -> Path:
        """Save the agent as a folder, or as a zipped folder if the path ends in `.zip`.

        What was there before is replaced in one step; a save that fails leaves it as it was.

        Raises:
            NotTrainedError: The agent was never trained.
            ArchiveError: It could not be written.
        """
        self._check_trained("saved")
        save_archive(Path(path), self.fill_folder)
        return Path(path)

    def fill_folder(self, folder: Path) -> None:
        """Write the agent into an empty folder: `save` without replacing anything."""
        self._write(folder)
        self._write_companions(folder)
        self._manifest().write(folder)

    @classmethod
    def load(cls: type[AgentType], path: str | Path, *, trust: Sequence[str] = (), **changes: Any) -> AgentType:
        """Load a saved agent of this class; `load_agent` finds the class by itself.

        Args:
            path: A saved agent, a folder of checkpoints (the latest counts), or a run of the command line.
            trust: Modules besides the allow-listed ones from which classes named in the files may be imported.
            **changes: What the class allows to change on loading, e.g. `algorithm_parameters`.

        Raises:
            UnknownOptionError: The class allows no such change.
            MissingArchiveError: Nothing is there.
            CorruptArchiveError: It is truncated, altered, or of another kind of agent.
            NewerFormatError: A newer version of this library wrote it.
            UnsafeArchiveError: It names a class that is not trusted. Nothing was executed.
        """
        for name in changes:
            if name not in cls.changeable:
                raise UnknownOptionError.of("change on loading", name, cls.changeable)
        with open_archive(find_agent(path)) as folder:
            manifest = Manifest.read(folder)
            if manifest.kind != cls.kind:
                raise InvalidInputError(
                    f"{path} holds an agent of kind {manifest.kind!r}, {cls.__name__} is of kind {cls.kind!r}. "
                    "load_agent(path) finds the right class."
                )
            agent = cls._read(folder, manifest, trust, **changes)
            agent._read_companions(folder)
            return agent

    def export_onnx(self, path: str | Path) -> Path:
        """Write the deterministic policy as one .onnx file, which runs without this library and without torch.

        Its inputs are batches of raw observations as the environment gives them, one input per entry of a Dict
        observation; its output `actions` is in the environment's own units. What the file's metadata say: kind of
        agent, algorithm, spaces, versions. What was at the path before is replaced once the new file is complete and
        was found to act as the agent does.

        Args:
            path: The file; `.onnx` is added where it is missing.

        Returns:
            Where the file is.

        Raises:
            NotTrainedError: The agent was never trained.
            InvalidInputError: It is of a kind that has no network.
            MissingExtraError: The extra `onnx` is not installed.
            ArchiveError: The file could not be written.
            RLFrameworkError: A part of the network has no counterpart in ONNX.
        """
        from rl_framework.export.onnx import describe, export_network

        self._check_trained("exported")
        return export_network(self._onnx_network(), Path(path), describe(self._manifest()))

    def _onnx_network(self) -> OnnxNetwork:
        """The deterministic policy as a network, for kinds of agents that have one.

        Raises:
            InvalidInputError: This kind has none.
        """
        raise InvalidInputError(
            f"{type(self).__name__} with {self._manifest().algorithm} has no torch network, which is what an .onnx "
            "file holds. A StableBaselinesAgent has one; save(path) keeps any agent."
        )

    def upload(
        self,
        connector: Connector,
        *,
        evaluation_environment: Any = None,
        n_eval_episodes: int = 20,
        video_length: int = 1000,
        license_name: str | None = None,
        message: str | None = None,
    ) -> str:
        """Hand the agent to a store, with an evaluation and a replay if an environment is given.

        Where the store can be named by one line (`connector.uri`), a card goes with the agent: how it was trained, how
        good it is, how to load it. What people have written into a card that is there already stays.

        Args:
            connector: The store.
            evaluation_environment: Whatever `evaluate` takes; None for the agent alone.
            n_eval_episodes: Number of episodes of the evaluation.
            video_length: Steps of the replay at most; 0 for none.
            license_name: Licence of the agent, as the Hugging Face Hub names it, e.g. `"mit"`; None to state none.
            message: A sentence about this version, for people.

        Returns:
            Where it went, as the store names it.

        Raises:
            NotTrainedError: The agent was never trained.
            ConnectorError: The store failed.
        """
        self._check_trained("uploaded")
        with tempfile.TemporaryDirectory(prefix="rl_framework_") as parent:
            folder = Path(parent) / "agent"
            folder.mkdir()
            self.fill_folder(folder)
            if evaluation_environment is not None:
                self._add_results(folder, evaluation_environment, n_eval_episodes)
                self._add_replay(folder, evaluation_environment, video_length)
            if connector.has_pages:
                self._add_for_others(folder)
            if connector.uri is not None:
                publish_card(folder, connector, license_name)
            return connector.upload(folder, message=message)

    def download(self, connector: Connector, *, revision: str | None = None) -> None:
        """Become the agent that a store holds.

        Args:
            connector: The store.
            revision: Which of its versions; the latest if None.

        Raises:
            ConnectorError: The store failed.
            ArchiveError: What it holds is not a saved agent of this class.
        """
        with tempfile.TemporaryDirectory(prefix="rl_framework_") as parent:
            folder = connector.download(Path(parent) / "agent", revision=revision)
            self.__dict__.update(vars(type(self).load(folder)))

    def _add_for_others(self, folder: Path) -> None:  # noqa: B027  (most kinds have nothing)
        """Add what people who do not use this library look for: pictures, other libraries' files."""

    def _add_results(self, folder: Path, environment: Any, n_eval_episodes: int) -> None:
        evaluation = self.evaluate(environment, n_eval_episodes)
        (folder / RESULTS_FILE).write_text(json.dumps(evaluation.to_results(), indent=2))

    def _add_replay(self, folder: Path, environment: Any, video_length: int) -> None:
        if video_length <= 0:
            return
        try:
            self.record_video(environment, folder / REPLAY_FILE, max_steps=video_length)
        except (VideoError, ImportError) as error:
            warnings.warn(f"Uploading without a replay: {error}", stacklevel=3)

    def _check_trained(self, verb: str) -> None:
        if not self.is_trained:
            raise NotTrainedError(f"This agent was never trained, so it cannot be {verb}. Call train(...) first.")


def trained_part(part: Part | None, what: str) -> Part:
    """What an agent has once it was trained.

    Args:
        part: What it has, None before.
        what: The part in a word, for the message: `"policy"`.

    Raises:
        NotTrainedError: The agent was never trained.
    """
    if part is None:
        raise NotTrainedError(f"This agent was never trained, so it has no {what}. Call train(...) first.")
    return part
