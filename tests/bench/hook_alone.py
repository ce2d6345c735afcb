# SPDX-License-Identifier: Apache-2.0
"""Row ``hook``: the hooks of the specs by themselves, run as runc runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cdi_gen.programs import collect
from tests.bench import bundled, nvidia_ctk, specs
from tests.bench.contest import ENVIRONMENT, Line, Step, race, wall_bar
from tests.bench.installed import CHECKOUT
from tests.bench.root_file_system import IMAGE, LARGE, layer, untimed
from tests.bench.specs import ALL, DEVICE, HOST, HOST_OF_8, Document
from tests.fakehost import hosts
from tests.fakehost.driver_packages import cache_directory

LDCACHE = "update-ldcache"
PYTHON = "/usr/bin/python3"

ONE_GPU, EIGHT_GPUS = 0.5, 0.3
"""How long all steps may take, as a share of nvidia-cdi-hook's processes for as many GPUs."""

OWN_TIME = 16 / 6
"""Without the cache: 16 ms on a machine where an interpreter that does nothing takes 6 ms."""
LINK = "/usr/lib/x86_64-linux-gnu/libcuda.so.1"


def hook(runs: int) -> Iterator[Line]:
    """The hook programs, on the root file system of an image with the driver's files in it."""
    for host, device, limit, image in (
        (HOST, DEVICE, ONE_GPU, IMAGE),
        (HOST_OF_8, ALL, EIGHT_GPUS, IMAGE),
        (HOST, DEVICE, ONE_GPU, LARGE),
    ):
        yield from _hooks(hosts.cached(host), device, limit, image, runs)


def _hooks(
    host: hosts.FakeHost, device: str, limit: float, image: str, runs: int
) -> Iterator[Line]:
    gpus = "large image" if image == LARGE else "1 GPU" if device == DEVICE else "8 GPUs"
    host_specs = specs.of(host)
    (cache_directory() / "bench").mkdir(parents=True, exist_ok=True)
    # In the cache's file system, so that the driver's files can be hard links.
    with tempfile.TemporaryDirectory(dir=cache_directory() / "bench") as folder:
        bundle = _Bundle(Path(folder), host, host_specs.hooked, image)
        ours = str(_compiled_hook(Path(folder, "hook")))
        runners = {
            "bare": [{"argv": [PYTHON, "-I", "-S", "-c", "pass"], "env": ENVIRONMENT}],
            "ours": bundle.hooks(host_specs.hooked, device, ours),
            "ours, links": bundle.hooks(host_specs.links_only, device, ours, without=LDCACHE),
            "ours, ldconfig": bundle.hooks(host_specs.ldconfig, device, ours),
            "ours, bundle": bundle.hooks(host_specs.hooked, device, _bundled_hook(Path(folder))),
        }
        nvidia_hook = nvidia_ctk.hook_program()
        if host_specs.nvidia and nvidia_hook:
            runners["nvidia"] = bundle.hooks(host_specs.nvidia, device, nvidia_hook)
            runners["nvidia, links"] = bundle.hooks(
                host_specs.nvidia, device, nvidia_hook, without=LDCACHE
            )
        laps = race(runners, runs, within=["unshare", "--mount"])
    yield Line("hook", f"python3 -I -S -c pass ({gpus})", laps["bare"])
    for case, suffix in (("all steps", ""), ("without the ldcache step", ", links")):
        timed = [step for step in runners.get(f"nvidia{suffix}", ()) if not step.get("untimed")]
        ours_laps, nvidia_laps = laps[f"ours{suffix}"], laps.get(f"nvidia{suffix}", ())
        bars = [wall_bar("wall ratio", ours_laps, nvidia_laps, limit)] if nvidia_laps else []
        if suffix:
            bars = [
                wall_bar("wall, by that of a bare interpreter", ours_laps, laps["bare"], OWN_TIME)
            ]
        yield Line(
            "hook",
            f"hook, {gpus}: {case}",
            ours_laps,
            nvidia_laps,
            bars=tuple(bars),
            note=f"one process against {len(timed)}" if timed else "",
        )
    yield Line("hook", f"hook, {gpus}: all steps, the host's ldconfig", laps["ours, ldconfig"])
    yield Line("hook", f"hook, {gpus}: all steps, the bundle's interpreter", laps["ours, bundle"])


class _Bundle:
    """An OCI bundle whose root file system is new for every run."""

    def __init__(self, folder: Path, host: hosts.FakeHost, spec: Document, image: str) -> None:
        self._pristine, self._root = folder / "pristine", folder / "bundle/rootfs"
        self._root.parent.mkdir()
        (self._root.parent / "config.json").write_text('{"root": {"path": "rootfs"}}', "ascii")
        self._pristine.mkdir()
        layer(folder / "layer.tar", image)
        subprocess.run(["tar", "-xf", folder / "layer.tar", "-C", self._pristine], check=True)
        for mount in spec["containerEdits"]["mounts"]:
            source = Path(f"{host.root}{mount['hostPath']}")
            target = self._pristine / mount["containerPath"].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)

    def hooks(
        self, spec: Document, device: str, program: str, *, without: str | None = None
    ) -> list[Step]:
        """All hooks of a spec; each starts in the root file system and reads the state from stdin."""
        root = self._root
        state = {"ociVersion": "1.0.2", "id": "bench", "status": "creating", "pid": 0}
        stdin = json.dumps({**state, "bundle": str(root.parent)})
        # A mount point, as a container's root is.
        fresh = f"""! mountpoint -q {root} || umount -R {root}
            rm -rf {root}; cp -al {self._pristine} {root}; mount --bind {root} {root}"""
        # The check fails if the hook did nothing, which would be fast.
        check = f"test -L {root}{LINK}"
        if without != LDCACHE:
            check += f"; grep -q libcuda.so.1 {root}/etc/ld.so.cache"
        return [
            untimed(fresh),
            *(
                {
                    "argv": [program, *hook["args"][1:]],
                    "env": dict(item.split("=", 1) for item in hook.get("env", [])),
                    "stdin": stdin,
                    "cwd": str(root),
                }
                for hook in specs.hooks(spec, device)
                if without not in hook["args"]
            ),
            untimed(check),
        ]


def _bundled_hook(folder: Path) -> str:
    """Our hook with its own interpreter, as hosts without Python have it."""
    directory = folder / "hosts-without-python"
    directory.mkdir()
    bundled.lay_out(directory)
    return f"{directory}/bin/cdi-gen-hook"


def _compiled_hook(folder: Path) -> Path:
    """Our hook as it is installed: compiled, because the hook itself writes no bytecode."""
    shutil.copytree(CHECKOUT / "hooks", folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for program in (["-m", "compileall", "-q"], [collect.__file__]):
        subprocess.run([PYTHON, "-I", "-S", *program, str(folder)], check=True)
    return folder / "cdi-gen-hook"
