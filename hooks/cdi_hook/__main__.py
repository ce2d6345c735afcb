# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen-hook NAME [OPTION]... < STATE`: the steps of one hook, in one process.

Everything is imported here, before the first byte of input is read.
"""

from __future__ import annotations

import errno
import os
import sys

from cdi_hook import VERSION, arguments, ldcache, process, state, symlinks
from cdi_hook.faults import HookError, SkippedError, UsageError, shown
from cdi_hook.rootfs import RootFs

HOOKS = {
    "create-container": (symlinks.WHERE_THE_TARGET_IS, ldcache.STEP),
    "create-symlinks": (symlinks.ALWAYS,),
    "update-ldcache": (ldcache.STEP,),
}
"""Which steps a hook name stands for, in their order; links first, for ldconfig reads them."""

HELP = """\
Usage: cdi-gen-hook NAME [OPTION]... < OCI-STATE

Run by OCI runtimes as a createContainer hook that a CDI spec names; not meant for people.

  create-container    all of the below in one process; a link only where its target is
  create-symlinks     --link TARGET::LINK ...
  update-ldcache      --folder DIR ... [--ldconfig-path PATH]

  --help, --version

Exit status: 0 done, or nothing to do here; 1 the container must not start so; 2 wrong usage.
"""

LEFT_OUT = {
    errno.EROFS: "the container's root file system is read-only: left out",
    errno.EXDEV: "it is in a mount of its own: left out",
    errno.EBUSY: "it is a mount of its own: left out",
}


def main() -> None:
    """Run as a program; never returns."""
    words = sys.argv[1:]
    if words[:1] in (["--help"], ["-h"], ["--version"]):
        text = f"cdi-gen-hook {VERSION}\n" if words[0] == "--version" else HELP
        os.write(1, text.encode())
        os._exit(0)
    where = words[0] if words and words[0] in HOOKS else "start"
    try:
        started_in = process.isolate()
        status = hook(words, started_in)
    except HookError as error:
        process.say(f"{where}: {error}")
        status = error.status
    except OSError as error:
        process.say(f"{where}: {shown(str(error.filename))}: {error.strerror}")
        status = 1
    except (MemoryError, RecursionError):
        process.say(f"{where}: out of memory")
        status = 1
    # Nothing is left to be written, and the runtime is waiting.
    os._exit(status)


def hook(words: list[str], started_in: int | None) -> int:
    """One hook, its options checked before anything is looked at. Returns the exit status."""
    if not words:
        raise UsageError("which hook? See --help")
    steps = HOOKS.get(words[0])
    if steps is None:
        # A newer generator's spec must not stop containers where the hook is older.
        process.say(f"{shown(words[0])}: unknown hook: left out")
        return 0
    options = arguments.parse(words[1:], tuple(name for step in steps for name in step.options))
    plans = [(step, step.prepare(options)) for step in steps]
    until = process.deadline()
    rootfs = RootFs(state.open_root(started_in, until))
    for step, plan in plans:
        if not plan:
            continue
        try:
            step.run(rootfs, plan, until)
        except SkippedError as reason:
            process.say(f"{step.name}: left out: {reason}")
        except OSError as error:
            what = f"{step.name}: {shown(str(error.filename))}"
            if error.errno not in LEFT_OUT:
                process.say(f"{what}: {error.strerror}")
                return 1
            process.say(f"{what}: {LEFT_OUT[error.errno]}")
    return 0


if __name__ == "__main__":
    main()
