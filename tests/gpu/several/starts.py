# SPDX-License-Identifier: Apache-2.0
"""What a start of a container with all GPUs costs: crun and runc alone, with each form of spec, by
the runtime shim; each from a bundle and a root file system that no container has touched."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from tests.bench.contest import ENVIRONMENT, Lap, Step, race, wall_bar
from tests.gpu.programs.container import cdi_gen
from tests.gpu.several.containers import Container, Runtime
from tests.gpu.several.gpus import ALL, markdown
from tests.gpu.several.section import Host, Section, shown

NONE, OTHERS = "no device", "nvidia"
REQUEST = (("NVIDIA_VISIBLE_DEVICES", ALL), ("NVIDIA_DRIVER_CAPABILITIES", ALL))
SHIM = "/usr/local/libexec/cdi-gen/cdi-gen-runtime"


def starts(host: Host) -> Section:
    """Race starts of /bin/true, and then ``create`` alone, which is all that NVIDIA's shim edits."""
    text = [
        "Wall ms, medians of interleaved rounds; in brackets what is added to a container without a device,",
        "by what NVIDIA's spec adds, with its 95% interval.",
    ]
    said: list[str] = []
    faults: list[str] = []
    for command, forms, rounds in (
        ("run", _forms(host), host.rounds),
        ("create", _forms_by_shims(host), host.rounds * 2 // 3),
    ):
        rows: dict[str, list[str]] = {form: [form] for form in forms}
        for name, runtime in host.runtimes.items():
            runners = {
                form: _steps(host, runtime, command, each, _environment(host, name, runtime))
                for form, each in forms.items()
            }
            for form, reason in _failing(runners).items():
                faults.append(f"{name} {command}, {form}: {reason}")
                del runners[form]
            laps = race(runners, rounds)
            for form, row in rows.items():
                row.append(_cell(form, laps))
            said += [_laps(f"{name} {command}, {form}", each) for form, each in laps.items()]
        text += [
            "",
            f"`{command}`, {rounds} rounds:",
            "",
            *markdown(("", *host.runtimes), rows.values()),
        ]
    transcript = shown("laps, ms", "\n".join(said), 60)
    return Section("Starting a container", tuple(text), tuple(transcript), tuple(faults))


class Start(NamedTuple):
    """A container of a form, and by which program it is started, if not by the runtime itself."""

    container: Container
    program: str | None = None


def _forms(host: Host) -> dict[str, Start]:
    forms = {NONE: Start(Container(""))}
    for form, specs in host.specs.items():
        forms[form] = Start(Container("", (ALL,), specs))
    if len(host.gpus) > 1:
        forms[f"{host.form}, GPU 0 alone"] = Start(Container("", ("0",), host.specs[host.form]))
    if os.path.exists(SHIM):
        forms["shim"] = Start(Container("", variables=REQUEST), SHIM)
    return forms


def _forms_by_shims(host: Host) -> dict[str, Start]:
    forms = {name: each for name, each in _forms(host).items() if name in (NONE, OTHERS, "shim")}
    if host.nvidia_runtime:
        by_shim = Start(Container("", variables=REQUEST), host.nvidia_runtime)
        forms["nvidia-container-runtime"] = by_shim
    return forms


def _environment(host: Host, name: str, runtime: Runtime) -> dict[str, str]:
    """Both shims read this configuration."""
    configuration = host.folder / f"{name}.toml"
    path = shutil.which(runtime.command[0]) or runtime.command[0]
    configuration.write_text(
        f'[nvidia-ctk]\npath = "{shutil.which("nvidia-ctk") or ""}"\n'
        f'[nvidia-container-runtime]\nruntimes = ["{path}"]\n'
    )
    return {**ENVIRONMENT, "NVIDIA_CTK_CONFIG_FILE_PATH": str(configuration)}


def _failing(runners: Mapping[str, Sequence[Step]]) -> dict[str, str]:
    """Why a form cannot take part: the whole race would end by it."""
    found = {}
    for form, steps in runners.items():
        for step in steps:
            # No pipe: a container that is created and not started holds its end.
            with tempfile.TemporaryFile() as errors:
                code = subprocess.call(
                    step["argv"], env=step["env"], stdout=subprocess.DEVNULL, stderr=errors
                )
                errors.seek(0)
                if code:
                    reason = errors.read().decode(errors="replace").strip()
                    found[form] = f"exit {code}: {reason[-300:]}"
                    break
    return found


def _steps(
    host: Host, runtime: Runtime, command: str, each: Start, environment: Mapping[str, str]
) -> list[Step]:
    container, program = each
    words = (command, os.path.basename(program or "") or "runtime", *container.devices)
    form = str(container.specs and container.specs.name)
    name = "-".join((*words, form)).lower()
    bundle, ready = host.folder / name, host.folder / f"{name}.json"
    made = runtime.configuration(name, container, host.folder)
    made["process"]["args"] = ["/bin/true"]
    ready.write_text(json.dumps(made), encoding="utf-8")
    if container.devices:
        device = f"nvidia.com/gpu={container.devices[0]}"
        options = ("--spec-dir", str(container.specs), "--device", device, "--output", str(ready))
        cdi_gen("inject", *options, str(ready))
    state = str(host.folder / "state")
    at, layers = shlex.quote(str(bundle)), ":".join(map(str, runtime.root.layers))
    places = " ".join(f"{at}/rootfs/{place.lstrip('/')}" for place in _places(runtime))
    fresh = (
        f"if [ -e {at} ]; then umount -l {at}/rootfs; rm -rf {at}; fi; "
        f"mkdir -p {at}/rootfs {at}/upper {at}/work && cp {ready} {at}/config.json && "
        f"mount -t overlay overlay -o lowerdir={layers},upperdir={at}/upper,workdir={at}/work "
        f"{at}/rootfs && mkdir -p {places}"
    )
    runner = shutil.which(runtime.command[0]) or runtime.command[0]
    # One that starts a container without the driver would be fast.
    with_driver = bool(container.devices or container.variables)
    ended = f"grep -q libcuda.so {at}/config.json" if with_driver else "true"
    if command == "create":
        ended = f"{runner} --root {state} delete --force {name}; {ended}"
    argv = [program or runner, "--root", state, command, "--bundle", str(bundle), name]
    return [
        {"argv": ["/bin/sh", "-c", fresh], "env": ENVIRONMENT, "untimed": True},
        {"argv": argv, "env": dict(environment)},
        {"argv": ["/bin/sh", "-c", ended], "env": ENVIRONMENT, "untimed": True},
    ]


def _places(runtime: Runtime) -> list[str]:
    return ["inside", "gpu", *runtime.volumes]


def _cell(form: str, laps: Mapping[str, Sequence[Lap]]) -> str:
    if form not in laps:
        return "-"
    shown_median = f"{median(lap.wall for lap in laps[form]):.1f}"
    if form in (NONE, OTHERS) or OTHERS not in laps:
        return shown_median
    bar = wall_bar("", laps[form], laps[OTHERS], 1, laps[NONE])
    return f"{shown_median} ({bar.value:.2f}, {bar.low:.2f} to {bar.high:.2f})"


def _laps(title: str, laps: Sequence[Lap]) -> str:
    return f"{title}: {' '.join(f'{lap.wall:.1f}' for lap in laps)}"
