# SPDX-License-Identifier: Apache-2.0
"""Bundles for races of starts: each start has a new directory and a new overlay as its root."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.contest import ENVIRONMENT, Step
from tests.gpu.programs.container import cdi_gen
from tests.gpu.several.containers import Container, Runtime
from tests.gpu.several.section import Host


class Bundle(NamedTuple):
    """A container that is started again and again."""

    name: str
    path: Path
    """Replaced before each start."""
    program: str
    """runc or crun."""
    state: Path
    """The runtime's directory of states."""
    prepare: Step
    """Makes the bundle and its root; not timed."""

    def command(self, command: str) -> list[str]:
        """Return the arguments of the runtime for ``run`` or ``create``."""
        return ["--root", str(self.state), command, "--bundle", str(self.path), self.name]


def configuration(host: Host, runtime: Runtime, name: str, container: Container) -> dict[str, Any]:
    """Return the config.json of ``/bin/true`` with the container's devices."""
    document = runtime.configuration(name, container, host.folder)
    document["process"]["args"] = ["/bin/true"]
    if not container.devices:
        return document
    path = host.folder / f"{name}.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    words = ["--spec-dir", str(container.specs), "--output", str(path), str(path)]
    for device in container.devices:
        words += ["--device", f"nvidia.com/gpu={device}"]
    cdi_gen("inject", *words)
    edited: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return edited


def of(host: Host, runtime: Runtime, name: str, document: dict[str, Any]) -> Bundle:
    """Return the bundle of a config.json."""
    template = host.folder / f"{name}.json"
    template.write_text(json.dumps(document), encoding="utf-8")
    path = host.folder / name
    script = f"{new_root(runtime, path)} && cp {template} {shlex.quote(str(path))}/config.json"
    return Bundle(
        name=name,
        path=path,
        program=shutil.which(runtime.command[0]) or runtime.command[0],
        state=host.folder / "state",
        prepare={"argv": ["/bin/sh", "-c", script], "env": ENVIRONMENT, "untimed": True},
    )


def new_root(runtime: Runtime, path: Path) -> str:
    """Return a script that makes the directory and an overlay, `rootfs`, in it; both are new."""
    at, layers = shlex.quote(str(path)), ":".join(map(str, runtime.root.layers))
    mount_points = ("inside", "gpu", *runtime.volumes)
    directories = " ".join(f"{at}/rootfs/{point.lstrip('/')}" for point in mount_points)
    return (
        f"if [ -e {at} ]; then umount -l {at}/rootfs; rm -rf {at}; fi; "
        f"mkdir -p {at}/rootfs {at}/upper {at}/work && "
        f"mount -t overlay overlay -o lowerdir={layers},upperdir={at}/upper,workdir={at}/work "
        f"{at}/rootfs && mkdir -p {directories}"
    )
