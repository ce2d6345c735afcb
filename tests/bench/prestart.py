# SPDX-License-Identifier: Apache-2.0
"""Row ``prestart``: ``docker run --gpus`` with our prestart hook, beside a CDI engine with nvidia-ctk's spec.

NVIDIA's own prestart hook needs a driver, and this machine has no GPU. So our prestart hook is compared
with an engine that applies the spec that nvidia-ctk writes, its hooks included.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdi_gen.programs import collect
from tests.bench import nvidia_ctk, specs
from tests.bench.contest import ENVIRONMENT, RACE, Bar, Line, Step, plan, read_laps, wall_bar
from tests.bench.installed import CHECKOUT
from tests.bench.root_file_system import layer, untimed
from tests.bench.specs import ALL, DEVICE, HOST, HOST_OF_8, OUR_HOOK_PATH
from tests.fakehost import hosts
from tests.lab.engines import Inside, Lab

SUITE = "trixie"
NO_SLOWER = 1.0
FOLDER = os.path.dirname(OUR_HOOK_PATH)
PROGRAM = f"{FOLDER}/cdi-gen-runtime-hook"


def prestart(runs: int) -> Iterator[Line]:
    """Containers that run /bin/true."""
    for name, device, gpus in ((HOST, DEVICE, "1 GPU"), (HOST_OF_8, ALL, "8 GPUs")):
        host = hosts.cached(name)
        host_specs = specs.of(host)
        with tempfile.TemporaryDirectory() as folder:
            layer(Path(folder, "layer.tar"))
            binds: dict[str, str | os.PathLike[str]] = {
                "/bench/hooks": CHECKOUT / "hooks",
                "/bench/collect.py": Path(collect.__file__),
                "/bench/race.py": RACE,
                "/bench/layer.tar": Path(folder, "layer.tar"),
            }
            nvidia_hook = nvidia_ctk.hook_program()
            if nvidia_hook:
                binds[nvidia_ctk.HOOK_PATH] = nvidia_hook
            with Lab(SUITE).enter(under=[host.root], dev_from=host.root, binds=binds) as inside:
                _install(inside, host_specs.hooked)
                for runtime in ("crun", "runc"):
                    yield _race(inside, runtime, host_specs, device, gpus, runs)


def _install(inside: Inside, spec: specs.Document) -> None:
    script = f"""mkdir -p {FOLDER} /etc/cdi
        cp -r /bench/hooks/cdi-gen-hook /bench/hooks/cdi_base /bench/hooks/cdi_hook {FOLDER}
        cp -r /bench/hooks/cdi-gen-runtime-hook /bench/hooks/cdi_runtime {FOLDER}
        find {FOLDER} -name __pycache__ -exec rm -rf {{}} +; python3 -I -S -m compileall -q {FOLDER}
        python3 -I -S /bench/collect.py {FOLDER}"""
    inside.run(["sh", "-ec", script])
    inside.write("/etc/cdi/nvidia.json", json.dumps(spec))


def _race(
    inside: Inside, runtime: str, host_specs: specs.Specs, device: str, gpus: str, runs: int
) -> Line:
    shown = inside.run(
        ["sh", "-ec", f"cd /tmp; rm -f config.json; {runtime} spec; cat config.json"]
    )
    config = json.loads(shown.stdout)
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    config["root"]["readonly"] = False
    configs = {"none": config, "ours": _with_the_hook(config, device)}
    if host_specs.nvidia:
        configs["nvidia"] = specs.apply(config, host_specs.nvidia, device)
    command = ["/usr/bin/python3", "-I", "-S", "/bench/race.py"]
    runners = {name: _steps(inside, runtime, name, spec) for name, spec in configs.items()}
    laps = read_laps(inside.run(command, stdin=plan(runners, runs), timeout=600).stdout)
    base, against = laps["none"], laps.get("nvidia", ())
    bars: tuple[Bar, ...] = ()
    if against:
        bars = (wall_bar("ratio of added time", laps["ours"], against, NO_SLOWER, base),)
    return Line("prestart", f"{runtime} run: {gpus}", laps["ours"], against, base, bars)


def _with_the_hook(config: dict[str, Any], device: str) -> dict[str, Any]:
    """The configuration that dockerd writes for ``--gpus``."""
    config = json.loads(json.dumps(config))
    config["process"]["env"].append(f"NVIDIA_VISIBLE_DEVICES={device}")
    environment = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    hook = {"path": PROGRAM, "args": ["nvidia-container-runtime-hook", "prestart"]}
    config["hooks"] = {"prestart": [{**hook, "env": environment}]}
    return config


def _steps(inside: Inside, runtime: str, name: str, config: dict[str, Any]) -> list[Step]:
    bundle = f"/tmp/prestart-{runtime}-{name}"
    inside.write(f"{bundle}/config.json", json.dumps(config))
    root = f"{bundle}/rootfs"
    run = [f"/usr/bin/{runtime}", "run", "-b", bundle, f"prestart-{name}"]
    # The check fails if the container has no GPU, which would be fast.
    check = "true" if name == "none" else f"ls {root}/usr/lib/*/libcuda.so.* >&2"
    return [
        untimed(f"rm -rf {root}; mkdir {root}; tar -xf /bench/layer.tar -C {root}"),
        {"argv": run, "env": {**ENVIRONMENT, "XDG_RUNTIME_DIR": "/run"}},
        untimed(check),
    ]
