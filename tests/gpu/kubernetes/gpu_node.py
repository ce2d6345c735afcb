# SPDX-License-Identifier: Apache-2.0
"""A node of this machine: kubelet, containerd and runc in namespaces, with the machine's GPUs.

The node's root is an overlay of the machine's own ``/`` in memory, with its driver. Kubernetes'
programs are those of the lab (``tests.lab.kubernetes``), from the cache.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from cdi_gen.host import Where
from cdi_gen.kubernetes.probe import Facts
from tests.gpu.programs.container import CHECKOUT
from tests.gpu.programs.machine import MAKE_BELIEVE, mount_points
from tests.lab.archives import Configuration
from tests.lab.engines import Device, Lab
from tests.lab.kubernetes.node import Node
from tests.lab.kubernetes.standalone import Standalone, standalone

IMAGE = "localhost/cuda:lab"
"""A shell, glibc and the program ``work``: an image for CUDA programs, without a driver."""

BUNDLE = "/opt/bundle"
"""The hook programs with their interpreter, see docs/bundle.md."""

CGROUPS = Path("/sys/fs/cgroup")

_SOURCES = "/opt/cdi-gen"
_OWN = (*MAKE_BELIEVE, "/etc", "/var", "/home", "/root")
"""Below these the machine's mounts are not the node's."""

CDI_GEN = (sys.executable, "-m", "cdi_gen")
"""The program in a node; it needs `environment`."""

_PROBE = (CDI_GEN[0], "-m", "cdi_gen.kubernetes.probe")
_WHERE = json.dumps(Where()._asdict())


def environment() -> dict[str, str]:
    """Return the variables of ``CDI_GEN`` in a node."""
    path = [f"{_SOURCES}{folder}" for folder in ("", "/specs", "/hooks")]
    return {
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join((*path, *_inherited())),
        "PYTHONUNBUFFERED": "1",
    }


@contextlib.contextmanager
def gpu_node(programs: Path | None, bundle: Path | None = None) -> Iterator[Standalone]:
    """Enter a node with a running kubelet, the machine's GPUs, the image ``IMAGE`` and cdi-gen's hook.

    Args:
        programs: a directory with what the machine lacks of ``usr/bin/busybox``, ``usr/sbin/runc``,
            and ``bridge``, ``host-local`` and ``loopback`` in ``usr/lib/cni``. A machine without
            ip(8) has busybox's.
        bundle: the directory that the node has at ``BUNDLE``.

    Raises:
        LabUnavailableError: this machine cannot have it; the message says why.
    """
    delegate_controllers()
    mounts = [path for path in mount_points() if path != "/" and not path.startswith(_OWN)]
    with standalone(
        root=Lab("this machine", Path("/")),
        binds={
            **program_files(programs),
            **{path: path for path in sorted(mounts)},
            _SOURCES: CHECKOUT,
            **{path: path for path in _inherited()},
            **({BUNDLE: bundle} if bundle else {}),
        },
        devices=list(device_nodes()),
    ) as kubernetes:
        _load_image(kubernetes.node)
        kubernetes.node.run(*CDI_GEN, "hook", "install", env=environment())
        yield kubernetes


def facts_of(kubernetes: Standalone) -> Facts:
    """Examine the node."""
    probe = kubernetes.node.run(*_PROBE, env=environment(), stdin=_WHERE)
    return Facts.of(json.loads(probe.stdout))


def program_files(folder: Path | None) -> dict[str, Path]:
    """The programs below a folder by their paths in the node."""
    if folder is None:
        return {}
    files = {f"/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.is_file()}
    if "/usr/bin/busybox" in files and shutil.which("ip") is None:
        files["/usr/sbin/ip"] = files["/usr/bin/busybox"]
    return files


def _inherited() -> list[str]:
    """The directories of PYTHONPATH outside of this checkout."""
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    outside = (os.path.abspath(path) for path in paths)
    return [path for path in outside if not Path(path).is_relative_to(CHECKOUT)]


def delegate_controllers() -> None:
    """Let control groups below the root have controllers, and leave this process's own group.

    Only a machine with cgroup v2 needs it, and nothing changes where systemd has done it.
    """
    if not (CGROUPS / "cgroup.controllers").exists():
        return
    (CGROUPS / "cgroup.procs").write_text("0", "ascii")
    for controller in (CGROUPS / "cgroup.controllers").read_text("ascii").split():
        with contextlib.suppress(OSError):
            (CGROUPS / "cgroup.subtree_control").write_text(f"+{controller}", "ascii")


def device_nodes() -> Iterator[Device]:
    """Yield the machine's nodes of NVIDIA's driver."""
    for path in sorted((*Path("/dev").glob("nvidia*"), *Path("/dev").glob("nvidia*/*"))):
        status = path.lstat()
        if stat.S_ISCHR(status.st_mode):
            number = status.st_rdev
            mode = stat.S_IMODE(status.st_mode)
            yield Device(str(path), os.major(number), os.minor(number), mode)


def _load_image(node: Node) -> None:
    """Build the image of the machine's glibc and its C compiler, and load it."""
    tree = node.folder / "cuda"
    shutil.copytree(node.busybox, tree, symlinks=True)
    program = tree / "usr/bin/work"
    program.parent.mkdir(parents=True)
    source = Path(__file__).with_name("inside") / "work.c"
    subprocess.run(["cc", "-O1", "-o", program, source, "-ldl"], check=True)
    for library in (*linked(program), *_GLIBC):
        copy = tree / library.lstrip("/")
        if os.path.exists(library) and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, copy)
    node.load_image(tree, IMAGE, Configuration(command=("/bin/sh",)))
    shutil.rmtree(tree)


_GLIBC = tuple(
    f"/lib/x86_64-linux-gnu/{name}"
    for name in ("libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1")
)
"""Parts of glibc that the driver needs, beside those that a program is linked with."""


def linked(program: Path) -> list[str]:
    """Return the paths of the loader and of the libraries that a program is linked with."""
    listing = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    words = [word for line in listing.splitlines() for word in line.split()]
    return [word for word in words if word.startswith("/")]
