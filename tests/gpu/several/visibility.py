# SPDX-License-Identifier: Apache-2.0
"""Whether containers see the GPUs that they were given, in the host's order, and no others: by
every name of a device, with each form of spec, by the runtime shim, and by Docker."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.gpu.programs.container import PASSED, Outcome, cdi_gen
from tests.gpu.several.containers import Container, Runtime
from tests.gpu.several.gpus import ALL, Gpu, faults, markdown, seen
from tests.gpu.several.section import Host, Section, command_line, shown
from tests.gpu.several.starts import SHIM

VARIABLES = "^(NCCL|NVSHMEM|TORCH)_"
"""Those of the machine that containers have to have as they are."""

SPEC = Path("/etc/cdi/nvidia.json")


class Request(NamedTuple):
    """How GPUs are asked for, and which these are."""

    how: str
    words: tuple[str, ...]
    """Names of devices, or options of docker run."""
    gpus: tuple[Gpu, ...]


class Result(NamedTuple):
    """What became of a container."""

    right: bool
    made: bool
    """Whether a node was made in it."""


def by_names(gpus: Sequence[Gpu]) -> list[Request]:
    """Every GPU by each of its names, all, and several in an order that is not the host's."""
    found = [
        Request(kind, (name,), (gpu,)) for gpu in gpus for kind, name in gpu.device_names.items()
    ]
    found.append(Request(ALL, (ALL,), tuple(gpus)))
    if len(gpus) > 1:
        first, last = gpus[0], gpus[-1]
        words = (last.device_names["index"], first.device_names["UUID"])
        found.append(Request("two devices, the last first", words, (first, last)))
    return found


def of_docker(gpus: Sequence[Gpu], *, cdi: bool, shim: bool) -> list[Request]:
    """What is said to docker run."""
    last = gpus[-1]
    found = [
        Request("--gpus", ("--gpus", ALL), tuple(gpus)),
        Request("--gpus", ("--gpus", "1"), (gpus[0],)),
        Request("--gpus", ("--gpus", f"device={last.uuid}"), (last,)),
    ]
    if len(gpus) > 1:
        two = tuple(gpus[:2])
        # Docker reads the value as CSV: without the quotes the comma would end it.
        found += [
            Request("--gpus", ("--gpus", "2"), two),
            Request("--gpus", ("--gpus", '"device=0,1"'), two),
            Request("--gpus", ("--gpus", f'"device={two[0].uuid},{two[1].uuid}"'), two),
        ]
    if cdi:
        found += [
            Request("--device", ("--device", f"nvidia.com/gpu={each.words[0]}"), each.gpus)
            for each in by_names(gpus)
            if len(each.words) == 1
        ]
    if shim:
        for how, value, given in _variables(gpus):
            words = ("--runtime=nvidia", "--env", f"NVIDIA_VISIBLE_DEVICES={value}")
            found.append(Request(how, words, given))
    return found


def _variables(gpus: Sequence[Gpu]) -> Iterator[tuple[str, str, tuple[Gpu, ...]]]:
    for each in by_names(gpus):
        name = "NVIDIA_VISIBLE_DEVICES"
        if each.how == "PCI address":
            yield f"{name}, PCI address", each.gpus[0].pci_address, each.gpus
        else:
            yield f"{name}, {each.how}", ",".join(each.words), each.gpus


def containers(host: Host) -> Section:
    """By crun and runc, with the specs, and by the shim."""
    rows: list[Sequence[str]] = []
    said: list[str] = []
    wrong: list[str] = []

    def look(title: str, runtime: Runtime, request: Request, container: Container) -> Result:
        (outcome,) = runtime.run(container)
        found = _faults(host, request, outcome)
        made = bool(seen(outcome.output).made)
        asked = ",".join(request.words)
        if found:
            wrong.extend(f"{title}, {asked}: {fault}" for fault in found)
        if found or request.how in (ALL, "index") or len(request.words) > 1:
            said.extend(shown(f"{title}, {asked}", outcome.output))
        return Result(not found, made)

    for runtime_name, runtime in host.runtimes.items():
        for form, specs in host.specs.items():
            requests = by_names(host.gpus)
            results = [
                look(
                    f"{runtime_name}, {form}",
                    runtime,
                    each,
                    Container(_script(host, each), each.words, specs),
                )
                for each in requests
                if form != "nvidia" or each.how != "PCI address"  # its names have none
            ]
            rows.append((f"{runtime_name}, {form}", *_tally(results)))
    if os.path.exists(SHIM):
        cdi_gen("runtime", "prepare")
        shim = next(iter(host.runtimes.values()))._replace(command=(SHIM,))
        results = []
        for how, value, given in _variables(host.gpus):
            request = Request(how, (value,), given)
            variables = (("NVIDIA_VISIBLE_DEVICES", value),)
            container = Container(_script(host, request), variables=variables)
            results.append(look("the shim", shim, request, container))
        rows.append(("the shim", *_tally(results)))
    text = [
        "By index, UUID, PCI address and `all`, and two devices in an order that is not the host's. Each lists, by NVML",
        "and by CUDA, the GPUs that it was given in the host's order; has their nodes; and cannot open another's, also where",
        "it makes a node for it. NVML and CUDA of root make such nodes by themselves, where /proc/driver/nvidia/params lets them.",
        "",
        *markdown(
            ("", "containers", "as given", "NVML or CUDA made a node that nothing can open"), rows
        ),
    ]
    return Section("Containers and their GPUs", tuple(text), tuple(said), tuple(wrong))


