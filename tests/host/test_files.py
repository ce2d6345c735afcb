# SPDX-License-Identifier: Apache-2.0
"""Programs, ICD and EGL files, firmware, sockets: found, and mounted where they are looked for."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from typing import Any

import pytest

from cdi_gen.generate import generate
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory
from cdi_gen.paths import base_name, parent
from tests.fakehost import layouts
from tests.fakehost.hosts import HOSTS, SOCKETS, FakeHost
from tests.host.looking import look_at

GetHost = Callable[[str], FakeHost]
Look = Callable[..., Inventory]

pytestmark = pytest.mark.host

SPECS = sorted(set(HOSTS) - {"550-unloaded", "550-nogpu", "550-split"})
PATH = ("/usr/bin", "/usr/sbin")
NIX = f"/nix/store/{layouts.NIX_HASH}-nvidia-x11-550.163.01"


def mounted(inventory: Inventory, **options: Any) -> dict[str, str]:
    """Host path by container path."""
    spec = generate(inventory, Options(**options))
    return {mount.container_path: mount.host_path for mount in spec.container_edits.mounts}


@pytest.mark.parametrize("name", SPECS)
def test_nvidia_smi_is_in_the_path_of_every_container(host: GetHost, look: Look, name: str) -> None:
    fake, mounts = host(name), mounted(look(name))
    smi = mounts["/usr/bin/nvidia-smi"]
    assert base_name(smi) == "nvidia-smi"
    assert os.access(f"{fake.root}{smi}", os.X_OK)
    programs = [
        place
        for place in mounts
        if base_name(place).startswith("nvidia-")
        and not base_name(place).endswith((".bin", ".conf"))
        and "/bin" in mounts[place]
    ]
    assert {parent(place) for place in programs} <= set(PATH)


PROGRAMS = {
    "550-1gpu": "/usr/bin/nvidia-smi",
    "550-debian": "/usr/lib/nvidia/current/nvidia-smi",
    "550-usr-local": "/usr/local/nvidia/bin/nvidia-smi",
    "550-operator": "/run/nvidia/driver/usr/bin/nvidia-smi",
    "550-nixos": f"{NIX}/bin/nvidia-smi",
    "535-tesla": "/usr/lib/nvidia/tesla-535/nvidia-smi",
}


@pytest.mark.parametrize(("name", "path"), PROGRAMS.items())
def test_where_nvidia_smi_is(look: Look, name: str, path: str) -> None:
    assert mounted(look(name))["/usr/bin/nvidia-smi"] == path


# Where the GLVND, Vulkan and OpenCL loaders look in an image, and the file that they find there.
LOOKED_FOR = [
    ("550-1gpu", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "libEGL_nvidia"),
    ("550-debian", "/etc/vulkan/icd.d/nvidia_icd.json", "libGLX_nvidia"),
    ("550-lib64", "/etc/vulkan/icd.d/nvidia_icd.x86_64.json", "libGLX_nvidia"),
    ("550-usr-local", "/etc/vulkan/icd.d/nvidia_icd.json", "libGLX_nvidia"),
    ("550-usr-local", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "libEGL_nvidia"),
    ("550-nixos", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "libEGL_nvidia"),
    ("550-operator", "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json", "egl-gbm"),
]


@pytest.mark.parametrize(("name", "place", "library"), LOOKED_FOR)
def test_icd_files_are_where_their_loaders_look(
    host: GetHost, look: Look, name: str, place: str, library: str
) -> None:
    """And each names a library that is in the same spec."""
    fake, inventory = host(name), look(name)
    text = json.loads((fake.root / mounted(inventory)[place][1:]).read_text())
    named = base_name(text["ICD"]["library_path"])
    assert library in named
    assert named in {
        each
        for found in inventory.libraries
        for each in (found.soname, base_name(found.path), *found.links)
    }


@pytest.mark.parametrize("name", ["550-1gpu", "550-debian", "550-usr-local", "550-operator"])
def test_firmware(host: GetHost, look: Look, name: str) -> None:
    """Where the kernel looks, whatever firmware_class.path says of the host."""
    fake = host(name)
    mounts = mounted(look(name))
    for image in ("gsp_ga10x.bin", "gsp_tu10x.bin"):
        found = mounts[f"/lib/firmware/nvidia/{fake.driver_version}/{image}"]
        assert base_name(found) == image
        assert (fake.root / found[1:]).stat().st_size > 1 << 20


def test_sockets_are_writable(look: Look) -> None:
    spec = generate(look("550-hgx"))
    sockets = {
        mount.container_path: mount.options
        for mount in spec.container_edits.mounts
        if mount.container_path.endswith("/socket")
    }
    assert sockets.keys() == {f"/run/{name}" for name in SOCKETS}
    assert all("ro" not in options for options in sockets.values())


def test_the_mps_pipe_is_mounted_only_on_request(own_host: GetHost) -> None:
    """A CUDA program that sees the pipe connects to the MPS daemon."""
    fake = own_host("550-server")
    (fake.root / "tmp/nvidia-mps").mkdir(parents=True)
    inventory = look_at(fake)
    assert "/tmp/nvidia-mps" in {file.path for file in inventory.files}
    assert "/tmp/nvidia-mps" not in mounted(inventory)
    assert mounted(inventory, capabilities=("all", "mps"))["/tmp/nvidia-mps"] == "/tmp/nvidia-mps"


def test_config_search_path(own_host: GetHost) -> None:
    fake = own_host("550-server")
    place = fake.root / "srv/nvidia/OpenCL/vendors/nvidia.icd"
    place.parent.mkdir(parents=True)
    place.write_text("libnvidia-opencl.so.1\n")
    found = mounted(look_at(fake, config_search_path=("/srv/nvidia",)))
    assert found["/etc/OpenCL/vendors/nvidia.icd"] == "/srv/nvidia/OpenCL/vendors/nvidia.icd"
    assert mounted(look_at(fake))["/etc/OpenCL/vendors/nvidia.icd"].startswith("/etc/")


def test_an_icd_that_is_not_there_is_missing(own_host: GetHost) -> None:
    fake = own_host("550-1gpu")
    (fake.root / "usr/share/vulkan/icd.d/nvidia_icd.json").unlink()
    missing = {each.name: each.reason for each in look_at(fake).missing}
    assert missing == {
        "vulkan/icd.d/nvidia_icd.json": "libGLX_nvidia is installed without this file"
    }


def test_a_program_that_may_not_run_is_none(own_host: GetHost) -> None:
    fake = own_host("550-server")
    program = fake.root / "usr/bin/nvidia-debugdump"
    content = program.read_bytes()
    program.unlink()
    program.write_bytes(content)
    program.chmod(0o644)
    assert "/usr/bin/nvidia-debugdump" not in mounted(look_at(fake))


class TestHookProgram:
    """Root runs it at every start of a container: only root may be able to change it."""

    @staticmethod
    def install(fake: FakeHost) -> str:
        program = fake.root / "usr/libexec/cdi-gen/cdi-gen-hook"
        modules = [
            program.parent / name
            for name in ("cdi_hook/__main__.py", "cdi_base/trust.py", "cdi_hook_modules.pyc")
        ]
        for module in modules:
            module.parent.mkdir(parents=True, mode=0o755, exist_ok=True)
            module.write_text("pass\n")
        program.write_text("#!/usr/bin/env -S python3\n".replace("env -S python3", "dpkg"))
        program.chmod(0o755)
        for path in (program, *modules):
            os.chown(path, 0, 0)
        return str(program)

    def test_an_installed_one_is_found_and_trusted(self, own_host: GetHost) -> None:
        fake = own_host("550-server")
        self.install(fake)
        hook = look_at(fake).hook
        assert hook is not None
        assert (hook.path, hook.unsafe) == ("/usr/libexec/cdi-gen/cdi-gen-hook", None)
        (found,) = generate(look_at(fake)).container_edits.hooks
        assert found.path == hook.path

    @pytest.mark.parametrize(
        ("where", "mode", "owner", "reason"),
        [
            ("usr/libexec/cdi-gen/cdi-gen-hook", 0o775, 0, "written to by others"),
            ("usr/libexec/cdi-gen/cdi-gen-hook", 0o755, 1000, "belongs to user 1000"),
            ("usr/libexec/cdi-gen/cdi-gen-hook", 0o644, 0, "not executable"),
            ("usr/libexec/cdi-gen", 0o777, 0, "written to by others"),
            ("usr/libexec", 0o755, 1000, "belongs to user 1000"),
            ("usr/libexec/cdi-gen/cdi_hook", 0o777, 0, "written to by others"),
            ("usr/libexec/cdi-gen/cdi_hook/__main__.py", 0o666, 0, "written to by others"),
            ("usr/libexec/cdi-gen/cdi_base", 0o777, 0, "written to by others"),
            ("usr/libexec/cdi-gen/cdi_hook_modules.pyc", 0o664, 0, "written to by others"),
            ("usr/libexec/cdi-gen/cdi_hook_modules.pyc", 0o644, 1000, "belongs to user 1000"),
            ("usr/libexec/cdi-gen/cdi_base/trust.py", 0o666, 0, "written to by others"),
        ],
    )
    def test_one_that_others_could_change_is_not(
        self, own_host: GetHost, where: str, mode: int, owner: int, reason: str
    ) -> None:
        """A10 hook-path-trust."""
        fake = own_host("550-server")
        self.install(fake)
        path = fake.root / where
        path.chmod(mode)
        os.chown(path, owner, 0)
        hook = look_at(fake).hook
        assert hook is not None
        assert reason in (hook.unsafe or "")

    def test_an_interpreter_of_the_hosts_own(self, own_host: GetHost) -> None:
        """A10 hook-path-trust."""
        fake = own_host("550-server")
        program = self.install(fake)
        shutil.copy("/bin/true", fake.root / "usr/bin/odd")
        (fake.root / "usr/bin/odd").chmod(0o757)
        with open(program, "w", encoding="ascii") as file:
            file.write("#!/usr/bin/odd -I\n")
        hook = look_at(fake).hook
        assert hook is not None
        assert "/usr/bin/odd can be written to by others" in (hook.unsafe or "")

    def test_one_that_is_not_there(self, look: Look) -> None:
        hook = look("550-server", hook_path="/opt/hook").hook
        assert hook is not None
        assert hook.unsafe == "the file does not exist"


def test_every_file_found_is_a_file_or_socket(host: GetHost, look: Look) -> None:
    for name in SPECS:
        for file in look(name).files:
            mode = os.lstat(f"{host(name).root}{file.path}").st_mode
            assert stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
