"""Algorithm parameters: checked against the algorithm's signature, and written down without pickle.

Whatever Stable-Baselines3 takes is taken. Numbers, strings, lists, tuples, dicts, classes, arrays, this library's
schedules and Stable-Baselines3's own schedules and action noises have a JSON form. What has none (a lambda) is
noted as such: the agent is still saved, loads and acts, and asks for the parameter when it is to train again.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common import noise, utils
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space

from rl_framework.core.references import reference_to, resolve
from rl_framework.errors import CorruptArchiveError, InvalidInputError, UnknownOptionError, UnsafeArchiveError
from rl_framework.functional import schedules

RESERVED = {
    "env": "Give the environments to `train`.",
    "_init_setup_model": "The model is always set up.",
}


def _fields(schedule: Any) -> dict[str, Any]:
    return {each.name: getattr(schedule, each.name) for each in dataclasses.fields(schedule) if each.init}


# Objects with a JSON form: class -> the constructor's arguments, read back from the object.
CONSTRUCTED: dict[type, Callable[[Any], dict[str, Any]]] = {
    utils.LinearSchedule: lambda it: {"start": it.start, "end": it.end, "end_fraction": it.end_fraction},
    utils.ConstantSchedule: lambda it: {"val": it.val},
    utils.FloatSchedule: lambda it: {"value_schedule": it.value_schedule},
    noise.NormalActionNoise: lambda it: {"mean": it._mu, "sigma": it._sigma},
    noise.OrnsteinUhlenbeckActionNoise: lambda it: {
        "mean": it._mu,
        "sigma": it._sigma,
        "theta": it._theta,
        "dt": it._dt,
        "initial_noise": it.initial_noise,
    },
    noise.VectorizedActionNoise: lambda it: {"base_noise": it.base_noise, "n_envs": it.n_envs},
    schedules.LinearSchedule: _fields,
    schedules.ExponentialSchedule: _fields,
    schedules.ConstantSchedule: _fields,
    schedules.PiecewiseSchedule: _fields,
}


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Stands for a parameter that had no JSON form when the agent was saved."""

    description: str


def check_parameters(algorithm_class: type[BaseAlgorithm], parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that the algorithm does not know.

    Raises:
        UnknownOptionError: A name is not a parameter of the algorithm; a similar one is suggested.
        InvalidInputError: A name is set by this library.
    """
    known = set(inspect.signature(algorithm_class).parameters) - set(RESERVED)
    for name in parameters:
        if name in RESERVED:
            raise InvalidInputError(f"Parameter {name!r} of {algorithm_class.__name__} is set here. {RESERVED[name]}")
        if name not in known:
            raise UnknownOptionError.of(f"parameter of {algorithm_class.__name__}", name, known)


def complete_parameters(
    algorithm_class: type[BaseAlgorithm], parameters: Mapping[str, Any], observation_space: gym.Space[Any]
) -> dict[str, Any]:
    """The parameters as the constructor gets them: a private copy, with a policy chosen if none is given."""
    own = {name: _private_copy(value) for name, value in parameters.items()}
    own.setdefault("policy", default_policy(algorithm_class, observation_space))
    return own


def default_policy(algorithm_class: type[BaseAlgorithm], observation_space: gym.Space[Any]) -> str:
    """The name of the algorithm's stock policy for a space: MultiInput for Dict, Cnn for images, else Mlp.

    Raises:
        InvalidInputError: The algorithm has no stock policy for such observations.
    """
    if isinstance(observation_space, gym.spaces.Dict):
        wanted = "MultiInput"
    else:
        wanted = "Cnn" if is_image_space(observation_space) else "Mlp"
    fitting = [name for name in algorithm_class.policy_aliases if name.startswith(wanted)]
    if not fitting:
        raise InvalidInputError(
            f"{algorithm_class.__name__} has no {wanted} policy for observations of {observation_space}; "
            f"its policies are {', '.join(algorithm_class.policy_aliases)}."
        )
    return fitting[0]


def encode(value: Any) -> Any:
    """The JSON form of a parameter; a note that it has none where it has none."""
    if isinstance(value, Unsaved):
        return {"@unsaved": value.description}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return {"@array": value.tolist(), "dtype": value.dtype.name}
    if isinstance(value, torch.device):
        return str(value)
    return _encode_compound(value)


def _encode_compound(value: Any) -> Any:
    if isinstance(value, list):
        return [encode(part) for part in value]
    if isinstance(value, tuple):
        return {"@tuple": [encode(part) for part in value]}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: encode(part) for key, part in value.items()}
    describe = CONSTRUCTED.get(type(value))
    if describe is not None:
        arguments = {name: encode(part) for name, part in describe(value).items()}
        return {"@object": reference_to(type(value)), "arguments": arguments}
    if isinstance(value, type) or inspect.isroutine(value):
        return _encode_reference(value)
    return {"@unsaved": repr(value)}


def _encode_reference(value: Any) -> dict[str, str]:
    try:
        return {"@reference": reference_to(value)}
    except InvalidInputError:
        return {"@unsaved": repr(value)}


def decode(data: Any, *, trust: Sequence[str] = ()) -> Any:
    """The parameter that `encode` wrote.

    Raises:
        UnsafeArchiveError: It names a class outside the trusted modules.
        CorruptArchiveError: It is not something that `encode` writes.
    """
    if isinstance(data, list):
        return [decode(part, trust=trust) for part in data]
    return _decode_dict(data, trust) if isinstance(data, dict) else data


def _decode_dict(data: dict[str, Any], trust: Sequence[str]) -> Any:
    match data:
        case {"@unsaved": str(description)}:
            found: Any = Unsaved(description)
        case {"@tuple": list(parts)}:
            found = tuple(decode(part, trust=trust) for part in parts)
        case {"@array": values, "dtype": str(dtype)}:
            found = np.array(values, dtype=np.dtype(dtype))
        case {"@reference": str(reference)}:
            found = _resolve_part(reference, trust)
        case {"@object": str(reference), "arguments": dict(arguments)}:
            found = _construct(reference, {name: decode(part, trust=trust) for name, part in arguments.items()})
        case _:
            found = {key: decode(part, trust=trust) for key, part in data.items()}
    return found


def _resolve_part(reference: str, trust: Sequence[str]) -> Any:
    """A class of an allow-listed or trusted module, or a function of a trusted one.

    Parameters are called by whoever gets them; what an allow-listed library's functions would then do is not known.
    """
    found = resolve(reference, trust=trust)
    module = reference.partition(":")[0]
    if isinstance(found, type) or any(module == root or module.startswith(root + ".") for root in trust):
        return found
    raise UnsafeArchiveError(f"{reference!r} is a function. If you trust it, pass trust=[{module!r}].")


def unsaved_names(parameters: Mapping[str, Any]) -> list[str]:
    """Names of the parameters that hold, at any depth, something that was not saved."""
    return [name for name, value in parameters.items() if _holds_unsaved(value)]


def _holds_unsaved(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_unsaved, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_unsaved, value))
    return isinstance(value, Unsaved)


def _construct(reference: str, arguments: dict[str, Any]) -> Any:
    known = {reference_to(cls): cls for cls in CONSTRUCTED}
    if reference not in known:
        raise CorruptArchiveError(f"{reference!r} is not an object that a parameter may hold.")
    return known[reference](**arguments)


def _private_copy(value: Any) -> Any:
    """Stable-Baselines3 writes into dictionaries and noise objects that it is given; classes are shared."""
    return value if callable(value) and not isinstance(value, noise.ActionNoise) else copy.deepcopy(value)