def docker(host: Host) -> Section:
    """By Docker, where a daemon answers."""
    title = "Docker"
    if not shutil.which("docker"):
        return Section(title, ("There is no docker in PATH.",))
    asked = _docker("info", "--format", "{{json .}}")
    if asked.returncode:
        return Section(title, (f"No daemon answers: {asked.stderr.strip()[-200:]}",))
    info = json.loads(asked.stdout)
    version, runtimes = info["ServerVersion"], sorted(info["Runtimes"])
    directories = info.get("CDISpecDirs") or []
    rows, said, wrong = [], [], []
    cdi_gen("runtime", "prepare")
    with _spec_of_this_host():
        requests = of_docker(host.gpus, cdi=bool(directories), shim="nvidia" in runtimes)
        for request in requests:
            words = ["run", "--rm", "--network", "none", *host.docker_options, *request.words]
            for name in host.variables:
                words += ["--env", name]
            volume = ["--volume", f"{host.programs}:/several:ro"]
            script = ["sh", "-c", _script(host, request)]
            done = _docker(*words, *volume, host.docker_image, *script)
            verdict = PASSED if done.returncode == 0 else f"exit {done.returncode}"
            outcome = Outcome(verdict, 1, done.stdout + done.stderr)
            found = _faults(host, request, outcome)
            typed = command_line(["docker", "run", *request.words])
            rows.append((f"`{typed}`", ", ".join(found) or _indices(request.gpus)))
            wrong += [f"{typed}: {fault}" for fault in found]
            said += shown(f"Docker {version}: {typed}", outcome.output)
    text = [
        f"Docker {version}; runtimes: {', '.join(runtimes)}; specs in: {', '.join(directories)}",
        "",
        *markdown(("", "sees these GPUs, and no other"), rows),
    ]
    return Section(title, tuple(text), tuple(said), tuple(wrong))


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *words], capture_output=True, text=True, check=False, timeout=120
    )


@contextlib.contextmanager
def _spec_of_this_host() -> Iterator[None]:
    """A spec where engines look, if there is none."""
    if SPEC.exists():
        yield
        return
    SPEC.parent.mkdir(exist_ok=True)
    cdi_gen("generate", "--output", str(SPEC))
    try:
        yield
    finally:
        SPEC.unlink()


def _script(host: Host, request: Request) -> str:
    others = [each for each in host.gpus if each not in request.gpus]
    words = [str(each.minor) for each in others]
    program = " ".join(["/several/gpus", str(host.gpus[0].major), *words])
    return f"{program} || exit; env | grep -E '{VARIABLES}' || true"


def _faults(host: Host, request: Request, outcome: Outcome) -> list[str]:
    if outcome.verdict != PASSED:
        return [f"{outcome.verdict}: {outcome.output.strip()[-200:]}".replace("\n", " ")]
    found = list(faults(request.gpus, host.seen, seen(outcome.output)))
    there = {line for line in outcome.output.splitlines() if re.match(VARIABLES, line)}
    here = {f"{name}={value}" for name, value in host.variables.items()}
    if there != {line for line in here if re.match(VARIABLES, line)}:
        found.append(f"variables {sorted(there)}")
    return found


def _tally(results: Sequence[Result]) -> tuple[str, ...]:
    right, made = (sum(each) for each in zip(*results, strict=True))
    return str(len(results)), str(right), str(made)


def _indices(gpus: Iterable[Gpu]) -> str:
    return ", ".join(str(each.index) for each in gpus)
