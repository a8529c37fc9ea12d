from __future__ import annotations

from typing import Any

import pytest

from rl_framework.cli.parameters import parse_parameters
from rl_framework.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1", -1),
        ("3e-4", 3e-4),
        ("True", True),
        ("true", True),
        ("None", None),
        ("null", None),
        ("MlpPolicy", "MlpPolicy"),
        ("'7'", "7"),
        ("[64, 64]", [64, 64]),
        ("(1, 'episode')", (1, "episode")),
        ('{"net_arch": [8], "ortho_init": false}', {"net_arch": [8], "ortho_init": False}),
        ("{'net_arch': [8]}", {"net_arch": [8]}),
        ("a=b", "a=b"),
        ("", ""),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
    ],
)
def test_values_are_read_as_python_or_json_writes_them(text: str, value: Any) -> None:
    parsed = parse_parameters([f"name={text}"])["name"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_the_last_value_of_a_name_counts() -> None:
    assert parse_parameters(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}


@pytest.mark.parametrize("pair", ["gamma", "=3", " =3", ""])
def test_what_is_not_a_pair_is_refused(pair: str) -> None:
    with pytest.raises(InvalidInputError, match="name=value"):
        parse_parameters([pair])
