"""Classes in parameters are written by name, and read back only from modules that are trusted."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

import pytest
import torch

from rl_framework.core.references import with_references, without_references
from rl_framework.errors import InvalidInputError, UnsafeArchiveError

TREE: dict[str, Any] = {"optimizer": torch.optim.Adam, "sizes": [1, 2], "deep": {"layers": [torch.nn.Linear, None]}}


def test_classes_survive_json() -> None:
    assert without_references(json.loads(json.dumps(with_references(TREE)))) == TREE


def test_tuples_become_lists_as_json_has_them() -> None:
    assert with_references({"sizes": (1, (2, 3))}) == {"sizes": [1, [2, 3]]}


def test_only_trusted_modules_are_read() -> None:
    written = with_references({"kind": OrderedDict})
    with pytest.raises(UnsafeArchiveError, match="collections"):
        without_references(written)
    assert without_references(written, trust=["collections"]) == {"kind": OrderedDict}


def test_a_class_without_a_name_cannot_be_written() -> None:
    class Local:
        pass

    with pytest.raises(InvalidInputError, match="define it in a module"):
        with_references([Local])
