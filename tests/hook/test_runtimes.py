# SPDX-License-Identifier: Apache-2.0
"""The hook as real runtimes run it: runc and crun, rootful, with a user namespace, read-only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hook.conftest import HOOK, Container
from tests.hook.runtimes import Runtime, give, in_a_user_namespace, open_to_others, start

pytestmark = pytest.mark.engine


def test_a_container_starts_with_links_and_cache(runtime: Runtime, bundle: Container) -> None:
    ended = start(runtime, bundle)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert os.readlink(bundle.root / "opt/odd/libcuda.so.1") == "libcuda.so.550.1"
    assert bundle.cached() == {"libcuda.so.1": "/opt/odd/libcuda.so.1"}
    assert bundle.read("/etc/ld.so.conf.d/00-cdi-gen.conf") == "/opt/odd\n"
    bundle.assert_host_untouched()


def test_a_second_start(runtime: Runtime, bundle: Container) -> None:
    start(runtime, bundle)
    once = {p: p.lstat().st_mtime_ns for p in (bundle.root / "etc").rglob("*")}
    assert start(runtime, bundle).returncode == 0
    assert {p: p.lstat().st_mtime_ns for p in (bundle.root / "etc").rglob("*")} == once


def test_a_read_only_container(runtime: Runtime, bundle: Container) -> None:
    """runc makes the root read-only after the hooks; crun before them."""
    bundle.spec["root"]["readonly"] = True
    ended = start(runtime, bundle)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert bundle.cached() == {"libcuda.so.1": "/opt/odd/libcuda.so.1"}
    assert (bundle.root / "opt/odd/libcuda.so.1").is_symlink()


@pytest.mark.parametrize("users", [65536, 1])
def test_a_user_namespace(runtime: Runtime, bundle: Container, users: int) -> None:
    """Docker's userns-remap and Podman's --uidmap: the hook is root of the container only (A59)."""
    in_a_user_namespace(bundle, users)
    ended = start(runtime, bundle)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert bundle.cached() == {"libcuda.so.1": "/opt/odd/libcuda.so.1"}
    for name in (
        "opt/odd/libcuda.so.1",
        "etc/ld.so.cache",
        "etc/ld.so.conf.d",
        "etc/ld.so.conf.d/00-cdi-gen.conf",
    ):
        status = (bundle.root / name).lstat()
        assert (status.st_uid, status.st_gid) == (100000, 100000), name


@pytest.mark.parametrize("readonly", [False, True])
def test_rootless(runtime: Runtime, bundle: Container, readonly: bool) -> None:
    """A user without any privilege; the hook and the host's ldconfig belong to an unknown user."""
    spec = bundle.spec
    spec["root"]["readonly"] = readonly
    shutil.copytree(HOOK.parent, bundle.bundle / "libexec")
    spec["hooks"]["createContainer"][0]["path"] = str(bundle.bundle / "libexec/cdi-gen-hook")
    spec["linux"]["namespaces"] = [
        {"type": kind} for kind in ("user", "pid", "ipc", "uts", "mount", "network")
    ]
    for kind in ("uidMappings", "gidMappings"):
        spec["linux"][kind] = [{"containerID": 0, "hostID": 54321, "size": 1}]
    spec["mounts"] = [
        mount
        for mount in spec["mounts"]
        if mount["destination"] not in {"/dev/pts", "/dev/mqueue", "/sys"}
    ]
    give(bundle, 54321)
    open_to_others(bundle)
    user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    ended = start(runtime, bundle, *user, "env", f"XDG_RUNTIME_DIR={bundle.bundle}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert bundle.cached() == {"libcuda.so.1": "/opt/odd/libcuda.so.1"}
    assert (bundle.root / "etc/ld.so.cache").stat().st_uid == 54321


@pytest.mark.parametrize(
    "variable", ["LD_PRELOAD=/proc/self/cwd/evil.so", "LD_AUDIT=/proc/self/cwd/evil.so", "LD_LIBRARY_PATH=/proc/self/cwd/lib"]
)  # fmt: skip
def test_the_environment_of_the_image(
    runtime: Runtime, bundle: Container, compiled: Callable[..., Path], variable: str
) -> None:
    """A01, A02, CVE-2025-23266: only the spec's `env` keeps the image's environment out."""
    evil = compiled(
        f"evil-{bundle.bundle.parent.name}",
        '#include <fcntl.h>\n__attribute__((constructor)) void run(void) { open("'
        + str(bundle.canary / "PWN")
        + '", O_CREAT | O_WRONLY, 0644); }\nunsigned la_version(unsigned v) { return v; }',
        "-shared", "-fPIC",
    )  # fmt: skip
    shutil.copy(evil, bundle.root / "evil.so")
    for name in ("libm.so.6", "libz.so.1", "libexpat.so.1"):
        shutil.copy(evil, bundle.root / "lib" / name)
    bundle.spec["process"]["env"].append(variable)
    ended = start(runtime, bundle)
    assert (ended.returncode, ended.stderr) == (0, "")
    bundle.assert_host_untouched()


def test_a_spec_that_lost_its_env_is_noticed(runtime: Runtime, bundle: Container) -> None:
    """runc before 1.3 passes the image's environment, crun the engine's."""
    bundle.spec["process"]["env"] = ["EVIL=1"]
    del bundle.spec["hooks"]["createContainer"][0]["env"]
    ended = start(runtime, bundle)
    assert ended.returncode != 0
    if runtime.name == "runc":
        assert "in the environment: the spec must give its hooks an 'env'" in ended.stderr


def test_a_volume_over_etc(runtime: Runtime, bundle: Container) -> None:
    bundle.spec["mounts"].append(
        {
            "destination": "/etc",
            "type": "bind",
            "source": str(bundle.canary / "dir"),
            "options": ["rbind", "rw"],
        }
    )
    ended = start(runtime, bundle)
    assert (ended.returncode, ended.stderr) == (0, "")
    bundle.assert_host_untouched()
    assert (bundle.root / "opt/odd/libcuda.so.1").is_symlink()


def test_the_hook_stops_a_container_that_must_not_start(
    runtime: Runtime, bundle: Container
) -> None:
    (bundle.root / "etc/ld.so.conf").unlink()
    os.mkfifo(bundle.root / "etc/ld.so.conf")
    ended = start(runtime, bundle)
    assert ended.returncode != 0
    if runtime.name == "runc":
        assert "update-ldcache: '/etc/ld.so.conf': not a regular file" in ended.stderr
