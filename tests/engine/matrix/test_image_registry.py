# SPDX-License-Identifier: Apache-2.0
"""The configuration of an image in a registry, asked for with a real skopeo."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.host.looking import REPOSITORY
from tests.lab.engines import Inside, Lab
from tests.unit.images import layered

pytestmark = [pytest.mark.engine, pytest.mark.engines, pytest.mark.host]

INVENTORY = "/checkout/specs/golden/debian-bookworm-tesla-470-2gpu/inventory.json"
NAME = "docker://localhost:5000/layered:1"
SECONDS = 60

REGISTRY = """
import http.server, json, socketserver
DOCUMENTS = json.load(open("/registry.json"))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        kind, content = DOCUMENTS.get(self.path.partition("/v2/")[2], (None, ""))
        self.send_response(200 if kind or self.path == "/v2/" else 404)
        self.send_header("Content-Type", kind or "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content.encode())
    do_HEAD = do_GET
socketserver.ThreadingTCPServer(("127.0.0.1", 5000), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def inside(lab_of: Callable[[str], Lab]) -> Iterator[Inside]:
    """A lab with skopeo and a registry that has the configuration of one image, and no layer."""
    manifest_type = "application/vnd.oci.image.manifest.v1+json"
    config_type = "application/vnd.oci.image.config.v1+json"
    config = layered.configuration([])
    digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": manifest_type,
            "config": {"mediaType": config_type, "digest": digest, "size": len(config)},
            "layers": [],
        }
    )
    top = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    documents = {
        "layered/manifests/1": (manifest_type, manifest),
        f"layered/manifests/{top}": (manifest_type, manifest),
        f"layered/blobs/{digest}": (config_type, config.decode()),
        "layered/tags/list": ("application/json", '{"name": "layered", "tags": ["1"]}'),
    }
    with lab_of("trixie-kubernetes").enter(binds={"/checkout": REPOSITORY}) as entered:
        entered.write("/registry.json", json.dumps(documents))
        entered.write("/registry.py", REGISTRY)
        insecure = '[[registry]]\nlocation = "localhost:5000"\ninsecure = true\n'
        entered.write("/etc/containers/registries.conf.d/test.conf", insecure)
        entered.run(["ip", "link", "set", "lo", "up"])
        started = entered.start(["python3", "/registry.py"], log="/tmp/registry.log")
        probe = "import socket; socket.create_connection(('127.0.0.1', 5000), 1)"
        deadline = time.monotonic() + SECONDS
        while entered.run(["python3", "-c", probe], check=False).returncode:
            assert started.returncode() is None
            assert time.monotonic() < deadline, entered.read("/tmp/registry.log")
            time.sleep(0.1)
        yield entered


def compat(inside: Inside, name: str, *words: str) -> tuple[int, str, str]:
    path = ":".join(f"/checkout{folder}" for folder in ("", "/hooks", "/specs"))
    command = ["python3", "-m", "cdi_gen", "compat", name, "--inventory", INVENTORY, *words]
    ended = inside.run(command, env={"PYTHONPATH": path}, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def test_configuration_of_an_image(inside: Inside) -> None:
    code, output, error = compat(inside, NAME, "-o", "json")
    assert (code, error) == (1, "")
    document = json.loads(output)
    assert document["image"]["cuda"] == "12.4.1"
    assert document["image"]["digest"].startswith("sha256:")
    assert "only the configuration was read" in document["image"]["unread"][0]


def test_image_that_the_registry_does_not_have(inside: Inside) -> None:
    code, output, error = compat(inside, f"{NAME}0")
    assert (code, output) == (1, "")
    assert "skopeo:" in error
    assert "Traceback" not in error


def test_registry_that_does_not_answer(inside: Inside) -> None:
    code, _, error = compat(inside, "docker://localhost:5001/x")
    assert code == 1
    assert "[CDG-M027]" in error
