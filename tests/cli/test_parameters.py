from __future__ import annotations

from typing import Any

import pytest

from rl_framework.cli.parameters import parse_parameters, with_parameters
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


def test_names_with_dots_go_into_mappings() -> None:
    basis = {"gamma": 0.9, "rule": {"kind": "sac", "network": {"hidden_sizes": [8]}}}
    given = {"rule.network.hidden_sizes": [64], "rule.tau": 1, "replay.batch_size": 3, "gamma": 0.5}
    assert with_parameters(basis, given) == {
        "gamma": 0.5,
        "rule": {"kind": "sac", "network": {"hidden_sizes": [64]}, "tau": 1},
        "replay": {"batch_size": 3},
    }
    assert basis == {"gamma": 0.9, "rule": {"kind": "sac", "network": {"hidden_sizes": [8]}}}


def test_a_name_that_goes_into_no_mapping_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"no setting of gamma, which is 0\.9"):
        with_parameters({"gamma": 0.9}, {"gamma.rate": 1})
