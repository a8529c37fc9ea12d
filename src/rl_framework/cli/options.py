"""What may stand on the line, once for all commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

SETUP, WATCH, AFTER = "What to train", "While it trains", "After training"


def _setup(*names: str, **described: Any) -> Any:
    return typer.Option(*names, rich_help_panel=SETUP, **described)


def _watch(*names: str, **described: Any) -> Any:
    return typer.Option(*names, rich_help_panel=WATCH, **described)


def _after(*names: str, **described: Any) -> Any:
    return typer.Option(*names, rich_help_panel=AFTER, **described)


# Training

EnvironmentToTrain = Annotated[
    str,
    typer.Argument(
        help="Id of the environment, such as CartPole-v1, or a game: pettingzoo:mpe/simple_spread, "
        "unity:path/to/Game; with --preset, the preset's own."
    ),
]
Algorithm = Annotated[
    str | None,
    _setup(
        "--algorithm",
        "-a",
        metavar="NAME",
        help="PPO, A2C, DQN, SAC, TD3, DDPG; of this library native:PPO, native:A2C, native:REINFORCE, native:OffPAC, "
        "native:VTraceAWR, native:DDPG, native:TD3, native:SAC, native:DQN, QLearning; with the extra contrib QRDQN, "
        "TQC, TRPO, ARS, CrossQ, RecurrentPPO, MaskablePPO.",
        show_default="PPO",
    ),
]
TotalTimesteps = Annotated[
    int | None,
    _setup("--total-timesteps", "-n", metavar="N", help="Environment steps, over all copies of the environment."),
]
Output = Annotated[
    Path | None,
    _setup("--output", "-o", metavar="FOLDER", help="Folder of the run.", show_default="one in runs/"),
]
Overwrite = Annotated[bool, _setup("--overwrite", help="Replace the run in that folder.")]
PresetName = Annotated[
    str | None,
    _setup(
        "--preset",
        "-p",
        metavar="NAME",
        help="Tuned hyper-parameters, which other options override: a name, of which 'list' shows what there is, or "
        "the best.yaml that tune writes.",
    ),
]
Parameters = Annotated[
    list[str] | None,
    _setup(
        "--parameter",
        "-P",
        metavar="NAME=X",
        help="A parameter of the algorithm, such as gamma, or of a part of it, such as rule.learning_rate; may be "
        "repeated. The value is written as in Python or JSON.",
    ),
]
Normalize = Annotated[
    bool | None,
    _setup("--normalize/--no-normalize", help="Running normalisation of observations and rewards.", show_default="no"),
]
TrainingSeed = Annotated[int | None, _setup("--seed", min=0, metavar="N", help="Makes the run repeatable.")]
Copies = Annotated[
    int | None,
    _setup(
        "--n-envs",
        min=1,
        metavar="N",
        help="Copies of the environment side by side; of a game with several agents, games.",
        show_default="1",
    ),
]
Vectorization = Annotated[
    str,
    _setup(
        "--vectorization",
        metavar="NAME",
        help="Copies in this process (serial) or in a process each (subprocess); auto measures and chooses.",
    ),
]
CheckpointEvery = Annotated[
    int, _watch("--checkpoint-every", min=1, metavar="N", help="Environment steps between checkpoints.")
]
KeepLast = Annotated[
    int, _watch("--keep-last", min=1, metavar="N", help="How many checkpoints to keep, besides the best.")
]
StopAtReturn = Annotated[
    float | None,
    _watch("--stop-at-return", metavar="X", help="Stop when the last 100 episodes reach this mean return."),
]
TimeLimit = Annotated[float | None, _watch("--time-limit", metavar="X", help="Stop after so many seconds.")]
TensorBoard = Annotated[
    bool | None,
    _watch(
        "--tensorboard/--no-tensorboard", help="Write the numbers for TensorBoard, too.", show_default="if installed"
    ),
]
EvaluateEpisodes = Annotated[
    int, _after("--evaluate-episodes", min=0, metavar="N", help="Episodes to evaluate over; 0 for none.")
]
EvaluateDeterministic = Annotated[
    bool,
    _after("--deterministic", help="Evaluate the most probable actions instead of sampled ones."),
]
Video = Annotated[bool, _after("--video/--no-video", help="Record an episode.")]

# Saved agents

# A text, because a path would take one of the slashes out of hf://.
Agent = Annotated[
    str,
    typer.Argument(
        help="A run, a saved agent (folder or .zip), a folder of checkpoints, or an address such as hf://owner/name."
    ),
]
Environment = Annotated[
    str,
    typer.Option("--env", "-e", metavar="ID", help="Id of the environment.", show_default="that of the run"),
]
Episodes = Annotated[int, typer.Option("--episodes", "-n", min=1, metavar="N", help="Number of episodes.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, metavar="N", help="The same seed gives the same episodes.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Take the most probable actions instead of sampled ones.")
]
Stochastic = Annotated[
    bool, typer.Option("--stochastic", help="Take sampled actions instead of the most probable ones.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
