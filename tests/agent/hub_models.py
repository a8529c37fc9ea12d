"""Models of plain Stable-Baselines3, pushed to a Hub on loopback as the public ones are laid out."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from huggingface_hub import CommitOperationAdd, HfApi

from rl_framework.agent.reinforcement.stable_baselines.agent import StableBaselinesAgent
from rl_framework.connectors.huggingface import HuggingFaceConnector
from rl_framework.testing.hub_server import HubServer
from tests.agent.cases import SMALL
from tests.connectors.hub_testing import QUICK

QUIET: dict[str, Any] = {"progress_bar": False}
CPU = {"device": "cpu", "seed": 0}
ROLLOUT = {"n_steps": 16, "batch_size": 16, "policy_kwargs": SMALL, **CPU}
REPLAY = {"learning_starts": 16, "buffer_size": 200, "batch_size": 16, "policy_kwargs": SMALL, **CPU}
CARD = """---
library_name: stable-baselines3
tags:
- {environment}
- deep-reinforcement-learning
- reinforcement-learning
- stable-baselines3
model-index:
- name: {algorithm}
  results:
  - metrics:
    - type: mean_reward
      value: 500.00 +/- 0.00
      name: mean_reward
    task:
      type: reinforcement-learning
      name: reinforcement-learning
    dataset:
      name: {environment}
      type: {environment}
---

# **{algorithm}** Agent playing **{environment}**
"""


def new(algorithm_class: Any, policy: str, environment: Any, **parameters: Any) -> Any:
    """A model of plain Stable-Baselines3, which writes into the dictionaries that it is given."""
    return algorithm_class(policy, environment, **copy.deepcopy(parameters))


def connect(hub: HubServer, repository: str) -> HuggingFaceConnector:
    return HuggingFaceConnector(repository, endpoint=hub.url, token=hub.token, retry_policy=QUICK)


def publish(hub: HubServer, repository: str, files: Mapping[str, bytes]) -> HuggingFaceConnector:
    """Push files as anybody would, and connect to them."""
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo(repository, exist_ok=True)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(repository, operations, commit_message="Upload")
    return connect(hub, repository)


def saved(model: Any) -> bytes:
    file = io.BytesIO()
    model.save(file)
    return file.getvalue()


def packaged(model: Any, name: str, environment: str, algorithm: str) -> dict[str, bytes]:
    """What `package_to_hub` of huggingface_sb3 pushes: the model twice, a card, its configuration and results."""
    content = saved(model)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unzipped = {f"{name}/{part}": archive.read(part) for part in archive.namelist()}
        configuration = archive.read("data")
    return {
        f"{name}.zip": content,
        **unzipped,
        "README.md": CARD.format(environment=environment, algorithm=algorithm).encode(),
        "config.json": configuration,
        "results.json": b'{"mean_reward": 500.0, "std_reward": 0.0}',
    }


def zoo(pairs: Mapping[str, str]) -> bytes:
    """A file as RL Zoo writes it."""
    lines = ["!!python/object/apply:collections.OrderedDict"]
    for row, (key, value) in enumerate(pairs.items()):
        lines += [f"{'- ' if row == 0 else '  '}- - {key}", f"    - {value}"]
    return "\n".join(lines).encode()


def same_actions(agent: StableBaselinesAgent, model: Any, count: int = 50) -> bool:
    batch = np.stack([agent.policy.observation_space.sample() for _ in range(count)])
    theirs = model.predict(batch, deterministic=True)[0]
    ours = agent.policy.act(batch, episode_starts=np.ones(count, bool), deterministic=True).actions
    return bool(np.array_equal(theirs, np.asarray(ours)))


def rewritten(content: bytes, data: Mapping[str, Any], members: Mapping[str, bytes] | None = None) -> bytes:
    """A model file with other entries in its `data`, and other members."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(target, "w") as copy:
        for name in whole.namelist():
            part = (members or {}).get(name, whole.read(name))
            copy.writestr(name, json.dumps({**json.loads(part), **data}).encode() if name == "data" else part)
    return target.getvalue()


def tensors(content: bytes, member: str) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return torch.load(io.BytesIO(archive.read(member)), weights_only=True)


def as_tensors(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()
