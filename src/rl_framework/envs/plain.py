"""Python values as plain trees and back: numbers, strings, lists, dicts and arrays only, nothing that runs on reading.

A value that is none of these becomes a dict with its `kind`. What occurs twice (a generator that two attributes
share) is written once and referred to afterwards. Classes are never imported when a tree is read: generators and
objects are put back in place, and what has to be made anew must be of a class that is loaded already, from one of
the packages that the environment itself comes from.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import random
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

import gymnasium as gym
import numpy as np

from rl_framework.core.references import reference_to
from rl_framework.errors import RLFrameworkError

Node = Any

_SCALARS = (type(None), bool, int, float, str)
_IRRELEVANT_TYPES = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    functools.partial,
    type,
    logging.Logger,
    np.ufunc,
)
_IRRELEVANT_PACKAGES = ("pygame", "typing", "gymnasium.envs.registration")
_PLACES_OF_PYGAME = frozenset({"Rect", "FRect", "Vector2", "Vector3"})
"""Where things are, which some games keep in objects of pygame; the rest of it is windows and pictures."""


class _Reference:
    """Has the size of an object whose whole state is in its `__dict__`."""


class Encoder:
    """Turns values into trees.

    Args:
        known: Objects that are written down elsewhere; they are only referred to.

    Attributes:
        unknown: Where values were found that have no plain form.
    """

    def __init__(self, known: Sequence[object] = ()) -> None:
        self.unknown: list[str] = []
        self._kept: list[object] = list(known)
        self._numbers = {id(value): number for number, value in enumerate(known)}

    def attributes(
        self, holder: object, skipped: frozenset[str] = frozenset(), path: str = "", longest: float = float("inf")
    ) -> dict[str, Node]:
        """The attributes of an object by name, without those that cannot matter and those that have no plain form.

        Args:
            holder: The object.
            skipped: Names to leave out.
            path: Where the object stands, for `unknown`.
            longest: Containers with more elements are left out.
        """
        encoded = {}
        for name, value in vars(holder).items():
            if name in skipped or is_irrelevant(value) or (type(value) in _CONTAINERS and len(value) > longest):
                continue
            before, kept = len(self.unknown), len(self._kept)
            node = self.encode(value, f"{path}.{name}")
            if len(self.unknown) == before:
                encoded[name] = node
            else:
                self._forget(kept)
        return encoded

    def encode(self, value: Any, path: str) -> Node:
        """One value; what has no plain form is noted in `unknown`."""
        if type(value) in _SCALARS:
            return value
        if isinstance(value, np.generic):
            return value if value.dtype != object else self._give_up(path)
        if isinstance(value, Enum):
            return {"kind": "enum", "class": reference_to(type(value)), "name": value.name}
        if id(value) in self._numbers:
            return {"kind": "same", "id": self._numbers[id(value)]}
        number = self._numbers[id(value)] = len(self._kept)
        self._kept.append(value)
        body = self._body(value, path)
        return {**body, "id": number} if body is not None else self._give_up(path)

    def _body(self, value: Any, path: str) -> dict[str, Any] | None:
        if isinstance(value, np.ndarray):
            return {"kind": "array", "value": value.copy()} if not value.dtype.hasobject else None
        if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
            return self._generator(value, path)
        if isinstance(value, gym.Space):
            return self._space(value, path)
        kind = _CONTAINERS.get(type(value))
        if kind is not None:
            return {"kind": kind, **self._container(value, path)}
        if type(value) in (bytes, bytearray):
            return {"kind": type(value).__name__, "value": np.frombuffer(bytes(value), np.uint8).copy()}
        return self._object(value, path)

    def _container(self, value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, dict):
            pairs = enumerate(value.items())
            return {"items": [[self.encode(key, path), self.encode(part, f"{path}[{i}]")] for i, (key, part) in pairs]}
        items = [self.encode(part, f"{path}[{index}]") for index, part in enumerate(value)]
        return {"items": items, "maxlen": value.maxlen} if isinstance(value, deque) else {"items": items}

    def _generator(self, value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, np.random.Generator):
            bits = value.bit_generator
            return {"kind": "generator", "bits": type(bits).__name__, "state": self.encode(dict(bits.state), path)}
        if isinstance(value, np.random.RandomState):
            return {"kind": "random_state", "state": self.encode(value.get_state(legacy=True), path)}
        return {"kind": "random", "state": self.encode(value.getstate(), path)}

    def _space(self, value: gym.Space[Any], path: str) -> dict[str, Any]:
        parts = [self.encode(part, path) for part in _parts_of(value)]
        return {"kind": "space", "random": self.encode(vars(value).get("_np_random"), path), "parts": parts}

    def _object(self, value: Any, path: str) -> dict[str, Any] | None:
        cls = type(value)
        if isinstance(value, tuple) and hasattr(cls, "_fields"):
            items = [self.encode(part, f"{path}.{name}") for name, part in zip(cls._fields, value, strict=True)]
            return {"kind": "namedtuple", "class": reference_to(cls), "items": items}
        if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            attributes = {name: self.encode(getattr(value, name), f"{path}.{name}") for name in names}
        elif is_plain_object(value):
            attributes = {
                name: self.encode(part, f"{path}.{name}")
                for name, part in vars(value).items()
                if not is_irrelevant(part)
            }
        else:
            return None
        return {"kind": "object", "class": _name_of(cls), "attributes": attributes}

    def _give_up(self, path: str) -> Node:
        self.unknown.append(path)
        return None

    def _forget(self, count: int) -> None:
        for value in self._kept[count:]:
            del self._numbers[id(value)]
        del self._kept[count:]


class Decoder:
    """Puts trees back.

    Args:
        known: The objects that stood where `Encoder` was given its `known` ones.
        packages: Top-level packages of which objects may be made anew.
    """

    def __init__(self, known: Sequence[object], packages: Iterable[str]) -> None:
        self._made: dict[int, Any] = dict(enumerate(known))
        self._claimed: set[int] = {id(value) for value in known}
        self._packages = frozenset(packages)

    def attributes(self, holder: object, encoded: dict[str, Node], *, strict: bool) -> None:
        """Set the attributes of an object.

        Args:
            holder: The object.
            encoded: What `Encoder.attributes` gave.
            strict: Refuse what cannot be put back, instead of leaving it as it is.

        Raises:
            RLFrameworkError: An attribute cannot be put back.
        """
        for name, node in encoded.items():
            current = vars(holder).get(name)
            if node is None and current is not None and not strict:
                continue
            try:
                value = self.decode(node, current)
            except (RLFrameworkError, KeyError, TypeError, ValueError, AttributeError) as error:
                if strict:
                    raise RLFrameworkError(f"its {name!r} cannot be put back: {error}") from error
                continue
            object.__setattr__(holder, name, value)

    def decode(self, node: Node, current: Any) -> Any:
        """One value; `current` is what stands in its place."""
        if not isinstance(node, dict):
            return node
        kind = node["kind"]
        if kind == "same":
            return self._made[node["id"]]
        if kind == "enum":
            return self._loaded_class(node["class"])[node["name"]]
        if kind in _IMMUTABLE:
            value = self._immutable(kind, node, current)
        else:
            value = self._target(kind, node, current)
            self._made[node["id"]] = value
            self._fill(kind, node, value, current)
        self._made[node["id"]] = value
        return value

    def _immutable(self, kind: str, node: Node, current: Any) -> Any:
        """Values that are made in one go, after their parts."""
        if kind == "array":
            return _array(node["value"], current)
        if kind in ("bytes", "bytearray"):
            return _IMMUTABLE[kind](np.asarray(node["value"], np.uint8).tobytes())
        there = (
            current
            if isinstance(current, tuple) and len(current) == len(node["items"])
            else [None] * len(node["items"])
        )
        items = [self.decode(item, place) for item, place in zip(node["items"], there, strict=True)]
        if kind == "namedtuple":
            return tuple.__new__(self._loaded_class(node["class"]), items)
        return _IMMUTABLE[kind](items)

    def _target(self, kind: str, node: Node, current: Any) -> Any:
        """What is to be filled: the object in place where possible, else a new one."""
        fits = current is not None and id(current) not in self._claimed and _fits(kind, node, current)
        value = current if fits else self._new(kind, node)
        self._claimed.add(id(value))
        return value

    def _new(self, kind: str, node: Node) -> Any:
        if kind == "generator":
            return np.random.Generator(_BIT_GENERATORS[node["bits"]]())
        if kind == "deque":
            return deque(maxlen=node["maxlen"])
        if kind == "object":
            cls = self._loaded_class(node["class"])
            if hasattr(cls, "__del__"):
                raise RLFrameworkError(f"{node['class']} has a __del__ and is not made anew.")
            return object.__new__(cls)
        if kind not in _FRESH:
            raise RLFrameworkError(f"there is no {kind} in its place.")
        return _FRESH[kind]()

    def _fill(self, kind: str, node: Node, value: Any, current: Any) -> None:
        match kind:
            case "list" | "deque":
                there = _spaces_in(current)
                value.extend(self.decode(item, there.get(place)) for place, item in enumerate(node["items"]))
            case "set":
                value.update(self.decode(item, None) for item in node["items"])
            case "dict" | "ordered_dict" | "defaultdict":
                pairs = [(self.decode(key, None), part) for key, part in node["items"]]
                there = {**_spaces_in(current), **value}
                value.clear()
                value.update({key: self.decode(part, there.get(key)) for key, part in pairs})
            case "generator":
                value.bit_generator.state = self.decode(node["state"], None)
            case "random_state":
                value.set_state(self.decode(node["state"], None))
            case "random":
                value.setstate(self.decode(node["state"], None))
            case "space":
                self._fill_space(node, value)
            case "object":
                for name, part in node["attributes"].items():
                    object.__setattr__(value, name, self.decode(part, getattr(value, name, None)))
            case other:
                raise RLFrameworkError(f"unknown kind of value {other!r}.")

    def _fill_space(self, node: Node, value: gym.Space[Any]) -> None:
        generator = self.decode(node["random"], vars(value).get("_np_random"))
        if generator is not None:
            object.__setattr__(value, "_np_random", generator)
        for part, space in zip(node["parts"], _parts_of(value), strict=True):
            self.decode(part, space)

    def _loaded_class(self, reference: str) -> Any:
        module, _, name = reference.partition(":")
        if module.partition(".")[0] not in self._packages:
            raise RLFrameworkError(f"{reference} is not from the environment's own packages.")
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if not isinstance(found, type) or found.__module__.partition(".")[0] not in self._packages:
            raise RLFrameworkError(f"the class {reference} is not loaded.")
        return found


def is_irrelevant(value: Any) -> bool:
    """Whether a value is no state: code, loggers, windows."""
    if isinstance(value, _IRRELEVANT_TYPES):
        return True
    if type(value).__name__ in _PLACES_OF_PYGAME:
        return False
    module = str(getattr(type(value), "__module__", ""))
    return any(module == package or module.startswith(package + ".") for package in _IRRELEVANT_PACKAGES)


def is_plain_object(value: Any) -> bool:
    """Whether the whole state of an object is in its `__dict__`: nothing of it is in memory that only C knows."""
    cls = type(value)
    return (
        hasattr(value, "__dict__")
        and cls.__basicsize__ == _Reference.__basicsize__
        and cls.__itemsize__ == 0
        and type(cls).__module__ in ("builtins", "abc", "typing")
    )


def _fits(kind: str, node: Node, current: Any) -> bool:
    """Whether `current` is of the kind, so that it can be filled in place."""
    if kind == "generator":
        return isinstance(current, np.random.Generator) and type(current.bit_generator).__name__ == node["bits"]
    if kind == "space":
        return isinstance(current, gym.Space) and len(_parts_of(current)) == len(node["parts"])
    if kind == "object":
        return _name_of(type(current)) == str(node["class"])
    return kind in _FILLED_IN_PLACE and isinstance(current, _FILLED_IN_PLACE[kind])


def _spaces_in(container: Any) -> dict[Any, gym.Space[Any]]:
    """The spaces in what is replaced, by place: they are put back in place, never made anew."""
    is_list = isinstance(container, (list, deque))
    parts = enumerate(container) if is_list else container.items() if isinstance(container, dict) else ()
    return {place: part for place, part in parts if isinstance(part, gym.Space)}


def _array(value: Any, current: Any) -> Any:
    """A fresh array; but one that shows memory of a simulator goes on doing so, and is written into."""
    array = np.array(value)
    base = current
    while isinstance(base, np.ndarray):
        base = base.base
    if base is None or not isinstance(current, np.ndarray) or current.shape != array.shape:
        return array
    if current.flags.writeable:
        current[...] = array
    return current


def _parts_of(space: gym.Space[Any]) -> list[gym.Space[Any]]:
    if isinstance(space, gym.spaces.Dict):
        return list(space.spaces.values())
    return list(space.spaces) if isinstance(space, gym.spaces.Tuple) else []


def _name_of(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


_CONTAINERS: dict[type, str] = {
    list: "list",
    tuple: "tuple",
    dict: "dict",
    OrderedDict: "ordered_dict",
    defaultdict: "defaultdict",
    deque: "deque",
    set: "set",
    frozenset: "frozenset",
}
_FILLED_IN_PLACE: dict[str, type] = {
    "random_state": np.random.RandomState,
    "random": random.Random,
    "defaultdict": defaultdict,
}
_IMMUTABLE: dict[str, Callable[..., Any]] = {
    "array": np.array,
    "bytes": bytes,
    "bytearray": bytearray,
    "tuple": tuple,
    "frozenset": frozenset,
    "namedtuple": tuple,
}
_FRESH: dict[str, Callable[[], Any]] = {
    "list": list,
    "dict": dict,
    "ordered_dict": OrderedDict,
    "set": set,
    "random_state": np.random.RandomState,
    "random": random.Random,
}
_BIT_GENERATORS: dict[str, Callable[[], np.random.BitGenerator]] = {
    cls.__name__: cls
    for cls in (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
}
