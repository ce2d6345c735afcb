# SPDX-License-Identifier: Apache-2.0
"""Hosts that lack nodes: containers in which engines run, and machines that are still booting."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.generate import generate
from cdi_gen.host import boot
from cdi_gen.host.roots import Root
from cdi_gen.inventory import Inventory
from tests.fakehost.hosts import FakeHost
from tests.host import looking

OwnHost = Callable[[str], FakeHost]

pytestmark = pytest.mark.host

UNPRIVILEGED_LXC = "         0     100000      65536\n"
FIRST = "         0          0 4294967295\n"


def nodes_of(inventory: Inventory, name: str) -> set[str]:
    (device,) = (each for each in generate(inventory).devices if each.name == name)
    return {node.path for node in device.container_edits.device_nodes}


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def nested(fake: FakeHost, *, without: tuple[str, ...] = (), uid_map: str | None = None) -> None:
    """Make a host a container: no udev, and only the nodes that its engine gave it."""
    for link in (fake.root / "dev/dri/by-path").iterdir():
        link.unlink()
    (fake.root / "dev/dri/by-path").rmdir()
    for name in without:
        (fake.root / "dev" / name).unlink()
    if uid_map is not None:
        write(fake.root / "proc/1/uid_map", uid_map)


def test_gpus_that_a_container_was_not_given(own_host: OwnHost) -> None:
    """procfs shows it every GPU of the machine; `all` names those that it has.

    `docker run --gpus 2` asks for 0 and 1: NVML counts the GPUs that it may open, and so do we
    (nvkind issue 63).
    """
    fake = own_host("550-8gpu")
    lost = ("nvidia0", "nvidia5", "dri/card1", "dri/renderD128", "dri/card6", "dri/renderD133")
    nested(fake, without=lost, uid_map=UNPRIVILEGED_LXC)
    inventory = looking.look_at(fake)
    assert [(gpu.index, gpu.minor) for gpu in inventory.gpus] == [
        *enumerate((1, 2, 3, 4, 6, 7)),
    ]
    assert [(each.device, each.reason) for each in inventory.unusable_devices] == [
        ("GPU at 0000:1b:00.0", "/dev/nvidia0 is missing"),
        ("GPU at 0000:2a:00.0", "/dev/nvidia5 is missing"),
    ]
    together = nodes_of(inventory, "all")
    assert {f"/dev/nvidia{minor}" for minor in (1, 2, 3, 4, 6, 7)} <= together
    assert not together & {"/dev/nvidia0", "/dev/nvidia5", "/dev/dri/card1", "/dev/dri/card6"}
    assert not any("by-path" in path for path in together)
    assert not inventory.engines_make_nodes
    done = looking.run("generate", check=False, host_root=str(fake.root))
    assert done.returncode == 4
    assert "left out: GPU at 0000:1b:00.0: /dev/nvidia0 is missing" in done.stderr
    assert "6 GPUs" in done.stderr


def test_a_container_that_was_given_none(own_host: OwnHost) -> None:
    """A privileged one could make each node of the machine: it must not get any."""
    fake = own_host("550-lib64")
    nested(fake, without=("nvidia0", "nvidia1", "nvidiactl"), uid_map=FIRST)
    write(fake.root / "run/systemd/container", "docker")
    with pytest.raises(CdiGenError, match=r"no GPU of this host can be used: GPU at .*nvidia0"):
        generate(looking.look_at(fake))


def test_something_else_at_its_place(own_host: OwnHost) -> None:
    """Docker makes an empty directory for a volume whose source is not there."""
    fake = own_host("550-lib64")
    (fake.root / "dev/nvidia1").unlink()
    (fake.root / "dev/nvidia1").mkdir()
    inventory = looking.look_at(fake)
    assert [gpu.index for gpu in inventory.gpus] == [0]
    assert inventory.unusable_devices[0].reason == "/dev/nvidia1 is not a device node"


def test_mig_devices_that_a_container_was_not_given(own_host: OwnHost) -> None:
    """The nodes of a GPU instance's and of a compute instance's capability."""
    fake = own_host("550-mig-mixed")
    gone = "nvidia-caps/nvidia-cap156"
    assert (fake.root / "dev" / gone).exists()
    nested(fake, without=(gone,), uid_map=UNPRIVILEGED_LXC)
    inventory = looking.look_at(fake)
    gone_for = [each for each in inventory.unusable_devices if each.device.startswith("MIG device")]
    assert [each.reason for each in gone_for] == [
        f"this container has no device node /dev/{gone}"
    ] * len(gone_for)
    assert 0 < len(gone_for) < 4
    assert len(inventory.mig_devices) == 4 - len(gone_for)
    assert f"/dev/{gone}" not in nodes_of(inventory, "all")
    # It is reported once, however many MIG devices share it.
    assert [each.name for each in inventory.missing].count(f"/dev/{gone}") == 1


def test_a_machine_whose_mig_nodes_are_still_to_be_made(own_host: OwnHost) -> None:
    """nvidia-modprobe makes them on demand; the kernel knows them, and root's engines make them."""
    fake = own_host("550-mig-mixed")
    (fake.root / "dev/nvidia-caps/nvidia-cap156").unlink()
    inventory = looking.look_at(fake)
    assert len(inventory.mig_devices) == 4
    assert "/dev/nvidia-caps/nvidia-cap156" in nodes_of(inventory, "all")


