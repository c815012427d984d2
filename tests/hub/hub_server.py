"""A server on 127.0.0.1 that speaks the Hub's protocol as far as fetching and publishing need it, and that can fail in
every way a network can.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

BODY = bytes(range(256)) * 100  # a large file
LFS_FROM = 512  # bytes; smaller files are git's, as on the Hub


def commit_of(files: dict[str, bytes]) -> str:
    listing = sorted((path, hashlib.sha1(data).hexdigest()) for path, data in files.items())
    return hashlib.sha1(repr(listing).encode()).hexdigest()


@dataclass
class Repo:
    files: dict[str, bytes]
    gated: bool = False
    private: bool = False

    @property
    def commit(self) -> str:
        return commit_of(self.files)


@dataclass
class Fault:
    """What happens to requests whose path contains `path`, `times` times.

    status: answer with it. cut: close the connection after so many bytes of the body (0: before any answer). slow:
    seconds to wait before the answer. corrupt: the body has another first byte. deaf: ranges are ignored.
    """

    path: str
    times: int = 1_000_000
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = -1
    slow: float = 0.0
    corrupt: bool = False
    deaf: bool = False
    methods: tuple[str, ...] = ("GET",)


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    token: str | None


class Hub:
    """`with Hub() as hub`: `hub.url` is its HF_ENDPOINT; the cdn that large files lie on has an address of its own."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.plain: dict[str, bytes] = {}  # path -> content, for files that lie on no Hub
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.tokens = {"hf_good"}
        self.released = threading.Event()  # slow answers end with the server
        self._lock = threading.Lock()

    def add(self, repo: str, files: dict[str, bytes], repo_type: str = "model", **about: bool) -> Repo:
        self.repos[repo_type, repo] = made = Repo(files, **about)
        return made

    def gets(self, part: str = "/cdn/") -> list[Request]:
        return [r for r in self.requests if r.method == "GET" and part in r.path]

    def __enter__(self) -> Hub:
        self._servers = [_Server(self), _Server(self)]
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and fault.path in path and method in fault.methods:
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub):
        self.hub = hub
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, address: object) -> None:
        pass  # a client that went away


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        hub.requests.append(Request(self.command, path, self.headers.get("Range"), token))
        fault = hub.fault(self.command, path) or Fault("", times=0)
        if fault.slow:
            hub.released.wait(fault.slow)
        if fault.cut == 0:
            self.close_connection = True
            return
        if fault.status:
            self._answer(fault.status, b"", fault.headers)
            return
        for method, pattern, handle in _ROUTES:
            if self.command in method and (match := re.fullmatch(pattern, path)):
                handle(self, body, fault, **match.groupdict())
                return
        self._error(404, "RepoNotFound")

    def _repo(self, kind: str, repo: str) -> Repo | None:
        hub = self.server.hub
        found = hub.repos.get((kind.rstrip("s"), repo))
        token = (
            hub.requests[-1].token
            if not self.headers.get("Authorization")
            else self.headers["Authorization"].removeprefix("Bearer ")
        )
        if found and found.private and token not in hub.tokens:
            found = None
        if found is None:
            self._error(401 if token not in hub.tokens else 404, "RepoNotFound")
        elif found.gated and token not in hub.tokens:
            self._error(401 if token is None else 403, "GatedRepo")
            found = None
        return found

    # what the routes call

    def info(self, body: bytes, fault: Fault, kind: str, repo: str, revision: str | None) -> None:
        if not (found := self._repo(kind, repo)):
            return
        if revision not in (None, "main", found.commit):
            self._error(404, "RevisionNotFound")
            return
        siblings = []
        for path, data in found.files.items():
            entry = {"rfilename": path, "size": len(data), "blobId": _blob(data)}
            if len(data) >= LFS_FROM:
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        self._json(
            {
                "id": repo,
                "modelId": repo,
                "sha": found.commit,
                "siblings": siblings,
                "tags": [],
                "private": found.private,
            }
        )

    def resolve(self, body: bytes, fault: Fault, repo: str, revision: str, path: str, kind: str | None = None) -> None:
        if not (found := self._repo(kind or "model", repo)):
            return
        if revision not in (None, "main", found.commit):
            self._error(404, "RevisionNotFound")
        elif path not in found.files:
            self._error(404, "EntryNotFound", {"X-Repo-Commit": found.commit})
        else:
            data, headers = found.files[path], {"X-Repo-Commit": found.commit}
            if len(data) < LFS_FROM:
                self._file(data, fault, {**headers, "ETag": f'"{_blob(data)}"'})
                return
            digest = hashlib.sha256(data).hexdigest()
            where = f"{self.server.hub.cdn}/cdn/{digest}"
            headers |= {
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(data)),
                "Location": where,
                "ETag": '"pointer"',
            }
            self._answer(302, b"", headers)

    def cdn(self, body: bytes, fault: Fault, digest: str) -> None:
        if self.headers.get("Authorization"):  # a token must not leave the Hub
            self._answer(400, b"", {})
            return
        data = next(
            d
            for r in self.server.hub.repos.values()
            for d in r.files.values()
            if hashlib.sha256(d).hexdigest() == digest
        )
        self._file(data, fault, {"ETag": f'"{digest}"'})

    def plain(self, body: bytes, fault: Fault, path: str) -> None:
        if path in self.server.hub.plain:
            self._file(self.server.hub.plain[path], fault, {})
        else:
            self._answer(404, b"", {})

    def create(self, body: bytes, fault: Fault) -> None:
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        if not self._may_write():
            return
        if ("model", name) in self.server.hub.repos:
            self._json({"url": f"{self.server.hub.url}/{name}", "error": "exists"}, 409)
        else:
            self.server.hub.add(name, {}, private=bool(asked.get("private")))
            self._json({"url": f"{self.server.hub.url}/{name}"})

    def preupload(self, body: bytes, fault: Fault, repo: str, revision: str) -> None:
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["size"] >= LFS_FROM else "regular", "shouldIgnore": False}
            for f in json.loads(body)["files"]
        ]
        self._json({"files": modes})

    def batch(self, body: bytes, fault: Fault, repo: str) -> None:
        url = self.server.hub.cdn
        objects = [
            {**o, "actions": {"upload": {"href": f"{url}/upload/{o['oid']}"}}} for o in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def upload(self, body: bytes, fault: Fault, digest: str) -> None:
        self.server.hub.plain[f"upload/{digest}"] = body
        self._answer(200 if hashlib.sha256(body).hexdigest() == digest else 400, b"", {})

    def commit(self, body: bytes, fault: Fault, repo: str, revision: str) -> None:
        if not self._may_write() or not (found := self._repo("model", repo)):
            return
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                found.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                found.files[value["path"]] = self.server.hub.plain.pop(f"upload/{value['oid']}")
        url = f"{self.server.hub.url}/{repo}/commit/{found.commit}"
        self._json({"success": True, "commitOid": found.commit, "commitUrl": url, "hookOutput": ""})

    def yaml(self, body: bytes, fault: Fault) -> None:
        self._json({"errors": [], "warnings": []})

    def whoami(self, body: bytes, fault: Fault) -> None:
        if self._may_write():
            self._json({"name": "tester", "type": "user"})

    def _may_write(self) -> bool:
        if (self.headers.get("Authorization") or "").removeprefix("Bearer ") in self.server.hub.tokens:
            return True
        self._answer(401, b"", {"X-Error-Message": "Invalid username or password."})
        return False

    # answers

    def _file(self, data: bytes, fault: Fault, headers: dict[str, str]) -> None:
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked and not fault.deaf:
            start, status = int(asked[1]), 206
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        body = data[start:]
        if fault.corrupt:
            body = bytes([body[0] ^ 1]) + body[1:]
        self._answer(status, body, {**headers, "Accept-Ranges": "bytes"}, fault.cut)

    def _json(self, value: object, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], cut: int = -1) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut < 0 else body[:cut])
        if cut >= 0:
            self.close_connection = True


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_NAME = r"(?P<repo>[^/]+/[^/]+)"
_ROUTES = (
    (("GET",), rf"/api/(?P<kind>models|spaces)/{_NAME}(?:/revision/(?P<revision>.+))?", _Handler.info),
    (("GET", "HEAD"), rf"/(?:(?P<kind>spaces)/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
    (("GET", "HEAD"), r"/cdn/(?P<digest>\w+)", _Handler.cdn),
    (("GET", "HEAD"), r"/plain/(?P<path>.+)", _Handler.plain),
    (("POST",), r"/api/repos/create", _Handler.create),
    (("POST",), rf"/api/models/{_NAME}/preupload/(?P<revision>.+)", _Handler.preupload),
    (("POST",), rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (("PUT",), r"/upload/(?P<digest>\w+)", _Handler.upload),
    (("POST",), rf"/api/models/{_NAME}/commit/(?P<revision>.+)", _Handler.commit),
    (("POST",), r"/api/validate-yaml", _Handler.yaml),
    (("GET",), r"/api/whoami-v2", _Handler.whoami),
)
