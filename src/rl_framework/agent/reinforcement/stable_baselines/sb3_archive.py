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
from collections.abc import Collection
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common import utils
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file, recursive_getattr
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from rl_framework.agent.reinforcement.stable_baselines.parameters import RESERVED
from rl_framework.agent.reinforcement.stable_baselines.training_state import COUNTERS
from rl_framework.checkpoints.zip_files import READ_ERRORS, check_zip
from rl_framework.core.references import resolve
from rl_framework.errors import (
    CorruptArchiveError,
    InvalidInputError,
    MissingArchiveError,
    RLFrameworkError,
    SpaceError,
    UnsafeArchiveError,
)

PICKLED = ":serialized:"
SCHEDULE = re.compile(r"(ConstantSchedule|LinearSchedule)\((.*)\)")
SCHEDULE_ARGUMENT = re.compile(r"(\w+)=([-+.\deE]+)")
CLASS = re.compile(r"<class '([\w.]+)\.(\w+)'>")
FUNCTION_OF_CLASS = re.compile(r"<function (\w+)\.")
LINEAR_SCHEDULE = str(utils.LinearSchedule)
MOST_DATA_BYTES = 64 * 2**20
NOT_READ = {"policy", "verbose", "device", "tensorboard_log"}
FORMER_BUFFER_OPTIONS = {"online_sampling", "max_episode_length"}
CLASSES_OF_POLICIES = {
    "activation_fn": torch.nn.Module,
    "features_extractor_class": BaseFeaturesExtractor,
    "optimizer_class": torch.optim.Optimizer,
}


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


def read_parameters(path: Path, algorithm_class: type[BaseAlgorithm], given: Collection[str] = ()) -> dict[str, Any]:
    """The constructor's parameters as far as the file tells them in readable form; the rest keep their defaults.

    Args:
        path: The file.
        algorithm_class: Which algorithm wrote it.
        given: Names that are known from elsewhere, and not read.

    Raises:
        MissingArchiveError: There is no such file.
        CorruptArchiveError: It is not such a file.
        UnsafeArchiveError: It would fill the memory, or names files outside itself.
        InvalidInputError: It hides a part of `policy_kwargs` that this library cannot read.
    """
    data = _read_data(path)
    found: dict[str, Any] = {}
    for name in _told(data, algorithm_class) - set(given):
        readable, value = _read_value(name, data[name])
        if readable:
            found[name] = value
    policy = _policy_name(data.get("policy_class"), algorithm_class)
    return found if policy is None else {**found, "policy": policy}


def hidden_parameters(path: Path, algorithm_class: type[BaseAlgorithm]) -> list[str]:
    """Names of the constructor's parameters that the file holds as pickles only, so that they are not read."""
    data = _read_data(path)
    names = _told(data, algorithm_class) - {"policy_kwargs"}
    return sorted(name for name in names if not _read_value(name, data[name])[0])


