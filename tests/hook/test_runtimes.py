# SPDX-License-Identifier: Apache-2.0
"""The hook as real runtimes run it: runc and crun, rootful, with a user namespace, read-only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hook.conftest import ENVIRONMENT, HOOK, Container

pytestmark = pytest.mark.engine

Library = Callable[[Path, str], None]


class Runtime:
    """One OCI runtime and what this machine needs around it."""

    def __init__(self, name: str) -> None:
        self.name = name
        if not shutil.which(name):
            pytest.skip(f"needs {name}")

    def run(self, bundle: Path, *user: str) -> subprocess.CompletedProcess[str]:
        words = [self.name]
        before = ":"
        if self.name == "crun":
            words.append("--cgroup-manager=disabled")
            # crun refuses a tree of cgroups of both versions.
            before = "umount -l -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup"
        words += [
            "--root",
            str(bundle / "state"),
            "run",
            "--bundle",
            str(bundle),
            f"t{os.getpid()}",
        ]
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", f'{before}; exec "$@"', "sh", *user, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return Runtime(request.param)


@pytest.fixture
def bundle(container: Container, library: Library) -> Container:
    """A bundle of busybox, with a driver library injected as a CDI spec would."""
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("needs a static busybox")
    shutil.copy(busybox, container.root / "bin/busybox")
    (container.root / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    driver = container.bundle / "driver/libcuda.so.550.1"
    library(driver, "libcuda.so.1")
    driver.chmod(0o644)
    container.bundle.chmod(0o755)
    (container.bundle / "config.json").unlink()
    subprocess.run(["runc", "spec"], cwd=container.bundle, check=True)
    spec = json.loads((container.bundle / "config.json").read_text())
    spec["process"] |= {"terminal": False, "args": ["/bin/busybox", "true"]}
    spec["process"].pop("rlimits", None)
    spec["root"]["readonly"] = False
    spec["linux"].pop("resources", None)
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "cgroup"]
    spec["mounts"] = [m for m in spec["mounts"] if m["type"] != "cgroup"]
    spec["mounts"].append(
        {
            "destination": "/opt/odd/libcuda.so.550.1",
            "type": "bind",
            "source": str(driver),
            "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
        }
    )
    spec["hooks"] = {
        "createContainer": [
            {
                "path": str(HOOK),
                "args": [
                    "cdi-gen-hook", "create-container",
                    "--link", "libcuda.so.550.1::/opt/odd/libcuda.so.1",
                    "--folder", "/opt/odd",
                ],
                "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
                "timeout": 30,
            }
        ]
    }  # fmt: skip
    container.spec = spec  # type: ignore[attr-defined]
    return container


def start(runtime: Runtime, bundle: Container, *user: str) -> subprocess.CompletedProcess[str]:
    (bundle.bundle / "config.json").write_text(json.dumps(bundle.spec))  # type: ignore[attr-defined]
    return runtime.run(bundle.bundle, *user)


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
    bundle.spec["root"]["readonly"] = True  # type: ignore[attr-defined]
    ended = start(runtime, bundle)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert bundle.cached() == {"libcuda.so.1": "/opt/odd/libcuda.so.1"}
    assert (bundle.root / "opt/odd/libcuda.so.1").is_symlink()


def open_to_others(bundle: Container) -> None:
    for folder in bundle.root.parents:
        if folder.stat().st_uid == 0 and folder.name.startswith(("pytest-", "test_")):
            folder.chmod(0o755)
        if folder.stat().st_mode & 0o005 != 0o005:
            pytest.skip(f"{folder} is closed to others")


def give(bundle: Container, owner: int) -> None:
    for path in [bundle.bundle, bundle.root, *bundle.root.rglob("*")]:
        os.chown(path, owner, owner, follow_symlinks=False)


@pytest.mark.parametrize("users", [65536, 1])
def test_a_user_namespace(runtime: Runtime, bundle: Container, users: int) -> None:
    """Docker's userns-remap and Podman's --uidmap: the hook is root of the container only (A59)."""
    spec = bundle.spec  # type: ignore[attr-defined]
    spec["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        spec["linux"][kind] = [{"containerID": 0, "hostID": 100000, "size": users}]
    if users == 1:
        spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/dev/pts"]
    give(bundle, 100000)
    open_to_others(bundle)
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
    """A user without any privilege; the hook and the host's ldconfig belong to somebody unknown."""
    spec = bundle.spec  # type: ignore[attr-defined]
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
    """A01, A02, CVE-2025-23266: the spec's `env` is what keeps it out; this is why it is never empty."""
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
    bundle.spec["process"]["env"].append(variable)  # type: ignore[attr-defined]
    ended = start(runtime, bundle)
    assert (ended.returncode, ended.stderr) == (0, "")
    bundle.assert_host_untouched()


def test_a_spec_that_lost_its_env_is_noticed(runtime: Runtime, bundle: Container) -> None:
    """With runc before 1.3 it is the image's environment that comes; with crun the engine's."""
    bundle.spec["process"]["env"] = ["EVIL=1"]  # type: ignore[attr-defined]
    del bundle.spec["hooks"]["createContainer"][0]["env"]  # type: ignore[attr-defined]
    ended = start(runtime, bundle)
    assert ended.returncode != 0
    if runtime.name == "runc":
        assert "in the environment: the spec must give its hooks an 'env'" in ended.stderr


def test_a_volume_over_etc(runtime: Runtime, bundle: Container) -> None:
    bundle.spec["mounts"].append(  # type: ignore[attr-defined]
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
