"""Tuned hyper-parameters: data files in the folder `presets`, chosen by name, and files that `tune` has written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from rl_framework.errors import UnknownOptionError
from rl_framework.launch.config_files import SUFFIXES, read_mapping
from rl_framework.launch.configuration import build_config

SUFFIX = ".json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """What is known to work for one algorithm in one environment.

    Attributes:
        name: Under which it is chosen.
        algorithm: Name of the algorithm.
        environment: Id of the environment.
        total_timesteps: Environment steps that it needs.
        source: Where the numbers come from.
        n_envs: Environments side by side.
        parameters: The algorithm's parameters, in the JSON form of saved agents.
        normalization: Fields of `Normalization`; None for none.
    """

    name: str
    algorithm: str
    environment: str
    total_timesteps: int
    source: str
    n_envs: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)
    normalization: Mapping[str, Any] | None = None


def preset_names() -> list[str]:
    """The names of all presets, in order."""
    return sorted(file.name.removesuffix(SUFFIX) for file in _folder().iterdir() if file.name.endswith(SUFFIX))


def preset_named(name: str) -> Preset:
    """The preset of a name, or in a file.

    Raises:
        UnknownOptionError: There is none of that name.
        MissingArchiveError: There is no such file.
        InvalidInputError: The file does not hold a preset.
    """
    if Path(name).suffix in SUFFIXES:
        return _preset_in(Path(name))
    known = preset_names()
    if name not in known:
        raise UnknownOptionError.of("preset", name, known)
    return Preset(name=name, **json.loads((_folder() / f"{name}{SUFFIX}").read_text(encoding="utf-8")))


def _preset_in(file: Path) -> Preset:
    return build_config(Preset, {"name": str(file), "source": str(file)}, read_mapping(file, Preset))


def _folder() -> Any:
    return files("rl_framework.cli") / "presets"
