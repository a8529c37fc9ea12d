"""The command that lists environments."""

from __future__ import annotations

from collections import defaultdict
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from rl_framework.errors import InvalidInputError


def environments(
    pattern: Annotated[str, typer.Argument(help="Show only ids that contain this text; capitals do not matter.")] = "",
) -> None:
    """List the environments that can be trained in.

    Environments of other packages show up when the package registers them by
    itself; any other can be named together with the module that registers it:
    [bold]my_package.environments:Maze-v0[/bold]. A Unity game is named by its
    path: [bold]unity:path/to/Game[/bold], or [bold]unity:editor[/bold] to wait for the Editor.

    [bold]Examples[/bold]

      rl-framework environments

      rl-framework environments cart

      rl-framework environments pettingzoo:
    """
    for group, ids in registered_environments(pattern).items():
        typer.secho(group, bold=True)
        for env_id in ids:
            typer.echo(f"  {env_id}")


def registered_environments(pattern: str = "") -> dict[str, list[str]]:
    """Registered ids by group (`classic_control`, `mujoco`, ..., or the package they come from), in order.

    No environment is made, so simulators need not be installed. PettingZoo's games are there where it is installed.

    Args:
        pattern: A part of the ids; capitals do not matter.

    Raises:
        InvalidInputError: There is none.
    """
    from gymnasium import registry

    from rl_framework.envs.tensor_source import PREFIX, TENSOR_TASKS

    known = {env_id: _group(spec) for env_id, spec in registry.items() if isinstance(spec.entry_point, str)}
    known |= dict.fromkeys((f"{PREFIX}{name}" for name in TENSOR_TASKS), "tensors")
    known |= dict.fromkeys(_games(), "pettingzoo")
    groups: dict[str, list[str]] = defaultdict(list)
    for env_id in sorted(known):
        if pattern.lower() in env_id.lower():
            groups[known[env_id]].append(env_id)
    if not groups:
        close = get_close_matches(pattern, known, n=1, cutoff=0.4)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise InvalidInputError(f"No registered environment has {pattern!r} in its id.{hint}")
    return dict(sorted(groups.items()))


def _games() -> list[str]:
    """Names of PettingZoo's games."""
    if find_spec("pettingzoo") is None:
        return []
    from rl_framework.envs.pettingzoo.names import installed_games

    return [f"pettingzoo:{game}" for game in installed_games()]


def _group(spec: Any) -> str:
    """Of Gymnasium's own environments their family, else the package."""
    parts = str(spec.entry_point).partition(":")[0].split(".")
    return parts[2] if parts[:2] == ["gymnasium", "envs"] and len(parts) > 2 else parts[0]
