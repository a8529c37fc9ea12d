"""Runs the `clearml` client: started by `ClearMLConnector` as a process of its own, see `worker_process`.

The client is made for one task per process. It hooks into exits, signals and forks, changes environment variables,
patches other libraries, and repeats requests to a silent server for ever; here all of that concerns nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from clearml import Model, OutputModel, Task
from clearml.backend_api import Session
from clearml.backend_interface.session import SendError
from clearml.config import get_offline_dir

from rl_framework.connectors.clearml_client import can_connect, configure, connect, explain, has_keys
from rl_framework.connectors.clearml_lookups import (
    AGENT,
    TAG,
    details_of,
    from_model,
    from_revision,
    from_tasks,
    is_whole,
    models_of,
    next_agent,
    tasks_of,
)
from rl_framework.connectors.worker_loop import Answers, Refused, Unreachable, serve

PUSH_TAG = "push:"
SESSION_TAG = "session:"


class ClearMLWorker:
    """Carries out the verbs of `ClearMLConnector`. Methods that are verbs begin with `do_`.

    Args:
        note: Tells the parent something.
    """

    def __init__(self, note: Callable[..., None]) -> None:
        self._note = note
        self._task: Task | None = None
        self._fell_back = False

    def do_mode(self, offline: bool | None) -> bool:
        """Whether to work without a server: as told, else if ClearML is told so, or has no keys."""
        if offline is None:
            return bool(Task.is_offline()) or not has_keys()
        if not offline and not has_keys():
            raise Refused(
                "ClearML has no access keys: run `clearml-init`, or set CLEARML_API_ACCESS_KEY and "
                "CLEARML_API_SECRET_KEY, or choose offline=True."
            )
        return offline

    def do_open(
        self, project: str, task: str, offline: bool | None, fallback: bool, task_id: str | None = None
    ) -> dict[str, Any]:
        """Begin a task, unless there is one: without a server if it is to be so, or falls back to it."""
        if self._task is None:
            wanted = self.do_mode(offline)
            self._fell_back = not wanted and fallback and not can_connect()
            if not wanted and not self._fell_back:
                connect()
            Task.set_offline(wanted or self._fell_back)
            known_id = None if wanted or self._fell_back else task_id
            try:
                self._task = _new_task(project, task, known_id)
            except SendError:  # the project exists: another process, or a request whose answer was lost, has made it
                self._task = _new_task(project, task, known_id)
        return self._describe()

    def do_values(self, values: dict[str, float], step: int | None) -> None:
        """Report numbers; ClearML turns infinities and NaN into 0, so that those go to the console instead."""
        logger = self._opened().get_logger()
        for name, value in values.items():
            if value - value != 0:
                logger.report_text(f"{name} = {value} at step {step}", print_console=False)
            elif step is None:
                logger.report_single_value(name, value)
            else:
                title, series = _title_and_series(name)
                logger.report_scalar(title, series, value, step)

    def do_text(self, name: str, text: str, step: int | None) -> None:
        """Write to the console of the task."""
        at = "" if step is None else f" (step {step})"
        self._opened().get_logger().report_text(f"{name}{at}:\n{text}", print_console=False)

    def do_parameters(self, parameters: dict[str, Any]) -> None:
        """Add to the hyper-parameters."""
        self._opened().update_parameters({f"parameters/{name}": value for name, value in _flat(parameters).items()})

    def do_video(self, name: str, path: str, step: int | None) -> None:
        """Add a debug sample."""
        title, series = _title_and_series(name)
        self._opened().get_logger().report_media(
            title, series, iteration=step or 0, local_path=path, delete_after_upload=False
        )

    def do_artifact(self, name: str, path: str) -> None:
        """Add an artifact."""
        self._opened().upload_artifact(name, Path(path), wait_on_upload=True)

    def do_flush(self) -> None:
        """Send what is waiting."""
        if self._task is not None:
            self._task.flush(wait_for_uploads=True)

    def do_push_model(self, path: str, push_id: str, name: str, message: str | None, details: dict[str, Any]) -> str:
        """Upload a packed agent as an output model of the task."""
        tags = [TAG, f"{PUSH_TAG}{push_id}"]
        task = self._opened()
        model = OutputModel(
            task=task, name=name, framework="PyTorch", tags=tags, comment=message or "", config_dict=details
        )
        model.update_weights(
            path,
            target_filename=f"{AGENT}-{push_id[:12]}.zip",
            upload_uri=task.output_uri or Session.get_files_server_host(),
            auto_delete_file=False,
            async_enable=False,
            update_comment=False,
        )
        if not is_whole(model.url):
            raise Unreachable(f"the file of the model {model.id} did not arrive")
        _remove_remains(str(task.get_project_name()), tags[-1])
        return str(model.id)

    def do_push_artifact(self, path: str, name: str | None, details: dict[str, Any]) -> str:
        """Upload a packed agent as an artifact of the task; named after the number of agents in it unless given."""
        task = self._opened()
        chosen = name or next_agent(list(task.artifacts))
        if not task.upload_artifact(chosen, Path(path), metadata=details, wait_on_upload=True):
            raise Unreachable(f"the artifact {chosen} did not arrive")
        return chosen

    def do_find(self, push_id: str, project: str, task: str | None) -> str | None:
        """The model or artifact of a push."""
        connect()
        tag = f"{PUSH_TAG}{push_id}"
        for model in models_of(project, [tag]):
            _remove_remains(project, tag)
            return str(model.id)
        for candidate in tasks_of(project, task):
            for name, artifact in candidate.artifacts.items():
                if details_of(artifact).get("push_id") == push_id:
                    return f"{candidate.id}#{name}"
        return None

    def do_pull(self, project: str, task: str | None, revision: str | None) -> dict[str, Any]:
        """Fetch the packed agent of a model or task; the newest of the project if none is named."""
        connect()
        if revision is not None:
            found = from_revision(revision)
        else:
            models = (model for model in models_of(project, [TAG]) if task is None or model.name == task)
            newest = next(models, None)
            found = from_model(newest) if newest else from_tasks(tasks_of(project, task))
        if found is None:
            raise Refused(
                f"ClearML has no model, task or artifact {revision!r} that holds an agent."
                if revision
                else f"Nothing was uploaded to the project {project!r}{f', task {task!r},' if task else ''} of ClearML."
            )
        return found

    def do_offline_folder(self) -> str:
        """Where sessions without a server are kept."""
        return str(get_offline_dir())

    def do_import_session(self, session: str, session_id: str, agents: list[str], name: str) -> str:
        """Send a session that was recorded without a server, unless it was sent before."""
        connect()
        known: list[Task] = Task.get_tasks(tags=[f"{SESSION_TAG}{session_id}"])
        if known:
            return str(known[0].id)
        task: Task = Task.get_task(Task.import_offline_session(session))
        for agent in agents:
            _register(task, agent, name)
        task.add_tags([f"{SESSION_TAG}{session_id}"])
        return str(task.id)

    def do_close(self) -> None:
        """End the task, after all of it has arrived."""
        task, self._task = self._task, None
        if task is not None:
            task.flush(wait_for_uploads=True)
            task.close()

    def _opened(self) -> Task:
        if self._task is None:
            raise Refused("no task is open")
        return self._task

    def _describe(self) -> dict[str, Any]:
        task = self._opened()
        folder = task.get_offline_mode_folder() if Task.is_offline() else None
        described = {"task": str(task.id), "session": folder and str(folder), "fell_back": self._fell_back}
        self._note(opened=described)
        return described


def _new_task(project: str, name: str, task_id: str | None) -> Task:
    """A task with nothing in it but what it is given; the same one again where its id is known."""
    return Task.init(
        project_name=project,
        task_name=name,
        tags=[TAG],
        reuse_last_task_id=task_id or False,
        continue_last_task=0 if task_id else False,
        output_uri=True,
        auto_connect_arg_parser=False,
        auto_connect_frameworks={
            "detect_repository": False, "pytorch": False, "tensorboard": False, "tensorflow": False, "scikit": False,
            "matplotlib": False, "joblib": False, "xgboost": False, "catboost": False, "lightgbm": False,
            "fastai": False, "megengine": False, "hydra": False, "tfdefines": False, "gradio": False,
            "jsonargparse": False,
        },
        auto_resource_monitoring=False,
        auto_connect_streams=False,
    )  # fmt: skip


def _remove_remains(project: str, tag: str) -> None:
    """Models without a file, which lost answers and interrupted attempts of a push have left; if it can be done."""
    try:
        for model in Model.query_models(project_name=project, tags=[tag]):
            if not is_whole(model.url):
                Model.remove(model, delete_weights_file=False, force=True)
    except (Unreachable, SendError, ValueError):
        return


def _register(task: Task, agent: str, name: str) -> None:
    """Make an artifact a model, too, without sending its file again."""
    artifact = task.artifacts[agent]
    tags = [TAG, f"{PUSH_TAG}{details_of(artifact).get('push_id')}"]
    details = {"sha256": details_of(artifact).get("sha256")}
    model = OutputModel(task=task, name=name, framework="PyTorch", tags=tags, config_dict=details)
    model.update_weights(register_uri=artifact.url, auto_delete_file=False, update_comment=False)


def _title_and_series(name: str) -> tuple[str, str]:
    """ClearML draws the series of one title in one plot: `rollout/ep_rew_mean` is one of `rollout`."""
    title, slash, series = name.partition("/")
    return (title, series) if slash and title and series and title != series else (name, name)


def _flat(parameters: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nests as names with slashes."""
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def main() -> None:
    """Serve until the input ends."""
    answers = Answers()
    configure()
    serve(ClearMLWorker(answers.note), answers, explain)


if __name__ == "__main__":
    main()
