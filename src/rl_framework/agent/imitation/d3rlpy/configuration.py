"""Algorithm parameters as d3rlpy's configuration objects: checked by name and kind, and written down as JSON.

d3rlpy reads a configuration by looking up its parts in registries of its own and filling in numbers and texts; no
class is imported by name, and nothing in a file is executed.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
from collections.abc import Mapping
from typing import Any

from rl_framework.agent.imitation.d3rlpy.table import AlgorithmRow
from rl_framework.compat.d3rlpy import import_d3rlpy
from rl_framework.errors import CorruptArchiveError, InvalidInputError, UnknownOptionError


def make_config(row: AlgorithmRow, parameters: Mapping[str, Any]) -> Any:
    """The configuration with the given fields; none of the given objects is shared with it.

    Raises:
        UnknownOptionError: The configuration has no such field; a similar one is suggested.
        InvalidInputError: A value is of the wrong kind.
    """
    return change_config(row, row.config_class(), parameters)


def change_config(row: AlgorithmRow, config: Any, parameters: Mapping[str, Any]) -> Any:
    """The configuration with some fields changed.

    Raises:
        UnknownOptionError: The configuration has no such field; a similar one is suggested.
        InvalidInputError: A value is of the wrong kind.
    """
    check_parameters(row, parameters)
    return dataclasses.replace(config, **copy.deepcopy(dict(parameters)))


def check_parameters(row: AlgorithmRow, parameters: Mapping[str, Any]) -> None:
    """Refuse what the algorithm's configuration does not take.

    Raises:
        UnknownOptionError: A name is not one of its fields; a similar one is suggested.
        InvalidInputError: A value is of the wrong kind.
    """
    default = row.config_class()
    known = {field.name for field in dataclasses.fields(default)}
    for name, value in parameters.items():
        if name not in known:
            raise UnknownOptionError.of(f"parameter of {row.name}", name, known)
        _check_kind(row, name, value, getattr(default, name))
    if parameters.get("batch_size", 1) < 1:
        raise InvalidInputError(f"batch_size must be at least 1, got {parameters['batch_size']}.")
    if row.discrete and parameters.get("action_scaler") is not None:
        raise InvalidInputError(f"{row.name} chooses numbered actions, which an action_scaler cannot scale.")


def config_to_json(config: Any) -> dict[str, Any]:
    """The JSON form of a configuration whose scalers are fitted."""
    data: dict[str, Any] = json.loads(config.serialize())
    return data


def config_from_json(row: AlgorithmRow, data: Mapping[str, Any]) -> Any:
    """The configuration that `config_to_json` wrote.

    Raises:
        CorruptArchiveError: It is none of this algorithm, or has a part that is not registered with d3rlpy.
    """
    try:
        return row.config_class.deserialize(json.dumps(data))
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeWarning) as error:
        raise CorruptArchiveError(
            f"The parameters of this {row.name} cannot be read: {error!r}. If it was made with an encoder or scaler "
            "of your own, register that with d3rlpy before loading."
        ) from error


def _check_kind(row: AlgorithmRow, name: str, value: Any, default: Any) -> None:
    part = import_d3rlpy().serializable_config.DynamicConfig
    if name.endswith("_scaler"):
        wanted: tuple[type, ...] = (part, type(None))
    elif isinstance(default, part):
        wanted = (part,)
    elif isinstance(default, bool | str | enum.Enum):
        wanted = (type(default),)
    else:
        wanted = (int,) if isinstance(default, int) else (int, float)
    is_flag_for_number = isinstance(value, bool) and not isinstance(default, bool)
    if not isinstance(value, wanted) or is_flag_for_number:
        raise InvalidInputError(
            f"Parameter {name!r} of {row.name} must be {_describe(name, wanted)}, such as {default!r}; got {value!r}."
        )


def _describe(name: str, wanted: tuple[type, ...]) -> str:
    if name.endswith("_scaler"):
        return "one of d3rlpy.preprocessing or None"
    if name.endswith("_factory"):
        return "an object of d3rlpy"
    return " or ".join(each.__name__ for each in wanted)
