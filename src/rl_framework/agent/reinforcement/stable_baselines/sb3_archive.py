"""Stable-Baselines3's own `model.zip`, written when asked for and read without executing anything in it.

Its member `data` is JSON in which everything that is not plain stands twice: as a pickle under `:serialized:`, which
is never touched here, and in part as readable text. Its tensors are read by torch with `weights_only`.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

from stable_baselines3.common import utils
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file, recursive_getattr

from rl_framework.agent.reinforcement.stable_baselines.parameters import RESERVED
from rl_framework.agent.reinforcement.stable_baselines.training_state import COUNTERS
from rl_framework.core.references import resolve
from rl_framework.errors import CorruptArchiveError, InvalidInputError, MissingArchiveError, RLFrameworkError

PICKLED = ":serialized:"
SCHEDULE = re.compile(r"(ConstantSchedule|LinearSchedule)\((.*)\)")
SCHEDULE_ARGUMENT = re.compile(r"(\w+)=([-+.\deE]+)")
CLASS = re.compile(r"<class '([\w.]+)\.(\w+)'>")
FUNCTION_OF_CLASS = re.compile(r"<function (\w+)\.")


def export_model(model: BaseAlgorithm, path: Path) -> Path:
    """Write a model in the library's format; an existing file is replaced once the new one is complete."""
    path = path if path.suffix == ".zip" else path.with_name(path.name + ".zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.zip")
    try:
        # The environment is set aside when training ends; nothing of ours may end up in the pickles.
        model.save(partial, exclude=["_vec_normalize_env", "_logger"])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_parameters(path: Path, algorithm_class: type[BaseAlgorithm]) -> dict[str, Any]:
    """The constructor's parameters as far as the file tells them in readable form; the rest keep their defaults.

    Raises:
        MissingArchiveError: There is no such file.
        CorruptArchiveError: It is not such a file.
        InvalidInputError: It hides a part of `policy_kwargs` that this library cannot read.
    """
    data = _read_data(path)
    known = set(inspect.signature(algorithm_class).parameters) - set(RESERVED) - {"policy", "verbose", "device"}
    found: dict[str, Any] = {}
    for name in known & set(data):
        readable, value = _read_value(name, data[name])
        if readable:
            found[name] = value
    policy = _policy_name(data.get("policy_class"), algorithm_class)
    return found if policy is None else {**found, "policy": policy}


def load_tensors(model: BaseAlgorithm, path: Path) -> None:
    """Fill a model's networks, optimisers and counters from the file.

    Raises:
        CorruptArchiveError: Its tensors do not fit the model, or it is not such a file.
    """
    try:
        _, parameters, variables = load_from_zip_file(path, device=model.device, load_data=False)
        model.set_parameters(parameters, exact_match=True, device=model.device)
    except Exception as error:  # torch and zipfile raise many kinds for a foreign file; all mean the same here
        raise CorruptArchiveError(
            f"The tensors in {path} do not fit {type(model).__name__} with these parameters and spaces: {error}"
        ) from error
    for name, tensor in (variables or {}).items():
        recursive_getattr(model, name).data.copy_(tensor)
    data = _read_data(path)
    for name in COUNTERS:
        if isinstance(data.get(name), int | float):
            setattr(model, name, data[name])


def _read_data(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise MissingArchiveError(f"There is no file {path}.")
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError) as error:
        raise CorruptArchiveError(f"{path} is not a file that Stable-Baselines3's model.save wrote: {error}") from error
    if not isinstance(data, dict):
        raise CorruptArchiveError(f"{path} is not a file that Stable-Baselines3's model.save wrote.")
    return data


def _read_value(name: str, value: Any) -> tuple[bool, Any]:
    """Whether a value is readable, and the value."""
    if not isinstance(value, dict) or PICKLED not in value:
        return True, value
    if name == "policy_kwargs":
        return True, _read_policy_parameters(value)
    schedule = _read_schedule(value.get("value_schedule"))
    return schedule is not None, schedule


def _read_policy_parameters(value: dict[str, Any]) -> dict[str, Any]:
    return {key: _read_policy_parameter(key, part) for key, part in value.items() if not key.startswith(":")}


def _read_policy_parameter(key: str, part: Any) -> Any:
    if not isinstance(part, str) or "<" not in part:
        return part
    try:
        named = CLASS.fullmatch(part)
        if named is not None:
            return resolve(":".join(named.groups()))
    except RLFrameworkError:
        pass
    raise InvalidInputError(
        f"The file holds policy_kwargs[{key!r}] = {part} only as a pickle, which is not executed. Give it in "
        "algorithm_parameters={'policy_kwargs': {...}}."
    )


def _read_schedule(text: Any) -> Any:
    match = SCHEDULE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    arguments = {name: float(number) for name, number in SCHEDULE_ARGUMENT.findall(match[2])}
    if match[1] == "ConstantSchedule":
        return arguments.get("val")
    return utils.LinearSchedule(**arguments) if set(arguments) == {"start", "end", "end_fraction"} else None


def _policy_name(description: Any, algorithm_class: type[BaseAlgorithm]) -> str | None:
    """The alias of the policy class that the file describes, None if it is not one of the library's own."""
    if not isinstance(description, dict):
        return None
    named = FUNCTION_OF_CLASS.match(str(description.get("__init__", "")))
    aliases = algorithm_class.policy_aliases.items()
    return next((alias for alias, found in aliases if named is not None and found.__name__ == named[1]), None)
