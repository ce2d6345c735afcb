# SPDX-License-Identifier: Apache-2.0
"""The installed hook, with a clock: ``python3 -IS timed_hook.pyc FILE times|counts HOOK ARGUMENT...``.

It does what the program ``cdi-gen-hook`` does, and appends one line, a Python literal, to FILE before it
exits: the times at which its parts began and ended, by the monotonic clock in nanoseconds. With
``counts`` it also counts the calls of functions of ``os``, and says how update-ldcache read each
directory; its times are then longer. It imports no module that the hook does not import.
"""

from __future__ import annotations

import gc
import os
import sys
import time

STARTED = time.monotonic_ns()
"""The first line, for a clock: the modules above are part of every interpreter."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

COUNTED = (
    *("open", "stat", "lstat", "fstat", "readlink", "listdir", "scandir", "read", "pread", "write"),
    *("close", "replace", "rename", "unlink", "mkdir", "symlink", "link", "chmod", "fchmod"),
    *("fchown", "lseek", "access"),
)
now = time.monotonic_ns
os_exit, os_open, os_write = os._exit, os.open, os.write

spans: list[tuple[str, int, int]] = []
calls: dict[str, int] = {}
directories: list[str] = []


def timed(owner: Any, name: str, title: str | Callable[..., str]) -> None:
    """Replace a function by one that also notes its times."""
    function = getattr(owner, name)

    def with_clock(*words: Any, **options: Any) -> Any:
        begun = now()
        try:
            return function(*words, **options)
        finally:
            spans.append((title if isinstance(title, str) else title(*words), begun, now()))

    setattr(owner, name, with_clock)


def counted(name: str) -> None:
    """Replace a function of ``os`` by one that counts its calls."""
    function = getattr(os, name)

    def with_count(*words: Any, **options: Any) -> Any:
        calls[name] = calls.get(name, 0) + 1
        return function(*words, **options)

    setattr(os, name, with_count)


def step_with_clock(step: tuple[str, Callable[..., None], Any]) -> tuple[str, Any, Any]:
    """Return a step of a plan that also notes its times."""
    name, run, contents = step

    def with_clock(*words: Any) -> None:
        begun = now()
        try:
            run(*words)
        finally:
            spans.append((f"step {name}", begun, now()))

    return name, with_clock, contents


def describe(search: Any, path: str, status: os.stat_result, folder: Any) -> str:
    """Say how a directory will be read, as `_Search._libraries` decides it."""
    identity = (status.st_dev, status.st_ino)
    cached = search._cached_flags(path, identity)
    changes = search._rootfs.changes.get(identity)
    changed = changes.mtime if changes else status.st_mtime_ns
    if not cached:
        reason = "not in the image's cache"
    elif changed < search._cache_time:
        reason = "older than the image's cache"
    elif search._is_explained_by_mounts(folder, changed):
        reason = "newer, because mount points were made in it"
    else:
        reason = "newer than the image's cache"
    return (
        f"{path}: {len(folder.names)} names, {len(cached)} of them in the image's cache; {reason}"
    )


def watch_update_ldcache(type_of_root: Any) -> None:
    """Put clocks around the parts of update-ldcache."""
    from cdi_hook.ldso import shared_libraries
    from cdi_hook.steps import update_ldcache

    step: Any = update_ldcache
    for owner, name, title in (
        (step.conf, "directories", "ld.so.conf"),
        (step, "Driver", "the driver's libraries"),
        (step, "_old_cache", "read the image's cache"),
        (step.precedence, "hidden_from_glibc", "names in dispute"),
        (step.precedence, "put_all", "links of names in dispute"),
        (step.cache_file, "build", "build the cache"),
    ):
        timed(owner, name, f"update-ldcache: {title}")
    search = shared_libraries._Search
    timed(search, "add_folder", lambda _search, path: f"update-ldcache: read {path}")
    timed(type_of_root, "put", lambda _root, path, _content: f"write {path}")


def watch_directories() -> None:
    """Note how update-ldcache reads each directory."""
    from cdi_hook.ldso import shared_libraries

    module: Any = shared_libraries
    libraries_of, read_all = module._Search._libraries, module._by_soname
    unexplained = module.unchanged.unexplained
    ways: list[str] = []

    def libraries(search: Any, path: str, status: os.stat_result, folder: Any) -> Any:
        description = describe(search, path, status, folder)
        ways.clear()
        result = libraries_of(search, path, status, folder)
        directories.append(f"{description}; {'; '.join(ways)}; {len(result)} libraries")
        return result

    def unexplained_names(*words: Any) -> Any:
        names = unexplained(*words)
        if names is None:
            ways.append("the cache does not describe it")
        else:
            ways.append(f"taken from the cache, and {len(names)} names more")
        return names

    def by_soname(*words: Any) -> Any:
        ways.append("every name is looked at")
        return read_all(*words)

    module._Search._libraries = libraries
    module._by_soname = by_soname
    module.unchanged.unexplained = unexplained_names


def main() -> None:
    """Run the hook; never returns."""
    gc.disable()
    sys.dont_write_bytecode = True
    result_file, mode, program = sys.argv[1:4]
    sys.argv = [program, *sys.argv[4:]]
    sys.path.insert(0, os.path.dirname(os.path.realpath(program)))
    begun = now()
    try:
        import cdi_hook_modules  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        directories.append("the modules are imported from their own files")
    from cdi_hook import __main__

    hook: Any = __main__
    main_of_hook = hook.main
    if sys.argv[1:2] == ["--dry-run"]:
        from cdi_hook import dry_run

        main_of_hook = dry_run.main
    spans.append(("imports", begun, now()))
    plan = hook.plan

    def plan_with_clocks(*words: Any) -> list[tuple[str, Any, Any]]:
        begun = now()
        steps = plan(*words)
        spans.append(("options, and imports of the steps", begun, now()))
        if any(name == "update-ldcache" for name, _, _ in steps):
            watch_update_ldcache(hook.RootFs)
            if mode == "counts":
                watch_directories()
        if mode == "counts":
            for name in COUNTED:
                counted(name)
        return [step_with_clock(step) for step in steps]

    def finish(status: int) -> None:
        """Write the line, and exit."""
        line = {
            "started": STARTED,
            "ended": now(),
            "status": status,
            "spans": spans,
            "calls": calls,
            "directories": directories,
        }
        descriptor = os_open(result_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os_write(descriptor, repr(line).encode() + b"\n")
        os_exit(status)

    hook.plan = plan_with_clocks
    timed(hook.process, "isolate", "clean the process")
    timed(hook.oci_state, "open_root", "OCI state, config.json, the root")
    os._exit = finish  # type: ignore[assignment]
    main_of_hook()


main()
