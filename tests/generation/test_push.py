"""`push_to_hub` with the Hub's own client, to a server on this machine that keeps what it gets in a folder."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import torch

from mpgen.errors import UserError
from mpgen.generation.python import MemoryPackPipeline


class Hub(BaseHTTPRequestHandler):
    """The calls of an upload of small files."""

    folder: Path
    status = 200

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/api/repos/create":
            given = json.loads(body)
            self._answer({"url": f"{self.server.url}/{given['organization']}/{given['name']}", "id": "x"})
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    target = self.folder / line["value"]["path"]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(base64.b64decode(line["value"]["content"]))
            commit = f"{self.server.url}/me/disc/commit/{'0' * 40}"
            self._answer({"success": True, "commitOid": "0" * 40, "commitUrl": commit, "hookOutput": ""})
        else:
            self._answer({}, 404)

    def do_GET(self) -> None:
        self._answer({"id": "me/disc", "sha": "0" * 40, "siblings": []})

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while length := int(self.rfile.readline(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, content: dict, status: int | None = None) -> None:
        text = json.dumps(content).encode()
        self.send_response(status or type(self).status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[type[Hub]]:
    handler = type("HubHere", (Hub,), {"folder": tmp_path / "repository"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def pipeline(trained) -> MemoryPackPipeline:
    return MemoryPackPipeline.from_pretrained(trained, device="cpu")


def test_what_is_pushed_is_loaded_as_it_was(pipeline, hub):
    assert pipeline.push_to_hub("me/disc", private=True).endswith(f"/me/disc/commit/{'0' * 40}")
    assert {path.name for path in hub.folder.iterdir()} >= {"README.md", "config.json", "mpgen.safetensors"}
    assert 'from_pretrained("disc")' in (hub.folder / "README.md").read_text(encoding="utf-8")
    again = MemoryPackPipeline.from_pretrained(hub.folder, device="cpu")
    for name, tensor in pipeline.model.denoiser.state_dict().items():
        assert torch.equal(again.model.denoiser.state_dict()[name], tensor)


def test_what_the_hub_refuses_is_one_line(pipeline, hub):
    hub.status = 403
    with pytest.raises(UserError, match="me/disc cannot be written to on the Hub: ") as error:
        pipeline.push_to_hub("me/disc")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"disc: wanted a repository's id"):
        pipeline.push_to_hub("disc")
