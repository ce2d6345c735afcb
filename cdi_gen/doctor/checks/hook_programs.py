# SPDX-License-Identifier: Apache-2.0
"""Whether the hook programs of the specs can be run, only root can change them, and they fit."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from shlex import quote

from cdi_base import HOOK, VERSION, trust
from cdi_base.findings import Finding
from cdi_base.versions import at_least
from cdi_gen.cdi.model import Hook
from cdi_gen.doctor import installed_specs, nvidia_toolkit
from cdi_gen.doctor.check import Check, NotApplicable
from cdi_gen.doctor.host import Host
from cdi_gen.host import hook_program
from cdi_gen.paths import base_name

INSTALL = "sudo cdi-gen hook install"


def examine(host: Host) -> Iterator[Finding]:
    """Yield what is wrong with each program, once."""
    hooks = [*installed_specs.hooks(installed_specs.require_specs(host))]
    if not hooks:
        raise NotApplicable("the specs have no hook")
    for path in dict.fromkeys(hook.path for _, hook in hooks):
        status = host.status(path, follow=True)
        if status is None:
            files = dict.fromkeys(file for file, hook in hooks if hook.path == path)
            yield Finding(
                "CDG-V103",
                "error",
                f"{' and '.join(files)}: the hook program {path} does not exist: no container with "
                "the devices starts",
                subject=path,
                fix=_install(path),
            )
        elif not stat.S_ISREG(status.mode) or not status.mode & stat.S_IXUSR:
            yield Finding(
                "CDG-A230",
                "error",
                f"the hook program {path} is not executable (mode "
                f"{stat.S_IMODE(status.mode):04o}): no container with the devices starts",
                subject=path,
                fix=f"sudo chmod 755 {quote(path)}",
            )
        else:
            yield from _trust(host, path)
            yield from _version(host, path, [hook for _, hook in hooks if hook.path == path])
    yield from _environments(hooks)


def _install(path: str) -> str:
    """Return the command that installs a program at a path, or writes specs with another one."""
    name = base_name(path)
    if name == HOOK and path.endswith(f"/libexec/cdi-gen/{HOOK}"):
        return f"{INSTALL} --prefix {path.removesuffix(f'/libexec/cdi-gen/{HOOK}')}"
    if name in nvidia_toolkit.HOOKS and path.endswith(f"/bin/{name}"):
        return f"{INSTALL} --prefix {path.removesuffix(f'/bin/{name}')} --{nvidia_toolkit.HOOKS[0]}"
    return f"{INSTALL} && sudo cdi-gen refresh --force"


def _trust(host: Host, path: str) -> Iterator[Finding]:
    def fault() -> str | None:
        if base_name(path) == HOOK:
            program = hook_program.find(host.root, path)
            return program.unsafe if program else None
        try:
            return trust.fault(path, seen_from=host.where.host_root)
        except OSError as error:
            return error.strerror

    reason = host.fact("hook program", fault, path)
    if reason:
        # The reason begins with the file or directory that is not safe.
        location = reason.partition(" ")[0] if reason.startswith("/") else path
        yield Finding(
            "CDG-G002",
            "error",
            f"the hook program {path} is run as root, and cannot be trusted: {reason}",
            subject=path,
            fix=f"sudo chown root:root {quote(location)} && sudo chmod go-w {quote(location)}"
            f"  # or install the program again: {_install(path)}",
        )


def _version(host: Host, path: str, hooks: list[Hook]) -> Iterator[Finding]:
    """Yield that the program is older than the spec, and leaves a step of it out."""
    version = nvidia_toolkit.version(host, path)
    if version is None:
        return
    if base_name(path) == HOOK:
        if not at_least(version, VERSION, unknown=True):
            yield _older(path, version, f"cdi-gen {VERSION}", _install(path))
        return
    if not nvidia_toolkit.is_nvidias(host, path):
        return
    for step, facts in nvidia_toolkit.facts()["steps"].items():
        if any(step in hook.args for hook in hooks) and not at_least(
            version, facts["since"], unknown=True
        ):
            yield _older(path, version, f"step {step} of the spec", f"{INSTALL} --nvidia-cdi-hook")
    for name, until in nvidia_toolkit.vulnerabilities(version):
        yield Finding(
            "CDG-A237",
            "warning",
            f"{path} is of NVIDIA Container Toolkit {version}, which has {name}: an image can "
            f"attack the host; fixed in {until}",
            subject=path,
            fix=f"{INSTALL} --nvidia-cdi-hook  # or install NVIDIA's {until} or later",
        )


def _older(path: str, version: str, what: str, fix: str) -> Finding:
    return Finding(
        "CDG-G007",
        "warning",
        f"the hook program {path} {version} is older than {what}, which it leaves out",
        subject=path,
        fix=fix,
    )


def _environments(hooks: list[tuple[str, Hook]]) -> Iterator[Finding]:
    """Yield that runc gives a hook the environment of the image."""
    for path in dict.fromkeys(path for path, hook in hooks if not hook.env):
        yield Finding(
            "CDG-S409",
            "error",
            f"{path} has a hook without an environment: runc before 1.3 runs it as root with the "
            "image's LD_PRELOAD (CVE-2025-23266)",
            subject=path,
            fix=installed_specs.rewrite(path),
        )


CHECK = Check(
    "hook-programs",
    "security",
    "the hooks of the specs exist, fit and only root can change them",
    examine,
)
