"""Nested observations and actions: a tree is a leaf, a dict of trees or a tuple of trees.

Trees follow the spaces of Gymnasium: a `Dict` space gives a dict, a `Tuple` space gives a tuple, every other
space gives a leaf. Dict keys are visited in the order of the first tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

Tree: TypeAlias = Any
Path: TypeAlias = tuple[str | int, ...]


def map_tree(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply a function leaf by leaf to trees of the same structure."""
    if isinstance(tree, dict):
        return {key: map_tree(function, tree[key], *(other[key] for other in others)) for key in tree}
    if isinstance(tree, tuple):
        return tuple(map_tree(function, *parts) for parts in zip(tree, *others, strict=True))
    return function(tree, *others)


def leaves(tree: Tree) -> list[Any]:
    """The leaves of a tree, in visiting order."""
    return [leaf for _, leaf in leaves_with_paths(tree)]


def leaves_with_paths(tree: Tree, prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each leaf with the keys and indices that lead to it."""
    if isinstance(tree, dict):
        for key, part in tree.items():
            yield from leaves_with_paths(part, (*prefix, key))
    elif isinstance(tree, tuple):
        for index, part in enumerate(tree):
            yield from leaves_with_paths(part, (*prefix, index))
    else:
        yield prefix, tree


def path_name(path: Path) -> str:
    """A path as a person would write it: `camera.left`, or `value` for the root."""
    return ".".join(str(part) for part in path) or "value"


def select(tree: Tree, index: Any) -> Tree:
    """Index every leaf: one row (an integer) or several (a slice, a mask, indices)."""
    return map_tree(lambda leaf: leaf[index], tree)


def stack(trees: Sequence[Tree]) -> Tree:
    """Join trees of single values into one tree of arrays `[len(trees), ...]`."""
    return map_tree(lambda *parts: np.stack([np.asarray(part) for part in parts]), *trees)


def copy_tree(tree: Tree) -> Tree:
    """Copy every array of a tree."""
    return map_tree(np.copy, tree)


def batch_size(tree: Tree) -> int:
    """Length of the first axis, which all leaves share."""
    return len(leaves(tree)[0])
