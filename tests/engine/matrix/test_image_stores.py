# SPDX-License-Identifier: Apache-2.0
"""Images in the stores of a real Docker and a real containerd, read without their daemons."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import pytest

from cdi_gen.images import containerd_store, docker_store, reference
from cdi_gen.images.model import Image
from cdi_gen.images.opening import open_path
from tests.lab.engines import Inside, Lab, Started
from tests.unit.images import layered

pytestmark = [pytest.mark.engine, pytest.mark.engines, pytest.mark.host]

SUITES = ("trixie-engines", "sid-engines")
DOCKER = {"iptables": False, "bridge": "none", "ip-forward": False}
SECONDS = 60


class Place(NamedTuple):
    inside: Inside
    root: str


@pytest.fixture(scope="module", params=SUITES)
def place(
    lab_of: Callable[[str], Lab],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Place]:
    """A lab with room for the stores outside its own overlay, in which overlayfs has no layers."""
    archive = layered.docker_archive(tmp_path_factory.mktemp("layered") / "image.tar")
    with lab_of(request.param).enter(binds={"/image.tar": archive}) as inside:
        for name in ("docker", "containerd", "newer"):
            inside.run(["mkdir", "-p", f"/var/lib/{name}"])
            inside.run(["mount", "-t", "tmpfs", "tmpfs", f"/var/lib/{name}"])
        start(inside, ["containerd"], ["ctr", "version"])
        yield Place(inside, f"/proc/{inside.init}/root")


@contextlib.contextmanager
def docker(inside: Inside, settings: Mapping[str, object], options: list[str]) -> Iterator[None]:
    """Run a daemon with these settings, and end it."""
    inside.write("/etc/docker/daemon.json", json.dumps(settings))
    daemon = start(inside, ["dockerd", *options], ["docker", "version"])
    try:
        yield
    finally:
        daemon.signal(signal.SIGTERM)
        deadline = time.monotonic() + SECONDS
        while daemon.returncode() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def start(inside: Inside, daemon: list[str], client: list[str]) -> Started:
    started = inside.start(daemon, log=f"/tmp/{daemon[0]}.log")
    deadline = time.monotonic() + SECONDS
    while inside.run(client, check=False).returncode:
        assert started.returncode() is None
        assert time.monotonic() < deadline, inside.read(f"/tmp/{daemon[0]}.log")
        time.sleep(0.1)
    return started


@pytest.mark.parametrize("driver", ["overlay2", "vfs"])
def test_docker(place: Place, driver: str) -> None:
    data = f"/var/lib/docker/{driver}-test"
    settings = {**DOCKER, "storage-driver": driver, "data-root": data}
    with docker(place.inside, settings, []):
        place.inside.run(["docker", "load", "--quiet", "--input", "/image.tar"])
        path = f"/docker-{driver}.tar"
        place.inside.run(["docker", "save", "--output", path, "localhost/layered"])
    store = docker_store.Store(f"{place.root}{data}")
    image = store.open(reference.find("localhost/layered", store.records())[0])
    assert driver in image.store
    layered.check(image)
    layered.check(open_path(f"{place.root}{path}"))


def test_docker_with_the_image_store_of_containerd(place: Place) -> None:
    settings = {
        **DOCKER,
        "data-root": "/var/lib/newer",
        "features": {"containerd-snapshotter": True},
    }
    with docker(place.inside, settings, ["--containerd", "/run/containerd/containerd.sock"]):
        place.inside.run(["docker", "load", "--quiet", "--input", "/image.tar"])
    layered.check(_opened(place, "moby", "overlayfs"))


@pytest.mark.parametrize(
    ("namespace", "words", "kind"),
    [
        ("default", ["--snapshotter=overlayfs"], "overlayfs"),
        ("k8s.io", ["--snapshotter=native"], "native"),
        ("packed", ["--no-unpack"], "packed layers"),
    ],
)
def test_containerd(place: Place, namespace: str, words: list[str], kind: str) -> None:
    help_text = place.inside.run(["ctr", "image", "import", "--help"]).stdout
    local = ["--local"] if "--local" in help_text else []
    command = ["ctr", "-n", namespace, "image", "import", *local, *words, "/image.tar"]
    place.inside.run(command)
    layered.check(_opened(place, namespace, kind))


def _opened(place: Place, namespace: str, kind: str) -> Image:
    store = containerd_store.Store(f"{place.root}/var/lib/containerd")
    records = [record for record in store.records() if record.place == namespace]
    image = store.open(reference.find("localhost/layered", records)[0])
    assert image.store.endswith(f"namespace {namespace}, {kind})")
    return image
