"""What an agent says, as messages of the wire."""

from __future__ import annotations

from typing import Any

from tests.envs.unity.peer.protocol import message
from tests.envs.unity.peer.reacher import Reacher
from tests.envs.unity.peer.world import Behavior, Sensor

NONE, TRANSLATIONAL, VARIABLE = 1, 2, 4
PNG = 1
GOAL = 1


def brain_parameters(behavior: Behavior) -> Any:
    """How a behaviour is introduced."""
    brain = message("brain_parameters", "BrainParametersProto")(brain_name=behavior.name, is_training=True)
    brain.action_spec.num_continuous_actions = behavior.n_continuous
    brain.action_spec.num_discrete_actions = len(behavior.branches)
    brain.action_spec.discrete_branch_sizes.extend(behavior.branches)
    return brain


def info(agent: Reacher, *, done: bool = False, interrupted: bool = False) -> Any:
    """An agent's request for a decision, or its note that an episode ended; its rewards are sent by that."""
    said = message("agent_info", "AgentInfoProto")(
        id=agent.identity, reward=agent.reward, group_id=agent.group, group_reward=agent.group_reward,
        done=done, max_step_reached=interrupted,
    )  # fmt: skip
    if not done:
        said.action_mask.extend(agent.masks())
    for sensor in agent.behavior.sensors:
        _observe(said.observations.add(), agent, sensor)
    agent.forget_rewards()
    return said


def _observe(observation: Any, agent: Reacher, sensor: Sensor) -> None:
    observation.name = sensor.name
    observation.shape.extend(sensor.shape)
    observation.dimension_properties.extend(_dimensions(sensor))
    if sensor.kind == "goal":
        observation.observation_type = GOAL
    if sensor.kind == "picture":
        _show(observation, agent, sensor)
    else:
        observation.float_data.data.extend(numbers(agent, sensor))


def numbers(agent: Reacher, sensor: Sensor) -> list[float]:
    """What a sensor without a picture measures."""
    if sensor.kind == "goal":
        return [agent.target]
    if sensor.kind == "buffer":
        filled = 1 + agent.ticks % sensor.rows
        return [agent.position, agent.target] * filled + [0.0, 0.0] * (sensor.rows - filled)
    left = 1.0 - agent.ticks / agent.horizon
    return [agent.position, agent.target, agent.target - agent.position, left, *([0.0] * (sensor.size - 4))]


def _dimensions(sensor: Sensor) -> list[int]:
    if sensor.kind == "buffer":
        return [VARIABLE, NONE]
    if sensor.kind != "picture":
        return [NONE]
    return [TRANSLATIONAL, TRANSLATIONAL, NONE] if sensor.layout == "hwc" else [NONE, TRANSLATIONAL, TRANSLATIONAL]


def _show(observation: Any, agent: Reacher, sensor: Sensor) -> None:
    import numpy as np

    from tests.envs.unity.peer import pictures

    now = pictures.picture(agent.position, agent.target, sensor.height, sensor.width)
    frame = pictures.grey(now) if sensor.channels == 1 else now
    black = [np.zeros_like(frame)] * (sensor.frames - 1)
    frames = [*agent.earlier_frames.get(sensor.name, black), frame]
    agent.earlier_frames[sensor.name] = frames[1:]
    if sensor.png:
        observation.compression_type = PNG
        observation.compressed_data = b"".join(pictures.png(each) for each in frames)
        mapping = [0, 0, 0] if sensor.channels == 1 else [0, 1, 2]
        offsets = range(0, len(frames) * sensor.channels, sensor.channels)
        observation.compressed_channel_mapping.extend(offset + channel for offset in offsets for channel in mapping)
        return
    stacked = np.concatenate(frames, axis=2)
    laid_out = stacked if sensor.layout == "hwc" else np.moveaxis(stacked, 2, 0)
    observation.float_data.data.extend((laid_out.astype(np.float32) / 255.0).ravel().tolist())
