"""The page of a saved agent: what it is, how good it is, how it was trained, how to load it.

A card is a Markdown file with YAML at its head. Everything in it is read from the agent's folder: `manifest.json`,
`results.json`, `history.json`. It stands between two marks; what people write outside of them is theirs and stays.

Source: the fields of the head, https://huggingface.co/docs/hub/model-cards, and `model-index` as leaderboards for
reinforcement learning read it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_framework.checkpoints.manifest import Manifest
from rl_framework.checkpoints.plain_values import encode
from rl_framework.connectors.base import Store
from rl_framework.core.training_history import HISTORY_FILE, TrainingHistory
from rl_framework.errors import ConnectorError

CARD_FILE = "README.md"
RESULTS_FILE = "results.json"
REPLAY_FILE = "replay.mp4"
CURVE_FILE = "learning_curve.png"
MODEL_ZIP = "model.zip"

BEGIN = "<!-- rl_framework: from here to the other mark, the text is written anew with each push -->"
END = "<!-- rl_framework: your own text goes below, or above the first mark; it stays -->"
FENCE = "---\n"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class CardSubject:
    """What a card is made from.

    Attributes:
        manifest: What the agent says of itself.
        results: Its evaluation, as `Agent.upload` writes it; None if there was none.
        history: How it was trained.
        files: What lies in the folder, by relative path.
    """

    manifest: Manifest
    results: Mapping[str, Any] | None
    history: TrainingHistory
    files: frozenset[str]

    @classmethod
    def of(cls, folder: Path) -> CardSubject:
        """Read a saved agent's folder.

        Raises:
            ArchiveError: It holds no agent, or one that is damaged.
        """
        return cls(
            manifest=Manifest.read(folder, verify=False),
            results=_read(folder / RESULTS_FILE),
            history=TrainingHistory.from_json(_read(folder / HISTORY_FILE) or {"calls": [], "curve": []}),
            files=frozenset(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()),
        )

    @property
    def algorithm(self) -> str:
        """The algorithm's name."""
        return self.manifest.algorithm.rpartition(":")[2].rpartition(".")[2]

    @property
    def environment(self) -> str | None:
        """Registered id of the environment: of the evaluation, or else of the training."""
        evaluated = None if self.results is None else self.results.get("environment_id")
        return evaluated or self.manifest.notes.get("environment_id")

    @property
    def library(self) -> str:
        """Whose files they are: Stable-Baselines3's where its own model is among them."""
        return "stable-baselines3" if MODEL_ZIP in self.files else "rl_framework"


def write_card(folder: Path, uri: str, *, license_name: str | None = None) -> Path:
    """Write the card of a saved agent into its folder, over the one that is there.

    Args:
        folder: The saved agent, with everything that is to be published beside it.
        uri: By which `load_agent` finds it.
        license_name: Licence of the agent as the Hub names it, e.g. `"mit"`; None if its owner chose none.

    Raises:
        ArchiveError: The folder holds no agent.
    """
    subject = CardSubject.of(folder)
    card = folder / CARD_FILE
    card.write_text(make_card(subject, uri, license_name=license_name), encoding="utf-8")
    return card


def publish_card(folder: Path, store: Store, license_name: str | None = None) -> None:
    """Write the card of a saved agent that is about to be uploaded, keeping what people wrote into the present one.

    A store that cannot be reached now has no present card to keep; what people wrote there stays in its history.

    Args:
        folder: The saved agent, with everything that is to be published beside it.
        store: Where it is about to go.
        license_name: As for `write_card`.
    """
    if store.uri is None:
        return
    card = write_card(folder, store.uri, license_name=license_name)
    try:
        present = store.find_file(CARD_FILE)
    except ConnectorError as error:
        _log.warning("The present card in %s could not be read, so what was added to it is lost: %s", store.uri, error)
        return
    if present is not None:
        merged = merge_cards(present.read_text(encoding="utf-8", errors="replace"), card.read_text(encoding="utf-8"))
        card.write_text(merged, encoding="utf-8")


def make_card(subject: CardSubject, uri: str, *, license_name: str | None = None) -> str:
    """The card's text."""
    parts = [
        _headline(subject),
        _results(subject),
        _pictures(subject),
        _training(subject),
        _usage(subject, uri),
        _terms(subject, license_name),
    ]
    body = "\n\n".join(part for part in parts if part)
    return f"{FENCE}{dump_yaml(_metadata(subject, license_name))}{FENCE}\n{BEGIN}\n\n{body}\n\n{END}\n"


