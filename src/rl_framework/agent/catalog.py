"""Which class a saved agent belongs to, by the kind that its manifest names; classes are imported when needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_framework.agent.base_agent import Agent
from rl_framework.checkpoints.archive import open_archive
from rl_framework.checkpoints.locate import find_agent
from rl_framework.checkpoints.manifest import Manifest
from rl_framework.core.references import resolve
from rl_framework.errors import UnknownOptionError

KINDS = {
    "stable_baselines": "rl_framework.agent.reinforcement.stable_baselines.agent:StableBaselinesAgent",
    "native": "rl_framework.agent.reinforcement.native:NativeAgent",
    "imitation": "rl_framework.agent.imitation.imitation.agent:ImitationAgent",
    "behavioural_cloning": "rl_framework.agent.imitation.behavioural_cloning:BehaviouralCloningAgent",
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
        path_or_uri: A saved agent, a folder of checkpoints (the latest counts), or a run of the command line.
        trust: Modules besides the allow-listed ones from which classes named in the files may be imported.
        **changes: What the agent's class allows to change on loading, e.g. `algorithm_parameters`.

    Raises:
        MissingArchiveError: Nothing is there.
        CorruptArchiveError: It is truncated or altered.
        NewerFormatError: A newer version of this library wrote it.
        UnsafeArchiveError: It names a class that is not trusted. Nothing was executed.
    """
    with open_archive(find_agent(path_or_uri)) as folder:
        manifest = Manifest.read(folder, verify=False)
        found = agent_class(manifest.kind, trust=trust)
        return found.load(folder, trust=trust, **changes)
