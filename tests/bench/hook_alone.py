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
from tests.bench.contest import Line, Step, race
from tests.bench.installed import CHECKOUT
from tests.bench.root_file_system import layer, untimed
from tests.bench.specs import DEVICE, HOST, Document
from tests.fakehost import hosts
from tests.fakehost.driver_packages import cache_directory

LDCACHE = "update-ldcache"
LINK = "/usr/lib/x86_64-linux-gnu/libcuda.so.1"


def hook(runs: int) -> Iterator[Line]:
    """The hook programs, on the root file system of a Debian image with the driver in it."""
    host = hosts.cached(HOST)
    made = specs.of(host)
    (cache_directory() / "bench").mkdir(parents=True, exist_ok=True)
    # In the cache, where the driver's files can be had as hard links.
    with tempfile.TemporaryDirectory(dir=cache_directory() / "bench") as folder:
        bundle = _Bundle(Path(folder), host, made.hooked)
        ours = str(_compiled_hook(Path(folder, "hook")))
        runners = {
            "ours": bundle.hooks(made.hooked, ours),
            "ours, links": bundle.hooks(made.links_only, ours, without=LDCACHE),
        }
        theirs = peer.hook_program()
        if made.peer and theirs:
            runners["peer"] = bundle.hooks(made.peer, theirs)
            runners["peer, links"] = bundle.hooks(made.peer, theirs, without=LDCACHE)
        laps = race(runners, runs, within=["unshare", "--mount"])
    for case, suffix in (("hook: all steps", ""), ("hook: without the ldcache step", ", links")):
        timed = [step for step in runners.get(f"peer{suffix}", ()) if not step.get("untimed")]
        yield Line(
            "hook",
            case,
            laps[f"ours{suffix}"],
            laps.get(f"peer{suffix}", ()),
            note=f"one process against {len(timed)}" if timed else "",
        )


class _Bundle:
    """An OCI bundle whose root file system is new for every run."""

    def __init__(self, place: Path, host: hosts.FakeHost, spec: Document) -> None:
        self._pristine, self._root = place / "pristine", place / "bundle/rootfs"
        self._root.parent.mkdir()
        (self._root.parent / "config.json").write_text('{"root": {"path": "rootfs"}}', "ascii")
        self._pristine.mkdir()
        layer(place / "layer.tar")
        subprocess.run(["tar", "-xf", place / "layer.tar", "-C", self._pristine], check=True)
        for mount in spec["containerEdits"]["mounts"]:
            source = Path(f"{host.root}{mount['hostPath']}")
            target = self._pristine / mount["containerPath"].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)

    def hooks(self, spec: Document, program: str, *, without: str | None = None) -> list[Step]:
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
                for each in specs.hooks(spec, DEVICE)
                if without not in each["args"]
            ),
            untimed(done),
        ]


def _compiled_hook(place: Path) -> Path:
    """Our hook as it is installed: byte-compiled, since it never writes itself."""
    shutil.copytree(CHECKOUT / "hooks", place, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-m", "compileall", "-q", str(place)], check=True
    )
    return place / "cdi-gen-hook"
