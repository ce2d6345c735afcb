# SPDX-License-Identifier: Apache-2.0
"""The prepared file: specs and facts of this host, made by `cdi-gen runtime prepare`.

The shim cannot look at a host: that takes the library, and ten times as long. So the library
leaves what it found in a file of root's, with a fingerprint of the host (`host_fingerprint`) and
what that was taken of. The shim takes it again, and starts the library when it differs: for the
first container after a boot, after an update of the driver, after a change of MIG devices.

It holds the spec of the GPUs without driver capabilities, the capabilities as devices, one spec for
each special mode the host can serve, the facts that requirements are checked against, and the spec
files that are not JSON, as JSON, which is all that the shim reads; each with the stamp of the file.
"""

from __future__ import annotations

import fcntl
import os
import time

from cdi_base import (
    HOOK,
    PREPARED_DIRECTORY,
    PREPARED_NAME,
    child,
    host_fingerprint,
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
    Tell = Callable[[Finding], object]

DIRECTORY, NAME = PREPARED_DIRECTORY, PREPARED_NAME
MAX_BYTES = 64 << 20
SECONDS = 60
"""For making it; NVML may have to wake GPUs."""
MAX_SAID = 4096
MAX_OUTPUT = 6 * MAX_SAID
"""JSON spells a character of another alphabet in six."""

HERE = __file__.rsplit("/", 3)[0]
"""Where this package and the launchers are installed."""
RECORD = "generator"
"""A file there that names the `cdi-gen` it was installed by."""
PROGRAMS = ("/usr/local/bin/cdi-gen", "/usr/bin/cdi-gen")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

NOT_MADE = "the specs of this host cannot be made"

COMPAT_HOOK = "enable-cuda-compat"


class NotPreparedError(HookError):
    """There is no preparation of this host, and none could be made."""

    code = "CDG-R301"


class Prepared:
    """What the file says. `problem` is why there is no spec, where there is none; with its code."""

    __slots__ = ("code", "converted", "facts", "problem", "specs")

    def __init__(self, document: Document) -> None:
        specs, facts = document.get("specs"), document.get("facts")
        problem = document.get("problem")
        self.specs = [each for each in _list(specs) if isinstance(each, dict)]
        self.facts = facts if isinstance(facts, dict) else None
        self.converted = _conversions(document)
        self.problem = problem if isinstance(problem, str) else None
        self.code = str(document.get("code", ""))

    def has(self, wanted: Mapping[str, Stamp]) -> bool:
        """Whether these files were converted, as they are now."""
        return _has(self.converted, wanted)


def load(
    settings: Configuration,
    tell: Tell,
    wanted: Mapping[str, Stamp] | None = None,
) -> Prepared:
    """The preparation of this host as it is now; made anew if the one there is of another state.

    Args:
        settings: of config.toml.
        tell: takes what is odd, for a log.
        wanted: the spec files that it must have converted, each with its stamp; None: none.

    Raises:
        NotPreparedError: it cannot be made: why, and what to do.
    """
    choices, wanted = chosen(settings), wanted or {}
    found = _fitting(choices, wanted, tell)
    if found is None:
        with process.Unbounded():
            found = _made(choices, wanted, tell)
    if found is None:
        raise NotPreparedError(
            f"{DIRECTORY}/{NAME} was made and does not fit: cdi-gen and the installed hooks may be "
            "of different versions; run: cdi-gen hook install",
            code="CDG-R302",
        )
    return Prepared(found)


def _made(
    choices: host_fingerprint.Choices, wanted: Mapping[str, Stamp], tell: Tell
) -> Document | None:
    """Have it made, by one process of all that want it."""
    lock = _lock()
    try:
        # Another container may have had it made meanwhile.
        found = _fitting(choices, wanted, tell)
        if found is None:
            _make(choices, tell)
            found = _fitting(choices, wanted, tell)
    finally:
        if lock is not None:
            os.close(lock)
    return found


def chosen(settings: Configuration) -> host_fingerprint.Choices:
    """What config.toml has to say of a preparation."""
    disabled = tuple(settings.jit_disabled_hooks)
    if settings.mode == "legacy" and (
        settings.cuda_compat_mode == "disabled"
        or settings.features.get("disable-cuda-compat-lib-hook")
    ):
        disabled = (*disabled, COMPAT_HOOK)
    hook = f"{HERE}/{HOOK}"
    return host_fingerprint.Choices(
        settings.driver_root,
        hook if os.access(hook, os.X_OK) else "",
        settings.spec_dirs,
        disabled,
        settings.jit_feature_flags,
    )


def _fitting(
    choices: host_fingerprint.Choices, wanted: Mapping[str, Stamp], tell: Tell
) -> Document | None:
    """The file's document, if it was made for these choices, and all is as it was then."""
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
        tell(Finding("CDG-R305", "warning", message, subject=path))
        return None
    # What the administrator's file says of the driver's place is known to who has read it.
    choices.layout = host_fingerprint.Layout.of(document.get("layout")) or choices.layout
    watch = host_fingerprint.Watch.of(document.get("watch"))
    if watch is None:
        # A file of a version that had a list of its own to compare.
        return None
    choices.watch = watch
    fits = document.get("key") == host_fingerprint.key(choices) and _has(
        _conversions(document), wanted
    )
    return document if fits else None


def _conversions(document: Document) -> dict[str, Conversion]:
    found = document.get("converted")
    return found if isinstance(found, dict) else {}


def _has(conversions: Mapping[str, Conversion], wanted: Mapping[str, Stamp]) -> bool:
    return all(
        (conversions.get(path) or {}).get("stamp") == stamp for path, stamp in wanted.items()
    )


def _make(choices: host_fingerprint.Choices, tell: Tell) -> None:
    words = ["runtime", "prepare"]
    for name, values in (
        ("--driver-root", [choices.driver_root]),
        ("--installed-hook", [choices.hook]),
        ("--spec-dir", choices.spec_directories),
        ("--disable-hook", choices.disabled_hooks),
        ("--feature-flag", choices.feature_flags),
    ):
        words += [f"{name}={value}" for value in values if value]
    if os.geteuid() != 0 or not trust.in_first_user_namespace():
        # Nobody else's file would be trusted.
        raise NotPreparedError(
            f"{DIRECTORY}/{NAME} does not fit this host, or is not there; as root, run: "
            f"cdi-gen {' '.join(words)}",
            code="CDG-R303",
        )
    words[:0] = [generator(), "--log-format=json"]
    tell(Finding("CDG-R002", "debug", " ".join(words)))
    status, output = _run(words)
    if status != 0:
        message, code = error_of(output)
        message = message[:MAX_SAID]
        raise NotPreparedError(f"{NOT_MADE}: {message or f'exit code {status}'}", code=code)


def generator() -> str:
    """The path of `cdi-gen`: where the installation says, beside it, or where programs are.

    Raises:
        NotPreparedError: there is none, or others than root could change it.
    """
    # Installed to PREFIX/libexec/cdi-gen; the program is in PREFIX/bin.
    places = [f"{HERE.rpartition('/')[0].rpartition('/')[0]}/bin/cdi-gen", *PROGRAMS]
    try:
        here = trust.open_directory(HERE)
        try:
            places.insert(0, trust.read(RECORD, 4096, directory=here).decode().strip())
        finally:
            os.close(here)
    except (OSError, UnicodeError):
        # Nothing recorded, or nothing to go by.
        pass
    reasons = []
    for place in places:
        try:
            reason = "is not absolute" if not place.startswith("/") else trust.fault(place)
            interpreter = _interpreter(place) if reason is None else None
            reason = reason or (trust.fault(interpreter) if interpreter else None)
        except (OSError, ValueError):
            continue
        if reason is None and os.access(place, os.X_OK):
            return place
        reasons.append(f"{place} is not run by root: {reason or 'it is not executable'}")
    why = reasons[0] if reasons else "the program cdi-gen is not at " + " or ".join(places)
    raise NotPreparedError(
        f"{NOT_MADE}: {why}. Write one yourself: cdi-gen generate -o /etc/cdi/nvidia.json",
        code="CDG-R304",
    )


def _interpreter(program: str) -> str | None:
    """What the kernel starts for a script; None for a binary."""
    line = read_beginning(program, 256).partition(b"\n")[0]
    words = line[2:].split()
    return os.fsdecode(words[0]) if line.startswith(b"#!") and words else None


def _run(words: list[str]) -> tuple[int, str]:
    """Run it to its end; its exit status and what it wrote to standard error."""
    until = time.monotonic() + SECONDS
    try:
        status, output = child.run_program(words, ENVIRONMENT, until, most=MAX_OUTPUT)
    except TimeoutError:
        raise NotPreparedError(f"{words[0]} was not done after {SECONDS} s") from None
    except OSError as error:
        raise NotPreparedError(f"cannot start {shown(words[0])}: {error.strerror}") from None
    # Without a status, the file will show whether it was made.
    return status or 0, output


def error_of(output: str) -> tuple[str, str]:
    """The message and the code of the error that cdi-gen ended with.

    Args:
        output: what it wrote to standard error, one JSON object a line. The first line may be cut,
            and an interpreter that does not start writes text.

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
    """Held by whoever makes the file, so that fifty containers do not make it fifty times."""
    try:
        os.mkdir(DIRECTORY, 0o755)
        # Whatever the umask: rootless engines read it too.
        os.chmod(DIRECTORY, 0o755)  # noqa: S103
    except OSError:
        # It is there already; or it cannot be made, and cdi-gen will say why.
        pass
    try:
        descriptor = trust.open_directory(DIRECTORY)
    except OSError:
        return None
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            break
    return descriptor


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
