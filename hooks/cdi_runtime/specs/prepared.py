# SPDX-License-Identifier: Apache-2.0
"""The prepared file: specs and facts of this host, which `cdi-gen runtime prepare` writes.

The shim does not inspect the host: only the library can, and that takes ten times as long. So the
library writes its result to a file that only root can change, with a fingerprint of the host
(`host_fingerprint`) and a list of what the fingerprint covers. The shim computes the fingerprint
again and runs the library if it differs: for the first container after a boot, after an update of
the driver, after a change of MIG devices.

The file holds the spec of the GPUs without driver capabilities, the capabilities as devices, one
spec for each special mode that the host supports, and the facts that requirements are checked
against. The shim reads only JSON, so the file also holds the specs of other files as JSON, each
with the stamp of its file.
"""

from __future__ import annotations

import os
import time

from cdi_base import (
    HOOK,
    PREPARED_DIRECTORY,
    PREPARED_NAME,
    child,
    host_fingerprint,
    locks,
    process,
    trust,
)
from cdi_base.errors import HookError, shown
from cdi_base.files import read_beginning
from cdi_base.findings import Finding
from cdi_base.strict_json import parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cdi_base.cdi.spec_directories import Conversion, Stamp
    from cdi_runtime.config_toml.settings import Configuration

    Document = dict[str, object]
    Report = Callable[[Finding], object]
    Stamps = Mapping[str, Stamp]

DIRECTORY, NAME = PREPARED_DIRECTORY, PREPARED_NAME
MAX_BYTES = 64 << 20
SECONDS = 60
"""The time limit of `cdi-gen runtime prepare`; NVML may have to wake GPUs."""
MAX_MESSAGE = 4096
MAX_OUTPUT = 6 * MAX_MESSAGE
"""JSON writes a character that is not ASCII as six."""

INSTALLATION = __file__.rsplit("/", 3)[0]
"""The directory that this package and the launchers are installed in."""
RECORD = "generator"
"""A file in it that names the `cdi-gen` that installed it."""
PROGRAMS = ("/usr/local/bin/cdi-gen", "/usr/bin/cdi-gen")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

NOT_GENERATED = "the CDI specs of this host cannot be generated"

COMPAT_HOOK = "enable-cuda-compat"


class NotPreparedError(HookError):
    """The prepared file is missing or out of date, and could not be written."""

    code = "CDG-R301"


class Prepared:
    """The content of the prepared file. `problem` says why it has no specs; `code` is its code."""

    __slots__ = ("code", "converted", "facts", "problem", "specs")

    def __init__(self, document: Document) -> None:
        specs, facts = document.get("specs"), document.get("facts")
        problem = document.get("problem")
        self.specs = [spec for spec in _list(specs) if isinstance(spec, dict)]
        self.facts = facts if isinstance(facts, dict) else None
        self.converted = _conversions(document)
        self.problem = problem if isinstance(problem, str) else None
        self.code = str(document.get("code", ""))

    def has_converted(self, stamps: Stamps) -> bool:
        """Whether the file holds these spec files as JSON, as they are now."""
        return _has_converted(self.converted, stamps)


def load(settings: Configuration, report: Report, stamps: Stamps | None = None) -> Prepared:
    """Return the prepared file; it is written again if the host or the settings have changed.

    Args:
        settings: the settings of config.toml.
        report: takes warnings for the log.
        stamps: the spec files that the prepared file must hold as JSON, with their stamps; None:
            none.

    Raises:
        NotPreparedError: the file cannot be written; the message says why and what to do.
    """
    choices, stamps = choices_of(settings), stamps or {}
    document = _read_current(choices, stamps, report)
    if document is None:
        with process.Unbounded():
            document = _prepare_once(choices, stamps, report)
    if document is None:
        raise NotPreparedError(
            f"{DIRECTORY}/{NAME} was written but does not match this host: cdi-gen and the "
            "installed hooks may be of different versions; run: cdi-gen hook install",
            code="CDG-R302",
        )
    return Prepared(document)


