# SPDX-License-Identifier: Apache-2.0
"""What the lab takes from Debian: whole roots with container engines, and single packages.

Both come from the mirror that the machine's own apt uses. Nothing but ``mmdebstrap`` is
ever installed on the machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.cache import LabUnavailableError, cached, require_root

_PODMAN = ("podman", "crun", "runc")
_CDI_GEN = ("python3-click", "python3-jsonschema", "python3-tomlkit", "python3-yaml")
"""What cdi-gen itself needs to run beside engines."""
_MORE = (
    *_PODMAN,
    *("buildah", "containerd", "docker-compose", "docker.io", "rootlesskit", "runsc"),
    # What these need and do not ask for.
    *("iproute2", "iptables"),
    *_CDI_GEN,
)
_SYSTEMD = (*_PODMAN, "containerd", "docker.io", "kmod", "systemd", "udev", *_CDI_GEN)
_PACKAGING = (*_CDI_GEN, *_PODMAN, "debhelper", "dh-python", "dpkg-dev", "lintian", "rpm")
"""What builds and checks packages, and an engine to use them."""

ENGINES = {
    "bookworm": _PODMAN,  # podman 4.3, crun 1.8, runc 1.1.5
    "trixie": _PODMAN,  # podman 5.4, crun 1.21, runc 1.1.15
    # Docker 20.10, containerd 1.6
    "bookworm-engines": _MORE,
    # Docker 26.1, containerd 1.7
    "trixie-engines": (*_MORE, "docker-cli"),
    # podman 5.8, Docker 28.5, containerd 2.1
    "sid-engines": (*_MORE, "apptainer", "docker-buildx", "docker-cli"),
    # systemd 252, and the units of podman 4.3, Docker 20.10 and containerd 1.6, see systemd.py
    "bookworm-systemd": _SYSTEMD,
    # systemd 257, and the units of podman 5.4, Docker 26.1 and containerd 1.7
    "trixie-systemd": _SYSTEMD,
    # containerd 1.7, runc 1.1.15, what CRI-O needs: the node of a cluster, see tests/lab/kubernetes
    "trixie-kubernetes": (
        *("busybox-static", "containerd", "containernetworking-plugins", "runc"),
        *("conmon", "skopeo"),
        *("iproute2", "iptables", "openssl"),
        *_CDI_GEN,
    ),
    "bookworm-packaging": _PACKAGING,
    "trixie-packaging": _PACKAGING,
}
"""The engines of each root, named by its suite and what it is for: a new root is one more line."""

SMALL = ("bookworm", "trixie")
"""The roots that `make test` has; the others are for the matrix of engines."""

BASE = ("mount", "python3", "uidmap")
"""In every root: what engines need of a system, and the interpreter that runs hooks."""

USER = 1000
"""The user id of the one unprivileged user of every root; its name is ``user``."""

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# No limit may be raised: root of a build machine often lacks CAP_SYS_RESOURCE, and engines
# ask for more than it has unless told otherwise. The pids controller may be missing too.
_CONTAINERS_CONF = """\
[containers]
netns = "none"
pids_limit = 0
default_ulimits = ["nofile=1024:4096", "nproc=1024:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"""

# Without it an older podman takes vfs for unprivileged users: slow, and no upper layer to look at.
_STORAGE_CONF = """\
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""

_SYSTEM_FILES = {
    "etc/containers/containers.conf": _CONTAINERS_CONF,
    "etc/containers/storage.conf": _STORAGE_CONF,
    "etc/subuid": "user:100000:65536\n",
    "etc/subgid": "user:100000:65536\n",
}

# Downloaded packages and package lists, a third of a root.
_LEFTOVERS = ("var/cache/apt", "var/lib/apt/lists")


def root(name: str) -> Path:
    """A Debian root folder with the engines of ``name``, one of ``ENGINES``.

    Raises:
        LabUnavailableError: it is not in the cache and cannot be built here.
    """
    suite = name.partition("-")[0]
    include = ",".join((*BASE, *ENGINES[name]))
    options = [
        "--quiet",
        # The smallest variant with /etc/passwd, `sh` and alternatives in place.
        "--variant=essential",
        "--skip=check/qemu,cleanup/apt",
        f"--include={include}",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "info", "locale", "man")),
        # sid's index on a mirror may be past its date.
        '--aptopt=Acquire::Check-Valid-Until "false"',
        '--aptopt=APT::Install-Recommends "false"',
    ]

    def build(folder: Path) -> None:
        require_root()
        _install_mmdebstrap()
        _command("mmdebstrap", *options, suite, str(folder), mirror())
        for leftover in _LEFTOVERS:
            shutil.rmtree(folder / leftover)
        for path, text in _SYSTEM_FILES.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="ascii")
        with (folder / "etc/passwd").open("a", encoding="ascii") as passwd:
            passwd.write(f"user:x:{USER}:{USER}::/home/user:/bin/sh\n")
        with (folder / "etc/group").open("a", encoding="ascii") as group:
            group.write(f"user:x:{USER}:\n")
        for directory in ("etc/cdi", "home/user"):
            (folder / directory).mkdir(exist_ok=True)

    return cached(name, repr((options, _LEFTOVERS, _SYSTEM_FILES)), build)


def unpack(packages: Sequence[str], into: Path, *, suite: str = "bookworm") -> dict[str, Path]:
    """Download packages (``name`` or ``name:arch``) and unpack each into its own folder.

    The machine's package lists, architectures and installed packages are neither used nor
    changed. Returns the folder of each package.

    Raises:
        LabUnavailableError: apt is missing, or the packages cannot be had.
    """
    state = into / ".apt"
    for folder in ("lists/partial", "cache/archives/partial", "debs"):
        (state / folder).mkdir(parents=True)
    signed = f"[signed-by={_KEYRING}] " if Path(_KEYRING).exists() else ""
    (state / "sources.list").write_text(f"deb {signed}{mirror()} {suite} main\n", "utf-8")
    options = {
        "APT::Architectures::": ("amd64", "i386"),
        "APT::Sandbox::User": ("root",),
        "Acquire::Languages": ("none",),
        "Dir::Cache": (str(state / "cache"),),
        "Dir::Etc::sourcelist": (str(state / "sources.list"),),
        "Dir::Etc::sourceparts": ("/dev/null",),
        "Dir::State::lists": (str(state / "lists"),),
        "Dir::State::status": ("/dev/null",),
    }
    apt = ["apt-get", "-qq"]
    for name, values in options.items():
        apt += [word for value in values for word in ("-o", f"{name}={value}")]
    _command(*apt, "update")
    _command(*apt, "download", *packages, cwd=state / "debs")
    folders = {}
    for package in packages:
        name = package.partition(":")[0]
        (archive,) = (state / "debs").glob(f"{name}_*.deb")
        folders[name] = into / name
        _command("dpkg-deb", "-x", str(archive), str(folders[name]))
    shutil.rmtree(state)
    return folders


def mirror() -> str:
    """The Debian mirror: ``CDI_GEN_LAB_MIRROR``, or else the one of the machine's apt.

    Raises:
        LabUnavailableError: the machine is no Debian, or its apt knows no mirror.
    """
    chosen = os.environ.get("CDI_GEN_LAB_MIRROR")
    if chosen:
        return chosen
    system = platform.freedesktop_os_release()
    if system["ID"] != "debian":
        raise LabUnavailableError(
            f"the lab takes its engines from Debian and this is {system['ID']}: "
            "name a mirror in CDI_GEN_LAB_MIRROR"
        )
    query = (
        "apt-get",
        "indextargets",
        "--format=$(REPO_URI)",
        f"Codename: {system['VERSION_CODENAME']}",
        "Component: main",
        "Created-By: Packages",
    )
    found = _command(*query).split()
    if not found:
        _command("apt-get", "-qq", "update")  # a machine that has no package lists yet
        found = _command(*query).split()
    if not found:
        raise LabUnavailableError("the machine's apt knows no Debian mirror")
    return found[0]


def _install_mmdebstrap() -> None:
    if shutil.which("mmdebstrap"):
        return
    _command("apt-get", "-qq", "update")
    _command("apt-get", "-qq", "-y", "--no-install-recommends", "install", "mmdebstrap")


def _command(*argv: str, cwd: Path | None = None) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            argv, cwd=cwd, env=environment, check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise LabUnavailableError(f"the lab needs {argv[0]}") from None
    if done.returncode != 0:
        complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:"))]
        reason = " ".join(complaints[:2]) or done.stderr.strip()
        raise LabUnavailableError(f"{argv[0]} failed while the lab was built: {reason}")
    return done.stdout