@pytest.mark.parametrize("name", ["nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"])
def test_a_control_node(own_host: OwnHost, name: str) -> None:
    fake = own_host("550-lib64")
    nested(fake, without=(name,), uid_map=UNPRIVILEGED_LXC)
    inventory = looking.look_at(fake)
    assert [gpu.index for gpu in inventory.gpus] == [0, 1]
    common = {node.path for node in generate(inventory).container_edits.device_nodes}
    assert f"/dev/{name}" not in common
    assert "/dev/nvidiactl" in common
    assert [each.name for each in inventory.missing if each.name == f"/dev/{name}"]
    done = looking.run("generate", host_root=str(fake.root))
    assert done.returncode == 0
    assert f"the host lacks /dev/{name}" in done.stderr


def test_the_module_for_graphics_is_not_loaded(own_host: OwnHost) -> None:
    """Its libraries are installed; Vulkan would fail in a container without a word."""
    fake = own_host("550-usr-local")
    missing = {each.name: each.reason for each in looking.look_at(fake, driver_root="/").missing}
    assert missing["/dev/nvidia-modeset"] == "the kernel module nvidia_modeset is not loaded"
    assert missing["/dev/dri/renderD*"] == "the kernel module nvidia_drm is not loaded"
    done = looking.run("generate", host_root=str(fake.root))
    assert "lacks /dev/dri/renderD*, /dev/nvidia-modeset (for the reasons" in done.stderr
    done = looking.python("-m", "cdi_gen", "-d", "generate", "--host-root", str(fake.root))
    assert "missing: /dev/nvidia-modeset: the kernel module nvidia_modeset is not" in done.stderr
    explained = looking.run("generate", "--explain", host_root=str(fake.root)).stdout
    (line,) = (each for each in explained.splitlines() if "/dev/nvidia-modeset" in each)
    assert line.split() == [
        *("missing", "/dev/nvidia-modeset"),
        *("the", "kernel", "module", "nvidia_modeset", "is", "not", "loaded", "[CDG-H202]"),
    ]


def test_a_server_lacks_nothing_for_graphics(own_host: OwnHost) -> None:
    """Without the libraries for it, the modules for it are no loss."""
    inventory = looking.look_at(own_host("550-server"))
    assert not [each for each in inventory.missing if each.name.startswith("/dev/")]


def test_drm_nodes_that_the_kernel_has_and_dev_has_not(own_host: OwnHost) -> None:
    fake = own_host("550-lib64")
    nested(fake, without=("dri/renderD129",))
    inventory = looking.look_at(fake)
    assert [node.path for node in inventory.gpus[1].drm_nodes] == ["/dev/dri/card2"]
    assert "/dev/dri/renderD129" in {each.name for each in inventory.missing}