def check_spaces(path: Path, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    """Compare spaces with the readable part of those that the model was made for.

    Raises:
        SpaceError: They differ.
    """
    data = _read_data(path)
    for name, space in (("observation_space", observation_space), ("action_space", action_space)):
        expected = _describe_space(data.get(name))
        if expected is not None and not _is_like(space, *expected):
            raise SpaceError(
                f"The model in {path.name} does not fit these environments: its {name} is a {expected[0]} of "
                f"{list(expected[1])}, theirs is {space}. Give the environments that it was trained in, with the same "
                "wrappers."
            )


def load_tensors(model: BaseAlgorithm, path: Path) -> None:
    """Fill a model's networks, optimisers and counters from the file.

    Raises:
        CorruptArchiveError: Its tensors do not fit the model, or it is not such a file.
    """
    try:
        _, parameters, variables = load_from_zip_file(path, device=model.device, load_data=False)
        model.set_parameters(_modernised(model, dict(parameters)), exact_match=True, device=model.device)
        for name, tensor in (variables or {}).items():
            if tensor is not None:
                recursive_getattr(model, name).data.copy_(tensor)
    except Exception as error:  # torch and zipfile raise many kinds for a foreign file; all mean the same here
        raise CorruptArchiveError(
            f"The tensors in {path} do not fit {type(model).__name__} with these parameters and spaces: {error}"
        ) from error
    data = _read_data(path)
    for name in COUNTERS:
        if isinstance(data.get(name), int | float):
            setattr(model, name, data[name])


def _modernised(model: BaseAlgorithm, parameters: dict[str, Any]) -> dict[str, Any]:
    """What older versions of the library wrote, as this one reads it.

    Before 1.7 an actor-critic's shared feature extractor had one name instead of three; before 2.4 the optimiser of
    DQN and QR-DQN also listed the target network, behind the other.
    """
    policy, optimizer = parameters.get("policy"), parameters.get("policy.optimizer")
    if isinstance(policy, dict):
        for name in model.policy.state_dict():
            shared = name.removeprefix("pi_").removeprefix("vf_")
            if name not in policy and shared in policy:
                policy[name] = policy[shared]
    if isinstance(optimizer, dict):
        parameters["policy.optimizer"] = _without_target(optimizer, model.policy.optimizer)
    return parameters


def _without_target(saved: dict[str, Any], own: torch.optim.Optimizer) -> dict[str, Any]:
    first, count = saved["param_groups"][0], len(own.param_groups[0]["params"])
    if len(first["params"]) != 2 * count:
        return saved
    kept = first["params"][:count]
    state = {index: each for index, each in saved["state"].items() if index in kept}
    return {**saved, "state": state, "param_groups": [{**first, "params": kept}, *saved["param_groups"][1:]]}


def _read_data(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise MissingArchiveError(f"There is no file {path}.")
    try:
        check_zip(path)
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("data").file_size > MOST_DATA_BYTES:
                raise UnsafeArchiveError(f"'data' in {path} is larger than {MOST_DATA_BYTES} bytes. It was not read.")
            data = json.loads(archive.read("data"))
    except (CorruptArchiveError, KeyError, RecursionError, *READ_ERRORS) as error:
        raise CorruptArchiveError(f"{path} is not a file that Stable-Baselines3's model.save wrote: {error}") from error
    if not isinstance(data, dict):
        raise CorruptArchiveError(f"{path} is not a file that Stable-Baselines3's model.save wrote.")
    return data


def _told(data: dict[str, Any], algorithm_class: type[BaseAlgorithm]) -> set[str]:
    """Names of the constructor's parameters that are in the file in any form."""
    return (set(inspect.signature(algorithm_class).parameters) - set(RESERVED) - NOT_READ) & set(data)


def _read_value(name: str, value: Any) -> tuple[bool, Any]:
    """Whether a value is readable, and the value."""
    if name == "policy_kwargs" and isinstance(value, dict):
        return True, _read_policy_parameters(value)
    if name == "replay_buffer_kwargs" and isinstance(value, dict) and PICKLED not in value:
        return True, {key: part for key, part in value.items() if key not in FORMER_BUFFER_OPTIONS}
    if not isinstance(value, dict) or PICKLED not in value:
        return True, value
    if name.endswith("_buffer_class"):
        return _read_buffer_class(value)
    schedule = _read_schedule(value)
    return schedule is not None, schedule


def _read_buffer_class(value: dict[str, Any]) -> tuple[bool, Any]:
    """Only hindsight has to be named: the library finds its other buffers by the spaces."""
    module = str(value.get("__module__"))
    if module.partition(".")[0] not in ("stable_baselines3", "sb3_contrib"):
        return False, None
    return True, HerReplayBuffer if module == HerReplayBuffer.__module__ else None


def _read_policy_parameters(value: dict[str, Any]) -> dict[str, Any]:
    told = {key: part for key, part in value.items() if not key.startswith(":") and key != "device"}
    return {key: _read_policy_parameter(key, part) for key, part in told.items()}


def _read_policy_parameter(key: str, part: Any) -> Any:
    if key == "net_arch" and isinstance(part, list) and len(part) == 1 and isinstance(part[0], dict):
        return part[0]  # as written before 1.8
    if not isinstance(part, str) or "<" not in part:
        return part
    try:
        named, kind = CLASS.fullmatch(part), CLASSES_OF_POLICIES.get(key)
        found = None if named is None or kind is None else resolve(":".join(named.groups()))
        if kind is not None and isinstance(found, type) and issubclass(found, kind):
            return found
    except RLFrameworkError:
        pass
    raise InvalidInputError(
        f"The file holds policy_kwargs[{key!r}] = {part} only as a pickle, which is not executed. Give it in "
        "algorithm_parameters={'policy_kwargs': {...}}."
    )


def _read_schedule(value: dict[str, Any]) -> Any:
    """A number or a schedule of the library; None if it is another one."""
    try:
        if value.get(":type:") == LINEAR_SCHEDULE:
            return utils.LinearSchedule(*(float(value[name]) for name in ("start", "end", "end_fraction")))
        match = SCHEDULE.fullmatch(str(value.get("value_schedule")))
        arguments = {} if match is None else {key: float(each) for key, each in SCHEDULE_ARGUMENT.findall(match[2])}
    except (KeyError, TypeError, ValueError):
        return None
    if match is None or match[1] == "ConstantSchedule":
        return arguments.get("val")
    return utils.LinearSchedule(**arguments) if set(arguments) == {"start", "end", "end_fraction"} else None


def _describe_space(value: Any) -> tuple[str, tuple[int, ...]] | None:
    """Kind of a space, and its shape or its number of values; None where that is not readable."""
    named = CLASS.fullmatch(str(value.get(":type:"))) if isinstance(value, dict) else None
    if named is None or named[2] not in ("Box", "Discrete"):
        return None
    size = value.get("n") if named[2] == "Discrete" else value.get("_shape", value.get("shape"))
    numbers = tuple(int(digits) for digits in re.findall(r"\d{1,9}", str(size)[:200]))
    return (named[2], numbers) if numbers else None


def _is_like(space: gym.Space[Any], kind: str, numbers: tuple[int, ...]) -> bool:
    if isinstance(space, gym.spaces.Discrete):
        return kind == "Discrete" and numbers == (int(space.n),)
    # Pictures stand in the file with their channels first, whatever the environment does.
    return isinstance(space, gym.spaces.Box) and kind == "Box" and sorted(numbers) == sorted(space.shape)


def _policy_name(description: Any, algorithm_class: type[BaseAlgorithm]) -> str | None:
    """The alias of the policy class that the file describes, None if it is not one of the library's own."""
    if not isinstance(description, dict):
        return None
    named = FUNCTION_OF_CLASS.match(str(description.get("__init__", "")))
    aliases = algorithm_class.policy_aliases.items()
    return next((alias for alias, found in aliases if named is not None and found.__name__ == named[1]), None)
