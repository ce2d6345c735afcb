# SPDX-License-Identifier: Apache-2.0
"""Row ``shim``: what the runtime shim adds to a low-level runtime, beside nvidia-container-runtime.

Both read the same config.toml, which names no mode. The hooks that the shims add run within
``create``, and so its time includes them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdi_gen.programs import collect
from tests.bench import nvidia_ctk
from tests.bench.contest import ENVIRONMENT, Line, Step, race, wall_bar
from tests.bench.root_file_system import layer, untimed
from tests.fakehost import hosts
from tests.runtime.machine import Machine

PYTHON = "/usr/bin/python3"
NVIDIA_RUNTIME = "nvidia-container-runtime"

CREATE = 0.5
"""How much the shim may add, as a share of what NVIDIA's runtime adds."""
PASSED_THROUGH = 12 / 6
"""12 ms on a machine where an interpreter that does nothing takes 6 ms."""

ASKS = {
    "ours": ("NVIDIA_VISIBLE_DEVICES=all",),
    "ours, all": ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all"),
    "nvidia": ("NVIDIA_VISIBLE_DEVICES=all",),
}
"""The environment of the container, by runner. Without ``NVIDIA_DRIVER_CAPABILITIES``, NVIDIA's
runtime still gives the whole driver."""


def shim(runs: int) -> Iterator[Line]:
    """The shim before runc."""
    for name, gpus in (("550-1gpu", "1 GPU"), ("550-8gpu", "8 GPUs")):
        yield from _creates(name, gpus, runs)
    yield from _pass_through(runs)


def _creates(name: str, gpus: str, runs: int) -> Iterator[Line]:
    runc = str(shutil.which("runc"))
    with tempfile.TemporaryDirectory() as folder:
        machine = _machine(Path(folder), name)
        layer(Path(folder, "layer.tar"))
        bundles = Path(folder, "bundles")
        bundles.mkdir()
        programs = {"none": runc, "ours": str(machine.shim), "ours, all": str(machine.shim)}
        nvidia_runtime = _nvidia_runtime()
        if nvidia_runtime:
            programs["nvidia"] = nvidia_runtime
        environment = {**ENVIRONMENT, "NVIDIA_CTK_CONFIG_FILE_PATH": str(machine.settings)}
        config = _config(runc, Path(folder))
        runners = {
            which: _created(bundles, program, config, ASKS.get(which, ()), environment)
            for which, program in programs.items()
        }
        # A tmpfs, as /run is: on a disk, creating a file for each mount would be slower.
        laps = race(runners, runs, within=machine.command(f"mount -t tmpfs bundles {bundles}"))
    base, against = laps["none"], laps.get("nvidia", ())
    yield Line("shim", f"runc create: no device ({gpus})", base)
    bars = [wall_bar("ratio of added time", laps["ours"], against, CREATE, base)] if against else []
    yield Line("shim", f"create by the shim: {gpus}", laps["ours"], against, base, tuple(bars))
    yield Line(
        "shim", f"create by the shim: {gpus}, all of the driver", laps["ours, all"], against, base
    )


def _pass_through(runs: int) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        _collect_modules(machine)
        runc = Path(folder, "programs/runc")
        runc.parent.mkdir()
        runc.symlink_to("/bin/true")
        named = Path(folder, "named.toml")
        named.write_text(f'[nvidia-container-runtime]\nruntimes = ["{runc}"]\n')
        words = ("--root", "/run/runc", "state", "x")

        def of(settings: Path, *argv: str) -> list[Step]:
            path = f"{runc.parent}:{ENVIRONMENT['PATH']}"
            variables = {"PATH": path, "NVIDIA_CTK_CONFIG_FILE_PATH": str(settings)}
            return [{"argv": [*argv], "env": {**ENVIRONMENT, **variables}}]

        runners = {
            "none": of(named, str(runc), *words),
            "bare": of(named, PYTHON, "-I", "-S", "-c", "pass"),
            "ours": of(machine.settings, str(machine.shim), *words),
            "named": of(named, str(machine.shim), *words),
        }
        nvidia_runtime = _nvidia_runtime()
        if nvidia_runtime:
            runners["nvidia"] = of(named, nvidia_runtime, *words)
        laps = race(runners, runs)
    base, against = laps["none"], laps.get("nvidia", ())
    yield Line("shim", "python3 -I -S -c pass", laps["bare"], base=base)
    for which, case in (("ours", ""), ("named", ", runtimes named in config.toml")):
        title = "added, by a bare interpreter"
        bar = wall_bar(title, laps[which], laps["bare"], PASSED_THROUGH, base)
        yield Line("shim", f"any other command{case}", laps[which], against, base, (bar,))


def _nvidia_runtime() -> str | None:
    """The path of NVIDIA's runtime; None if the file of that name is a link to our shim."""
    path = nvidia_ctk.program(NVIDIA_RUNTIME)
    if path is None:
        return None
    with open(path, "rb") as file:
        return path if file.read(4) == b"\x7fELF" else None


def _machine(folder: Path, name: str) -> Machine:
    machine = Machine(folder, hosts.cached(name))
    _collect_modules(machine)
    machine.configure(
        f"""
        [nvidia-ctk]
        path = "{nvidia_ctk.program() or ""}"
        # NVIDIA's hook of this name fails: the real procfs does not have the fake host's files.
        [nvidia-container-runtime.modes.jit-cdi]
        nvcdi-disable-hooks = ["disable-device-node-modification"]
        """,
        log=Path(os.devnull),
    )
    return machine


def _collect_modules(machine: Machine) -> None:
    subprocess.run([PYTHON, "-IS", collect.__file__, machine.installed], check=True)


def _config(runc: str, folder: Path) -> dict[str, Any]:
    """The configuration of ``runc spec``, without limits and the namespace of control groups."""
    subprocess.run([runc, "spec"], cwd=folder, check=True)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    config["process"].pop("rlimits", None)
    config["root"]["readonly"] = False
    config["linux"]["namespaces"] = [
        namespace for namespace in config["linux"]["namespaces"] if namespace["type"] != "cgroup"
    ]
    config["mounts"] = [mount for mount in config["mounts"] if mount["type"] != "cgroup"]
    return config


def _created(
    bundles: Path,
    program: str,
    config: dict[str, Any],
    variables: tuple[str, ...],
    environment: dict[str, str],
) -> list[Step]:
    """Create a container from a small Debian and delete it; only the creation is timed."""
    name = f"bench-{os.path.basename(program)}-{len(variables)}"
    bundle, state = bundles / name, ("--root", f"{bundles}/state")
    config = json.loads(json.dumps(config))
    config["process"]["env"] += variables
    fresh = f"""rm -rf {bundle}; mkdir -p {bundle}/rootfs {bundles}/pristine
        [ -e {bundles}/pristine/etc ] || tar -xf {bundles.parent}/layer.tar -C {bundles}/pristine
        cp -al {bundles}/pristine/. {bundle}/rootfs
        cat > {bundle}/config.json <<'END'\n{json.dumps(config)}\nEND\n"""
    check = f"runc {' '.join(state)} delete -f {name}"
    if variables:
        # Creating a container without a GPU would be fast.
        check += f"; grep -q libcuda.so {bundle}/config.json"
    return [
        untimed(fresh),
        {"argv": [program, *state, "create", "--bundle", str(bundle), name], "env": environment},
        untimed(check),
    ]
