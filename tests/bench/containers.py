# SPDX-License-Identifier: Apache-2.0
"""Row ``start``: whole containers in the lab, by turns without a device and with each spec."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.bench import peer, specs
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
"""How much a spec without a hook may add, measured by what the peer's spec adds."""

ONE_GPU, EIGHT_GPUS = 0.5, 0.3
"""How much our hook may add to the mounts, measured by what the peer's hooks add to theirs."""

INSTEAD_OF_HOOKS = 0.15
"""How much more a spec without a hook may take than the peer's mounts, measured by its hooks."""


def start(runs: int) -> Iterator[Line]:
    """Containers that run /bin/true."""
    yield from _starts(HOST, DEVICE, ONE_GPU, runs)
    yield from _starts(HOST_OF_8, ALL, EIGHT_GPUS, runs, engines=False)


def _starts(
    name: str, device: str, limit: float, runs: int, *, engines: bool = True
) -> Iterator[Line]:
    host = hosts.cached(name)
    made = specs.of(host)
    gpus = "1 GPU" if device == DEVICE else "8 GPUs"
    with tempfile.TemporaryDirectory() as folder:
        layer(Path(folder, "layer.tar"))
        binds: dict[str, str | os.PathLike[str]] = {
            "/bench/hooks": CHECKOUT / "hooks",
            "/bench/race.py": RACE,
            "/bench/image.tar": images.animals()[IMAGE],
            "/bench/layer.tar": Path(folder, "layer.tar"),
        }
        theirs = peer.hook_program()
        if theirs:
            binds[peer.HOOK_PATH] = theirs
        with Lab(SUITE).enter(under=[host.root], dev_from=host.root, binds=binds) as inside:
            _install_hook(inside)
            for runtime in ("crun", "runc"):
                laps = _race(inside, _bundles(inside, runtime, made, device), runs)
                yield from _lines(f"{runtime} run", laps, gpus, limit)
            if not engines:
                return
            inside.run(["podman", "load", "-q", "-i", "/bench/image.tar"])
            for runtime in ("crun", "runc"):
                laps = _race(inside, _podman(inside, runtime, made), runs)
                # The runtime is not podman's child to the end: its CPU time is not in there.
                clock = {
                    name: [lap._replace(cpu=0.0) for lap in each] for name, each in laps.items()
                }
                yield from _lines(f"podman run, {runtime}", clock, gpus, limit)


def _lines(what: str, laps: Mapping[str, Sequence[Lap]], gpus: str, limit: float) -> Iterator[Line]:
    base, against = laps["none"], laps.get("peer", ())
    yield Line("start", f"{what}: no device", base)
    for name, case in (("hookless", "no hook"), ("hooked", "with the hook")):
        bars: tuple[Bar, ...] = ()
        if against:
            hooks = (against, laps["peer-unhooked"])
            if name == "hookless":
                more = (laps[name], laps["peer-unhooked"])
                bars = (
                    wall_bar("ratio of added time", laps[name], against, HOOKLESS, base),
                    cost_bar("over mounts, by the peer's hooks", more, hooks, INSTEAD_OF_HOOKS),
                )
            else:
                own = (laps[name], laps["unhooked"])
                bars = (cost_bar("the hook, by the peer's hooks", own, hooks, limit),)
        yield Line("start", f"{what}: {gpus}, {case}", laps[name], against, base, bars)


def _contestants(made: Specs) -> dict[str, Document]:
    found = {"hookless": made.hookless, "hooked": made.hooked, "unhooked": made.unhooked}
    if made.peer and made.peer_unhooked:
        found |= {"peer": made.peer, "peer-unhooked": made.peer_unhooked}
    return found


def _install_hook(inside: Inside) -> None:
    folder = os.path.dirname(OUR_HOOK_PATH)
    script = f"""mkdir -p {folder}; cp -r /bench/hooks/cdi-gen-hook /bench/hooks/cdi_base /bench/hooks/cdi_hook {folder}
        find {folder} -name __pycache__ -exec rm -rf {{}} +; python3 -I -S -m compileall -q {folder}"""
    inside.run(["sh", "-ec", script])


def _race(inside: Inside, runners: Mapping[str, Sequence[Step]], runs: int) -> dict[str, list[Lap]]:
    command = ["/usr/bin/python3", "-I", "-S", "/bench/race.py"]
    return read_laps(inside.run(command, stdin=plan(runners, runs), timeout=600).stdout)


def _bundles(inside: Inside, runtime: str, made: Specs, device: str) -> dict[str, list[Step]]:
    """A bundle for each spec, run by the runtime alone."""
    shown = inside.run(
        ["sh", "-ec", f"cd /tmp; rm -f config.json; {runtime} spec; cat config.json"]
    )
    config = json.loads(shown.stdout)
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    config["root"]["readonly"] = False
    configs = {"none": config} | {
        name: specs.apply(config, spec, device) for name, spec in _contestants(made).items()
    }
    runners = {}
    for name, each in configs.items():
        bundle = f"/tmp/{runtime}-{name}"
        inside.write(f"{bundle}/config.json", json.dumps(each))
        root = f"{bundle}/rootfs"
        runners[name] = [
            untimed(f"rm -rf {root}; mkdir {root}; tar -xf /bench/layer.tar -C {root}"),
            {
                "argv": [
                    f"/usr/bin/{runtime}",
                    "run",
                    "-b",
                    bundle,
                    f"bench-{name}",
                ],
                "env": {**ENVIRONMENT, "XDG_RUNTIME_DIR": "/run"},
            },
        ]
    return runners


def _podman(inside: Inside, runtime: str, made: Specs) -> dict[str, list[Step]]:
    """Podman with one spec in place at a time, since it reads all that it finds."""
    run = ["/usr/bin/podman", "--runtime", runtime, "run", "--rm"]
    command = [f"localhost/{IMAGE}", "/bin/true"]
    environment = {**ENVIRONMENT, "HOME": "/root", "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
    emptied = "rm -f /etc/cdi/*"
    runners = {"none": [untimed(emptied), {"argv": [*run, *command], "env": environment}]}
    for name, spec in _contestants(made).items():
        inside.write(f"/etc/bench/{name}.json", json.dumps(spec))
        argv = [*run, "--device", f"{spec['kind']}={DEVICE}", *command]
        runners[name] = [
            untimed(f"{emptied}; cp /etc/bench/{name}.json /etc/cdi/nvidia.json"),
            {"argv": argv, "env": environment},
        ]
    return runners
