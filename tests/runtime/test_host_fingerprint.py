# SPDX-License-Identifier: Apache-2.0
"""The key of the prepared file: what of a host and of the settings changes it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_base import host_fingerprint
from cdi_base.host_fingerprint import Choices, Layout, Watch
from cdi_gen.catalogue import catalogue
from cdi_gen.programs import prepare, watch
from cdi_gen.store import conversions
from cdi_runtime.specs import prepared

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the prepared file is root's")


class Host:
    """A driver's procfs and a driver root, to change."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.root = folder / "root"
        self.specs = folder / "specs"
        for name in ("gpus/0000:01:00.0", "capabilities/gpu0/mig/gi1/ci0"):
            (self.proc / name).mkdir(parents=True)
        (self.proc / "version").write_text("550\n")
        for name in ("dev/nvidia-caps", "dev/dri", "etc"):
            (self.root / name).mkdir(parents=True)
        self.node("nvidia0", 0)
        self.node("nvidia-caps/nvidia-cap1", 1)
        (self.root / "etc/ld.so.cache").write_text("old")
        self.specs.mkdir()

    def node(self, name: str, minor: int) -> None:
        node = self.root / "dev" / name
        node.parent.mkdir(exist_ok=True)
        os.mknod(node, 0o20666, os.makedev(195, minor))

    def replace_node(self, name: str, minor: int) -> None:
        (self.root / "dev" / name).unlink()
        self.node(name, minor)

    def choices(self) -> Choices:
        watch_list = watch.of_catalogue(catalogue())
        watch_list.files = (*watch_list.files, str(self.root / "run/socket"))
        return Choices(str(self.root), "", [str(self.specs)], watch=watch_list)


CHANGES: dict[str, Callable[[Host], object]] = {
    "another driver": lambda host: (host.proc / "version").write_text("570\n"),
    "a GPU more": lambda host: (host.proc / "gpus/0000:02:00.0").mkdir(),
    "a GPU less": lambda host: (host.proc / "gpus/0000:01:00.0").rmdir(),
    "MIG on": lambda host: (host.proc / "capabilities/gpu1/mig").mkdir(parents=True),
    "a GPU instance": lambda host: (host.proc / "capabilities/gpu0/mig/gi2").mkdir(),
    "a compute instance": lambda host: (host.proc / "capabilities/gpu0/mig/gi1/ci1").mkdir(),
    "a node": lambda host: host.node("nvidia1", 1),
    "no node": lambda host: (host.root / "dev/nvidia0").unlink(),
    "a node of another number": lambda host: host.replace_node("nvidia0", 7),
    "a node of another mode": lambda host: (host.root / "dev/nvidia0").chmod(0o600),
    "uvm": lambda host: host.node("nvidia-uvm", 0),
    "a capability": lambda host: host.node("nvidia-caps/nvidia-cap2", 2),
    "a card": lambda host: host.node("dri/card0", 0),
    "a GPU's node of a high number": lambda host: host.node("nvidia128", 128),
    "a transport": lambda host: host.node("gdrdrv", 0),
    "a numbered transport": lambda host: host.node("nvidia-fs0", 0),
    "an RDMA card": lambda host: host.node("infiniband/uverbs0", 0),
    "a daemon": lambda host: (host.root / "run/socket").mkdir(parents=True),
    "libraries": lambda host: (host.root / "etc/ld.so.cache").write_text("new ones"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_host_that_has_changed(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    monkeypatch.setattr(host_fingerprint, "DRIVER", str(host.proc))
    before = host_fingerprint.key(host.choices())
    assert json.loads(json.dumps(before)) == before
    assert host_fingerprint.key(host.choices()) == before
    CHANGES[change](host)
    assert host_fingerprint.key(host.choices()) != before


@pytest.mark.parametrize(
    "name", ["sda1", "nvidia-uvmx", "nvidia-fs0x", "gdrdrv1", "tty0", "nvidia"]
)
def test_a_node_that_no_spec_has_changes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    monkeypatch.setattr(host_fingerprint, "DRIVER", str(host.proc))
    before = host_fingerprint.key(host.choices())
    host.node(name, 9)
    assert host_fingerprint.key(host.choices()) == before


def test_each_setting_changes_the_key(tmp_path: Path) -> None:
    keys = [
        host_fingerprint.key(choices)
        for choices in (
            Choices(),
            Choices(driver_root="/driver"),
            Choices(hook="/hook"),
            Choices(layout_options=["dev_root=/dev2"]),
            Choices(layout=Layout("/driver")),
            Choices(layout=Layout("", "/dev2")),
            Choices(layout=Layout("", "", ["/lib2"])),
            Choices(disabled_hooks=["chmod"]),
            Choices(feature_flags=["x"]),
            Choices(watch=Watch(["x"])),
            Choices(watch=Watch((), ["/x"])),
        )
    ]
    assert all(keys.count(key) == 1 for key in keys)


def test_nodes_of_the_host_count_if_the_driver_root_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)
    monkeypatch.setattr(host_fingerprint, "DEVICES", str(host.root / "dev"))
    libraries = tmp_path / "home/kubernetes/bin/nvidia"
    libraries.mkdir(parents=True)
    choices = Choices(str(libraries), watch=Watch(["nvidia*"]))
    before = host_fingerprint.key(choices)
    assert host_fingerprint.key(choices) == before
    host.node("nvidia1", 1)
    assert host_fingerprint.key(choices) != before


def test_shim_and_unit_agree_on_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit prepares at boot what the shim requires."""
    ours = prepare.choices(hook="/usr/libexec/cdi-gen/cdi-gen-hook")
    shim = Choices("", "/usr/libexec/cdi-gen/cdi-gen-hook", ("/etc/cdi", "/var/run/cdi"))
    assert host_fingerprint.key(ours) == host_fingerprint.key(shim)
    assert f"{prepared.DIRECTORY}/{prepared.NAME}" == prepare.PATH


def test_spelling_of_a_directory_does_not_change_the_key(tmp_path: Path) -> None:
    """The unit prepares for `/etc/cdi`, and NVIDIA's config.toml can say `/etc/cdi/`."""
    (tmp_path / "a.yaml").write_text("")
    spellings = [f"{tmp_path}", f"{tmp_path}/", f"/{tmp_path}//", f"{tmp_path}/."]
    keys = [host_fingerprint.key(Choices(spec_directories=(each,))) for each in spellings]
    assert all(key == keys[0] for key in keys)
    assert host_fingerprint.key(Choices(driver_root=f"{tmp_path}/.")) == host_fingerprint.key(
        Choices(driver_root=str(tmp_path))
    )
    assert [*conversions.of_directories(Choices(spec_directories=spellings).spec_directories)] == [
        f"{tmp_path}/a.yaml"
    ]
    # The later installation of the same directory is its priority.
    twice = ("/etc/cdi/", "/run/cdi", "/etc//cdi")
    assert Choices(spec_directories=twice).spec_directories == ("/run/cdi", "/etc/cdi")


def test_invalid_layouts_are_rejected() -> None:
    """A file of another version, or one that was edited."""
    documents: tuple[object, ...] = (
        None,
        [],
        ["/", "/"],
        ["/", "/", "x"],
        ["/", 1, []],
        ["/", "/", [1]],
        {},
    )
    for document in documents:
        assert Layout.of(document) is None
    layout = Layout("/driver/", "", ["/a", "/b/"])
    assert layout.document() == ["/driver", "/driver", ["/a", "/b"]]
    again = Layout.of(layout.document())
    assert again is not None
    assert again.document() == layout.document()
