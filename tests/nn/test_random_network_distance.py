from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_framework.core.seeding import isolated_randomness
from rl_framework.nn.random_network_distance import RandomNetworkDistance


def learn(network: RandomNetworkDistance, inputs: Tensor, n_steps: int = 200) -> None:
    optimizer = torch.optim.Adam([each for each in network.parameters() if each.requires_grad], lr=1e-3)
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss: Tensor = network(inputs).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()


def test_what_was_seen_becomes_known_and_what_was_not_stays_new() -> None:
    with isolated_randomness(0):
        network = RandomNetworkDistance.of_numbers(2, (64,), 32)
    seen = torch.rand(256, 2, generator=torch.Generator().manual_seed(1))
    new = seen + 3.0
    target = deepcopy(network.target.state_dict())
    before = network(seen).mean().item()

    learn(network, seen)

    assert network(seen).mean().item() < 0.05 * before
    assert network(new).mean().item() > 20.0 * network(seen).mean().item()
    assert all(torch.equal(tensor, target[name]) for name, tensor in network.target.state_dict().items())


def test_distance_is_the_mean_squared_difference() -> None:
    with isolated_randomness(0):
        network = RandomNetworkDistance.of_numbers(3, (8, 8), 4)
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))

    distance = network(inputs)

    pairs = zip(network.predictor(inputs).tolist(), network.target(inputs).tolist(), strict=True)
    wanted = [sum((a - b) ** 2 for a, b in zip(mine, its, strict=True)) / 4 for mine, its in pairs]
    assert torch.allclose(distance, torch.tensor(wanted), atol=1e-6)
    assert bool((distance > 0).all())


def test_pictures_and_numbers_beside_each_other() -> None:
    space = spaces.Dict({
        "camera": spaces.Box(0, 255, (12, 12, 3), np.uint8),
        "joints": spaces.Box(-np.inf, np.inf, (4,), np.float32),
        "gear": spaces.Discrete(3),
    })  # fmt: skip
    generator = torch.Generator().manual_seed(2)
    observations = {
        "camera": torch.randint(256, (6, 12, 12, 3), generator=generator, dtype=torch.uint8),
        "joints": torch.randn(6, 4, generator=generator) * 100.0,
        "gear": torch.randint(3, (6,), generator=generator),
    }
    with isolated_randomness(3):
        network = RandomNetworkDistance.of_observations(space, (16,), 8)

    raw = network(observations)
    network.update_normalization(observations)

    assert raw.shape == (6,)
    assert bool(
        (network(observations) < raw).all()
    )  # numbers of the order of 100 have become numbers of the order of 1
