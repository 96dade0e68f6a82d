"""A small hub on this machine: what the hub's own client asks for when a folder is sent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "0" * 40


@dataclass
class Hub:
    """What was asked of it, and what it holds.

    Attributes:
        address: Where it listens.
        private: Visibility by repository.
        files: Content by repository and path; of a large file by its digest first.
        messages: Of the commits.
        tokens: That came with requests.
        refuse: Status that making a repository is answered with.
    """

    address: str = ""
    private: dict[str, bool] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    refuse: int | None = None


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve an empty hub."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            name = "/".join(path.split("/")[3:5])
            if name not in hub.private:
                return self.answer({"error": "not found"}, 404, "RepoNotFound")
            if "/tree/" in path:
                return self.answer(
                    [
                        {"type": "file", "path": p, "size": len(c), "oid": "1"}
                        for p, c in hub.files.items()
                    ]
                )
            siblings = [{"rfilename": path} for path in hub.files]
            return self.answer(
                {"id": name, "private": hub.private[name], "siblings": siblings, "sha": COMMIT}
            )

        def do_POST(self) -> None:
            hub.tokens.add(self.headers.get("Authorization"))
            body = self.read()
            if self.path == "/api/repos/create":
                return self.create(json.loads(body))
            if self.path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if "/preupload/" in self.path:
                files = [
                    {
                        "path": each["path"],
                        "shouldIgnore": False,
                        "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                    }
                    for each in json.loads(body)["files"]
                ]
                return self.answer({"files": files})
            if self.path.endswith("/info/lfs/objects/batch"):
                objects = [
                    each | {"actions": {"upload": {"href": f"{hub.address}/large/{each['oid']}"}}}
                    for each in json.loads(body)["objects"]
                ]
                return self.answer({"transfer": "basic", "objects": objects})
            name = "/".join(self.path.split("/")[3:5])
            return self.commit(name, [json.loads(line) for line in body.splitlines()])

        def do_PUT(self) -> None:
            digest = self.path.rpartition("/")[2]
            hub.files[digest] = self.read()
            self.answer({})

        def read(self) -> bytes:
            length = self.headers.get("Content-Length")
            if length is not None:
                return self.rfile.read(int(length))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def create(self, wanted: dict[str, Any]) -> None:
            if hub.refuse:
                return self.answer({"error": "no"}, hub.refuse)
            name = f"{wanted['organization']}/{wanted['name']}"
            status = 409 if name in hub.private else 200
            private = wanted.get("visibility", "") == "private" or bool(wanted.get("private"))
            hub.private.setdefault(name, private)
            return self.answer({"url": f"{hub.address}/{name}"}, status)

        def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    hub.messages.append(value["summary"])
                elif line["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.files[value["path"]] = hub.files.pop(value["oid"])
                elif line["key"] == "deletedFile":
                    hub.deleted.append(value["path"])
                    hub.files.pop(value["path"], None)
            self.answer({"commitUrl": f"{hub.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

        def answer(self, value: Any, status: int = 200, code: str = "") -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if code:
                self.send_header("X-Error-Code", code)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
