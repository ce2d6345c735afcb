# SPDX-License-Identifier: Apache-2.0
"""Images in the stores and archives that a real Podman has written, read without Podman."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cdi_gen.images import containers_storage, reference
from cdi_gen.images.opening import open_image, open_path
from cdi_gen.images.places import Host
from tests.lab import debian
from tests.lab.engines import Inside, Lab
from tests.unit.images import layered

pytestmark = [pytest.mark.engine, pytest.mark.host]

VFS = ("--storage-driver", "vfs", "--root", "/var/vfs", "--runroot", "/run/vfs")


class Place(NamedTuple):
    inside: Inside
    root: str


@pytest.fixture(scope="module")
def place(
    lab_of: Callable[[str], Lab], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A lab whose root and user have loaded the layered image."""
    archive = layered.docker_archive(tmp_path_factory.mktemp("layered") / "image.tar")
    with lab_of("trixie").enter(binds={"/image.tar": archive}) as inside:
        for user in (0, debian.USER):
            inside.run(["podman", "load", "--quiet", "--input", "/image.tar"], user=user)
        yield Place(inside, f"/proc/{inside.init}/root")


def test_overlay_store_of_root(place: Place) -> None:
    image = open_image("layered", host=Host({"HOME": "/root"}, 0, place.root))
    assert image.store == f"containers-storage ({place.root}/var/lib/containers/storage, overlay)"
    layered.check(image)


def test_overlay_store_of_a_user(place: Place) -> None:
    host = Host({"HOME": "/home/user"}, debian.USER, place.root)
    image = open_image("containers-storage:localhost/layered", host=host)
    assert "/home/user/.local/share/containers/storage" in image.store
    layered.check(image)


def test_image_by_the_beginning_of_its_id(place: Place) -> None:
    listed = place.inside.run(["podman", "images", "--quiet", "--no-trunc"]).stdout
    number = listed.strip().removeprefix("sha256:")
    layered.check(open_image(number[:12], host=Host({"HOME": "/root"}, 0, place.root)))


def test_vfs_store(place: Place) -> None:
    place.inside.run(["podman", *VFS, "load", "--quiet", "--input", "/image.tar"])
    store = containers_storage.Store(f"{place.root}/var/vfs")
    layered.check(store.open(reference.find("layered", store.records())[0]))


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_what_podman_saves(place: Place, form: str) -> None:
    path = f"/saved-{form}"
    place.inside.run(["podman", "save", "--format", form, "--output", path, "layered"])
    layered.check(open_path(f"{place.root}{path}"))


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compressed_archive(place: Place, compression: str, tmp_path: Path) -> None:
    """Saved by Podman, compressed as people do it."""
    saved = tmp_path / "saved.tar"
    path = f"/saved-for-{compression}"
    place.inside.run(["podman", "save", "--format", "docker-archive", "--output", path, "layered"])
    saved.write_bytes(Path(f"{place.root}{path}").read_bytes())
    subprocess.run([compression, "--quiet", str(saved)], check=True)
    layered.check(open_path(str(next(tmp_path.glob("saved.tar.*")))))
