"""A stand-in of the Hugging Face hub's HTTP interface that serves a folder, for the real huggingface_hub client.

    folder/models/OWNER/NAME/...files          folder/datasets/OWNER/NAME/...files

    with LocalHub(folder, gated={"meta-llama/Llama-2-7b-hf": {"a-token"}}) as hub:
        environment = hub.environment | {"HF_TOKEN": "a-token"}       # HF_ENDPOINT and the like

As on the hub, a repository's revision is a commit, small texts are served by the hub itself with git's hash as their
ETag, and large files lie on a server of their own (here: another name of this machine), to which the hub redirects with
a signed address. A gated repository answers 401 without a token and 403 with one that has no access.
"""

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from faulty_server import Answer, FaultyServer

LARGE_FROM = 1000
"""Bytes from which on a file lies on the server for large files; weights and zips do at any size."""

_ALWAYS_LARGE = (".safetensors", ".bin", ".zip", ".model")


@dataclass(frozen=True)
class Repository:
    """A repository at its one commit."""

    folder: Path

    def files(self) -> dict[str, Path]:
        return {str(path.relative_to(self.folder)): path for path in sorted(self.folder.rglob("*")) if path.is_file()}

    @property
    def commit(self) -> str:
        digest = hashlib.sha1(usedforsecurity=False)
        for name, path in self.files().items():
            digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return digest.hexdigest()


def is_large(name: str, content: bytes) -> bool:
    return len(content) >= LARGE_FROM or name.endswith(_ALWAYS_LARGE)


