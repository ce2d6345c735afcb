# SPDX-License-Identifier: Apache-2.0
"""Names of images, and where they are looked for."""

from __future__ import annotations

import base64
import errno
import json
from pathlib import Path

import pytest

from cdi_gen.images import containers_storage, docker_store, reference
from cdi_gen.images.errors import DamagedImageError, ImageError, ImageNotFoundError
from cdi_gen.images.folder import Folder
from cdi_gen.images.opening import open_image
from cdi_gen.images.places import Host, places
from tests.unit.images import layered

NUMBER = "ab" * 32


@pytest.mark.parametrize(
    ("name", "complete"),
    [
        ("ubuntu", "docker.io/library/ubuntu:latest"),
        ("nvidia/cuda:12.8.1-base", "docker.io/nvidia/cuda:12.8.1-base"),
        ("index.docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("registry.example:5000/a/b", "registry.example:5000/a/b:latest"),
        (f"nvcr.io/a@sha256:{NUMBER}", f"nvcr.io/a@sha256:{NUMBER}"),
        (f"ubuntu:24.04@sha256:{NUMBER}", f"docker.io/library/ubuntu@sha256:{NUMBER}"),
    ],
)
def test_complete_name(name: str, complete: str) -> None:
    assert reference.complete(name) == complete


@pytest.mark.parametrize(
    ("wanted", "names", "matches"),
    [
        ("cuda:12", ["quay.io/cuda:12", "docker.io/library/cuda:12"], ["docker.io/library/cuda:12"]),
        ("cuda:12", ["quay.io/x/cuda:12", "localhost/cuda:12"], ["localhost/cuda:12"]),
        ("cuda:12", ["quay.io/x/cuda:12", "nvcr.io/cuda:12"], ["quay.io/x/cuda:12", "nvcr.io/cuda:12"]),
        ("docker.io/cuda:12", ["quay.io/x/cuda:12"], []),
        ("nvidia/cuda", ["nvidia/cuda:latest", "nvidia/cuda:12"], ["nvidia/cuda:latest"]),
    ],
)  # fmt: skip
def test_names_that_mean_an_image(wanted: str, names: list[str], matches: list[str]) -> None:
    assert reference.matching(wanted, names) == matches


def test_stores_that_the_configuration_names(tmp_path: Path) -> None:
    write(tmp_path, "etc/docker/daemon.json", '{"data-root": "/data/docker"}')
    write(tmp_path, "etc/containerd/config.toml", 'root = "/data/containerd"\n[gc]\nx = 0.02\n')
    write(
        tmp_path,
        "etc/containers/storage.conf",
        '[storage]\ngraphroot = "/data/storage"\n'
        '[storage.options]\nadditionalimagestores = ["/data/more"]\n',
    )
    paths = [place.path for place in places(Host({"HOME": "/root"}, 0, str(tmp_path)))]
    assert paths[0] == "/data/docker"
    for path in ("/data/containerd", "/data/storage", "/data/more", "/var/lib/containerd"):
        assert path in paths


def test_stores_of_a_user() -> None:
    host = Host({"HOME": "/home/u", "XDG_DATA_HOME": "/data/u"}, 1000, "/nowhere")
    paths = [place.path for place in places(host)]
    assert {"/data/u/docker", "/data/u/containers/storage", "/data/u/containerd"} <= {*paths}


def test_image_that_no_store_has(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFoundError) as error:
        open_image("nvidia/cuda", host=Host({}, 0, str(tmp_path)))
    assert "no store of Docker, Podman or containerd" in error.value.message
    assert "docker://nvidia/cuda" in (error.value.hint or "")


def test_store_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path, [{"id": NUMBER, "names": ["localhost/x:latest"], "layer": "l1"}])

    def refuse(self: Folder, path: str, limit: int) -> bytes:
        raise self.error(path, PermissionError(errno.EACCES, "Permission denied"))

    monkeypatch.setattr(Folder, "read", refuse)
    with pytest.raises(ImageError) as error:
        open_image("x", host=Host({}, 0, str(tmp_path)))
    assert "images.json: only its owner may read it" in error.value.message
    assert error.value.hint == "run the command with sudo"


