"""The episode trainer as an agent: it learns offline from recordings, goes on online, or does both at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from rl_framework.agent.imitation.recordings_agent import RecordingsAgent
from rl_framework.agent.network_export import exported_network
from rl_framework.algorithms.base import make_config
from rl_framework.algorithms.offline_vtrace_awr import OfflineVTraceAWR
from rl_framework.algorithms.vtrace_awr_config import VTraceAWRConfig
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.core.references import resolve, with_references, without_references
from rl_framework.data.episode_sequence import EpisodeSequence
from rl_framework.envs.masks import mask_width
from rl_framework.envs.vector_env import VectorEnv
from rl_framework.errors import CorruptArchiveError, InvalidInputError
from rl_framework.export.onnx import OnnxNetwork
from rl_framework.nn.network_policy import NetworkPolicy

RECORDED_TIMESTEPS = 10_000
OFFLINE_PARAMETERS: Mapping[str, Any] = {"entropy_coefficient": 0.0}
"""What is different while it learns from recordings alone: there is nothing to explore."""
FIXED = ("network", "model", "model_parameters", "value_hidden_sizes", "device", "seed")


class EpisodeTrainerAgent(RecordingsAgent[OfflineVTraceAWR]):
    """An agent that learns from recorded episodes with rewards, and goes on in environments with what it has learned.

    - `train(episodes, total_timesteps)` learns offline, from the recordings alone. A timestep is a recorded transition
      that the policy learns from, counted each time: `total_timesteps=50 * episodes.n_transitions` goes through all
      of them fifty times.
    - `train(None, total_timesteps, training_environments=...)` acts and learns from that, as `NativeAgent(VTraceAWR)`
      does. A timestep is a step in an environment.
    - `train(episodes, total_timesteps, training_environments=...)` acts, and learns from that and from the recordings
      together. A timestep is a step in an environment.

    What was learned before stays, in any order. Recordings do not tell how likely their actions were: each counts as
    if the present policy had chosen it, so that values are those of whoever was recorded, and the policy learns those
    of their actions that did better than expected. They are read when their turn comes, and may be larger than memory.
    Schedules follow the share of `timesteps`, over the agent's whole life, that is done.

    Args:
        algorithm_parameters: Fields of `VTraceAWRConfig`.
        offline_parameters: Those of them that are different while it learns from recordings alone. Unless told here
            or in `algorithm_parameters`, that is an `entropy_coefficient` of 0.
        recorded_timesteps: Most recorded transitions that an update learns from; if there are more, updates take
            turns.

    Raises:
        UnknownOptionError: A parameter is not a field of the configuration.
        InvalidInputError: A value is out of range, or one that must be the same offline and online differs.
    """

    kind: ClassVar[str] = "episode_trainer"
    learner_class: ClassVar[type[OfflineVTraceAWR]] = OfflineVTraceAWR
    config: VTraceAWRConfig
    changeable: ClassVar[tuple[str, ...]] = ("algorithm_parameters", "offline_parameters", "recorded_timesteps")

    def __init__(
        self,
        algorithm_parameters: Mapping[str, Any] | None = None,
        *,
        offline_parameters: Mapping[str, Any] | None = None,
        recorded_timesteps: int = RECORDED_TIMESTEPS,
    ) -> None:
        super().__init__()
        chosen, offline = dict(algorithm_parameters or {}), dict(offline_parameters or {})
        _check_offline(offline, recorded_timesteps)
        self.offline_parameters = {**_left_out(OFFLINE_PARAMETERS, chosen), **offline}
        self.recorded_timesteps = recorded_timesteps
        self.config = make_config(VTraceAWRConfig, chosen)
        self.offline_config = make_config(VTraceAWRConfig, {**chosen, **self.offline_parameters})

    @override
    def _move_to(self, env: VectorEnv, *, acts: bool = True) -> None:
        learned = None if self._algorithm is None else self._algorithm.state_dict()
        algorithm = OfflineVTraceAWR(env, self.config if acts else self.offline_config)
        if learned is not None:
            algorithm.load_state_dict(learned)
        self._algorithm, self._spec = algorithm, env.spec

    @override
    def _open_recordings(self, episodes: EpisodeSequence | None, *, acts: bool) -> None:
        self.algorithm.open_recordings(episodes, limit=self.recorded_timesteps, acts=acts, resumes=self._resumes)

    @override
    def _options(self) -> dict[str, Any]:
        offline = dataclasses.asdict(self.offline_config)
        return {
            "offline_parameters": with_references({name: offline[name] for name in self.offline_parameters}),
            "recorded_timesteps": self.recorded_timesteps,
        }

    @classmethod
    def _read(cls, folder: Path, manifest: Manifest, trust: Sequence[str], **changes: Any) -> EpisodeTrainerAgent:
        if resolve(manifest.algorithm, trust=trust) is not OfflineVTraceAWR:
            raise CorruptArchiveError(f"The manifest names {manifest.algorithm!r} as the episode trainer.")
        options, chosen = manifest.options, dict(changes.get("algorithm_parameters", {}))
        offline = _left_out(without_references(options["offline_parameters"], trust=trust), chosen)
        agent = cls(
            {**without_references(manifest.parameters, trust=trust), **chosen},
            offline_parameters={**offline, **changes.get("offline_parameters", {})},
            recorded_timesteps=changes.get("recorded_timesteps", options["recorded_timesteps"]),
        )
        return agent._restored(folder, manifest)

    @override
    def _onnx_network(self) -> OnnxNetwork:
        policy, spec = self.policy, self._known_spec()
        if not isinstance(policy, NetworkPolicy):
            return super()._onnx_network()
        return exported_network(policy, n_masked=mask_width(spec.action_space) if spec.has_action_masks else None)


def _check_offline(parameters: Mapping[str, Any], recorded_timesteps: Any) -> None:
    for name in FIXED:
        if name in parameters:
            raise InvalidInputError(
                f"{name} is the same offline and online, and cannot stand in offline_parameters. Give it in "
                "algorithm_parameters."
            )
    if type(recorded_timesteps) is not int or recorded_timesteps < 1:
        raise InvalidInputError(f"recorded_timesteps must be a whole number from 1, got {recorded_timesteps!r}.")


def _left_out(defaults: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody has not chosen."""
    return {name: value for name, value in defaults.items() if name not in chosen}
