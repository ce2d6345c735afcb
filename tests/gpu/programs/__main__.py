# SPDX-License-Identifier: Apache-2.0
"""Which CUDA programs work in a container, with the hook, without one, and with NVIDIA's spec.

    sudo python3 -m tests.gpu.programs [OPTIONS]

See docs/gpu/README.md. It needs a GPU, runc or crun, and what cdi-gen needs; of NVIDIA's toolkit
nvidia-ctk and nvidia-cdi-hook for the third column. A program that fails is a row of the table.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.gpu.programs import machine, report
from tests.gpu.programs.container import PASSED, Form, Runner, cdi_gen
from tests.gpu.programs.forms import FORMS, environment, form
from tests.gpu.programs.programs import PROGRAMS, Program


def main() -> None:
    """Run every program in every form, and write the results to a page."""
    options = _options()
    with machine.memory_in_own_mount_namespace("tests.gpu.programs") as folder:
        sys.exit(_all(options, folder))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.gpu.programs", description=(__doc__ or "").partition("\n")[0]
    )
    names = ", ".join(program.name for program in PROGRAMS)
    parser.add_argument("--only", metavar="NAMES", help=f"separated by commas; of: {names}")
    parser.add_argument(
        "--forms", default="hook,no-hook,nvidia", help="the columns  [default: %(default)s]"
    )
    parser.add_argument(
        "--root",
        type=Path,
        help="an image's root file system  [default: this machine's / without its driver]",
    )
    parser.add_argument(
        "--runtime",
        metavar="COMMAND",
        help="runc or crun, with global options  [default: crun, else runc]",
    )
    parser.add_argument("--device", default="nvidia.com/gpu=all", help="[default: %(default)s]")
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="for the containers; an image's ENV, with --root",
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="containers at a time  [default: %(default)s]"
    )
    parser.add_argument("--output", type=Path, default=Path("programs.md"), help="[%(default)s]")
    return parser.parse_args()


def _all(options: argparse.Namespace, folder: Path) -> int:
    programs = _chosen(options.only)
    inventory = json.loads(cdi_gen("inventory"))
    containers = folder / "containers"
    containers.mkdir()
    if options.root:
        root = machine.of_directory(options.root)
    else:
        root = machine.of_this_machine(inventory, folder / "bare")
    runner = Runner(
        runtime=_runtime(options.runtime),
        root=root,
        folder=containers,
        device=options.device,
        environment=environment(
            dict(each.partition("=")[::2] for each in options.env), own=not options.root
        ),
    )
    first = runner.run(Program("true", "true", 60), Form("no device", None))
    if first.verdict != PASSED:
        sys.exit(f"{shlex.join(runner.runtime)} runs no container here:\n{first.output}")
    forms = [form(name, folder) for name in _named_forms(options.forms)]
    about = (
        *_about(runner, options.root),
        *(f"{each.title}: {each.lacking}" for each in forms if each.lacking),
    )
    results: report.Results = {}

    def work(program: Program, column: Form) -> None:
        outcome = runner.run(program, column)
        results[program.name, column.title] = outcome
        print(
            f"{program.name}, {column.title}: {outcome.verdict}, {outcome.seconds:.1f} s",
            flush=True,
        )
        # Written after each program, so that an interrupted run leaves a report.
        text = report.text(about, programs, [form.title for form in forms], dict(results))
        options.output.write_text(text, encoding="utf-8")

    pairs = [(program, form) for program in programs for form in forms if not form.lacking]
    with ThreadPoolExecutor(options.jobs) as pool:
        for future in [pool.submit(work, *pair) for pair in pairs if not pair[0].alone]:
            future.result()
    for program, column in pairs:
        if program.alone:
            work(program, column)
    return report.status(results)


def _chosen(only: str | None) -> list[Program]:
    by_name = {program.name: program for program in PROGRAMS}
    if only is None:
        return list(PROGRAMS)
    unknown = [name for name in only.split(",") if name not in by_name]
    if unknown:
        names = ", ".join(by_name)
        sys.exit(f"--only: no such program: {', '.join(unknown)}; the programs are {names}")
    return [by_name[name] for name in only.split(",")]


def _named_forms(words: str) -> list[str]:
    names = words.split(",")
    for name in names:
        if name not in FORMS:
            sys.exit(f"--forms: no such form: {name}; the forms are {', '.join(FORMS)}")
    return names


def _runtime(given: str | None) -> Sequence[str]:
    if given:
        return shlex.split(given)
    for name in ("crun", "runc"):
        if found := shutil.which(name):
            return [found]
    return sys.exit("neither crun nor runc is in PATH: name one with --runtime")


def _about(runner: Runner, root: Path | None) -> Iterator[str]:
    """What the page begins with."""
    yield f"root: {root}" if root else "root: the machine's own, without its driver"
    for words in (
        ["nvidia-smi", "-L"],
        ["cat", "/proc/driver/nvidia/version"],
        ["uname", "-r"],
        [*runner.runtime, "--version"],
    ):
        if shutil.which(words[0]):
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            yield f"{shlex.join(words)}: {done.stdout.strip().partition(chr(10) * 2)[0]}"
    yield f"Python {platform.python_version()}, {platform.freedesktop_os_release()['PRETTY_NAME']}"
    yield cdi_gen("--version").strip()


if __name__ == "__main__":
    main()
