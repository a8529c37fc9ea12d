"""MLflow as a store and tracker: a run takes numbers and files, a registered model the agents.

```
texts/, videos/, artifacts/     files of the run
parameters.json                 all parameters, unshortened
agents/<push>/                  an agent; each is a version of the registered model, the newest has an alias
checkpoints/<steps>/            agents pushed during a training
```

An agent is stored as the files that it is: no pickle is written, and none is executed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import Self, override

from rl_framework.connectors.outbox import Outbox
from rl_framework.connectors.outbox_entry import Push
from rl_framework.connectors.packed_folder import digest_of_folder, place_folder
from rl_framework.connectors.retries import RetryPolicy
from rl_framework.connectors.user_folders import data_folder
from rl_framework.connectors.worker_connector import SHORT_DEADLINE, WorkerConnector, upload_deadline
from rl_framework.errors import CorruptArchiveError, InvalidInputError, UnknownOptionError

NEWEST = "newest"
DOWNLOAD_DEADLINE = 3600.0
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


class MLflowConnector(WorkerConnector):
    """Keeps agents and numbers in MLflow: on a tracking server, or in a database on this machine.

    Numbers without a step go to step 0, NaN stays what it is, and infinities become the largest number that there is.
    Characters that MLflow does not take in names become underscores. The `mlflow` client works in a process of its
    own; reports wait there while a server is silent.

    Args:
        experiment_name: The run's experiment.
        tracking_uri: The server's address, or `sqlite:///<path>`, beside which the files go then. None: as
            `MLFLOW_TRACKING_URI` says, else a database in the user's data folder.
        model_name: The registered model; named after the experiment unless given.
        alias: The model's alias that always means the agent that was uploaded last.
        outbox: Where pushes wait; the user's own unless given.
        retry_policy: How often and how long a request is tried again before a push waits in the outbox.
        close_patience: Seconds that closing may take to hand over what is waiting.

    Raises:
        InvalidInputError: The address holds a password; give it by `MLFLOW_TRACKING_PASSWORD`.
    """

    service = "MLflow"
    worker_module = "rl_framework.connectors.mlflow_worker"
    library = "mlflow"

    def __init__(
        self,
        experiment_name: str,
        *,
        tracking_uri: str | None = None,
        model_name: str | None = None,
        alias: str = NEWEST,
        outbox: Outbox | None = None,
        retry_policy: RetryPolicy | None = None,
        close_patience: float = 60.0,
    ) -> None:
        super().__init__(outbox=outbox, retry_policy=retry_policy, close_patience=close_patience)
        if tracking_uri is not None and urlsplit(tracking_uri).password:
            raise InvalidInputError(
                "Expected the address of MLflow without a password; set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD."
            )
        self.experiment_name = experiment_name
        self.model_name = model_name or experiment_name
        self.alias = alias
        self._given_uri = tracking_uri
        self._run_id: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.experiment_name!r}, model_name={self.model_name!r})"

    @property
    def tracking_uri(self) -> str:
        """The server or database."""
        given = self._given_uri or os.environ.get("MLFLOW_TRACKING_URI")
        return given or f"sqlite:///{data_folder() / 'mlflow' / 'mlflow.db'}"

    @property
    def destination(self) -> str:
        """The registered model, and where it is."""
        return f"{self.model_name} ({self.redact(self.tracking_uri)})"

    @property
    @override
    def uri(self) -> str:
        """`mlflow://model@alias`."""
        return f"mlflow://{self.model_name}@{self.alias}"

    @property
    def run_id(self) -> str | None:
        """The run, once it has begun."""
        return self._run_id

    def settings(self) -> dict[str, Any]:
        """Where everything goes, and the run that has begun; passwords come from where MLflow finds them."""
        uri = self.tracking_uri
        return {
            "experiment_name": self.experiment_name,
            "tracking_uri": None if urlsplit(uri).password else uri,
            "model_name": self.model_name,
            "alias": self.alias,
            "run_id": self._run_id,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The connector that `settings` describes; it goes on with the run.

        Raises:
            UnknownOptionError: A setting of another version of this library.
        """
        known = ("experiment_name", "tracking_uri", "model_name", "alias", "run_id")
        for name in settings:
            if name not in known:
                raise UnknownOptionError.of("setting of an MLflowConnector", name, known)
        options = {name: value for name, value in settings.items() if name not in ("experiment_name", "run_id")}
        connector = cls(settings["experiment_name"], **options)
        connector._run_id = settings.get("run_id")
        return connector

    def find_push(self, push_id: str) -> str | None:
        """The version or checkpoint that carries the push's id."""
        found = self._ask("find", push_id=push_id, alias=self.alias)
        return None if found is None else f"mlflow://{found}"

    @override
    def redact(self, text: str) -> str:
        """Without the passwords and tokens of MLflow."""
        password = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", "")).password
        for secret in filter(None, (*(os.environ.get(name) for name in SECRETS), password)):
            text = text.replace(secret, "***")
        return text

    def _push(self, push: Push) -> str:
        place = self._ask(
            "push",
            folder=str(push.folder),
            push_id=push.id,
            step=push.step,
            message=push.message,
            digest=digest_of_folder(push.folder),
            alias=self.alias,
            deadline=upload_deadline(push.folder),
        )
        return f"mlflow://{place}"

    def _pull(self, destination: Path | None, revision: str | None) -> Path:
        with TemporaryDirectory(prefix="rl_framework-", ignore_cleanup_errors=True) as temporary:
            found = self._ask("pull", revision=revision, alias=self.alias, folder=temporary, deadline=DOWNLOAD_DEADLINE)
            folder = Path(found["path"])
            if found["digest"] is not None and digest_of_folder(folder) != found["digest"]:
                raise CorruptArchiveError(f"{self.destination}: what arrived is not what was uploaded.")
            return place_folder(folder, destination, f"mlflow/{found['key']}")

    def _opening(self, *, fallback: bool) -> dict[str, Any]:
        return {
            "uri": self.tracking_uri,
            "experiment": self.experiment_name,
            "model": self.model_name,
            "run_id": self._run_id,
            "fallback": fallback,
        }

    def _ask(self, verb: str, *, deadline: float = SHORT_DEADLINE, **arguments: Any) -> Any:
        return self._tracking_worker().request(verb, deadline=deadline, **arguments)

    @override
    def _take_note(self, note: Mapping[str, Any]) -> None:
        if "run" in note:
            self._run_id = note["run"]
        else:
            super()._take_note(note)
