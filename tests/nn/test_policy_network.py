from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_framework.core.policy import Policy
from rl_framework.core.seeding import isolated_randomness
from rl_framework.errors import InvalidInputError, UnknownOptionError
from rl_framework.nn.network_policy import NetworkPolicy
from rl_framework.nn.policy_network import PolicyNetwork, PolicyNetworkConfig
from rl_framework.nn.tensors import to_tensors

SEEN = spaces.Dict({"picture": spaces.Box(0, 255, (12, 12, 3), np.uint8), "state": spaces.Box(-1, 1, (3,), np.float64)})
DONE = spaces.Discrete(3, start=1)


def make(config: PolicyNetworkConfig | None = None) -> NetworkPolicy:
    return NetworkPolicy(PolicyNetwork(SEEN, DONE, config or PolicyNetworkConfig(image_features=8)))


def observations(count: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "picture": rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8),
        "state": rng.uniform(-1, 1, (count, 3)),
    }


def test_a_network_policy_is_a_policy() -> None:
    policy = make()
    assert isinstance(policy, Policy)
    output = policy.act(observations(), state="memory")
    assert output.state == "memory"
    assert output.actions.shape == (5,)
    assert output.actions.dtype == DONE.dtype
    assert all(action in DONE for action in output.actions)


def test_masks_hold_when_acting() -> None:
    masks = np.zeros((5, 3), bool)
    masks[:, 2] = True
    assert make().act(observations(), action_masks=masks).actions.tolist() == [3] * 5


def test_acting_is_reproducible_from_the_global_generator() -> None:
    policy = make()
    samples = []
    for _ in range(2):
        with isolated_randomness(7):
            samples.append([policy.act(observations()).actions.tolist() for _ in range(5)])
    assert samples[0] == samples[1]
    assert len({tuple(each) for each in samples[0]}) > 1


def test_number_types_reach_the_network_as_they_are_but_for_double_precision() -> None:
    given = {**observations(), "half": np.zeros((5, 2), np.float16), "whole": np.zeros((5,), np.int64)}
    found = to_tensors(given, torch.device("cpu"))
    assert {name: leaf.dtype for name, leaf in found.items()} == {
        "picture": torch.uint8,
        "state": torch.float32,
        "half": torch.float16,
        "whole": torch.int64,
    }


@pytest.mark.parametrize("kind", ["read-only", "reversed", "big-endian"])
def test_arrays_that_torch_cannot_share_are_copied(kind: str) -> None:
    array = np.arange(6, dtype=np.float32)
    array.flags.writeable = kind != "read-only"
    given = {"read-only": array, "reversed": array[::-1], "big-endian": array.astype(">f4")}[kind]
    assert to_tensors(given, torch.device("cpu")).tolist() == given.tolist()


def test_arrays_that_torch_can_share_are_shared() -> None:
    array = np.zeros(3, np.uint8)
    to_tensors(array, torch.device("cpu"))[0] = 7
    assert array[0] == 7


def test_a_fresh_policy_is_nearly_uniform() -> None:
    network = make().network
    assert isinstance(network, PolicyNetwork)
    probabilities = network.distribution(to_tensors(observations(), torch.device("cpu"))).log_probs.exp()  # type: ignore[attr-defined]  # a Categorical
    torch.testing.assert_close(probabilities, torch.full((5, 3), 1 / 3), atol=0.02, rtol=0.0)


def test_without_hidden_layers_the_head_sees_the_features() -> None:
    network = PolicyNetwork(spaces.Box(-1, 1, (3,), np.float32), DONE, PolicyNetworkConfig(hidden_sizes=()))
    assert network.head.linear.in_features == 3


def test_lists_of_sizes_become_tuples() -> None:
    assert PolicyNetworkConfig(hidden_sizes=[64, 8]).hidden_sizes == (64, 8)  # type: ignore[arg-type]  # as JSON has it


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"hidden_sizes": [0]}, InvalidInputError, "hidden_sizes"),
        ({"hidden_sizes": 32}, InvalidInputError, "hidden_sizes"),
        ({"hidden_sizes": "32"}, InvalidInputError, "hidden_sizes"),
        ({"activation": "tahn"}, UnknownOptionError, "Did you mean 'tanh'"),
        ({"image_features": 0}, InvalidInputError, "image_features"),
        ({"normalize_observations": "yes"}, InvalidInputError, "normalize_observations"),
    ],
    ids=["no-units", "a-number", "text", "misspelt", "no-features", "not-a-bool"],
)
def test_bad_configurations_are_refused(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PolicyNetworkConfig(**parameters)
