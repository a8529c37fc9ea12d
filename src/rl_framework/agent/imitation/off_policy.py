"""The off-policy learner as an agent: it learns offline from recordings, goes on online, or does both at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from rl_framework.agent.imitation.recordings_agent import RecordingsAgent
from rl_framework.agent.rule_export import exported_rule
from rl_framework.algorithms.base import make_config
from rl_framework.algorithms.off_policy_acting import RulePolicy
from rl_framework.algorithms.off_policy_config import OffPolicyConfig
from rl_framework.algorithms.offline_off_policy import OfflineOffPolicy
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.core.references import resolve, without_references
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.vector_env import StateLevel, VectorEnv
from rl_framework.errors import CorruptArchiveError, InvalidInputError
from rl_framework.export.onnx import OnnxNetwork


class OffPolicyAgent(RecordingsAgent[OfflineOffPolicy]):
    """An agent that learns from recorded episodes with rewards, and goes on in environments with what it has learned.

    - `train(episodes, total_timesteps)` learns offline, from the recordings alone; rules for that are `td3_bc`,
      `conservative_sac` and `batch_constrained`. A timestep is a recorded transition that is learned from, counted
      each time: `total_timesteps=100_000 * 256` are 100,000 gradient steps with minibatches of 256.
    - `train(None, total_timesteps, training_environments=...)` acts and learns from that, as `NativeAgent(OffPolicy)`
      does. A timestep is a step in an environment.
    - `train(episodes, total_timesteps, training_environments=...)` acts, and learns from minibatches of which a share
      is recorded. A timestep is a step in an environment.

    What was learned before stays, in any order. Recordings are read into memory at the beginning of a run, and are not
    saved with the agent.

    Args:
        algorithm_parameters: Fields of `OffPolicyConfig`.
        recorded_share: Share of recordings in each minibatch while it acts as well.

    Raises:
        UnknownOptionError: A parameter is not a field of the configuration.
        InvalidInputError: A value is out of range.
    """

    kind: ClassVar[str] = "off_policy"
    learner_class: ClassVar[type[OfflineOffPolicy]] = OfflineOffPolicy
    config: OffPolicyConfig
    changeable: ClassVar[tuple[str, ...]] = ("algorithm_parameters", "recorded_share")

    def __init__(self, algorithm_parameters: Mapping[str, Any] | None = None, *, recorded_share: float = 0.5) -> None:
        super().__init__()
        if not isinstance(recorded_share, int | float) or not 0.0 <= recorded_share <= 1.0:
            raise InvalidInputError(f"recorded_share must lie in [0, 1], got {recorded_share!r}.")
        self.config = make_config(OffPolicyConfig, algorithm_parameters or {})
        self.recorded_share = float(recorded_share)

    @property
    @override
    def policy(self) -> RulePolicy:
        """What acts."""
        return self.algorithm.policy

    @property
    @override
    def _agent_level(self) -> StateLevel:
        """What the algorithm says."""
        return self.algorithm.resume_level

    @override
    def _move_to(self, env: VectorEnv, *, acts: bool = True) -> None:
        if self._algorithm is None:
            self._algorithm = OfflineOffPolicy(env, self.config)
        else:
            self._algorithm.move_to(env)
        self._spec = env.spec

    @override
    def _open_recordings(self, episodes: EpisodeSequence | None, *, acts: bool) -> None:
        self.algorithm.open_recordings(episodes, share=self.recorded_share, acts=acts, resumes=self._resumes)

    @override
    def _detach(self) -> None:
        self.algorithm.close_recordings()
        super()._detach()

    @override
    def _options(self) -> dict[str, Any]:
        return {"recorded_share": self.recorded_share}

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any) -> OffPolicyAgent:
        if resolve(manifest.algorithm, trust=trust) is not OfflineOffPolicy:
            raise CorruptArchiveError(f"The manifest names {manifest.algorithm!r} as the off-policy learner.")
        saved = without_references(manifest.parameters, trust=trust)
        agent = cls(
            {**saved, **changes.get("algorithm_parameters", {})},
            recorded_share=changes.get("recorded_share", manifest.options["recorded_share"]),
        )
        return agent._restored(folder, manifest)

    @override
    def _onnx_network(self) -> OnnxNetwork:
        return exported_rule(self.policy)