def merge_cards(existing: str, new: str) -> str:
    """A new card that keeps what people have written into the existing one.

    Their text outside the marks stays where it is; an existing card without marks is kept whole, below the new text.
    Of the head, their own entries and tags stay; entries that are written here are replaced.
    """
    head, body = _split(existing)
    new_head, new_body = _split(new)
    before, begin, rest = body.partition(BEGIN)
    _, end, after = rest.partition(END)
    merged = f"{before}{new_body.strip()}{after}" if begin and end else f"{new_body.strip()}\n\n{body.strip()}\n"
    return f"{FENCE}{dump_yaml(_merge_heads(head, new_head))}{FENCE}\n{merged.lstrip()}"


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Mappings, lists and plain values as YAML, which contains JSON: each value is written as JSON on one line."""
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in data.items())


def _metadata(subject: CardSubject, license_name: str | None) -> dict[str, Any]:
    tags = [subject.environment, "deep-reinforcement-learning", "reinforcement-learning", "rl_framework"]
    if subject.manifest.kind in ("imitation", "behavioural_cloning"):
        tags.append("imitation-learning")
    metadata: dict[str, Any] = {"library_name": subject.library}
    if license_name is not None:
        metadata["license"] = license_name
    metadata["tags"] = list(dict.fromkeys(tag for tag in (*tags, subject.library) if tag))
    if subject.results is not None:
        metadata["model-index"] = [_model_index(subject, subject.results)]
    return metadata


def _model_index(subject: CardSubject, results: Mapping[str, Any]) -> dict[str, Any]:
    """Leaderboards split the value at `+/-`."""
    task = "reinforcement-learning"
    environment = subject.environment or "unknown"
    value = f"{results['mean_reward']:.2f} +/- {results['std_reward']:.2f}"
    metric = {"type": "mean_reward", "value": value, "name": "mean_reward", "verified": False}
    result = {
        "task": {"type": task, "name": task},
        "dataset": {"name": environment, "type": environment},
        "metrics": [metric],
    }
    return {"name": subject.algorithm, "results": [result]}


def _headline(subject: CardSubject) -> str:
    where = f" playing **{subject.environment}**" if subject.environment else ""
    return (
        f"# {subject.algorithm}{where}\n\n"
        f"A trained agent of kind `{subject.manifest.kind}`, saved with "
        "[rl_framework](https://github.com/alexander-zap/rl-framework)."
    )


def _results(subject: CardSubject) -> str:
    results = subject.results
    if results is None:
        return "## Results\n\nIt was not evaluated when it was pushed."
    low, high = results["mean_reward_interval"]
    how = "its most probable actions" if results["is_deterministic"] else "actions sampled from its policy"
    rows = [
        ("mean return", f"{results['mean_reward']:.2f} ± {results['std_reward']:.2f}"),
        ("95 % interval of the mean (bootstrap)", f"{low:.2f} to {high:.2f}"),
        ("inter-quartile mean", f"{results['interquartile_mean_reward']:.2f}"),
        ("episodes", results["n_eval_episodes"]),
        ("actions", how),
        ("seed", results["seed"]),
    ]
    return "## Results\n\n" + _table(("", "evaluation"), rows)


def _pictures(subject: CardSubject) -> str:
    found = []
    if CURVE_FILE in subject.files:
        found.append(f"![Mean return of the latest episodes over the steps of training]({CURVE_FILE})")
    if REPLAY_FILE in subject.files:
        found.append(f"[A replay]({REPLAY_FILE})")
    return "\n\n".join(found)


def _training(subject: CardSubject) -> str:
    manifest, history = subject.manifest, subject.history
    rows: list[tuple[str, Any]] = [("algorithm", f"`{manifest.algorithm}`"), ("steps", f"{manifest.timesteps:,}")]
    if history.calls:
        rows.append(("duration", f"{history.duration_seconds:,.0f} s in {len(history.calls)} calls of train or resume"))
        environments = {call.environment_id for call in history.calls if call.environment_id}
        rows.append(("environments", ", ".join(sorted(environments)) or "without a registered id, or none"))
    seed = manifest.parameters.get("seed", manifest.options.get("seed"))
    rows.append(("seed", "not set" if seed is None else seed))
    rows += [(name, version) for name, version in manifest.library_versions.items()]
    parameters = _table(
        ("parameter", "value"), ((name, f"`{_short(value)}`") for name, value in manifest.parameters.items())
    )
    stated = (
        f"\n\nParameters that were given; all others are the algorithm's own:\n\n{parameters}"
        if manifest.parameters
        else ""
    )
    return "## Training\n\n" + _table(("", "training"), rows) + stated


def _usage(subject: CardSubject, uri: str) -> str:
    lines = ["from rl_framework import load_agent", "", f"agent = load_agent({uri!r})"]
    if subject.environment:
        lines.append(f"print(agent.evaluate({subject.environment!r}, n_eval_episodes=10))")
    code = "\n".join(lines)
    return f"## Usage\n\n```python\n{code}\n```\n\nLoading runs no code that comes with the files."


def _terms(subject: CardSubject, license_name: str | None) -> str:
    where = f"`{subject.environment}`" if subject.environment else "the environment that it was trained in"
    chosen = f"Licence: {license_name}." if license_name else "Its owner has not chosen a licence for it."
    return (
        "## Intended use and licence\n\n"
        f"It was trained for {where}, as a result to compare with and to go on from; what it does elsewhere was not "
        f"looked at.\n\n{chosen}"
    )


def _table(head: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in rows)])


def _short(value: Any) -> str:
    text = json.dumps(encode(value), ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "..."


def _split(card: str) -> tuple[dict[str, Any], str]:
    """Head and body. A head that is no YAML mapping is left in the body."""
    import yaml

    if not card.startswith(FENCE):
        return {}, card
    text, fence, body = card[len(FENCE) :].partition("\n" + FENCE)
    if not fence:
        return {}, card
    try:
        head = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}, card
    return (head, body) if isinstance(head, dict) else ({}, card)


def _merge_heads(existing: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    tags = [*new.get("tags", ()), *(existing.get("tags") or ())]
    return {**existing, **new, "tags": list(dict.fromkeys(tags))}


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
