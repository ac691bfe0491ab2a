"""A hub on 127.0.0.1 for huggingface_hub's own client: the endpoints that gen uses.

It serves folders as repositories of one commit, with the branch "main" and the tag "v1".
Files ending in .safetensors are "in LFS": they have a hash in listings and are redirected
once, as the real hub does. Every request is noted.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import huggingface_hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Use as a context manager; `address` is what HF_ENDPOINT should say."""

    def __init__(self, repos: Mapping[str, Path]) -> None:
        self.repos = dict(repos)
        self.commit = (
            COMMIT  # of the branch and the tag; every commit has the same files
        )
        self.gated: set[str] = set()
        self.ignores_ranges = False
        self.status: int | None = None  # answer everything with this
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, range
        self.sent = 0  # bytes of weights
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet: the requests are noted in a list."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Self:
        serve = self.server.serve_forever
        threading.Thread(target=serve, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No longer listen: as if the network were gone."""
        self.server.shutdown()
        self.server.server_close()
        huggingface_hub.close_session()  # connections that it keeps open

    def answer(self, to: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = unquote(urlsplit(to.path).path)
        self.requests.append((to.command, path, to.headers.get("range")))
        if self.status is not None:
            return _send(to, self.status, b"", {}, body)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            return self._info(to, found[1], found[2], body)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            return self._tree(to, found[1], body)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(to, found[1], found[2], found[3], body)
        if found := re.fullmatch(r"/store/([^/]+/[^/]+)/(.+)", path):
            return self._bytes(to, self.repos[found[1]] / found[2], {}, body)
        return _send(to, 404, b"", {}, body)

    def _info(
        self, to: BaseHTTPRequestHandler, repo: str, revision: str, body: bool
    ) -> None:
        if self._refused(to, repo, revision, body):
            return
        siblings = []
        for path in sorted(self.repos[repo].iterdir()):
            data = path.read_bytes()
            row: dict[str, Any] = {"rfilename": path.name, "size": len(data)}
            if _in_lfs(path.name):
                digest = hashlib.sha256(data).hexdigest()
                row["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
            siblings.append(row)
        answer = {
            "id": repo,
            "sha": revision if re.fullmatch("[0-9a-f]{40}", revision) else self.commit,
            "siblings": siblings,
            "cardData": {"license": "mit"},
            "tags": [],
        }
        _send_json(to, answer, body)

    def _tree(self, to: BaseHTTPRequestHandler, repo: str, body: bool) -> None:
        rows = []
        for path in sorted(self.repos[repo].iterdir()):
            data = path.read_bytes()
            row: dict[str, Any] = {
                "type": "file",
                "path": path.name,
                "size": len(data),
                "oid": hashlib.sha1(data).hexdigest(),
            }
            if _in_lfs(path.name):
                digest = hashlib.sha256(data).hexdigest()
                row["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
            rows.append(row)
        _send_json(to, rows, body)

    def _file(
        self,
        to: BaseHTTPRequestHandler,
        repo: str,
        revision: str,
        name: str,
        body: bool,
    ) -> None:
        if self._refused(to, repo, revision, body):
            return
        if repo in self.gated:
            return _send(to, 403, b"", {"X-Error-Code": "GatedRepo"}, body)
        path = self.repos[repo] / name
        if not path.is_file():
            return _send(to, 404, b"", {"X-Error-Code": "EntryNotFound"}, body)
        data = path.read_bytes()
        kind = hashlib.sha256 if _in_lfs(name) else hashlib.sha1
        etag = kind(data).hexdigest()
        headers = {"X-Repo-Commit": revision, "ETag": f'"{etag}"'}
        if not _in_lfs(name):
            return self._bytes(to, path, headers, body)
        headers |= {
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(len(data)),
            # On another host, as the hub's store of large files is.
            "Location": f"http://localhost:{self.server.server_port}/store/{repo}/{name}",
        }
        return _send(to, 302, b"", headers, body)

    def _bytes(
        self,
        to: BaseHTTPRequestHandler,
        path: Path,
        headers: dict[str, str],
        body: bool,
    ) -> None:
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", to.headers.get("range") or "")
        status = 200
        if asked and not self.ignores_ranges:
            stop = int(asked[2]) + 1 if asked[2] else len(data)
            headers["Content-Range"] = f"bytes {asked[1]}-{stop - 1}/{len(data)}"
            data, status = data[int(asked[1]) : stop], 206
        if body and _in_lfs(path.name):
            self.sent += len(data)
        _send(to, status, data, headers, body)

    def _refused(
        self, to: BaseHTTPRequestHandler, repo: str, revision: str, body: bool
    ) -> bool:
        if repo not in self.repos:
            _send(to, 404, b"", {"X-Error-Code": "RepoNotFound"}, body)
        elif revision not in ("main", "v1", COMMIT, self.commit):
            _send(to, 404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
        else:
            return False
        return True


def _in_lfs(name: str) -> bool:
    return name.endswith(".safetensors")


def _send_json(to: BaseHTTPRequestHandler, value: object, body: bool) -> None:
    _send(
        to, 200, json.dumps(value).encode(), {"Content-Type": "application/json"}, body
    )


def _send(
    to: BaseHTTPRequestHandler,
    status: int,
    data: bytes,
    headers: dict[str, str],
    body: bool,
) -> None:
    to.send_response(status)
    for name, value in headers.items():
        to.send_header(name, value)
    to.send_header("Content-Length", str(len(data)))
    to.end_headers()
    if body:
        try:
            to.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            to.close_connection = True  # the client has read all that it wanted
