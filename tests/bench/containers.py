# SPDX-License-Identifier: Apache-2.0
"""Row ``start``: whole containers in the lab, in turns without a device and with each spec."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cdi_gen.programs import collect
from tests.bench import nvidia_ctk, specs
from tests.bench.contest import (
    ENVIRONMENT,
    RACE,
    Bar,
    Lap,
    Line,
    Step,
    cost_bar,
    plan,
    read_laps,
    wall_bar,
)
from tests.bench.installed import CHECKOUT
from tests.bench.root_file_system import IMAGE, layer, untimed
from tests.bench.specs import ALL, DEVICE, HOST, HOST_OF_8, OUR_HOOK_PATH, Document, Specs
from tests.fakehost import hosts
from tests.lab import images
from tests.lab.engines import Inside, Lab

SUITE = "trixie"
HOOKLESS = 0.4
"""How much a spec without a hook may add, as a share of what nvidia-ctk's spec adds."""

ONE_GPU, EIGHT_GPUS = 0.5, 0.3
"""How much our hook may add to our mounts, as a share of what NVIDIA's hooks add to its mounts."""

PROGRAMS = {
    "/bench/hooks": CHECKOUT / "hooks",
    "/bench/collect.py": Path(collect.__file__),
    "/bench/race.py": RACE,
}
"""What a lab needs, by its path there."""

INSTEAD_OF_HOOKS = 0.15
"""How much more a spec without a hook may take than the mounts of nvidia-ctk's spec, as a share of
what NVIDIA's hooks add."""


def start(runs: int) -> Iterator[Line]:
    """Containers that run /bin/true."""
    yield from _starts(HOST, DEVICE, ONE_GPU, runs)
    yield from _starts(HOST_OF_8, ALL, EIGHT_GPUS, runs, engines=False)


def _starts(
    name: str, device: str, limit: float, runs: int, *, engines: bool = True
) -> Iterator[Line]:
    host = hosts.cached(name)
    host_specs = specs.of(host)
    gpus = "1 GPU" if device == DEVICE else "8 GPUs"
    with tempfile.TemporaryDirectory() as folder:
        layer(Path(folder, "layer.tar"))
        binds: dict[str, str | os.PathLike[str]] = {
            **PROGRAMS,
            "/bench/image.tar": images.animals()[IMAGE],
            "/bench/layer.tar": Path(folder, "layer.tar"),
        }
        nvidia_hook = nvidia_ctk.hook_program()
        if nvidia_hook:
            binds[nvidia_ctk.HOOK_PATH] = nvidia_hook
        with Lab(SUITE).enter(under=[host.root], dev_from=host.root, binds=binds) as inside:
            install_hook(inside)
            for runtime in ("crun", "runc"):
                laps = race(inside, _bundles(inside, runtime, host_specs, device), runs)
                yield from _lines(f"{runtime} run", laps, gpus, limit)
            if not engines:
                return
            inside.run(["podman", "load", "-q", "-i", "/bench/image.tar"])
            for runtime in ("crun", "runc"):
                laps = race(inside, _podman(inside, runtime, host_specs), runs)
                # The runtime does not stay podman's child: wait4 does not count its CPU time.
                wall_only = {
                    spec_name: [lap._replace(cpu=0.0) for lap in spec_laps]
                    for spec_name, spec_laps in laps.items()
                }
                yield from _lines(f"podman run, {runtime}", wall_only, gpus, limit)


def _lines(
    command: str, laps: Mapping[str, Sequence[Lap]], gpus: str, limit: float
) -> Iterator[Line]:
    base, against = laps["none"], laps.get("nvidia", ())
    yield Line("start", f"{command}: no device", base)
    for name, case in (("hookless", "no hook"), ("hooked", "with the hook")):
        bars: tuple[Bar, ...] = ()
        if against:
            hooks = (against, laps["nvidia-unhooked"])
            if name == "hookless":
                more = (laps[name], laps["nvidia-unhooked"])
                bars = (
                    wall_bar("ratio of added time", laps[name], against, HOOKLESS, base),
                    cost_bar("over mounts, by NVIDIA's hooks", more, hooks, INSTEAD_OF_HOOKS),
                )
            else:
                own = (laps[name], laps["unhooked"])
                bars = (cost_bar("the hook, by NVIDIA's hooks", own, hooks, limit),)
        yield Line("start", f"{command}: {gpus}, {case}", laps[name], against, base, bars)


