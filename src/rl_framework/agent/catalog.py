"""Which class a saved agent belongs to, by the kind that its manifest names; classes are imported when needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rl_framework.agent.base_agent import Agent
from rl_framework.checkpoints.archive import open_archive
from rl_framework.checkpoints.locate import find_agent
from rl_framework.checkpoints.manifest import MANIFEST_FILE, Manifest
from rl_framework.connectors.addresses import is_address, open_address
from rl_framework.core.references import resolve
from rl_framework.errors import UnknownOptionError

KINDS = {
    "stable_baselines": "rl_framework.agent.reinforcement.stable_baselines.agent:StableBaselinesAgent",
    "native": "rl_framework.agent.reinforcement.native:NativeAgent",
    "imitation": "rl_framework.agent.imitation.imitation.agent:ImitationAgent",
    "behavioural_cloning": "rl_framework.agent.imitation.behavioural_cloning:BehaviouralCloningAgent",
    "episode_trainer": "rl_framework.agent.imitation.episode_trainer:EpisodeTrainerAgent",
    "off_policy": "rl_framework.agent.imitation.off_policy:OffPolicyAgent",
    "d3rlpy": "rl_framework.agent.imitation.d3rlpy.agent:D3RLPYAgent",
}


def agent_class(kind: str, *, trust: Sequence[str] = ()) -> type[Agent]:
    """The class of a kind: a name of the catalogue, or `module:name` of a class of one's own.

    Raises:
        UnknownOptionError: The catalogue has no such kind.
        UnsafeArchiveError: It names a class outside the trusted modules.
    """
    if ":" in kind:
        found = resolve(kind, trust=trust)
    elif kind in KINDS:
        found = resolve(KINDS[kind])
    else:
        raise UnknownOptionError.of("kind of agent", kind, KINDS)
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise UnknownOptionError(f"{kind!r} is not a class of agents.")
    return found


def load_agent(path_or_uri: str | Path, *, trust: Sequence[str] = (), **changes: Any) -> Agent:
    """Load a saved agent of any kind.

    Args:
        path_or_uri: A saved agent, a folder of checkpoints (the latest counts), or a run of the command line; or where
            a service keeps one: `hf://owner/name[@revision]`, `clearml://<model or task id>`, `mlflow://model[@alias]`.
            A repository of the Hugging Face Hub may also hold a model of Stable-Baselines3 itself.
        trust: Modules besides the allow-listed ones from which classes named in the files may be imported.
        **changes: What the agent's class allows to change on loading, e.g. `algorithm_parameters`; for a model of
            Stable-Baselines3 itself, what `load_hub_model` takes, e.g. `environment`.

    Raises:
        ConnectorError: The service failed, or holds no such agent.
        MissingArchiveError: Nothing is there.
        CorruptArchiveError: It is truncated or altered.
        NewerFormatError: A newer version of this library wrote it.
        UnsafeArchiveError: It names a class that is not trusted. Nothing was executed.
    """
    if is_address(path_or_uri):
        return _load_from_service(str(path_or_uri), trust, changes)
    with open_archive(find_agent(path_or_uri)) as folder:
        manifest = Manifest.read(folder, verify=False)
        found = agent_class(manifest.kind, trust=trust)
        return found.load(folder, trust=trust, **changes)


def _load_from_service(address: str, trust: Sequence[str], changes: Mapping[str, Any]) -> Agent:
    connector, revision = open_address(address)
    with connector:
        if address.startswith("hf://"):
            found = _load_hub_model(connector, revision, changes)
            if found is not None:
                return found
        return load_agent(connector.download(revision=revision), trust=trust, **changes)


def _load_hub_model(connector: Any, revision: str | None, changes: Mapping[str, Any]) -> Agent | None:
    """What a repository holds that was not pushed from here; None if it was."""
    if MANIFEST_FILE in connector.files(revision):
        return None
    from rl_framework.agent.reinforcement.stable_baselines.hub_models import load_hub_model

    return load_hub_model(connector, revision=revision, **changes)
