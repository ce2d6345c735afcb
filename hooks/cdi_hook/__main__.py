# SPDX-License-Identifier: Apache-2.0
"""`cdi-gen-hook NAME [OPTION]... < STATE`: runs the steps of one hook in one process.

All modules are imported before the first byte of input is read: this module imports those that
every container needs, and `plan` those of the requested steps.
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
"""The name of NVIDIA's hook. A link of this name replaces that program: dockerd searches the name
in its PATH, and the specs of nvidia-ctk contain it."""

CREATE_CONTAINER = "create-container"
CUDA_MEMORY_LIMITS = "apply-cuda-memory-limits"

HOOKS: dict[str, tuple[Step, ...]] = {step.name: (step,) for step in STEPS}
HOOKS[CREATE_CONTAINER] = STEPS
HOOKS[CREATE_SYMLINKS.name] = (CREATE_SYMLINKS,)

HELP = """\
Usage: cdi-gen-hook NAME [OPTION]... < OCI-STATE

OCI runtimes run this program as a createContainer hook of a CDI spec. To run the hook by hand, use
`cdi-gen hook run`.

  create-container    all steps below in one process; creates a link only if its target exists
  check-requirements  [--host-driver-version V] [--host-cuda-version X.Y]
                      [--host-driver-file FILE] [--gpu MINOR:ARCH:BRAND ...];
                      in create-container with --check-requirements
  create-symlinks     --link TARGET::LINK ...
  enable-cuda-compat  --host-driver-version V [--host-cuda-version X.Y] | --host-driver-file FILE
                      [--host-gpu-brand B ...] [--cuda-compat-container-root DIR]
  update-ldcache      --folder DIR ... [--ldconfig-path PATH]
  disable-device-node-modification    in create-container an option: --disable-device-...
  update-application-profile          in create-container an option too
  chmod               --path PATH ... --mode OCTAL

  apply-cuda-memory-limits            refuses a container that requests such limits

  --dry-run (first)   print the changes on stdout, and change nothing
  --leave-read-only-root              do not change the root of a read-only container
  --debug, -d         print the changes on stderr
  --quiet, --help, --version

Exit status: 0 done, or nothing to do; 1 the container must not start; 2 wrong usage.
"""

LEAVE_READ_ONLY = "--leave-read-only-root"
"""An option of every hook. Without it the hook also changes the root of a read-only container."""

DRIVER_FILE = "--host-driver-file"
"""A file of the host with the driver's versions, in place of the two options of versions."""

LEFT_OUT = {
    errno.EROFS: "the container's root file system is read-only: left out",
    errno.EXDEV: "the path is in a mount of its own: left out",
    errno.EBUSY: "the path is a mount point: left out",
}


def main(make_root: type[RootFs] = RootFs) -> None:
    """Run the program; never returns.

    Args:
        make_root: the class of the root file system that the steps change; a dry run has another.
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
    # No buffer has to be flushed, and the runtime is waiting.
    os._exit(status)


def hook(
    words: list[str], started_in: int | None, make_root: type[RootFs] = RootFs, *, debug: bool
) -> int:
    """Run one hook; check its options before the input is read. Return the exit status.

    Raises:
        UsageError: an option is unknown or not valid.
        HookError: the state is not valid, or a step has failed.
    """
    if not words:
        # Exit status 0, as for an unknown name.
        process.say("the name of the hook is missing; see --help", "CDG-K001")
        return 0
    if words[0] == CUDA_MEMORY_LIMITS:
        # Imported here because only the specs of nvidia-ctk have this hook.
        from cdi_hook.steps import apply_cuda_memory_limits  # noqa: PLC0415

        apply_cuda_memory_limits.refuse(words[1:])
        return 0
    leave = LEAVE_READ_ONLY in words
    words = [word for word in words if word != LEAVE_READ_ONLY]
    steps = HOOKS.get(words[0])
    if steps is None:
        # A spec of a newer generator must not stop a container because this hook is older.
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
    """Whether config.json makes the root read-only; False if this process may not read the file."""
    try:
        return bundle is not None and oci_config.is_read_only(bundle)
    except OSError:
        return False


def plan(name: str, steps: tuple[Step, ...], words: list[str]) -> list[tuple[str, Run, object]]:
    """Return the requested steps, in order: their names, functions and plans.

    Raises:
        UsageError: an option is unknown or not valid.
    """
    shared = name == CREATE_CONTAINER
    switches = tuple(switch for step in steps for switch in step.switches) if shared else ()
    options = arguments.parse(
        words, tuple(option for step in steps for option in step.options), switches
    )
    if options.get(DRIVER_FILE):
        # Imported here because few specs have the option. Nothing of the image was read so far.
        from cdi_hook import driver_file  # noqa: PLC0415

        driver_file.add_versions(options)
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
    from cdi_hook import driver_file  # noqa: F401, PLC0415
    from cdi_hook.steps import apply_cuda_memory_limits  # noqa: F401, PLC0415

    for step in STEPS:
        step.load()


def _given(name: str, *words: str) -> bool:
    """Whether an option of all hooks is given, on the command line or in nvidia-ctk's variables."""
    values = (os.environ.get(f"NVIDIA_{program}_{name}", "") for program in ("CTK", "CDI"))
    return not set(words).isdisjoint(sys.argv[1:]) or any(
        value.lower() in {"1", "t", "true"} for value in values
    )


if __name__ == "__main__":
    main()
