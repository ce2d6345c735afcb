# SPDX-License-Identifier: Apache-2.0
"""What the time of a start with our hook is spent on.

Three measurements: a race of containers that differ in one thing each (mounts, the hook's process, its
modules, its steps); real starts with a clock in the hook; and system calls of one start, by strace.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.bench.contest import ENVIRONMENT, Lap, Step, race
from tests.gpu.several import bundles, hook_time, starts
from tests.gpu.several.bundles import Bundle
from tests.gpu.several.containers import Container, Runtime
from tests.gpu.several.gpus import ALL, markdown_table
from tests.gpu.several.section import Host, Section, transcript_entry

INSIDE = Path(__file__).with_name("inside")
TIMED_STARTS = 11
DROP_CACHES = "/proc/sys/vm/drop_caches"

Document = dict[str, Any]


class Programs(NamedTuple):
    """The programs that measure the hook, and the hook."""

    measured: Path
    timed_hook: Path
    interpreter: tuple[str, ...]
    """The words of the hook's first line: ``/usr/bin/python3 -IS``."""


def profile(host: Host) -> Section:
    """Split the time of a start with the first of the runtimes."""
    name, runtime = next(iter(host.runtimes.items()))
    text: list[str] = []
    transcript: list[str] = []
    if "hook" not in host.specs:
        return Section("The time of the hook", (), (), ("there is no spec with a hook",))
    container = Container("", (ALL,), host.specs["hook"])
    document = bundles.configuration(host, runtime, "profile-hook", container)
    programs = _programs(host, _hooks(document)[0]["path"])
    text += [f"With {name}. The hook is run by `{' '.join(programs.interpreter)}`.", ""]
    faults: list[str] = []
    for part in (_interpreters, _ladder, _timed_starts, _hooks_of_nvidia, _system_calls):
        result, fault = _attempt(part, host, runtime, document, programs)
        text += [*result[0], ""]
        transcript += result[1]
        faults += fault
    return Section("The time of the hook", tuple(text), tuple(transcript), tuple(faults))


Result = tuple[list[str], list[str]]
"""Lines of the page, and of the transcript."""

Measurement = Callable[[Host, Runtime, Document, Programs], Result]


def _attempt(measurement: Measurement, *words: Any) -> tuple[Result, list[str]]:
    """Make a measurement; a failure is a fault, and does not prevent the others."""
    try:
        return measurement(*words), []
    except (OSError, ValueError, subprocess.SubprocessError, SystemExit) as error:
        return ([], []), [f"{measurement.__name__}: {type(error).__name__}: {error}"]


def _hooks(document: Document) -> list[Document]:
    return [hook for stage in document.get("hooks", {}).values() for hook in stage]


def _programs(host: Host, hook: str) -> Programs:
    with open(hook, encoding="utf-8") as file:
        interpreter = tuple(file.readline().removeprefix("#!").split())
    measured, timed = host.programs / "measured", host.programs / "timed_hook.pyc"
    source = INSIDE / "timed_hook.py"
    compiler = ["cc", "-O1", "-o", str(measured), str(INSIDE / "measured.c")]
    subprocess.run(compiler, check=True)
    # Compiled by the interpreter that runs it.
    code = f"import py_compile; py_compile.compile({str(source)!r}, {str(timed)!r}, doraise=True)"
    subprocess.run([interpreter[0], "-c", code], check=True)
    return Programs(measured, timed, interpreter)