def git_hash(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


class LocalHub(FaultyServer):
    """The hub: all that :class:`FaultyServer` can do, with repositories on it.

    Faults of large files go by their address there, ``/cdn/SHA256``; those of the hub by ``/OWNER/NAME/resolve/...``.

    Args:
        folder: where the repositories lie; what is changed there is served at once, under a new commit.
        gated: repository to the tokens whose accounts have access.
        branches: names that stand for the newest commit.

    ``pushed`` holds what was uploaded, by repository and name; ``writers`` the tokens that may (None: any token).
    """

    def __init__(
        self, folder: Path, gated: Mapping[str, Collection[str]] | None = None, branches: Collection[str] = ("main",)
    ) -> None:
        super().__init__()
        self.folder, self.gated, self.branches = folder, dict(gated or {}), branches
        self.old: dict[tuple[str, str], dict[str, bytes]] = {}
        self.pushed: dict[str, dict[str, bytes]] = {}
        self.writers: set[str] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process ask this hub; its token is for the test to add."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}

    def keep(self, kind: str, repo: str) -> str:
        """Remember a repository's files as they are now, so that this commit is served after they have changed."""
        repository = Repository(self.folder / kind / repo)
        commit = repository.commit
        self.old[repo, commit] = {name: path.read_bytes() for name, path in repository.files().items()}
        return commit

    def serve(self, answer: Answer) -> None:
        path = unquote(answer.path.partition("?")[0])
        if answer.command in ("POST", "PUT"):
            self._take(answer, path)
        elif path.startswith("/cdn/"):
            self._large(answer, path)
        elif path.startswith("/api/"):
            self._api(answer, path.removeprefix("/api/"))
        else:
            self._resolve(answer, path.removeprefix("/"))

    # --- the hub ----------------------------------------------------------------------------------------------------

    def _refuse(self, answer: Answer, code: int, error: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        headers = {"X-Error-Code": error, "X-Error-Message": message, "Content-Type": "application/json"}
        answer.begin(code, {**headers, "Content-Length": str(len(body))})
        answer.send(body)

    def _files(self, answer: Answer, kind: str, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit and the files that a revision means; None after a refusal."""
        repository = Repository(self.folder / kind / repo)
        if not repository.folder.is_dir():
            self._refuse(answer, 401, "RepoNotFound", "Invalid username or password.")
            return None
        token = answer.seen.headers.get("authorization", "").removeprefix("Bearer ")
        if repo in self.gated and token not in self.gated[repo]:
            message = f"Access to {'model' if kind == 'models' else 'dataset'} {repo} is restricted."
            self._refuse(answer, 403 if token else 401, "GatedRepo", message)
            return None
        if revision in self.branches or revision == repository.commit:
            return repository.commit, {name: path.read_bytes() for name, path in repository.files().items()}
        if (repo, revision) in self.old:
            return revision, self.old[repo, revision]
        self._refuse(answer, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _resolve(self, answer: Answer, path: str) -> None:
        kind, path = ("datasets", path.removeprefix("datasets/")) if path.startswith("datasets/") else ("models", path)
        owner, name, _, revision, *rest = (*path.split("/"), "", "", "", "")
        found = self._files(answer, kind, f"{owner}/{name}", revision)
        if found is None:
            return
        member = "/".join(rest).rstrip("/")
        commit, files = found
        if member not in files:
            self._refuse(answer, 404, "EntryNotFound", "Entry not found")
            return
        content = files[member]
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if is_large(member, content):
            sha256 = hashlib.sha256(content).hexdigest()
            self.files[f"/cdn/{sha256}"] = content
            headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content)), "Content-Length": "0"}
            location = f"http://localhost:{self.port}/cdn/{sha256}?X-Amz-Signature={len(self.requests)}"
            answer.begin(302, {**headers, "Location": location})
            return
        headers |= {"ETag": f'"{git_hash(content)}"', "Content-Length": str(len(content))}
        answer.begin(200, headers)
        answer.send(content)

    def _api(self, answer: Answer, path: str) -> None:
        """What a repository holds: ``models/OWNER/NAME[/revision/REVISION]`` and ``.../tree/REVISION``."""
        kind, owner, name, what, revision, *_ = (*path.split("/"), "", "", "", "")
        found = self._files(answer, kind, f"{owner}/{name}", revision or "main")
        if found is None:
            return
        commit, files = found
        entries = [{"type": "file", "path": file, **_object(file, content)} for file, content in files.items()]
        told: Any = entries if what == "tree" else {
            "id": f"{owner}/{name}", "_id": commit[:24], "sha": commit, "private": False, "downloads": 0, "likes": 0,
            "tags": [], "gated": "manual" if f"{owner}/{name}" in self.gated else False,
            "siblings": [{"rfilename": file} for file in files],
        }  # fmt: skip
        body = json.dumps(told).encode()
        answer.begin(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        answer.send(body)

    # --- uploads ------------------------------------------------------------------------------------------------------

    def _take(self, answer: Answer, path: str) -> None:
        """What makes a repository and fills it: create, preupload, large files by git-lfs, commit."""
        body = answer.rfile.read(int(answer.headers.get("Content-Length", 0)))
        if answer.command == "PUT":
            self.files[f"/cdn/{hashlib.sha256(body).hexdigest()}"] = body
            self._tell(answer, {})
            return
        token = answer.seen.headers.get("authorization", "").removeprefix("Bearer ")
        if path == "/api/validate-yaml":
            self._tell(answer, {"errors": [], "warnings": []})
        elif not token or (self.writers is not None and token not in self.writers):
            self._refuse(answer, 403 if token else 401, "", "You have no right to write here.")
        elif path == "/api/repos/create":
            asked = json.loads(body)
            repo = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            self.pushed.setdefault(repo, {})
            self._tell(answer, {"url": f"{self.endpoint}/{repo}", "id": repo, "name": repo})
        elif path.endswith("/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"http://localhost:{self.port}/upload/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            self._tell(answer, {"transfer": "basic", "objects": objects}, "application/vnd.git-lfs+json")
        elif "/preupload/" in path:
            modes = [
                {"path": one["path"], "uploadMode": "lfs" if one["size"] >= LARGE_FROM else "regular",
                 "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]  # fmt: skip
            self._tell(answer, {"files": modes})
        else:
            repo = path.removeprefix("/api/models/").partition("/commit/")[0]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.pushed[repo][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.pushed[repo][value["path"]] = self.files[f"/cdn/{value['oid']}"]
            oid = hashlib.sha1(body, usedforsecurity=False).hexdigest()
            self._tell(answer, {"success": True, "commitOid": oid, "commitUrl": f"{self.endpoint}/{repo}/commit/{oid}"})

    def _tell(self, answer: Answer, what: Any, kind: str = "application/json") -> None:
        body = json.dumps(what).encode()
        answer.begin(200, {"Content-Type": kind, "Content-Length": str(len(body)), "ETag": '"x"'})
        answer.send(body)

    # --- the server for large files -----------------------------------------------------------------------------------

    def _large(self, answer: Answer, path: str) -> None:
        if "X-Amz-Signature" not in answer.path:
            answer.begin(403, {"Content-Length": "0"})
            return
        answer.path = path
        with self.lock:
            faults = self.faults.get(path, [])
            fault = faults.pop(0) if faults else super().serve
        fault(answer)


def _object(name: str, content: bytes) -> dict[str, Any]:
    if not is_large(name, content):
        return {"oid": git_hash(content), "size": len(content)}
    sha256 = hashlib.sha256(content).hexdigest()
    return {
        "oid": git_hash(content),
        "size": len(content),
        "lfs": {"oid": sha256, "size": len(content), "pointerSize": 134},
    }
