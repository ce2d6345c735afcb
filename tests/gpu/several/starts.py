# SPDX-License-Identifier: Apache-2.0
"""The time that a container with all GPUs takes to start: with runc and crun, with every form of spec
and with the runtime shims. Every start has a new bundle and a new root file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from tests.bench.contest import ENVIRONMENT, Lap, Step, race, wall_bar
from tests.gpu.several import bundles
from tests.gpu.several.containers import Container, Runtime
from tests.gpu.several.gpus import ALL, markdown_table
from tests.gpu.several.section import Host, Section, transcript_entry

NO_DEVICE, NVIDIA = "no device", "nvidia"
REQUEST = (("NVIDIA_VISIBLE_DEVICES", ALL), ("NVIDIA_DRIVER_CAPABILITIES", ALL))
SHIM = "/usr/local/libexec/cdi-gen/cdi-gen-runtime"


class Start(NamedTuple):
    """A way to start a container."""

    container: Container
    shim: str | None = None
    """The program that starts the runtime."""


def starts(host: Host) -> Section:
    """Race ``run``; and ``create``, the only command in which nvidia-container-runtime adds GPUs."""
    text = [
        "`/bin/true`, wall ms, medians of interleaved rounds. In brackets: what the form adds to a container",
        "without a device, divided by what NVIDIA's spec adds, and the 95% interval of that ratio.",
    ]
    lines: list[str] = []
    faults: list[str] = []
    for command, forms, rounds in (
        ("run", _forms(host), host.rounds),
        ("create", _forms_of_shims(host), max(host.rounds * 2 // 3, 1)),
    ):
        rows: dict[str, list[str]] = {form: [form] for form in forms}
        for name, runtime in host.runtimes.items():
            environment = _environment(host, name, runtime)
            runners = {
                form: _steps(host, runtime, command, start, environment)
                for form, start in forms.items()
            }
            for form, reason in failures(runners).items():
                faults.append(f"{name} {command}, {form}: {reason}")
                del runners[form]
            laps = race(runners, rounds)
            for form, row in rows.items():
                row.append(_cell(form, laps))
            lines += [_line(f"{name} {command}, {form}", laps[form]) for form in laps]
        table = markdown_table(("", *host.runtimes), rows.values())
        text += ["", f"`{command}`, {rounds} rounds:", "", *table]
    transcript = transcript_entry("rounds, ms", "\n".join(lines), len(lines))
    return Section("Starting a container", tuple(text), tuple(transcript), tuple(faults))


def _forms(host: Host) -> dict[str, Start]:
    forms = {NO_DEVICE: Start(Container(""))}
    for form, specs in host.specs.items():
        forms[form] = Start(Container("", (ALL,), specs))
    if len(host.gpus) > 1:
        forms[f"{host.form}, GPU 0 only"] = Start(Container("", ("0",), host.specs[host.form]))
    if os.path.exists(SHIM):
        forms["shim"] = Start(Container("", variables=REQUEST), SHIM)
    return forms


def _forms_of_shims(host: Host) -> dict[str, Start]:
    names = (NO_DEVICE, NVIDIA, "shim")
    forms = {form: start for form, start in _forms(host).items() if form in names}
    if host.nvidia_runtime:
        start = Start(Container("", variables=REQUEST), host.nvidia_runtime)
        forms["nvidia-container-runtime"] = start
    return forms


def _environment(host: Host, name: str, runtime: Runtime) -> dict[str, str]:
    """Return the environment of the runtimes, with a configuration that both shims read."""
    configuration = host.folder / f"{name}.toml"
    path = shutil.which(runtime.command[0]) or runtime.command[0]
    configuration.write_text(
        f'[nvidia-ctk]\npath = "{shutil.which("nvidia-ctk") or ""}"\n'
        f'[nvidia-container-runtime]\nruntimes = ["{path}"]\n'
    )
    return {**ENVIRONMENT, "NVIDIA_CTK_CONFIG_FILE_PATH": str(configuration)}


def failures(runners: Mapping[str, Sequence[Step]]) -> dict[str, str]:
    """Run every form once. A form that fails would end the race of the others."""
    messages = {}
    for form, steps in runners.items():
        for step in steps:
            # Not a pipe: a container that is created and not started keeps it open.
            with tempfile.TemporaryFile() as errors:
                code = subprocess.call(
                    step["argv"], env=step["env"], stdout=subprocess.DEVNULL, stderr=errors
                )
                errors.seek(0)
                if code:
                    message = errors.read().decode(errors="replace").strip()
                    messages[form] = f"exit {code}: {message[-300:]}"
                    break
    return messages


def _steps(
    host: Host, runtime: Runtime, command: str, start: Start, environment: Mapping[str, str]
) -> list[Step]:
    container, shim = start
    form = container.specs.name if container.specs else "none"
    name = "-".join((command, os.path.basename(shim or "runtime"), *container.devices, form))
    # A container without the driver would be fast.
    has_driver = bool(container.devices or container.variables)
    configuration = bundles.configuration(host, runtime, name, container)
    bundle = bundles.of(host, runtime, name, configuration)
    check = f"grep -q libcuda.so {bundle.path}/config.json" if has_driver else "true"
    if command == "create":
        check = f"{bundle.program} --root {bundle.state} delete --force {name}; {check}"
    argv = [shim or bundle.program, *bundle.command(command)]
    return [
        bundle.prepare,
        {"argv": argv, "env": dict(environment)},
        {"argv": ["/bin/sh", "-c", check], "env": ENVIRONMENT, "untimed": True},
    ]


def _cell(form: str, laps: Mapping[str, Sequence[Lap]]) -> str:
    if form not in laps:
        return "-"
    wall = f"{median(lap.wall for lap in laps[form]):.1f}"
    if form in (NO_DEVICE, NVIDIA) or NVIDIA not in laps:
        return wall
    bar = wall_bar("", laps[form], laps[NVIDIA], 1, laps[NO_DEVICE])
    return f"{wall} ({bar.value:.2f}, {bar.low:.2f} to {bar.high:.2f})"


def _line(title: str, laps: Sequence[Lap]) -> str:
    return f"{title}: {' '.join(f'{lap.wall:.1f}' for lap in laps)}"
