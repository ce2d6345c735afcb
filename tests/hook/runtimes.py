# SPDX-License-Identifier: Apache-2.0
"""Starts real OCI runtimes on a bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.hook.conftest import Container

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC0"}
"""The environment that specs give to hooks."""


class Runtime:
    """One OCI runtime, and the wrapper commands that this machine needs."""

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
            # A pipe: crun gives its streams to the root of a user namespace, also /dev/null.
            input="",
        )


def hook_of(container: Container, *words: str) -> dict[str, object]:
    """The entry of config.json that runs the container's hook with these words."""
    path, *rest = container.launcher
    return {
        "path": path,
        # An interpreter outside /usr finds its library by its own path.
        "args": [path if rest else Path(path).name, *rest, *words],
        "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
        "timeout": 30,
    }


def start(runtime: Runtime, bundle: Container, *user: str) -> subprocess.CompletedProcess[str]:
    (bundle.bundle / "config.json").write_text(json.dumps(bundle.spec))
    return runtime.run(bundle.bundle, *user)


def open_to_others(bundle: Container) -> None:
    for folder in bundle.root.parents:
        if folder.stat().st_uid == 0 and folder.name.startswith(("pytest-", "popen-", "test_")):
            folder.chmod(0o755)
        if folder.stat().st_mode & 0o005 != 0o005:
            pytest.skip(f"{folder} is closed to others")


def give(bundle: Container, owner: int) -> None:
    for path in [bundle.bundle, bundle.root, *bundle.root.rglob("*")]:
        os.chown(path, owner, owner, follow_symlinks=False)


def in_a_user_namespace(bundle: Container, users: int) -> None:
    """Give the bundle to user 100000, who is the container's root."""
    for folder in Path(bundle.launcher[0]).resolve().parents:
        if not folder.stat().st_mode & 0o001:
            pytest.skip(f"{bundle.launcher[0]} cannot be run by another user: {folder} is closed")
    spec = bundle.spec
    spec["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        spec["linux"][kind] = [{"containerID": 0, "hostID": 100000, "size": users}]
    if users == 1:
        spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/dev/pts"]
    give(bundle, 100000)
    open_to_others(bundle)
