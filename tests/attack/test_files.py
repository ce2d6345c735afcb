# SPDX-License-Identifier: Apache-2.0
"""Special files: pipes, which block when they are opened, and device nodes, which act then."""

from __future__ import annotations

import shutil

import pytest

from tests.attack.images import KMSG, NULL, WATCHDOG, ZERO, plant
from tests.attack.victim import Library, Victim
from tests.hook.conftest import MACHINE

CONFIGURATION = ("etc/ld.so.conf", "etc/ld.so.conf.d/x.conf", f"etc/ld-musl-{MACHINE}.path")
RELEASES = ("etc/os-release", "etc/debian_version", "etc/alpine-release", "lib64/ld-linux-x86-64.so.2")  # fmt: skip
LIBRARIES = (
    "lib/libfake.so.1",
    "opt/odd/libz.so.1",
    "usr/lib/libnvidia-ml.so.1",
    "usr/local/cuda/compat/libcuda.so.999.2",
)
PIPES = ("pipe", "link to a pipe", "socket", "folder")
NODES = {"zero": ZERO, "null": NULL, "watchdog": WATCHDOG, "kernel log": KMSG}


def with_musl(victim: Victim) -> None:
    """An image with both loaders, so that every file of configuration is looked at."""
    victim.write(f"/lib/ld-musl-{MACHINE}.so.1")
    victim.write("/lib64/ld-linux-x86-64.so.2")


@pytest.mark.parametrize("kind", [*PIPES, "sparse"])
@pytest.mark.parametrize("name", CONFIGURATION)
def test_configuration_that_is_no_file(hostile: Victim, name: str, kind: str) -> None:
    """A35 fifo-conf: Podman's CVE-2024-9676; what must be a file is one line, the rest passed over."""
    with_musl(hostile)
    plant(hostile.root / name, kind)
    attempt = hostile.attack(*Victim.FULL).harmless(0, 1)
    assert (attempt.status == 1) == (name in {CONFIGURATION[0], CONFIGURATION[2]})


@pytest.mark.parametrize("kind", PIPES)
@pytest.mark.parametrize("name", [*RELEASES, *LIBRARIES])
def test_other_files_that_are_none(hostile: Victim, name: str, kind: str) -> None:
    """A35 fifo-conf, in place of a library, or of what tells one distribution from another."""
    plant(hostile.root / name, kind)
    hostile.attack(*Victim.FULL).harmless(0)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(
    ("kind", "node"),
    [
        *(("device", node) for node in ("zero", "watchdog", "kernel log")),
        *(("link to a device", node) for node in ("null", "watchdog")),
        ("block device", "zero"),
    ],
)
@pytest.mark.parametrize("name", [CONFIGURATION[0], CONFIGURATION[1], *LIBRARIES])
def test_no_node_of_the_image_is_opened(hostile: Victim, name: str, kind: str, node: str) -> None:
    """A37 devnode-open: opening a watchdog's node arms it. O_PATH alone is no opening."""
    with_musl(hostile)
    plant(hostile.root / name, kind, node=NODES[node])
    hostile.traced()
    attempt = hostile.attack(*Victim.FULL).audited().harmless(0, 1)
    assert (attempt.status == 1) == (name == CONFIGURATION[0])


@pytest.mark.parametrize("name", ["nvidia0", "nvidiactl", "null", "console", "ptmx"])
@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "folder"])
def test_the_images_own_dev(hostile: Victim, name: str, kind: str) -> None:
    """A14 every-parent-link, of dev: CVE-2025-31133, CVE-2025-52565; nothing there is touched."""
    plant(hostile.root / "dev" / name, kind)
    attempt = hostile.attack(*Victim.FULL).harmless(0)
    assert attempt.before is not None
    assert attempt.after is not None
    dev = [name for name in attempt.before if name.startswith("dev")]
    assert {name: attempt.before[name] for name in dev} == {
        name: attempt.after[name] for name in dev
    }


def test_a_pipe_that_only_ldconfig_opens(hostile: Victim) -> None:
    """A35 fifo-conf, where a spec names ldconfig: it hangs, the deadline ends it, nothing stays."""
    plant(hostile.root / "lib/libfake.so.1", "link to a pipe")
    hostile.altered(process__SECONDS="1")
    attempt = hostile.attack(*Victim.FULL, "--ldconfig-path", "/sbin/ldconfig").harmless(1)
    assert "was not done after 1 s" in attempt.said


def test_libraries_of_the_image_get_no_links(hostile: Victim, library: Library) -> None:
    """A14 every-parent-link: ldconfig makes SONAME links, and removes those that lead nowhere."""
    library(hostile.root / "lib/real.so", "libreal.so.1")
    library(hostile.root / "lib/libold.so.1.2", "libold.so.1")
    (hostile.root / "lib/libgone.so.1").symlink_to("libgone.so.1.2")
    (hostile.root / "lib/libold.so.1").symlink_to("libold.so.1.1")
    hostile.attack(*Victim.FULL).harmless(0)
    hostile.attack(*Victim.FULL, "--ldconfig-path", "/sbin/ldconfig").harmless(0)
