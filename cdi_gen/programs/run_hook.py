# SPDX-License-Identifier: Apache-2.0
"""Runs hooks by hand on a root file system of the user's choice.

Hooks run as under an OCI runtime: with the OCI state on standard input, and only the environment of
the spec.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from cdi_base import HOOK
from cdi_gen.cdi.model import Hook
from cdi_gen.errors import CdiGenError
from cdi_gen.generate.hook_command import ENVIRONMENT, STAGE
from cdi_gen.host import hook_program
from cdi_gen.host.roots import Root
from cdi_gen.programs.install import launcher

_START_LAUNCHER = """\
import sys
_, launcher, file_name, *arguments = sys.argv
sys.argv = [launcher, *arguments]
with open(launcher, "rb") as file:
    text = file.read()
exec(compile(text, launcher, "exec"), {"__name__": "__main__", "__file__": file_name})
"""
"""Runs a launcher with another ``__file__``: launchers look for their modules beside that file."""


def program() -> str:
    """The path of the installed hook program, or of the launcher in this installation."""
    installed = hook_program.find(Root(), None)
    return installed.path if installed else launcher()


def from_arguments(arguments: Sequence[str]) -> Hook:
    """A hook that runs cdi-gen's hook program with the user's arguments."""
    path = program()
    return Hook(hook_name=STAGE, path=path, args=(path, *arguments), env=ENVIRONMENT)


def has_dry_run(path: str) -> bool:
    """Whether a program is cdi-gen's hook, perhaps through a link, and so has ``--dry-run``."""
    try:
        return os.path.basename(os.path.realpath(path)) == HOOK
    except ValueError:  # a NUL character, which JSON can spell
        return False


def run(hook: Hook, rootfs: str, *, dry_run: bool) -> int:
    """Run one hook on a root file system; return its exit status.

    Args:
        hook: program, arguments and environment.
        rootfs: the directory that takes the place of a container's ``/``.
        dry_run: have the hook print the changes, and change nothing. If the hook's program does not
            exist, because the spec is from another host, the hook program of this host is used.

    Raises:
        CdiGenError: the program cannot be started.
    """
    root = os.path.abspath(rootfs)
    state = {
        "ociVersion": "1.0.2",
        "id": "cdi-gen-hook-run",
        "status": "creating",
        "bundle": root,
        "root": root,
    }
    path = program() if dry_run and not os.path.exists(hook.path) else hook.path
    command = [*_command(path), *(["--dry-run"] if dry_run else []), *hook.args[1:]]
    environment = dict(entry.partition("=")[::2] for entry in hook.env)
    try:
        process = subprocess.run(
            command, input=json.dumps(state).encode(), env=environment, check=False
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL character in a word
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CdiGenError(
            f"{path}: {reason}",
            hint="install the hook with: sudo cdi-gen hook install",
            code="CDG-P006",
            subject=path,
        ) from error
    return process.returncode


def _command(path: str) -> tuple[str, ...]:
    """The command that starts a hook's program, without arguments.

    A wheel has the launcher inside the package ``cdi_hook``, where the launcher does not find its
    modules, and perhaps not its interpreter. There the interpreter of cdi-gen runs the launcher.
    """
    directory, name = os.path.split(path)
    if path != launcher() or os.path.basename(directory) != "cdi_hook":
        return (path,)
    file_name = os.path.join(os.path.dirname(directory), name)
    return sys.executable, "-IS", "-c", _START_LAUNCHER, path, file_name