def _contestants(host_specs: Specs) -> dict[str, Document]:
    documents = {
        "hookless": host_specs.hookless,
        "hooked": host_specs.hooked,
        "unhooked": host_specs.unhooked,
    }
    if host_specs.nvidia and host_specs.nvidia_unhooked:
        documents |= {"nvidia": host_specs.nvidia, "nvidia-unhooked": host_specs.nvidia_unhooked}
    return documents


def install_hook(inside: Inside) -> None:
    """Install our hook in a lab that has its sources at ``/bench/hooks``."""
    folder = os.path.dirname(OUR_HOOK_PATH)
    script = f"""mkdir -p {folder}; cp -r /bench/hooks/cdi-gen-hook /bench/hooks/cdi_base /bench/hooks/cdi_hook {folder}
        find {folder} -name __pycache__ -exec rm -rf {{}} +; python3 -I -S -m compileall -q {folder}
        python3 -I -S /bench/collect.py {folder}"""
    inside.run(["sh", "-ec", script])


def race(inside: Inside, runners: Mapping[str, Sequence[Step]], runs: int) -> dict[str, list[Lap]]:
    """Race programs in a lab that has ``race.py`` at ``/bench``."""
    command = ["/usr/bin/python3", "-I", "-S", "/bench/race.py"]
    return read_laps(inside.run(command, stdin=plan(runners, runs), timeout=600).stdout)


def _bundles(inside: Inside, runtime: str, host_specs: Specs, device: str) -> dict[str, list[Step]]:
    """A bundle for each spec, run by the runtime alone."""
    config = configuration(inside, runtime)
    configs = {"none": config} | {
        name: specs.apply(config, spec, device) for name, spec in _contestants(host_specs).items()
    }
    runners = {}
    for name, spec_config in configs.items():
        bundle = f"/tmp/{runtime}-{name}"
        inside.write(f"{bundle}/config.json", json.dumps(spec_config))
        root = f"{bundle}/rootfs"
        runners[name] = [
            untimed(f"rm -rf {root}; mkdir {root}; tar -xf /bench/layer.tar -C {root}"),
            run_step(runtime, bundle, name),
        ]
    return runners


def configuration(inside: Inside, runtime: str) -> Document:
    """The runtime's own config.json for /bin/true, on a root that can be written to."""
    shown = inside.run(
        ["sh", "-ec", f"cd /tmp; rm -f config.json; {runtime} spec; cat config.json"]
    )
    config: Document = json.loads(shown.stdout)
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    config["root"]["readonly"] = False
    return config


def run_step(runtime: str, bundle: str, name: str) -> Step:
    """A step that runs the container of a bundle."""
    return {
        "argv": [f"/usr/bin/{runtime}", "run", "-b", bundle, f"bench-{name}"],
        "env": {**ENVIRONMENT, "XDG_RUNTIME_DIR": "/run"},
    }


def _podman(inside: Inside, runtime: str, host_specs: Specs) -> dict[str, list[Step]]:
    """Podman with one spec at a time in /etc/cdi, because it reads every spec there."""
    run = ["/usr/bin/podman", "--runtime", runtime, "run", "--rm"]
    command = [f"localhost/{IMAGE}", "/bin/true"]
    environment = {**ENVIRONMENT, "HOME": "/root", "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    emptied = "rm -f /etc/cdi/*"
    runners = {"none": [untimed(emptied), {"argv": [*run, *command], "env": environment}]}
    for name, spec in _contestants(host_specs).items():
        inside.write(f"/etc/bench/{name}.json", json.dumps(spec))
        argv = [*run, "--device", f"{spec['kind']}={DEVICE}", *command]
        runners[name] = [
            untimed(f"{emptied}; cp /etc/bench/{name}.json /etc/cdi/nvidia.json"),
            {"argv": argv, "env": environment},
        ]
    return runners
