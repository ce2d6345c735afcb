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

from tests.bench import peer, specs
from tests.bench.contest import ENVIRONMENT, Line, Step, race, wall_bar
from tests.bench.installed import CHECKOUT
from tests.bench.root_file_system import IMAGE, LARGE, layer, untimed
from tests.bench.specs import ALL, DEVICE, HOST, HOST_OF_8, Document
from tests.fakehost import hosts
from tests.fakehost.driver_packages import cache_directory

LDCACHE = "update-ldcache"
PYTHON = "/usr/bin/python3"

ONE_GPU, EIGHT_GPUS = 0.5, 0.3
"""How long all steps may take, by nvidia-cdi-hook's processes for as many GPUs."""

OWN_TIME = 16 / 6
"""16 ms without the cache, where an interpreter that does nothing takes 6."""
LINK = "/usr/lib/x86_64-linux-gnu/libcuda.so.1"


def hook(runs: int) -> Iterator[Line]:
    """The hook programs, on the root file system of an image with the driver in it."""
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
    made = specs.of(host)
    (cache_directory() / "bench").mkdir(parents=True, exist_ok=True)
    # In the cache, where the driver's files can be had as hard links.
    with tempfile.TemporaryDirectory(dir=cache_directory() / "bench") as folder:
        bundle = _Bundle(Path(folder), host, made.hooked, image)
        ours = str(_compiled_hook(Path(folder, "hook")))
        runners = {
            "bare": [{"argv": [PYTHON, "-I", "-S", "-c", "pass"], "env": ENVIRONMENT}],
            "ours": bundle.hooks(made.hooked, device, ours),
            "ours, links": bundle.hooks(made.links_only, device, ours, without=LDCACHE),
            "ours, ldconfig": bundle.hooks(made.ldconfig, device, ours),
        }
        theirs = peer.hook_program()
        if made.peer and theirs:
            runners["peer"] = bundle.hooks(made.peer, device, theirs)
            runners["peer, links"] = bundle.hooks(made.peer, device, theirs, without=LDCACHE)
        laps = race(runners, runs, within=["unshare", "--mount"])
    yield Line("hook", f"python3 -I -S -c pass ({gpus})", laps["bare"])
    for case, suffix in (("all steps", ""), ("without the ldcache step", ", links")):
        timed = [step for step in runners.get(f"peer{suffix}", ()) if not step.get("untimed")]
        ours_laps, peer_laps = laps[f"ours{suffix}"], laps.get(f"peer{suffix}", ())
        bars = [wall_bar("wall ratio", ours_laps, peer_laps, limit)] if peer_laps else []
        if suffix:
            bars = [
                wall_bar("wall, by that of a bare interpreter", ours_laps, laps["bare"], OWN_TIME)
            ]
        yield Line(
            "hook",
            f"hook, {gpus}: {case}",
            ours_laps,
            peer_laps,
            bars=tuple(bars),
            note=f"one process against {len(timed)}" if timed else "",
        )
    yield Line("hook", f"hook, {gpus}: all steps, the host's ldconfig", laps["ours, ldconfig"])


class _Bundle:
    """An OCI bundle whose root file system is new for every run."""

    def __init__(self, place: Path, host: hosts.FakeHost, spec: Document, image: str) -> None:
        self._pristine, self._root = place / "pristine", place / "bundle/rootfs"
        self._root.parent.mkdir()
        (self._root.parent / "config.json").write_text('{"root": {"path": "rootfs"}}', "ascii")
        self._pristine.mkdir()
        layer(place / "layer.tar", image)
        subprocess.run(["tar", "-xf", place / "layer.tar", "-C", self._pristine], check=True)
        for mount in spec["containerEdits"]["mounts"]:
            source = Path(f"{host.root}{mount['hostPath']}")
            target = self._pristine / mount["containerPath"].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)

    def hooks(
        self, spec: Document, device: str, program: str, *, without: str | None = None
    ) -> list[Step]:
        """All hooks of a spec: in the root file system, the state on standard input."""
        root = self._root
        state = {"ociVersion": "1.0.2", "id": "bench", "status": "creating", "pid": 0}
        stdin = json.dumps({**state, "bundle": str(root.parent)})
        # A mount point, as a container's root is.
        fresh = f"""! mountpoint -q {root} || umount -R {root}
            rm -rf {root}; cp -al {self._pristine} {root}; mount --bind {root} {root}"""
        # A hook that leaves its work undone would be fast.
        done = f"test -L {root}{LINK}"
        if without != LDCACHE:
            done += f"; grep -q libcuda.so.1 {root}/etc/ld.so.cache"
        return [
            untimed(fresh),
            *(
                {
                    "argv": [program, *each["args"][1:]],
                    "env": dict(item.split("=", 1) for item in each.get("env", [])),
                    "stdin": stdin,
                    "cwd": str(root),
                }
                for each in specs.hooks(spec, device)
                if without not in each["args"]
            ),
            untimed(done),
        ]


def _compiled_hook(place: Path) -> Path:
    """Our hook as it is installed: byte-compiled, since it never writes itself."""
    shutil.copytree(CHECKOUT / "hooks", place, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    subprocess.run([PYTHON, "-I", "-S", "-m", "compileall", "-q", str(place)], check=True)
    return place / "cdi-gen-hook"