def _prepare_once(
    choices: host_fingerprint.Choices, stamps: Stamps, report: Report
) -> Document | None:
    """Write the file in only one of the processes that need it, and return its document."""
    lock = _lock()
    try:
        # The process that held the lock before may have written it.
        document = _read_current(choices, stamps, report)
        if document is None:
            _prepare(choices, report)
            document = _read_current(choices, stamps, report)
    finally:
        if lock is not None:
            os.close(lock)
    return document


def choices_of(settings: Configuration) -> host_fingerprint.Choices:
    """Return the settings of config.toml that the prepared file depends on."""
    disabled = tuple(settings.jit_disabled_hooks)
    if settings.mode == "legacy" and (
        settings.cuda_compat_mode == "disabled"
        or settings.features.get("disable-cuda-compat-lib-hook")
    ):
        disabled = (*disabled, COMPAT_HOOK)
    hook = f"{INSTALLATION}/{HOOK}"
    return host_fingerprint.Choices(
        settings.driver_root,
        hook if os.access(hook, os.X_OK) else "",
        settings.spec_dirs,
        disabled,
        settings.jit_feature_flags,
    )


def _read_current(
    choices: host_fingerprint.Choices, stamps: Stamps, report: Report
) -> Document | None:
    """Return the file's document if it is for these choices and the host has not changed since."""
    try:
        directory = trust.open_directory(DIRECTORY)
        try:
            content = trust.read(NAME, MAX_BYTES, directory=directory)
        finally:
            os.close(directory)
        document = parse_object(content, f"{DIRECTORY}/{NAME}")
    except FileNotFoundError:
        return None
    except (OSError, HookError) as error:
        path = f"{DIRECTORY}/{NAME}"
        message = f"{path} is not used: {getattr(error, 'strerror', error)}"
        report(Finding("CDG-R305", "warning", message, subject=path))
        return None
    # Only the library reads cdi-gen's own configuration, which can say where the driver's files
    # are. The prepared file repeats it.
    choices.layout = host_fingerprint.Layout.of(document.get("layout")) or choices.layout
    watch = host_fingerprint.Watch.of(document.get("watch"))
    if watch is None:
        # A version of cdi-gen whose files have no list of what the fingerprint covers.
        return None
    choices.watch = watch
    is_current = document.get("key") == host_fingerprint.key(choices) and _has_converted(
        _conversions(document), stamps
    )
    return document if is_current else None


def _conversions(document: Document) -> dict[str, Conversion]:
    conversions = document.get("converted")
    return conversions if isinstance(conversions, dict) else {}


def _has_converted(conversions: Mapping[str, Conversion], stamps: Stamps) -> bool:
    return all(
        (conversions.get(path) or {}).get("stamp") == stamp for path, stamp in stamps.items()
    )


def _prepare(choices: host_fingerprint.Choices, report: Report) -> None:
    """Run `cdi-gen runtime prepare`."""
    arguments = ["runtime", "prepare"]
    for name, values in (
        ("--driver-root", [choices.driver_root]),
        ("--installed-hook", [choices.hook]),
        ("--spec-dir", choices.spec_directories),
        ("--disable-hook", choices.disabled_hooks),
        ("--feature-flag", choices.feature_flags),
    ):
        arguments += [f"{name}={value}" for value in values if value]
    if os.geteuid() != 0 or not trust.in_first_user_namespace():
        # Only a file that root wrote is trusted.
        raise NotPreparedError(
            f"{DIRECTORY}/{NAME} is missing or does not match this host; as root, run: "
            f"cdi-gen {' '.join(arguments)}",
            code="CDG-R303",
        )
    arguments[:0] = [generator(), "--log-format=json"]
    report(Finding("CDG-R002", "debug", " ".join(arguments)))
    status, output = _run(arguments)
    if status != 0:
        message, code = error_of(output)
        message = message[:MAX_MESSAGE]
        raise NotPreparedError(f"{NOT_GENERATED}: {message or f'exit code {status}'}", code=code)


