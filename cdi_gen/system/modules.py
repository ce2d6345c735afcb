# SPDX-License-Identifier: Apache-2.0
"""Loads the kernel modules of the driver, as nvidia-ctk does: with the driver root's modprobe."""

from __future__ import annotations

import os
import time

from cdi_base import child, trust
from cdi_base.findings import Finding
from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.host.roots import Root

MODULES = ("nvidia", "nvidia-uvm", "nvidia-modeset")
"""In this order: the others need the first one."""

MODPROBE = "/sbin/modprobe"
CHROOT = "/usr/sbin/chroot"
SECONDS = 60
"""A GPU takes up to some seconds to initialise, and the module initialises all of them."""

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_MAX_OUTPUT = 4096


def commands(driver: Root) -> list[list[str]]:
    """Return the command for each module."""
    root = driver.open_path("/").rstrip("/")
    prefix = [CHROOT, root] if root else []
    return [[*prefix, MODPROBE, module] for module in MODULES]


def load(driver: Root) -> list[Finding]:
    """Load the modules; return which of the modules beside ``nvidia`` cannot be loaded.

    Raises:
        UnsafeError: users other than root can change modprobe.
        CdiGenError: modprobe is missing, or the module ``nvidia`` cannot be loaded.
    """
    _check_modprobe(driver)
    findings = []
    for module, words in zip(MODULES, commands(driver), strict=True):
        reason = _run(words)
        if reason is None:
            continue
        message = f"cannot load the kernel module {module}: {reason}"
        if module == MODULES[0]:
            hint = "install the driver for the running kernel, and look at dmesg"
            raise CdiGenError(message, hint=hint, code="CDG-D004", subject=module)
        findings.append(Finding("CDG-D105", "warning", message, subject=module))
    return findings


def _check_modprobe(driver: Root) -> None:
    """Root runs the program, so only root may be able to change it."""
    path = driver.open_path(MODPROBE)
    try:
        reason = trust.fault(
            MODPROBE, seen_from=driver.open_path("/"), owners=trust.machine_root_or_caller()
        )
    except OSError as error:
        raise CdiGenError(
            f"cannot run {path}: {error.strerror}",
            hint="install the package kmod, or name the root that has it with --driver-root",
            code="CDG-D004",
            subject=path,
        ) from error
    if reason:
        raise UnsafeError(f"{path} is not run: {reason}", code="CDG-D002", subject=path)


def _run(words: list[str]) -> str | None:
    """Return why the command failed; None if it did not."""
    try:
        status, output = child.run_program(
            words, _ENVIRONMENT, time.monotonic() + SECONDS, most=_MAX_OUTPUT
        )
    except TimeoutError:
        return f"{words[0]} did not end in {SECONDS} s"
    except OSError as error:
        return f"{words[0]}: {os.strerror(error.errno or 0)}"
    if status == 0:
        return None
    return output.splitlines()[-1] if output else f"{words[0]} ended with status {status}"
