# SPDX-License-Identifier: Apache-2.0
"""Runs hooks by hand, on a root file system that a person names: to see what they would do.

As a runtime runs them: with the OCI state on standard input, and the environment of the spec alone.
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

_AS_INSTALLED = """\
import sys
_, launcher, place, *words = sys.argv
sys.argv = [launcher, *words]
with open(launcher, "rb") as file:
    text = file.read()
exec(compile(text, launcher, "exec"), {"__name__": "__main__", "__file__": place})
"""
"""Runs a launcher as if it lay at another place: launchers look for their modules beside them."""


def program() -> str:
    """The installed hook program; where none is, the one that came with this package."""
    found = hook_program.find(Root(), None)
    return found.path if found else launcher()


def worded(words: Sequence[str]) -> Hook:
    """A hook of cdi-gen's program with a command line of its user's."""
    path = program()
    return Hook(hook_name=STAGE, path=path, args=(path, *words), env=ENVIRONMENT)


def is_ours(path: str) -> bool:
    """Whether a program, by whatever link it is called, is cdi-gen's own and can rehearse."""
    return os.path.basename(os.path.realpath(path)) == HOOK


def run(hook: Hook, rootfs: str, *, rehearse: bool) -> int:
    """Run one hook on a root file system; return its exit status.

    Args:
        hook: program, arguments and environment.
        rootfs: the directory that would be a container's ``/``.
        rehearse: have it print what it would do, and do nothing. Where the spec is another
            host's and its program is not here, the one that is here stands in.

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
    path = program() if rehearse and not os.path.exists(hook.path) else hook.path
    words = [*_start(path), *(["--dry-run"] if rehearse else []), *hook.args[1:]]
    environment = dict(entry.partition("=")[::2] for entry in hook.env)
    try:
        ended = subprocess.run(
            words, input=json.dumps(state).encode(), env=environment, check=False
        )
    except OSError as error:
        raise CdiGenError(
            f"{path}: {error.strerror}",
            hint="install it with: sudo cdi-gen hook install",
            code="CDG-P006",
            subject=path,
        ) from error
    return ended.returncode


def _start(path: str) -> tuple[str, ...]:
    """How a hook's program is started.

    A wheel has the launcher inside the package ``cdi_hook``, where it does not find its modules;
    and there the interpreter that runs cdi-gen is the one that is known to be there.
    """
    directory, name = os.path.split(path)
    if path != launcher() or os.path.basename(directory) != "cdi_hook":
        return (path,)
    place = os.path.join(os.path.dirname(directory), name)
    return sys.executable, "-IS", "-c", _AS_INSTALLED, path, place