def _interpreters(host: Host, _: Runtime, document: Document, programs: Programs) -> Result:
    """Race interpreters that do nothing, outside of containers."""
    python = programs.interpreter[0]
    hook = _hooks(document)[0]["path"]
    commands = {
        "/bin/true": ["/bin/true"],
        f"{' '.join(programs.interpreter)} -c pass": [*programs.interpreter, "-c", "pass"],
        f"{python} -I -c pass": [python, "-I", "-c", "pass"],
        f"{python} -c pass": [python, "-c", "pass"],
        "the hook's --version: its modules too": [hook, "--version"],
    }
    if shutil.which("nvidia-cdi-hook"):
        commands["nvidia-cdi-hook --version"] = [shutil.which("nvidia-cdi-hook") or "", "--version"]
    runners: dict[str, list[Step]] = {
        title: [{"argv": argv, "env": ENVIRONMENT}] for title, argv in commands.items()
    }
    laps = race(runners, host.rounds)
    rows = [
        (f"`{title}`", _wall(laps[title]), f"{median(lap.cpu for lap in laps[title]):.1f}")
        for title in runners
    ]
    table = markdown_table(("process, outside of containers", "wall, ms", "CPU, ms"), rows)
    modules = subprocess.run(
        [*programs.interpreter, "-X", "importtime", hook, "--version"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    return table, transcript_entry("modules of the hook, µs", modules.stderr, 60)


def _ladder(host: Host, runtime: Runtime, document: Document, programs: Programs) -> Result:
    """Race containers, each with one thing more than the one before."""
    words = _hooks(document)[0]["args"]
    documents: dict[str, Document] = {
        "no device": bundles.configuration(host, runtime, "profile-none", Container("")),
        "mounts and nodes, no hook process": _with_hook(document, None),
        "and a hook that is /bin/true": _with_hook(document, ["/bin/true"]),
        "and a hook that is the interpreter": _with_hook(
            document, [*programs.interpreter, "-c", "pass"]
        ),
        "and its modules (--version)": _with_hook(document, _program(document, "--version")),
        "and the OCI state (no step)": _with_hook(document, _program(document, "create-container")),
        "and all steps but update-ldcache": _with_hook(
            document,
            _program(document, *hook_time.without(words[1:], {"--folder", "--ldconfig-path"})),
        ),
        "the hook": document,
    }
    for form in ("no-hook", "tree", "tree-no-hook", "nvidia"):
        if form in host.specs:
            container = Container("", (ALL,), host.specs[form])
            documents[form] = bundles.configuration(host, runtime, f"profile-{form}", container)
    if "nvidia" in documents:
        documents["nvidia, no hook process"] = _with_hook(documents["nvidia"], None)
    runners: dict[str, list[Step]] = {}
    for number, (title, contents) in enumerate(documents.items()):
        bundle = bundles.of(host, runtime, f"profile-ladder-{number}", contents)
        argv = [bundle.program, *bundle.command("run")]
        runners[title] = [bundle.prepare, {"argv": argv, "env": ENVIRONMENT}]
    failures = starts.failures(runners)
    for title in failures:
        del runners[title]
    laps = race(runners, host.rounds)
    base = laps["no device"]
    rows = []
    for title in laps:
        added = [lap.wall - other.wall for lap, other in zip(laps[title], base, strict=True)]
        rows.append((title, _wall(laps[title]), f"{median(added):.1f}"))
    head = ("`run` of /bin/true, a new root each time", "wall, ms", "added to no device")
    lines = [f"{title}: {' '.join(f'{lap.wall:.1f}' for lap in laps[title])}" for title in laps]
    return (
        [
            f"{host.rounds} interleaved rounds:",
            "",
            *markdown_table(head, rows),
            *(f"\nFAILED: {title}: {reason}" for title, reason in failures.items()),
        ],
        transcript_entry("rounds of the race, ms", "\n".join(lines), len(lines)),
    )


def _program(document: Document, *words: str) -> list[str]:
    return [_hooks(document)[0]["path"], *words]


def _with_hook(document: Document, argv: Sequence[str] | None) -> Document:
    """Return the configuration with this command in place of all hooks; None: without hooks."""
    return _with_hooks(document, [argv] if argv else [])


def _with_hooks(document: Document, commands: Sequence[Sequence[str]]) -> Document:
    replaced = copy.deepcopy(document)
    first = {**_hooks(document)[0]}
    replaced["hooks"] = {
        "createContainer": [
            {**first, "path": command[0], "args": list(command)} for command in commands
        ]
    }
    return replaced


def _timed_starts(host: Host, runtime: Runtime, document: Document, programs: Programs) -> Result:
    """Start containers whose hook has a clock: with cold and with warm look-ups."""
    words = _hooks(document)[0]["args"][1:]
    hook = _hooks(document)[0]["path"]

    def timed_starts(
        title: str, count: int, *, mode: str, dry_run_first: bool, drop: bool
    ) -> Timed:
        results = host.folder / f"profile-{title}.results"
        processes = host.folder / f"profile-{title}.processes"
        commands = [_clocked(programs, processes, results, mode, hook, words)]
        if dry_run_first:
            dry = (host.folder / f"profile-{title}.dry", ["--dry-run", *words])
            commands.insert(0, _clocked(programs, dry[0], dry[0], mode, hook, dry[1]))
        bundle = bundles.of(host, runtime, f"profile-{title}", _with_hooks(document, commands))
        for _ in range(count):
            _start(bundle, drop=drop)
        return Timed(
            hook_time.hook_runs(results.read_text(encoding="utf-8")),
            hook_time.process_runs(processes.read_text(encoding="utf-8")),
        )

    columns = {
        "a new root": timed_starts(
            "new", TIMED_STARTS, mode="times", dry_run_first=False, drop=False
        ),
        "after a dry run in the same root": timed_starts(
            "warm", TIMED_STARTS, mode="times", dry_run_first=True, drop=False
        ),
    }
    if os.access(DROP_CACHES, os.W_OK):
        columns["nothing cached by the kernel"] = timed_starts(
            "cold", 3, mode="times", dry_run_first=False, drop=True
        )
    counted = timed_starts("counts", 1, mode="counts", dry_run_first=False, drop=False)
    phases = {
        title: hook_time.phases(timed.hooks, timed.processes) for title, timed in columns.items()
    }
    names = list(dict.fromkeys(name for table in phases.values() for name in table))
    rows = [
        (name, *(f"{table[name]:.2f}" if name in table else "-" for table in phases.values()))
        for name in names
    ]
    lines = [
        f"The hook's process, ms, medians of {TIMED_STARTS} starts (nothing cached: of 3); parts of update-ldcache are",
        "indented, and contained in its step:",
        "",
        *markdown_table(("", *columns), rows),
        "",
        "How update-ldcache read the directories:",
        "",
        *(f"- {line}" for line in counted.hooks[0].directories),
        "",
        "Calls of functions of `os`: "
        + ", ".join(f"{name} {count}" for name, count in sorted(counted.hooks[0].calls.items())),
    ]
    spans = "\n".join(
        f"{(end - begin) / 1e6:8.3f} {name}"
        for name, begin, end in columns["a new root"].hooks[-1].spans
    )
    return lines, transcript_entry("one hook, ms", spans, 200)


class Timed(NamedTuple):
    """The results of several starts."""

    hooks: tuple[hook_time.HookRun, ...]
    processes: tuple[hook_time.ProcessRun, ...]


def _clocked(
    programs: Programs, processes: Path, results: Path, mode: str, hook: str, words: Sequence[str]
) -> list[str]:
    interpreter = [*programs.interpreter, str(programs.timed_hook)]
    return [str(programs.measured), str(processes), *interpreter, str(results), mode, hook, *words]


def _start(bundle: Bundle, *, drop: bool) -> None:
    subprocess.run(bundle.prepare["argv"], check=True, env=ENVIRONMENT)
    if drop:
        subprocess.run(["sync"], check=True)
        Path(DROP_CACHES).write_text("3\n", encoding="ascii")
    argv = [bundle.program, *bundle.command("run")]
    subprocess.run(argv, check=True, env=ENVIRONMENT, stdin=subprocess.DEVNULL)


def _hooks_of_nvidia(host: Host, runtime: Runtime, _: Document, programs: Programs) -> Result:
    """Start containers with NVIDIA's spec, with each process of its hook measured."""
    if "nvidia" not in host.specs:
        return ["NVIDIA's hook is not here."], []
    container = Container("", (ALL,), host.specs["nvidia"])
    document = bundles.configuration(host, runtime, "profile-nvidia-hooks", container)
    results = {}
    for number, hook in enumerate(_hooks(document)):
        result = host.folder / f"profile-nvidia-{number}"
        title = " ".join(hook["args"][1:2]) or hook["args"][0]
        if title in results:
            title = f"{title} ({number})"
        results[title] = result
        hook["args"] = [str(programs.measured), str(result), hook["path"], *hook["args"][1:]]
        hook["path"] = str(programs.measured)
    bundle = bundles.of(host, runtime, "profile-nvidia-hooks", document)
    for _start_number in range(TIMED_STARTS):
        _start(bundle, drop=False)
    runs = {
        title: hook_time.process_runs(path.read_text(encoding="utf-8"))
        for title, path in results.items()
    }
    rows = [(title, *hook_time.process_row(processes)) for title, processes in runs.items()]
    total = [sum(run.wall for run in start) for start in zip(*runs.values(), strict=True)]
    return [
        f"The processes of NVIDIA's hook, medians of {TIMED_STARTS} starts; together {median(total):.1f} ms:",
        "",
        *markdown_table(("", *hook_time.PROCESS_HEAD), rows),
    ], []


def _system_calls(host: Host, runtime: Runtime, document: Document, programs: Programs) -> Result:
    """Count the system calls of the hook in one start; the log has the time of each."""
    strace = shutil.which("strace")
    if strace is None:
        return ["strace is not here."], []
    summary = host.folder / "profile.strace-summary"
    log = host.strace or host.folder / "profile.strace"
    command = _program(document, *_hooks(document)[0]["args"][1:])
    for options in (["-c", "-w", "-o", str(summary)], ["-r", "-T", "-s", "80", "-o", str(log)]):
        document = _with_hook(document, [strace, "-f", *options, *programs.interpreter, *command])
        _start(bundles.of(host, runtime, "profile-strace", document), drop=False)
    calls = sum(1 for line in log.read_text(encoding="utf-8").splitlines() if "(" in line)
    output = summary.read_text(encoding="utf-8")
    entry = transcript_entry("strace -c -w of one hook", output, 60)
    return [f"strace saw {calls} system calls of the hook; its table is in the transcript."], entry


def _wall(laps: Sequence[Lap]) -> str:
    return f"{median(lap.wall for lap in laps):.1f}"
