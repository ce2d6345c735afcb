# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen-hook NAME [OPTION]... < STATE`: the steps of one hook, in one process.

Everything is imported before the first byte of input is read: what every container needs by this
module, the steps by `plan`.
"""

from __future__ import annotations

import errno
import os
import sys

from cdi_base import HOOK, VERSION, nvidia, oci_config, oci_state, process
from cdi_base.errors import EXPECTED, SkippedError, exit_status, explain, shown
from cdi_base.rootfs.rootfs import RootFs
from cdi_hook import arguments
from cdi_hook.steps import CREATE_SYMLINKS, STEPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.steps import Run, Step

REPLACED_PROGRAM = nvidia.HOOK
"""Installed or linked under this name the program takes that one's place: dockerd looks for it in
its PATH, and the specs that nvidia-ctk wrote name it."""

CREATE_CONTAINER = "create-container"
CUDA_MEMORY_LIMITS = "apply-cuda-memory-limits"

HOOKS: dict[str, tuple[Step, ...]] = {step.name: (step,) for step in STEPS}
HOOKS[CREATE_CONTAINER] = STEPS
HOOKS[CREATE_SYMLINKS.name] = (CREATE_SYMLINKS,)

HELP = """\
Usage: cdi-gen-hook NAME [OPTION]... < OCI-STATE

Run by OCI runtimes as a createContainer hook that a CDI spec names; for people there is
`cdi-gen hook run`.

  create-container    all of the below in one process; a link only where its target is
  check-requirements  [--host-driver-version V] [--host-cuda-version X.Y]
                      [--gpu MINOR:ARCH:BRAND ...]; in create-container with --check-requirements
  create-symlinks     --link TARGET::LINK ...
  enable-cuda-compat  --host-driver-version V [--host-cuda-version X.Y] [--host-gpu-brand B ...]
                      [--cuda-compat-container-root DIR]
  update-ldcache      --folder DIR ... [--ldconfig-path PATH]
  disable-device-node-modification    in create-container an option: --disable-device-...
  update-application-profile          likewise
  chmod               --path PATH ... --mode OCTAL

  apply-cuda-memory-limits            refuses a container that asks for such limits

  --dry-run (first)   say on stdout what would be done, and do nothing
  --leave-read-only-root              change nothing of the root of a read-only container
  --debug, -d         say on stderr what is done
  --quiet, --help, --version

Exit status: 0 done, or nothing to do here; 1 the container must not start so; 2 wrong usage.
"""

LEAVE_READ_ONLY = "--leave-read-only-root"
"""An option of every hook. Without it the root of a read-only container is changed as any other."""

LEFT_OUT = {
    errno.EROFS: "the container's root file system is read-only: left out",
    errno.EXDEV: "it is in a mount of its own: left out",
    errno.EBUSY: "it is a mount of its own: left out",
}


def main(make_root: type[RootFs] = RootFs) -> None:
    """Run as a program; never returns.

    Args:
        make_root: the class of the root file system that the steps change; a dry run has its own.
    """
    program = sys.argv[0].rpartition("/")[2]
    debug = _given("DEBUG", "--debug", "-d") and not _given("QUIET", "--quiet")
    words = [word for word in sys.argv[1:] if word not in {"--debug", "-d", "--quiet"}]
    if words[:1] in (["--help"], ["-h"], ["--version"]):
        text = f"{HOOK} {VERSION}\n" if words[0] == "--version" else HELP
        os.write(1, text.encode())
        os._exit(0)
    where = words[0] if words and words[0] in {*HOOKS, CUDA_MEMORY_LIMITS} else "start"
    try:
        started_in = process.isolate(any_environment=program == REPLACED_PROGRAM)
        status = hook(words, started_in, make_root, debug=debug)
    except EXPECTED as error:
        message, code = explain(error)
        process.say(f"{where}: {message}", code)
        status = exit_status(error)
    # Nothing is left to be written, and the runtime is waiting.
    os._exit(status)


def hook(
    words: list[str], started_in: int | None, make_root: type[RootFs] = RootFs, *, debug: bool
) -> int:
    """One hook, its options checked before anything is looked at. Returns the exit status."""
    if not words:
        # As for a name that is not known.
        process.say("which hook? See --help", "CDG-K001")
        return 0
    if words[0] == CUDA_MEMORY_LIMITS:
        # Only nvidia-ctk's specs name it: the others are not to pay for the import.
        from cdi_hook.steps import apply_cuda_memory_limits  # noqa: PLC0415

        apply_cuda_memory_limits.refuse(words[1:])
        return 0
    leave = LEAVE_READ_ONLY in words
    words = [word for word in words if word != LEAVE_READ_ONLY]
    steps = HOOKS.get(words[0])
    if steps is None:
        # A newer generator's spec must not stop containers where the hook is older.
        process.say(f"{shown(words[0])}: unknown hook: left out", "CDG-K001")
        return 0
    plans = plan(words[0], steps, words[1:])
    until = process.deadline()
    root, bundle = oci_state.open_root(started_in, until)
    rootfs = make_root(root, tell=process.say if debug else None)
    rootfs.bundle = bundle
    if leave:
        rootfs.leave_read_only(configured=_says_read_only(bundle))
    for name, run, step_plan in plans:
        try:
            run(rootfs, step_plan, until)
        except SkippedError as reason:
            process.say(f"{name}: left out: {reason}", reason.code)
        except OSError as error:
            where = f"{name}: {shown(str(error.filename))}"
            if error.errno not in LEFT_OUT:
                process.say(f"{where}: {error.strerror}", "CDG-X003")
                return 1
            process.say(f"{where}: {LEFT_OUT[error.errno]}", "CDG-K006")
    return 0


def _says_read_only(bundle: int | None) -> bool:
    """What config.json says of the root; where it may not be read, the root's mount has to tell."""
    try:
        return bundle is not None and oci_config.is_read_only(bundle)
    except OSError:
        return False


def plan(name: str, steps: tuple[Step, ...], words: list[str]) -> list[tuple[str, Run, object]]:
    """Return the steps that are requested, in order: their names, functions and plans.

    Raises:
        UsageError: an option is unknown or not valid.
    """
    shared = name == CREATE_CONTAINER
    switches = tuple(switch for step in steps for switch in step.switches) if shared else ()
    options = arguments.parse(
        words, tuple(option for step in steps for option in step.options), switches
    )
    if not shared:
        # The name of the hook requests its only step.
        options.update({switch: [""] for step in steps for switch in step.switches})
    plans = []
    for step in steps:
        if step.is_requested(options):
            prepare, run = step.load()
            step_plan = prepare(options)
            if step_plan:
                plans.append((step.name, run, step_plan))
    return plans


def load_all() -> None:
    """Import every module that `hook` may import: for a process that will enter a container."""
    from cdi_hook.steps import apply_cuda_memory_limits  # noqa: F401, PLC0415

    for step in STEPS:
        step.load()


def _given(name: str, *words: str) -> bool:
    """Whether an option of all hooks is given, as a word or in the environment as nvidia-ctk's."""
    values = (os.environ.get(f"NVIDIA_{whose}_{name}", "") for whose in ("CTK", "CDI"))
    return not set(words).isdisjoint(sys.argv[1:]) or any(
        value.lower() in {"1", "t", "true"} for value in values
    )


if __name__ == "__main__":
    main()
