"""A Hugging Face Hub on loopback, for tests that speak to it through the real `huggingface_hub`.

It knows what pushing, pulling and looking up models needs, with large files over LFS (transfer `basic`); start the
tests with `HF_HUB_DISABLE_XET=1` in the environment, because that newer transfer has a protocol of its own.

```python
with HubServer(tmp_path) as hub:
    connector = HuggingFaceConnector("me/agent", endpoint=hub.url, token=hub.token)
    hub.faults = ScriptedFaults({"commit": [Fault(drop="after")]})
    connector.upload(folder)
    assert hub.repository("me/agent").contents()["manifest.json"] == ...
assert hub.leaks() == []
```

The API is at `127.0.0.1`; large files are served under the name `localhost`, to which the token must never go.
The steps of the protocol, by which faults are injected: `create`, `branch`, `validate card`, `upload mode`,
`lfs batch`, `lfs put`, `lfs verify`, `commit`, `look up`, `tree`, `history`, `file head`, `file`, `storage`, `who`.

Source: the requests of `huggingface_hub` 2.4; Git LFS, docs/api/batch.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rl_framework.testing.hub_repository import HubCommit, HubRepository, StaleParentError, StoredFile, is_large
from rl_framework.testing.loopback import Answer, LoopbackServer, Request, Route
from rl_framework.testing.loopback_faults import Faults

NAME = r"(?P<name>[^/]+/[^/]+)"
REVISION = r"(?P<revision>[^/]+)"
API = rf"/api/models/{NAME}"
CANARY = "hf_canaryThatMustNotBeSeenAnywhere"
COMMITS_PER_PAGE = 50
STORAGE_HOST = "localhost"
DATE = "2026-01-01T00:00:00.000Z"

RepositoryAction = Callable[[HubRepository, Request], Answer]


class HubServer(LoopbackServer):
    """A Hub that holds repositories in memory, and large files in a folder.

    Args:
        folder: For large files.
        token: Lets in; whoever writes, or reads what is private, needs it.
        faults: What goes wrong; can be exchanged at any time.
    """

    def __init__(self, folder: Path, *, token: str = CANARY, faults: Faults | None = None) -> None:
        super().__init__(faults)
        self.token = token
        self._storage = folder / "hub-storage"
        self._repositories: dict[str, HubRepository] = {}

    def repository(self, name: str) -> HubRepository:
        """A repository, to look into it or to push as someone else; it is made if there is none."""
        return self._repositories.setdefault(name, HubRepository(name))

    def has(self, name: str) -> bool:
        """Whether there is such a repository."""
        return name in self._repositories

    def leaks(self) -> list[str]:
        """Requests to the storage host that carried the token, in any header or in the address."""
        return [
            f"{request.method} {request.target}"
            for request in self.seen
            if request.host == STORAGE_HOST
            and any(self.token in text for text in (request.target, *request.headers.values()))
        ]

    def routes(self) -> Sequence[Route]:
        """The protocol."""
        return [
            Route("create", "POST", "/api/repos/create", self._create),
            Route("validate card", "POST", "/api/validate-yaml", lambda _: Answer.of({"errors": [], "warnings": []})),
            Route("who", "GET", "/api/whoami-v2", self._who),
            Route("branch", "POST", rf"{API}/branch/(?P<branch>[^/]+)", self._writing(self._branch)),
            Route("upload mode", "POST", rf"{API}/preupload/{REVISION}", self._writing(self._upload_mode)),
            Route("lfs batch", "POST", rf"/{NAME}\.git/info/lfs/objects/batch", self._writing(self._lfs_batch)),
            Route("lfs put", "PUT", "/storage/(?P<oid>[0-9a-f]{64})", self._lfs_put),
            Route("lfs verify", "POST", rf"/{NAME}\.git/info/lfs/verify", self._writing(self._lfs_verify)),
            Route("commit", "POST", rf"{API}/commit/{REVISION}", self._writing(self._commit)),
            Route("look up", "GET", rf"{API}(/revision/{REVISION})?", self._reading(self._look_up)),
            Route("tree", "GET", rf"{API}/tree/{REVISION}(/(?P<path>.+))?", self._reading(self._tree)),
            Route("history", "GET", rf"{API}/commits/{REVISION}", self._reading(self._history)),
            Route("file head", "HEAD", rf"/{NAME}/resolve/{REVISION}/(?P<path>.+)", self._reading(self._file)),
            Route("file", "GET", rf"/{NAME}/resolve/{REVISION}/(?P<path>.+)", self._reading(self._file)),
            Route("storage", "GET", "/storage/(?P<oid>[0-9a-f]{64})", self._stored),
        ]

    def _is_let_in(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.token}"

    def _reading(self, action: RepositoryAction) -> Callable[[Request], Answer]:
        def checked(request: Request) -> Answer:
            found = self._repositories.get(request.arguments["name"])
            if found is None or (found.private and not self._is_let_in(request)):
                return _missing("RepoNotFound", 401)
            return action(found, request)

        return checked

    def _writing(self, action: RepositoryAction) -> Callable[[Request], Answer]:
        def checked(request: Request) -> Answer:
            if not self._is_let_in(request):
                return Answer.of({"error": "Invalid credentials in Authorization header"}, 401)
            found = self._repositories.get(request.arguments["name"])
            return _missing("RepoNotFound", 404) if found is None else action(found, request)

        return checked

    def _who(self, request: Request) -> Answer:
        if not self._is_let_in(request):
            return Answer.of({"error": "Invalid user token."}, 401)
        return Answer.of({"type": "user", "name": "me", "orgs": []})

    def _create(self, request: Request) -> Answer:
        asked = request.json()
        if not self._is_let_in(request):
            return Answer.of({"error": "Invalid user token."}, 401)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        url = {"url": f"{self.url}/{name}", "name": name}
        if name in self._repositories:
            return Answer.of({**url, "error": "You already created this model repo"}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self._repositories[name] = HubRepository(name, private=private)
        return Answer.of(url)

    def _branch(self, repository: HubRepository, request: Request) -> Answer:
        branch = request.arguments["branch"]
        if branch in repository.branches:
            return Answer.of({"error": "Reference already exists"}, 409)
        start = repository.find(request.json().get("startingPoint", "main"))
        if start is None:
            return _missing("RevisionNotFound", 404)
        repository.branches[branch] = start.oid
        return Answer.of({})

    def _upload_mode(self, repository: HubRepository, request: Request) -> Answer:
        commit = repository.find(request.arguments["revision"])
        if commit is None:
            return _missing("RevisionNotFound", 404)
        asked = request.json()
        ignored = str(asked.get("gitIgnore", commit_text(commit, ".gitignore"))).split()
        return Answer.of({"files": [_mode(commit, file, ignored) for file in asked["files"]]})

    def _lfs_batch(self, repository: HubRepository, request: Request) -> Answer:
        verify = f"{self.url}/{repository.name}.git/info/lfs/verify"
        objects = [self._lfs_object(item, verify) for item in request.json()["objects"]]
        return Answer.of({"transfer": "basic", "objects": objects})

    def _lfs_object(self, item: Mapping[str, Any], verify: str) -> dict[str, Any]:
        known = {"oid": item["oid"], "size": item["size"]}
        if (self._storage / item["oid"]).is_file():
            return known
        return {**known, "actions": {"upload": {"href": self._storage_url(item["oid"])}, "verify": {"href": verify}}}

    def _storage_url(self, oid: str) -> str:
        return f"http://{STORAGE_HOST}:{self.port}/storage/{oid}?signature={oid[:8]}"

    def _lfs_put(self, request: Request) -> Answer:
        self._storage.mkdir(parents=True, exist_ok=True)
        oid, digest = request.arguments["oid"], hashlib.sha256()
        part = self._storage / f".{oid}.{id(request)}"
        with part.open("wb") as file:
            for chunk in request.chunks:
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != oid:
            part.unlink()
            return Answer.of({"error": "The content has another checksum."}, 400)
        part.replace(self._storage / oid)
        return Answer()

    def _lfs_verify(self, repository: HubRepository, request: Request) -> Answer:
        asked = request.json()
        kept = self._storage / asked["oid"]
        whole = kept.is_file() and kept.stat().st_size == asked["size"]
        return Answer() if whole else Answer.of({"error": "Not uploaded"}, 404)

    def _commit(self, repository: HubRepository, request: Request) -> Answer:
        branch = request.arguments["revision"]
        if branch not in repository.branches:
            return _missing("RevisionNotFound", 404)
        items = [json.loads(line) for line in request.body().splitlines()]
        header = next(item["value"] for item in items if item["key"] == "header")
        try:
            commit = repository.commit(
                self._added(items),
                title=header["summary"],
                description=header.get("description", ""),
                deleted=[item["value"]["path"] for item in items if item["key"] == "deletedFile"],
                branch=branch,
                parent=header.get("parentCommit"),
            )
        except StaleParentError:
            return Answer.of({"error": "A commit has happened since. Please refresh and try again."}, 412)
        except FileNotFoundError as error:
            return Answer.of({"error": f"A large file was not uploaded: {error}"}, 400)
        except KeyError:
            return Answer.of({"error": "A file with this name doesn't exist"}, 404, {"X-Error-Code": "EntryNotFound"})
        url = f"{self.url}/{repository.name}/commit/{commit.oid}"
        return Answer.of({"success": True, "commitOid": commit.oid, "commitUrl": url})

    def _added(self, items: Sequence[Mapping[str, Any]]) -> dict[str, StoredFile | bytes]:
        added: dict[str, StoredFile | bytes] = {}
        for key, value in ((item["key"], item["value"]) for item in items):
            if key == "file":
                added[value["path"]] = StoredFile.of(base64.b64decode(value["content"]), large=False)
            elif key == "lfsFile":
                kept = self._storage / value["oid"]
                size = kept.stat().st_size
                added[value["path"]] = StoredFile(content=kept, large=True, size=size, digest=value["oid"])
        return added

    def _look_up(self, repository: HubRepository, request: Request) -> Answer:
        commit = repository.find(request.arguments.get("revision") or "main")
        if commit is None:
            return _missing("RevisionNotFound", 404)
        siblings = [{"rfilename": path} for path in commit.files]
        known = {"id": repository.name, "modelId": repository.name, "private": repository.private, "tags": []}
        return Answer.of({**known, "sha": commit.oid, "siblings": siblings})

    def _tree(self, repository: HubRepository, request: Request) -> Answer:
        commit = repository.find(request.arguments["revision"])
        if commit is None:
            return _missing("RevisionNotFound", 404)
        below = f"{request.arguments['path']}/" if request.arguments.get("path") else ""
        found = [_tree_item(path, file) for path, file in commit.files.items() if path.startswith(below)]
        return Answer.of(found) if found or not below else _missing("EntryNotFound", 404)

    def _history(self, repository: HubRepository, request: Request) -> Answer:
        if repository.find(request.arguments["revision"]) is None:
            return _missing("RevisionNotFound", 404)
        start = int(request.query.get("p", "0"))
        commits = repository.history(request.arguments["revision"])
        page = commits[start : start + COMMITS_PER_PAGE]
        following = start + COMMITS_PER_PAGE
        link = {"Link": f'<{self.url}{request.path}?p={following}>; rel="next"'} if following < len(commits) else {}
        return Answer.of([_commit_item(commit) for commit in page], headers=link)

    def _file(self, repository: HubRepository, request: Request) -> Answer:
        commit = repository.find(request.arguments["revision"])
        if commit is None:
            return _missing("RevisionNotFound", 404)
        file = commit.files.get(request.arguments["path"])
        if file is None:
            return _missing("EntryNotFound", 404)
        known = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
        if not file.large:
            return _ranged(file, request, {**known, "ETag": f'"{file.digest}"'})
        place = self._serve_from_storage(file)
        linked = {"X-Linked-Etag": f'"{file.digest}"', "X-Linked-Size": str(file.size), "Location": place}
        return Answer(status=302, headers={**known, **linked})

    def _serve_from_storage(self, file: StoredFile) -> str:
        kept = self._storage / file.digest
        if not kept.is_file():
            self._storage.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(file.read())
        return self._storage_url(file.digest)

    def _stored(self, request: Request) -> Answer:
        kept = self._storage / request.arguments["oid"]
        if not kept.is_file():
            return Answer.of({"error": "Not found"}, 404)
        if request.headers.get("range"):
            return _ranged(StoredFile.of(kept.read_bytes(), large=True), request, {})
        return Answer(body=kept)


def commit_text(commit: HubCommit, path: str) -> str:
    """A text file of a commit; empty if there is none."""
    file = commit.files.get(path)
    return "" if file is None else file.read().decode()


def _mode(commit: HubCommit, asked: Mapping[str, Any], ignored: Sequence[str]) -> dict[str, Any]:
    path = asked["path"]
    present = commit.files.get(path)
    mode = "lfs" if is_large(path, asked["size"]) else "regular"
    found: dict[str, Any] = {"path": path, "uploadMode": mode, "shouldIgnore": path in ignored}
    return found if present is None else {**found, "oid": present.digest}


def _tree_item(path: str, file: StoredFile) -> dict[str, Any]:
    item: dict[str, Any] = {"type": file.kind, "path": path, "size": file.size, "oid": file.digest}
    if file.large:
        item["oid"] = hashlib.sha1(file.digest.encode(), usedforsecurity=False).hexdigest()
        item["lfs"] = {"oid": file.digest, "size": file.size, "pointerSize": 134}
    return item


def _commit_item(commit: HubCommit) -> dict[str, Any]:
    return {
        "id": commit.oid,
        "title": commit.title,
        "message": commit.description,
        "date": DATE,
        "authors": [{"user": "me"}],
    }


def _ranged(file: StoredFile, request: Request, headers: Mapping[str, str]) -> Answer:
    """The file, or the part of it that was asked for (RFC 9110, section 14)."""
    content = file.read()
    wanted = request.headers.get("range")
    if not wanted:
        return Answer(body=content, headers=headers)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    end = int(last) + 1 if last else len(content)
    part = content[int(first) : end]
    span = {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"}
    return Answer(status=206, body=part, headers={**headers, **span})


def _missing(code: str, status: int) -> Answer:
    message = quote(f"{code}: there is no such thing here.", safe=" :")
    return Answer.of({"error": message}, status, {"X-Error-Code": code, "X-Error-Message": message})
