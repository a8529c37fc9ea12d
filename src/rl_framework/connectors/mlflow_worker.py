"""Runs the `mlflow` client: started by `MLflowConnector` as a process of its own, see `worker_process`.

Importing the client takes seconds and memory, starts its telemetry, and sets up loggers; here that concerns nobody.
Only files are stored: no model flavour, and so no pickle.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rl_framework.connectors.mlflow_client import (
    artifacts_of,
    create_once,
    explain,
    make_database_folder,
    may_pass,
    unless_missing,
)
from rl_framework.connectors.worker_loop import Answers, Refused, serve

from mlflow import MlflowClient  # isort: skip  (after it was configured)
from mlflow.artifacts import download_artifacts  # isort: skip
from mlflow.entities import Metric, Param  # isort: skip
from mlflow.exceptions import MlflowException  # isort: skip

RUN_TAG = "rl_framework.run"
PUSH_TAG = "rl_framework.push"
DIGEST_TAG = "rl_framework.sha256"
MADE_BY = {"rl_framework": "true"}
AGENTS = "agents"
CHECKPOINTS = "checkpoints"
PARAMETERS_FILE = "parameters.json"
LONGEST_PARAMETER = 500
MOST_PER_REQUEST = 900
MOST_WAITING = 100_000
SECONDS_BETWEEN_SENDING = 1.0
SECONDS_AFTER_FAILURE = 5.0
UNUSUAL = re.compile(r"[^\w\-. :/]", re.ASCII)

Waiting = tuple[str, Callable[[], None]]


class MLflowWorker:
    """Carries out the verbs of `MLflowConnector`. Methods that are verbs begin with `do_`.

    Reports wait until a second has passed or until they are asked for, and while the server is silent.

    Args:
        answers: Where notes to the parent go.
        uri: The tracking server or database.
        experiment: The experiment's name.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._client_made: MlflowClient | None = None
        self._opening: dict[str, Any] = {}
        self._run: str | None = None
        self._metrics: list[Metric] = []
        self._others: list[Waiting] = []
        self._parameters: dict[str, Any] = {}
        self._logged: dict[str, str] = {}
        self._next_sending = 0.0

    def do_open(self, uri: str, experiment: str, model: str, run_id: str | None, fallback: bool) -> None:  # noqa: ARG002
        """Say where everything goes; the run begins with the first thing to keep.

        Args:
            uri: The tracking server or database.
            experiment: The experiment's name.
            model: The registered model's name.
            run_id: A run to go on with.
            fallback: Without meaning here: reports wait while the server is silent.
        """
        self._opening = {"uri": uri, "experiment": experiment, "model": model}
        self._run = self._run or run_id

    def do_values(self, values: dict[str, float], step: int | None) -> None:
        """Take numbers; those without a step go to step 0."""
        now = int(time.time() * 1000)
        self._metrics += [Metric(_name(name), value, now, step or 0) for name, value in values.items()]
        excess = len(self._metrics) - MOST_WAITING
        if excess > 0:
            del self._metrics[:excess]
            self._answers.note(lost="values", message="too many are waiting", count=excess)
        self._send_if_due()

    def do_text(self, name: str, text: str, step: int | None) -> None:
        """Take a text; it becomes a file of the run."""
        file = f"texts/{_file_name(name)}{'' if step is None else f'-{step}'}.txt"
        self._later("text", lambda: self._client.log_text(self._begun(), text, file))

    def do_parameters(self, parameters: dict[str, Any]) -> None:
        """Take parameters; all of them are also in a file, because MLflow shortens long ones and changes none."""
        self._parameters |= parameters
        everything = dict(self._parameters)
        self._later("parameters", lambda: self._client.log_dict(self._begun(), everything, PARAMETERS_FILE))
        fresh = {name: text for name, text in _flat(parameters) if name not in self._logged}
        changed = [name for name, text in _flat(parameters) if self._logged.get(name, text) != text]
        self._logged |= fresh
        items = [Param(name, text) for name, text in fresh.items()]
        for start in range(0, len(items), 100):
            part = items[start : start + 100]
            self._later("parameters", partial(self._log_parameters, part))
        if changed:
            text = f"MLflow changes no parameter; {', '.join(changed)} is new in {PARAMETERS_FILE} only"
            self._answers.note(lost="parameters", message=text)

    def do_video(self, name: str, path: str, step: int | None) -> None:
        """Take a video; it becomes a file of the run."""
        suffix = "" if step is None else f"-{step}"
        target = f"videos/{_file_name(name)}{suffix}{Path(path).suffix}"
        self._later("video", lambda: self._log_file(path, target))

    def do_artifact(self, name: str, path: str) -> None:
        """Take a file."""
        target = f"artifacts/{_file_name(name)}{Path(path).suffix}"
        self._later("artifact", lambda: self._log_file(path, target))

    def do_flush(self) -> None:
        """Send what is waiting."""
        self._send()

    def do_push(
        self, *, folder: str, push_id: str, step: int | None, message: str | None, digest: str, alias: str
    ) -> str:
        """Put an agent into the run, and register it as a version; a checkpoint is only put there."""
        run = self._begun()
        if step is not None:
            place = f"{CHECKPOINTS}/{step}"
            self._client.log_artifacts(run, folder, place)
            self._client.set_tag(run, f"{DIGEST_TAG}.{place}", digest)
            self._client.set_tag(run, f"{PUSH_TAG}.{push_id}", place)
            return f"{run}/{place}"
        place = f"{AGENTS}/{push_id}"
        self._client.log_artifacts(run, folder, place)
        model = self._registered()
        tags = {PUSH_TAG: push_id, DIGEST_TAG: digest, **MADE_BY}
        version = create_once(
            lambda: self._client.create_model_version(
                model, source=f"runs:/{run}/{place}", run_id=run, tags=tags, description=message
            ),
            lambda: self._version_of(push_id),
        )
        self._client.set_registered_model_alias(model, alias, version.version)
        return f"{model}/{version.version}"

    def do_find(self, push_id: str, alias: str) -> str | None:
        """The version or checkpoint of a push; the alias is set if that was not done."""
        version = self._version_of(push_id)
        if version is not None:
            self._advance(alias, int(version.version))
            return f"{version.name}/{version.version}"
        experiment = self._client.get_experiment_by_name(self._opening["experiment"])
        if experiment is None:
            return None
        runs = self._client.search_runs([experiment.experiment_id], f"tags.`{PUSH_TAG}.{push_id}` LIKE '%'")
        return next((f"{run.info.run_id}/{run.data.tags[f'{PUSH_TAG}.{push_id}']}" for run in runs), None)

    def do_pull(self, revision: str | None, alias: str, folder: str) -> dict[str, Any]:
        """Fetch the agent of a version, alias, run or `<run>/checkpoints/<step>` into a folder."""
        source, key, digest = self._source(revision, alias)
        path = download_artifacts(artifact_uri=source, dst_path=folder, tracking_uri=self._opening["uri"])
        return {"path": path, "key": key, "digest": digest}

    def do_close(self) -> None:
        """Send what is waiting, and end the run."""
        self._send(at_last=True)
        if self._run is not None:
            self._client.set_terminated(self._run)
            self._run = None

    @property
    def _client(self) -> MlflowClient:
        if self._client_made is None:
            uri = self._opening["uri"]
            make_database_folder(uri)
            self._client_made = MlflowClient(tracking_uri=uri, registry_uri=uri)
        return self._client_made

    def _begun(self) -> str:
        """The run's id."""
        if self._run is None:
            experiment, tags = self._experiment_id(), {**MADE_BY, RUN_TAG: uuid.uuid4().hex}
            run = create_once(
                lambda: self._client.create_run(experiment, tags=tags),
                lambda: next(
                    iter(self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{tags[RUN_TAG]}'")), None
                ),
            )
            self._run = run.info.run_id
            self._answers.note(run=self._run)
        return self._run

    def _experiment_id(self) -> str:
        name = self._opening["experiment"]
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        try:
            return str(self._client.create_experiment(name, artifact_location=artifacts_of(self._opening["uri"])))
        except MlflowException as error:
            known = self._client.get_experiment_by_name(name)
            if known is None:
                raise error from None
            return str(known.experiment_id)

    def _registered(self) -> str:
        """The registered model, made if there is none."""
        model = str(self._opening["model"])
        try:
            self._client.create_registered_model(model, tags=MADE_BY)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return model

    def _versions(self, condition: str = "") -> list[Any]:
        """Versions of the model, newest first."""
        model = str(self._opening["model"]).replace("'", "''")
        found = self._client.search_model_versions(
            f"name='{model}'{condition}", order_by=["version_number DESC"], max_results=10_000
        )
        return sorted(found, key=lambda version: -int(version.version))

    def _version_of(self, push_id: str) -> Any:
        """The version that a push has made; None if it has made none."""
        return next((version for version in self._versions() if version.tags.get(PUSH_TAG) == push_id), None)

    def _advance(self, alias: str, version: int) -> None:
        """Let the alias point to a version, unless it points to a newer one."""
        current = unless_missing(lambda: self._client.get_model_version_by_alias(self._opening["model"], alias))
        if current is None or int(current.version) < version:
            self._client.set_registered_model_alias(self._opening["model"], alias, str(version))

    def _source(self, revision: str | None, alias: str) -> tuple[str, str, str | None]:
        """Where the files of a revision are, a name for them, and their checksum."""
        run, _, place = (revision or "").partition("/")
        if re.fullmatch(r"[0-9a-f]{32}", run):
            return self._source_in_run(run, place)
        model = self._opening["model"]
        if revision is None or not revision.isdecimal():
            found = unless_missing(lambda: self._client.get_model_version_by_alias(model, revision or alias))
        else:
            found = unless_missing(lambda: self._client.get_model_version(model, revision))
        if found is None:
            wanted = f"version, alias or run {revision!r}" if revision else f"alias {alias!r}: nothing was uploaded"
            raise Refused(f"The model {model!r} of MLflow has no {wanted}.")
        return self._source_of(found)

    def _source_in_run(self, run: str, place: str) -> tuple[str, str, str | None]:
        known = unless_missing(lambda: self._client.get_run(run))
        if known is None:
            raise Refused(f"MLflow has no run {run!r}.")
        if place:
            return (
                f"runs:/{run}/{place}",
                f"{run}-{place.replace('/', '-')}",
                known.data.tags.get(f"{DIGEST_TAG}.{place}"),
            )
        versions = self._versions(f" and run_id='{run}'")
        if not versions:
            raise Refused(f"The run {run!r} of MLflow holds no version of {self._opening['model']!r}.")
        return self._source_of(versions[0])

    def _source_of(self, version: Any) -> tuple[str, str, str | None]:
        uri = self._client.get_model_version_download_uri(version.name, version.version)
        return uri, f"{_file_name(version.name)}-{version.version}", version.tags.get(DIGEST_TAG)

    def _log_parameters(self, parameters: list[Param]) -> None:
        self._client.log_batch(self._begun(), params=parameters)

    def _log_file(self, path: str, target: str) -> None:
        """A file under another name."""
        folder, _, name = target.rpartition("/")
        with TemporaryDirectory(prefix="rl_framework-") as temporary:
            renamed = Path(temporary) / name
            renamed.symlink_to(path)
            self._client.log_artifact(self._begun(), str(renamed), folder)

    def _later(self, verb: str, action: Callable[[], Any]) -> None:
        self._others.append((verb, action))
        self._send_if_due()

    def _send_if_due(self) -> None:
        if time.monotonic() >= self._next_sending:
            self._send()

    def _send(self, at_last: bool = False) -> None:
        """Send what is waiting. What a silent server does not take waits on, except at last."""
        self._next_sending = time.monotonic() + SECONDS_BETWEEN_SENDING
        try:
            self._send_metrics()
            self._send_others()
        except Exception as error:  # noqa: BLE001  (clients raise anything; what could not be sent is told or waits)
            kind, text = explain(error)
            if kind == "refused" or at_last:
                self._give_up(text)
            self._next_sending = time.monotonic() + SECONDS_AFTER_FAILURE

    def _send_metrics(self) -> None:
        while self._metrics:
            part = self._metrics[:MOST_PER_REQUEST]
            try:
                self._client.log_batch(self._begun(), metrics=part, synchronous=True)
            except MlflowException as error:
                if may_pass(error):
                    raise
                self._answers.note(lost="values", message=str(error), count=len(part))
            del self._metrics[: len(part)]

    def _send_others(self) -> None:
        while self._others:
            verb, action = self._others[0]
            try:
                action()
            except (OSError, MlflowException) as error:
                if may_pass(error):
                    raise
                self._answers.note(lost=verb, message=explain(error)[1])
            del self._others[0]

    def _give_up(self, text: str) -> None:
        count = len(self._metrics) + len(self._others)
        self._metrics.clear()
        self._others.clear()
        if count:
            self._answers.note(lost="values", message=text, count=count)


def _name(name: str) -> str:
    """A name that MLflow takes."""
    return UNUSUAL.sub("_", name)


def _file_name(name: str) -> str:
    return UNUSUAL.sub("_", name).replace("/", "_").replace(":", "_").lstrip(".") or "_"


def _flat(parameters: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nests as names with slashes, values as texts that are not too long."""
    for name, value in parameters.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}/")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            short = text if len(text) <= LONGEST_PARAMETER else f"{text[: LONGEST_PARAMETER - 3]}..."
            yield _name(f"{prefix}{name}"), short


def main() -> None:
    """Serve until the input ends."""
    answers = Answers()
    serve(MLflowWorker(answers), answers, explain)


if __name__ == "__main__":
    main()
