# SPDX-License-Identifier: Apache-2.0
"""Containers and engines for which the hooks of NVIDIA's toolkit do not work.

Their faults are known from their releases; `nvidia_toolkit.json` has the sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cdi_base.findings import Finding
from cdi_gen.cdi.model import Hook
from cdi_gen.doctor import installed_specs, nvidia_toolkit
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.engines.machine import USUAL_DIRECTORIES
from cdi_gen.paths import join

if TYPE_CHECKING:
    from cdi_base.findings import Severity

HARMLESS_MOUNTS = ("/proc/sys/fs/binfmt_misc",)
"""Mounts on empty directories of procfs do not count (mount_too_revealing in the kernel)."""
HOOKLESS = ("apptainer", "singularity", "enroot")
"""Engines that apply CDI devices and run no hook of theirs."""
LDCONFIG = ("/sbin/ldconfig.real", "/sbin/ldconfig", "/usr/sbin/ldconfig")


def examine(host: Host) -> Iterator[Finding]:
    """Yield the limits of the hooks of the installed specs."""
    hooks = [*installed_specs.hooks(installed_specs.require_specs(host))]
    if not hooks:
        raise NotApplicable("the specs have no hook")
    of_nvidia = [(path, hook) for path, hook in hooks if nvidia_toolkit.is_nvidias(host, hook.path)]
    versions: dict[str, str | None] = {
        hook.path: nvidia_toolkit.version(host, hook.path) for _, hook in of_nvidia
    }
    for path, hook in of_nvidia:
        yield from _of_nvidia(host, path, hook, versions[hook.path])
    for path, hook in hooks:
        yield from _ldconfig(host, path, hook)
    yield from _engines_without_hooks(host, hooks[0][0])


def _of_nvidia(host: Host, path: str, hook: Hook, version: str | None) -> Iterator[Finding]:
    if "update-application-profile" in hook.args and nvidia_toolkit.has_limit(
        "read-only-directory", version
    ):
        yield _finding(
            "CDG-A231",
            "warning",
            f"{path}: step update-application-profile of {hook.path} fails where /etc/nvidia is a "
            "read-only mount, and the container does not start",
            path,
        )
    if "update-ldcache" not in hook.args:
        return
    mounts = _mounts_in_proc(host)
    if mounts and nvidia_toolkit.has_limit("mounts-proc", version) and _has_rootless_engine(host):
        yield _finding(
            "CDG-A232",
            "error",
            f"{path}: step update-ldcache of {hook.path} mounts a procfs, which the kernel refuses "
            f"to a rootless container while {mounts[0]} is mounted over the host's",
            path,
        )
    if version is not None and nvidia_toolkit.has_limit("no-cache-for-images", version):
        yield _finding(
            "CDG-A234",
            "warning",
            f"{path}: {hook.path} {version} makes no loader cache in images without ldconfig or "
            "with musl (distroless, Alpine): programs there do not find libcuda",
            path,
        )


def _finding(code: str, severity: Severity, message: str, path: str) -> Finding:
    return Finding(
        code,
        severity,
        message,
        subject=path,
        fix="sudo cdi-gen hook install && " + installed_specs.rewrite(path),
    )


def _mounts_in_proc(host: Host) -> list[str]:
    """Return the mounts over parts of procfs that hide something."""
    lines = (host.text("/proc/self/mountinfo", 1 << 22) or "").splitlines()
    targets = [fields[4] for line in lines if len(fields := line.split(" ")) > 4]
    return [
        target
        for target in targets
        if target.startswith("/proc/") and target not in HARMLESS_MOUNTS
    ]


def _has_rootless_engine(host: Host) -> bool:
    return host.uid != 0 or any(status.rootless for status in host.engines)


def _ldconfig(host: Host, path: str, hook: Hook) -> Iterator[Finding]:
    """Yield that the host has no ldconfig for the step that needs it."""
    if "update-ldcache" not in hook.args and "--folder" not in hook.args:
        return
    named = [
        value
        for word, value in zip(hook.args, [*hook.args[1:], ""], strict=True)
        if word == "--ldconfig-path"
    ]
    named += [word.partition("=")[2] for word in hook.args if word.startswith("--ldconfig-path=")]
    programs = tuple(named) or LDCONFIG
    if not any(host.status(program, follow=True) for program in programs):
        yield Finding(
            "CDG-K101",
            "error",
            f"{path}: the hook needs the host's ldconfig, and {' or '.join(programs)} does not "
            "exist: no container with the devices starts",
            subject=path,
            fix=f"{installed_specs.rewrite(path, '--hooks=none')}  # or install ldconfig (glibc)",
        )


def _engines_without_hooks(host: Host, path: str) -> Iterator[Finding]:
    programs = (join(directory, name) for name in HOOKLESS for directory in USUAL_DIRECTORIES)
    program = next((program for program in programs if host.status(program, follow=True)), None)
    if program:
        yield Finding(
            "CDG-A233",
            "warning",
            f"{program} applies the devices of {path}, but runs none of its hooks: containers get "
            "libcuda.so.VERSION, and not libcuda.so.1",
            subject=program,
            fix=installed_specs.rewrite(path, "--hooks=none"),
        )


CHECK = Check("hook-limits", "specs", "the hooks of the specs work for all containers", examine)
