# SPDX-License-Identifier: Apache-2.0
"""Checks that a container lists the GPUs that were given to it, in the host's order, and no others:
by every device name, with every form of spec, with the runtime shim, and with Docker."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.gpu.programs.container import PASSED, Outcome, cdi_gen
from tests.gpu.several.containers import Container, Runtime
from tests.gpu.several.gpus import ALL, Gpu, listing_faults, markdown_table, parse_listing
from tests.gpu.several.section import Host, Section, transcript_entry
from tests.gpu.several.starts import SHIM

VARIABLES = "^(NCCL|NVSHMEM|TORCH)_"
"""Names of variables that containers must have unchanged."""

SPEC = Path("/etc/cdi/nvidia.json")


class Request(NamedTuple):
    """A request for GPUs, and the GPUs that it means."""

    kind: str
    words: tuple[str, ...]
    """Device names, or options of docker run."""
    gpus: tuple[Gpu, ...]


def requests_by_name(gpus: Sequence[Gpu]) -> list[Request]:
    """Return requests for every GPU by each name, for all, and for two in another order."""
    requests = [
        Request(kind, (name,), (gpu,)) for gpu in gpus for kind, name in gpu.device_names.items()
    ]
    requests.append(Request(ALL, (ALL,), tuple(gpus)))
    if len(gpus) > 1:
        first, last = gpus[0], gpus[-1]
        names = (last.device_names["index"], first.device_names["UUID"])
        requests.append(Request("two devices, the last first", names, (first, last)))
    return requests


def requests_by_variable(gpus: Sequence[Gpu]) -> list[Request]:
    """Return the same requests as values of NVIDIA_VISIBLE_DEVICES."""
    return [
        request._replace(words=(request.gpus[0].pci_address,))
        if request.kind == "PCI address"
        else request._replace(words=(",".join(request.words),))
        for request in requests_by_name(gpus)
    ]


def requests_of_docker(gpus: Sequence[Gpu], *, cdi: bool, shim: bool) -> list[Request]:
    """Return requests as options of docker run.

    Args:
        gpus: of the host.
        cdi: whether the daemon takes CDI devices.
        shim: whether the daemon has the runtime ``nvidia``.
    """
    kind, last = "--gpus", gpus[-1]
    requests = [
        Request(kind, (kind, ALL), tuple(gpus)),
        Request(kind, (kind, "1"), (gpus[0],)),
        Request(kind, (kind, f"device={last.uuid}"), (last,)),
    ]
    if len(gpus) > 1:
        two = tuple(gpus[:2])
        # Docker parses the value as CSV. Without the quotes the comma would end the value.
        requests += [
            Request(kind, (kind, "2"), two),
            Request(kind, (kind, '"device=0,1"'), two),
            Request(kind, (kind, f'"device={two[0].uuid},{two[1].uuid}"'), two),
        ]
    if cdi:
        requests += [
            Request("--device", ("--device", f"nvidia.com/gpu={request.words[0]}"), request.gpus)
            for request in requests_by_name(gpus)
            if len(request.words) == 1
        ]
    if shim:
        for request in requests_by_variable(gpus):
            variable = f"NVIDIA_VISIBLE_DEVICES={request.words[0]}"
            requests.append(request._replace(words=("--runtime=nvidia", "--env", variable)))
    return requests


class Result(NamedTuple):
    """The result of a container."""

    right: bool
    created: bool
    """Whether NVML or CUDA created a node in it."""


def containers(host: Host) -> Section:
    """Check runc and crun with every form of spec, and the shim."""
    rows: list[Sequence[str]] = []
    transcript: list[str] = []
    faults: list[str] = []

    def check(title: str, runtime: Runtime, request: Request, container: Container) -> Result:
        (outcome,) = runtime.run(container)
        request_faults = _faults(host, request, outcome)
        words = ",".join(request.words)
        faults.extend(f"{title}, {words}: {fault}" for fault in request_faults)
        if request_faults or request.kind == ALL:
            transcript.extend(transcript_entry(f"{title}, {words}", outcome.output, 40))
        return Result(not request_faults, bool(parse_listing(outcome.output).created))

    for runtime_name, runtime in host.runtimes.items():
        for form, specs in host.specs.items():
            title = f"{runtime_name}, {form}"
            results = [
                check(
                    title, runtime, request, Container(_script(host, request), request.words, specs)
                )
                for request in requests_by_name(host.gpus)
                # NVIDIA's spec has no names by PCI address.
                if form != "nvidia" or request.kind != "PCI address"
            ]
            rows.append((title, *_totals(results)))
    if os.path.exists(SHIM):
        cdi_gen("runtime", "prepare")
        shim = next(iter(host.runtimes.values()))._replace(command=(SHIM,))
        results = []
        for request in requests_by_variable(host.gpus):
            variables = (("NVIDIA_VISIBLE_DEVICES", request.words[0]),)
            container = Container(_script(host, request), variables=variables)
            results.append(check("the shim", shim, request, container))
        rows.append(("the shim", *_totals(results)))
    text = [
        "Every GPU by index, UUID and PCI address, `all`, and two devices in another order than the host's. A container is",
        "right if NVML and CUDA list its GPUs in the host's order, if it has the nodes of these GPUs and no others, and if it",
        "cannot open another GPU, even with a node that it creates itself.",
        "",
        *markdown_table(("", "containers", "right", "NVML or CUDA created nodes"), rows),
    ]
    return Section("Containers and their GPUs", tuple(text), tuple(transcript), tuple(faults))


def docker(host: Host) -> Section:
    """Check docker run, if a daemon answers."""
    title = "Docker"
    if not shutil.which("docker"):
        return Section(title, ("docker is not in PATH.",))
    info_process = _docker("info", "--format", "{{json .}}")
    if info_process.returncode:
        return Section(title, (f"No daemon answers: {info_process.stderr.strip()[-200:]}",))
    info = json.loads(info_process.stdout)
    version, runtimes = info["ServerVersion"], sorted(info["Runtimes"])
    directories = info.get("CDISpecDirs") or []
    rows, transcript, faults = [], [], []
    cdi_gen("runtime", "prepare")
    with _spec_of_this_host():
        requests = requests_of_docker(host.gpus, cdi=bool(directories), shim="nvidia" in runtimes)
        for request in requests:
            outcome = _docker_run(host, request)
            request_faults = _faults(host, request, outcome)
            command = shlex.join(["docker", "run", *request.words])
            rows.append((f"`{command}`", ", ".join(request_faults) or _indices(request.gpus)))
            faults += [f"{command}: {fault}" for fault in request_faults]
            if request_faults or request.kind == "--gpus":
                transcript += transcript_entry(command, outcome.output, 40)
    text = [
        f"Docker {version}; runtimes: {', '.join(runtimes)}; spec directories: {', '.join(directories)}",
        "",
        *markdown_table(("", "lists these GPUs, and no others"), rows),
    ]
    return Section(title, tuple(text), tuple(transcript), tuple(faults))


def variable_faults(variables: Mapping[str, str], output: str) -> list[str]:
    """Compare the variables in a container's output with the machine's."""
    container = {line for line in output.splitlines() if re.match(VARIABLES, line)}
    machine = {f"{name}={value}" for name, value in variables.items() if re.match(VARIABLES, name)}
    return [f"variables {sorted(container)}"] if container != machine else []


def _docker_run(host: Host, request: Request) -> Outcome:
    words = ["run", "--rm", "--network", "none", *host.docker_options, *request.words]
    for name in host.variables:
        words += ["--env", name]
    words += ["--volume", f"{host.programs}:/several:ro", host.docker_image]
    process = _docker(*words, "sh", "-c", _script(host, request))
    verdict = PASSED if process.returncode == 0 else f"exit {process.returncode}"
    return Outcome(verdict, 1, process.stdout + process.stderr)


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *words], capture_output=True, text=True, check=False, timeout=120
    )


@contextlib.contextmanager
def _spec_of_this_host() -> Iterator[None]:
    """Write a spec to the engines' directory if it has none; remove it at the end."""
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
    minors = [str(gpu.minor) for gpu in host.gpus if gpu not in request.gpus]
    program = " ".join(["/several/gpus", str(host.gpus[0].major), *minors])
    return f"{program} || exit; env | grep -E '{VARIABLES}' || true"


def _faults(host: Host, request: Request, outcome: Outcome) -> list[str]:
    if outcome.verdict != PASSED:
        return [f"{outcome.verdict}: {outcome.output.strip()[-200:]}".replace("\n", " ")]
    listing = parse_listing(outcome.output)
    return [
        *listing_faults(request.gpus, host.listing, listing),
        *variable_faults(host.variables, outcome.output),
    ]


def _totals(results: Sequence[Result]) -> tuple[str, ...]:
    right, created = (sum(column) for column in zip(*results, strict=True))
    return str(len(results)), str(right), f"in {created}" if created else "-"


def _indices(gpus: Iterable[Gpu]) -> str:
    return ", ".join(str(gpu.index) for gpu in gpus)
