"""Random generators of the process: capture, restore, and set aside for a while.

Only generators of libraries that are already imported are touched: nothing here imports torch.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np


def capture_random_state() -> dict[str, Any]:
    """The state of Python's, NumPy's and (where imported) torch's global generators, as a plain tree."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002  # as above
    state: dict[str, Any] = {
        "python": {"version": version, "internal": np.array(internal, dtype=np.uint64), "gauss": gauss},
        "numpy": {"name": name, "keys": keys, "position": position, "has_gauss": has_gauss, "cached": cached},
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["cuda"] = list(torch.cuda.get_rng_state_all())
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the global generators back to what `capture_random_state` saw."""
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(int(word) for word in python["internal"]), python["gauss"]))
    np.random.set_state((numpy["name"], numpy["keys"], numpy["position"], numpy["has_gauss"], numpy["cached"]))  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        torch.set_rng_state(state["torch"])
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and (where imported) torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # upstream libraries draw from it
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


@contextmanager
def isolated_randomness(seed: int) -> Iterator[None]:
    """Run a block from the given seed and leave the global generators as they were before it."""
    before = capture_random_state()
    seed_everything(seed)
    try:
        yield
    finally:
        restore_random_state(before)


@contextmanager
def isolated_sampling(space: gym.Space[Any], seed: int) -> Iterator[None]:
    """Run a block with `space.sample()` starting from the given seed, and leave its generators as they were before.

    Some policies explore by sampling their action space, whose generators are its own and not the process's.
    """
    generators = _generators(space)
    before = [generator.state for generator in generators]
    for generator, sequence in zip(generators, np.random.SeedSequence(seed).spawn(len(generators)), strict=True):
        generator.state = type(generator)(sequence).state
    try:
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.state = state


class SeparateRandomness:
    """Random generators for something that takes turns with the rest of the process, such as a Python generator.

    Its first turn starts from the seed, as in a block of `isolated_randomness` and `isolated_sampling`; each further
    one goes on where the turn before it ended. Outside of turns, the generators are as if there had been none.

    Args:
        seed: The seed.
        space: The space whose `sample()` belongs to it, too.
    """

    def __init__(self, seed: int, space: gym.Space[Any]) -> None:
        self._generators = _generators(space)
        with isolated_randomness(seed), isolated_sampling(space, seed):
            self._own = self._capture()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Run a block with its generators."""
        before = self._capture()
        self._restore(self._own)
        try:
            yield
        finally:
            self._own = self._capture()
            self._restore(before)

    def _capture(self) -> tuple[dict[str, Any], list[Any]]:
        return capture_random_state(), [generator.state for generator in self._generators]

    def _restore(self, states: tuple[dict[str, Any], list[Any]]) -> None:
        restore_random_state(states[0])
        for generator, state in zip(self._generators, states[1], strict=True):
            generator.state = state


def _generators(space: gym.Space[Any]) -> list[Any]:
    return [part.np_random.bit_generator for part in _with_parts(space)]


def _with_parts(space: gym.Space[Any]) -> Iterator[gym.Space[Any]]:
    yield space
    nested = getattr(space, "spaces", ())
    for part in nested.values() if hasattr(nested, "values") else nested:
        yield from _with_parts(part)


def fresh_seed() -> int:
    """A seed from the operating system, to be written down beside the result it gave."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def derive_seeds(seed: int, count: int) -> list[int]:
    """Independent 32-bit seeds for parts of a whole; the first k do not depend on `count`.

    Source: NumPy's `SeedSequence` (Melissa O'Neill's seed_seq design).
    """
    return [int(np.random.SeedSequence((seed, index)).generate_state(1)[0]) for index in range(count)]