class TestHostileStores:
    """A rootless store belongs to a user, and root may read it."""

    @pytest.mark.parametrize("layer", ["../../../../etc", "/etc", "..", "none", ""])
    def test_layer_is_a_name(self, tmp_path: Path, layer: str) -> None:
        path = store(tmp_path, [{"id": NUMBER, "names": ["localhost/x:latest"], "layer": layer}])
        opened = containers_storage.Store(path)
        (record,) = reference.find("x", opened.records())
        if layer:
            with pytest.raises(DamagedImageError, match="has no layer"):
                opened.open(record)
        else:
            files = opened.open(record).files
            assert files is not None
            assert files.names("/") == []

    def test_directory_that_is_a_link_stays_in_the_store(self, tmp_path: Path) -> None:
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret/file").write_text("secret")
        path = store(tmp_path, [{"id": NUMBER, "names": ["localhost/x:latest"], "layer": "l1"}])
        diff = Path(path, "overlay/l1/diff")
        diff.rmdir()
        diff.symlink_to(tmp_path / "secret")
        opened = containers_storage.Store(path)
        (record,) = reference.find("x", opened.records())
        with pytest.raises(ImageError):
            opened.open(record)

    def test_list_that_is_a_link_stays_in_the_store(self, tmp_path: Path) -> None:
        record: dict[str, object] = {"id": NUMBER, "names": ["localhost/x:latest"], "layer": "l1"}
        path = store(tmp_path, [record])
        images = Path(path, "overlay-images/images.json")
        secret = images.rename(tmp_path / "secret.json")
        images.symlink_to(secret)
        assert containers_storage.Store(path).records() == []

    def test_parents_that_lead_in_a_circle_end(self, tmp_path: Path) -> None:
        path = store(tmp_path, [{"id": NUMBER, "names": ["localhost/x:latest"], "layer": "l1"}])
        Path(path, "overlay-layers/layers.json").write_text(
            json.dumps([{"id": "l1", "parent": "l2"}, {"id": "l2", "parent": "l1"}])
        )
        Path(path, "overlay/l2/diff").mkdir(parents=True)
        opened = containers_storage.Store(path)
        assert opened.open(opened.records()[0]).files is not None

    @pytest.mark.parametrize("content", ["", "{}", "[[", "3"])
    def test_list_of_another_form(self, tmp_path: Path, content: str) -> None:
        path = store(tmp_path, [])
        Path(path, "overlay-images/images.json").write_text(content)
        with pytest.raises(DamagedImageError, match=r"images\.json"):
            containers_storage.Store(path).records()

    def test_entries_of_another_form_are_no_images(self, tmp_path: Path) -> None:
        path = store(tmp_path, [])
        Path(path, "overlay-images/images.json").write_text('[1, {}, {"id": 3, "layer": []}]')
        assert containers_storage.Store(path).records() == []

    def test_other_driver_is_named(self, tmp_path: Path) -> None:
        write(
            tmp_path,
            "btrfs-images/images.json",
            json.dumps([{"id": NUMBER, "names": ["localhost/x:1"], "layer": "l"}]),
        )
        opened = containers_storage.Store(str(tmp_path))
        with pytest.raises(ImageError, match="driver btrfs cannot be read") as error:
            opened.open(opened.records()[0])
        assert "podman save" in (error.value.hint or "")

    def test_cache_id_of_docker_is_a_number(self, tmp_path: Path) -> None:
        base = "image/overlay2"
        digest = f"sha256:{NUMBER}"
        names = {"Repositories": {"x": {"x:latest": digest}}}
        write(tmp_path, f"{base}/repositories.json", json.dumps(names))
        config = layered.configuration([digest]).decode()
        write(tmp_path, f"{base}/imagedb/content/sha256/{NUMBER}", config)
        write(tmp_path, f"{base}/layerdb/sha256/{NUMBER}/cache-id", "../../../../etc")
        opened = docker_store.Store(str(tmp_path))
        with pytest.raises(DamagedImageError, match="names no layer"):
            opened.open(opened.records()[0])


def test_short_name_of_several_images_is_refused(tmp_path: Path) -> None:
    store(
        tmp_path,
        [
            {"id": NUMBER, "names": ["quay.io/a/x:latest"], "layer": "l1"},
            {"id": "cd" * 32, "names": ["quay.io/b/x:latest"], "layer": "l1"},
        ],
    )
    with pytest.raises(ImageError) as error:
        open_image("x", host=Host({}, 0, str(tmp_path)))
    assert error.value.code == "CDG-M028"
    assert "quay.io/a/x:latest, quay.io/b/x:latest" in (error.value.hint or "")


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def store(root: Path, images: list[dict[str, object]]) -> str:
    """A store of containers-storage with one layer."""
    path = root / "var/lib/containers/storage"
    write(path, "overlay-images/images.json", json.dumps(images))
    write(path, "overlay-layers/layers.json", json.dumps([{"id": "l1"}]))
    (path / "overlay/l1/diff").mkdir(parents=True)
    for image in images:
        key = base64.b64encode(f"sha256:{image['id']}".encode()).decode()
        config = layered.configuration([]).decode()
        write(path, f"overlay-images/{image['id']}/={key}", config)
    return str(path)
