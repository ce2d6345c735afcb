# SPDX-License-Identifier: Apache-2.0
"""Why a host may not load the driver's kernel module: it is not built, or is blocked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from cdi_gen.doctor.host import Host
from cdi_gen.host.roots import Root

BASES = ("/lib/modules", "/run/booted-system/kernel-modules/lib/modules")
"""The directories of kernel releases; the second is that of NixOS."""
MAX_DEPENDENCIES = 16 << 20
_MODULE_FILE = re.compile(
    r"^(\S*/nvidia(?:-current|-tesla[\w.-]*|-legacy[\w.-]*)?\.ko\S*):", re.MULTILINE
)
"""The module in a line of modules.dep: Debian gives it the name of its package."""

DKMS = "/var/lib/dkms"
BUILD_LOG = "build/make.log"
"""DKMS keeps it after a build that failed."""

CONFIGURATION = (
    "/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)  # fmt: skip
"""The directories of modprobe.d(5): a file hides those of the same name in later directories."""
PARAMETERS = frozenset({"module_blacklist", "modprobe.blacklist", "rd.driver.blacklist"})
"""Parameters of the kernel, of modprobe and of dracut."""
NOTHING = frozenset({"false", "true", "off", ":"})
"""The last words of a line that keeps a module from being loaded."""


class DkmsModule(NamedTuple):
    """A version of the driver that DKMS builds."""

    name: str
    version: str
    has_failed: bool

    @property
    def log(self) -> str:
        """The path of the log of a build that failed."""
        return f"{DKMS}/{self.name}/{self.version}/{BUILD_LOG}"


class Block(NamedTuple):
    """A setting that keeps a module from being loaded."""

    source: str
    """The file, or ``/proc/cmdline``."""
    text: str
    """The line of the file, or the parameter."""
    keyword: str = ""
    """The first word of the line."""


def module_files(host: Host) -> dict[str, str]:
    """Return the path of the module nvidia by kernel release, of those that have it."""
    files: dict[str, str] = host.fact("kernel modules", lambda: _module_files(host.root))
    return files


def _module_files(root: Root) -> dict[str, str]:
    files: dict[str, str] = {}
    for dependencies in (path for base in BASES for path in root.expand(f"{base}/*/modules.dep")):
        try:
            text = root.read_text(dependencies, MAX_DEPENDENCIES)
        except OSError:
            continue
        if match := _MODULE_FILE.search(text):
            directory = dependencies.rpartition("/")[0]
            path = match[1] if match[1].startswith("/") else f"{directory}/{match[1]}"
            files.setdefault(directory.rpartition("/")[2], path)
    return files


def dkms_modules(host: Host) -> tuple[DkmsModule, ...]:
    """Return the versions of the driver that DKMS has."""
    return tuple(
        DkmsModule(name, version, host.exists(f"{DKMS}/{name}/{version}/{BUILD_LOG}"))
        for name in host.entries(DKMS) or ()
        if name.startswith("nvidia")
        for version in host.entries(f"{DKMS}/{name}") or ()
        if version[:1].isdecimal()
    )


def blocks(host: Host, module: str) -> Iterator[Block]:
    """Yield the settings that keep a module from being loaded."""
    for parameter in host.kernel_command_line:
        key, _, value = parameter.partition("=")
        names = map(_normal, value.split(","))
        if key in PARAMETERS and module in names:
            yield Block("/proc/cmdline", parameter)
    hidden: set[str] = set()
    for directory in CONFIGURATION:
        file_names = [name for name in host.entries(directory) or () if name.endswith(".conf")]
        for name in file_names:
            if name not in hidden:
                yield from _blocks_in(host, f"{directory}/{name}", module)
        hidden.update(file_names)


def _blocks_in(host: Host, path: str, module: str) -> Iterator[Block]:
    if "nvidia" not in (text := host.text(path, 1 << 16) or "") and module not in text:
        return
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2 or _normal(words[1]) != module:
            continue
        last = words[-1].rpartition("/")[2]
        if words[0] == "blacklist" or (words[0] in {"install", "alias"} and last in NOTHING):
            yield Block(path, " ".join(words), words[0])


def _normal(name: str) -> str:
    return name.replace("-", "_")