def generator() -> str:
    """Return the path of `cdi-gen`: as the installation records it, beside it, or in /usr.

    Raises:
        NotPreparedError: cdi-gen does not exist, or users other than root can change it.
    """
    # The installation is PREFIX/libexec/cdi-gen; the program is in PREFIX/bin.
    programs = [f"{INSTALLATION.rpartition('/')[0].rpartition('/')[0]}/bin/cdi-gen", *PROGRAMS]
    try:
        installation = trust.open_directory(INSTALLATION)
        try:
            programs.insert(0, trust.read(RECORD, 4096, directory=installation).decode().strip())
        finally:
            os.close(installation)
    except (OSError, UnicodeError):
        # The record does not exist or is not trusted.
        pass
    reasons = []
    for program in programs:
        try:
            fault = (
                f"{program} is not an absolute path"
                if not program.startswith("/")
                else trust.fault(program)
            )
            interpreter = _interpreter(program) if fault is None else None
            fault = fault or (trust.fault(interpreter) if interpreter else None)
        except (OSError, ValueError):
            continue
        if fault is None and os.access(program, os.X_OK):
            return program
        reasons.append(f"{program} is not run as root: {fault or 'it is not executable'}")
    reason = reasons[0] if reasons else f"cdi-gen is not at {' or '.join(programs)}"
    raise NotPreparedError(
        f"{NOT_GENERATED}: {reason}. Write a spec by hand: "
        "cdi-gen generate -o /etc/cdi/nvidia.json",
        code="CDG-R304",
    )


def _interpreter(program: str) -> str | None:
    """Return the interpreter that a script's first line names; None for a binary."""
    line = read_beginning(program, 256).partition(b"\n")[0]
    words = line[2:].split()
    return os.fsdecode(words[0]) if line.startswith(b"#!") and words else None


def _run(command: list[str]) -> tuple[int, str]:
    """Run a command; return its exit status and what it wrote to standard error."""
    until = time.monotonic() + SECONDS
    try:
        status, output = child.run_program(command, ENVIRONMENT, until, most=MAX_OUTPUT)
    except TimeoutError:
        raise NotPreparedError(f"{command[0]} did not end within {SECONDS} s") from None
    except OSError as error:
        raise NotPreparedError(f"cannot start {shown(command[0])}: {error.strerror}") from None
    # If the status is unknown, reading the file shows whether the command has worked.
    return status or 0, output


def error_of(output: str) -> tuple[str, str]:
    """Return the message and the code of the error that cdi-gen ended with.

    Args:
        output: the standard error of cdi-gen, one JSON object on each line. The first line may be
            truncated, and an interpreter that does not start writes plain text.

    Returns:
        The message, with the hint; and the code. Without an error: the last line, and no code.
    """
    lines = [line.strip() for line in output.splitlines()]
    for line in reversed(lines):
        try:
            entry = parse_object(line.encode(), "a line of the log")
        except HookError:
            continue
        if entry.get("level") == "error":
            hint = f"; hint: {entry['hint']}" if entry.get("hint") else ""
            return f"{entry.get('message')}{hint}", str(entry.get("code", ""))
    return lines[-1] if lines else "", ""


def _lock() -> int | None:
    """Lock the directory, so that containers that start together write the file only once."""
    try:
        os.mkdir(DIRECTORY, 0o755)
        # Rootless engines read the directory too, whatever the umask is.
        os.chmod(DIRECTORY, 0o755)  # noqa: S103
    except OSError:
        # The directory exists. If it cannot be created, cdi-gen reports why.
        pass
    try:
        descriptor = trust.open_directory(DIRECTORY)
    except OSError:
        return None
    locks.take(descriptor, SECONDS)
    return descriptor


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
