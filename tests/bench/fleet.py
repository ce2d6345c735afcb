# SPDX-License-Identifier: Apache-2.0
"""Row ``compat``: 1,000 hosts and 200 images, from the files to all five forms of the result."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from cdi_gen.compat.facts import ImageFacts
from tests.bench.contest import ENVIRONMENT, Bar, Line, Step, exact, race
from tests.bench.installed import environment
from tests.compat import fleets
from tests.unit.images.layered import Member, layer

HOSTS, IMAGES = 1000, 200
KINDS = {"60 kinds of host": 60, "each host different": HOSTS}

SECONDS, MIB = 10, 300
OUTPUTS = ("fleet.html", "fleet.json", "fleet.csv", "fleet.xml", "fleet.txt")


def compat(runs: int) -> Iterator[Line]:
    """The whole program; every image is an archive of two layers."""
    bin_ = environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = folder / "images.txt"
        images.write_text("".join(f"./{path}\n" for path in _write_images(folder)), "utf-8")
        for case, kinds in KINDS.items():
            hosts = folder / str(kinds)
            hosts.mkdir()
            fleets.write_inventories(hosts, HOSTS, kinds)
            words = [str(bin_ / "cdi-gen"), "compat", "--inventories", str(hosts)]
            words += ["--images", str(images)]
            words += [word for output in OUTPUTS for word in ("-o", str(folder / output))]
            # The fleet has images that do not run, for which the exit code is 1, as for a failure.
            last = str(folder / OUTPUTS[-1])
            script = 'rm -f "$0"; "$@"; [ $? = 1 ] && [ -s "$0" ]'
            step: Step = {"argv": ["/bin/sh", "-c", script, last, *words]}
            laps = race({case: [step | {"env": ENVIRONMENT}]}, min(runs, 5))[case]
            seconds = [lap.cpu / 1000 for lap in laps]
            bars = (
                # Of CPU: it is one thread, and other programs of the machine do not count.
                Bar("CPU seconds", median(seconds), SECONDS, min(seconds), max(seconds)),
                exact("peak MiB", max(lap.peak for lap in laps) / 1024, MIB),
            )
            size = sum((folder / output).stat().st_size for output in OUTPUTS) >> 20
            note = (
                f"{size} MiB are written, {(folder / OUTPUTS[0]).stat().st_size >> 20} of them HTML"
            )
            yield Line("compat", f"1,000 hosts, 200 images, {case}", laps, bars=bars, note=note)


def _write_images(folder: Path) -> Iterator[str]:
    """Write the images as archives of `docker save`; yield their names."""
    for index, image in enumerate(fleets.images(IMAGES)):
        name = f"image-{index}.tar"
        (folder / name).write_bytes(_archive(image, index))
        yield name


def _archive(image: ImageFacts, index: int) -> bytes:
    files: list[Member] = [
        (library.path.lstrip("/"), b"no ELF file", tarfile.REGTYPE) for library in image.compat
    ]
    layers = [layer([("etc/image", str(index).encode(), tarfile.REGTYPE)]), layer(files)]
    digests = [hashlib.sha256(content).hexdigest() for content in layers]
    variables = {"CUDA_VERSION": str(image.cuda), **dict(image.requirements)}
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": [f"{name}={value}" for name, value in variables.items()]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    names = [f"{digest}.tar" for digest in digests]
    manifest = [{"Config": "config.json", "RepoTags": [image.name], "Layers": names}]
    members: list[Member] = [
        *((name, content, tarfile.REGTYPE) for name, content in zip(names, layers, strict=True)),
        ("config.json", json.dumps(config).encode(), tarfile.REGTYPE),
        ("manifest.json", json.dumps(manifest).encode(), tarfile.REGTYPE),
    ]
    return layer(members)