def test_a_node_of_another_boot_is_there(own_host: OwnHost) -> None:
    """Its numbers are the kernel's in the spec; the host does not lack it."""
    fake = own_host("550-lib64")
    for name, numbers in (("nvidia-uvm", (508, 0)), ("nvidia1", (195, 7))):
        (fake.root / "dev" / name).unlink()
        os.mknod(fake.root / "dev" / name, 0o020666, os.makedev(*numbers))
    inventory = looking.look_at(fake)
    assert {each.path for each in inventory.stale_nodes} == {"/dev/nvidia-uvm", "/dev/nvidia1"}
    assert not [each for each in inventory.missing if each.name.startswith("/dev/")]
    done = looking.run("generate", host_root=str(fake.root))
    assert "lacks /dev/" not in done.stderr
    assert (
        "/dev/nvidia-uvm has the numbers 508:0 of another boot; the kernel uses 510:0"
        in done.stderr
    )
    explained = looking.run("generate", "--explain", host_root=str(fake.root)).stdout
    assert "stale   /dev/nvidia1" in explained


class TestBoot:
    """Whether nodes are still to come."""

    @pytest.fixture
    def machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A root that passes for the process's own, whose init is systemd."""
        (tmp_path / "run/systemd/system").mkdir(parents=True)
        write(tmp_path / "proc/1/uid_map", FIRST)
        write(tmp_path / "proc/1/environ", "HOME=/\0TERM=linux\0")
        real = Root.open_path
        monkeypatch.setattr(
            Root, "open_path", lambda root, path: path if path == "/" else real(root, path)
        )
        return tmp_path

    def says(self, machine: Path, monkeypatch: pytest.MonkeyPatch, state: str, code: int) -> bool:
        program = machine / "systemctl"
        program.write_text(
            f'#!/bin/sh\n[ "$1" = is-system-running ] || exit 9\necho {state}\nexit {code}\n'
        )
        program.chmod(0o755)
        boot._system_state.cache_clear()
        monkeypatch.setattr(boot, "SYSTEMCTL", str(program))
        return boot.is_over(Root(seen_from=str(machine)))

    @pytest.mark.parametrize(
        ("state", "code", "over"),
        [
            ("initializing", 1, False),
            ("starting", 1, False),
            ("running", 0, True),
            ("degraded", 1, True),
            ("maintenance", 1, True),
            ("stopping", 1, True),
            ("offline", 1, True),
            ("unknown", 1, True),
        ],
    )
    def test_systemd_tells(
        self, machine: Path, monkeypatch: pytest.MonkeyPatch, state: str, code: int, over: bool
    ) -> None:
        assert self.says(machine, monkeypatch, state, code) is over

    def test_without_systemd(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (machine / "run/systemd/system").rmdir()
        assert self.says(machine, monkeypatch, "starting", 1)

    def test_without_an_answer(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(boot, "SYSTEMCTL", "/nowhere/systemctl")
        assert boot.is_over(Root(seen_from=str(machine)))

    @pytest.mark.parametrize(
        ("mark", "text"),
        [
            ("run/systemd/container", "lxc"),
            ("run/.containerenv", ""),
            (".dockerenv", ""),
            ("proc/1/environ", "TERM=linux\0container=lxc\0"),
            ("proc/1/uid_map", UNPRIVILEGED_LXC),
        ],
    )
    def test_a_container_gets_no_more(
        self, machine: Path, monkeypatch: pytest.MonkeyPatch, mark: str, text: str
    ) -> None:
        """Its own systemd may still be starting; nodes are its engine's, given once."""
        write(machine / mark, text)
        assert self.says(machine, monkeypatch, "starting", 1)

    def test_while_it_boots_gpus_are_taken_without_their_nodes(
        self, own_host: OwnHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Engines of root make them from their numbers, if nobody else has done so by then."""
        fake = own_host("550-lib64")
        for name in ("nvidia0", "nvidia1"):
            (fake.root / "dev" / name).unlink()
        (fake.root / "dev/nvidia-modeset").unlink()
        monkeypatch.setattr(boot, "is_over", lambda _: False)
        inventory = looking.look_at(fake)
        assert inventory.booting
        common = {node.path for node in generate(inventory).container_edits.device_nodes}
        assert "/dev/nvidia-modeset" in common
        assert [gpu.index for gpu in inventory.gpus] == [0, 1]
        assert not inventory.unusable_devices
        assert {"/dev/nvidia0", "/dev/nvidia1"} <= {each.name for each in inventory.missing}
        assert {"/dev/nvidia0", "/dev/nvidia1"} <= nodes_of(inventory, "all")
