# SPDX-License-Identifier: Apache-2.0
"""Row ``tree``: what a GPU adds to a container start on a large image, by form of the spec."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cdi_gen.inventory import json_form
from tests.bench import nvidia_ctk, specs
from tests.bench.containers import PROGRAMS, SUITE, configuration, install_hook, race, run_step
from tests.bench.contest import Line, Step, wall_bar
from tests.bench.root_file_system import LARGE, layer, untimed
from tests.bench.specs import ALL, DEVICE, HOST, HOST_OF_8, Document
from tests.fakehost import hosts
from tests.lab import driver_tree
from tests.lab.engines import Inside, Lab

BARS = {
    "tree, no hook": 0.05,
    "tree, with the hook": 0.45,
    "files, with the hook": 0.6,
    "files, no hook": None,
}
"""What a spec of this form may add at most, as a share of what nvidia-ctk's spec adds."""


LIBRARIES = 387
"""How many libraries of the zoo's large image stay, each with the link of its SONAME: an image with
PyTorch has 774 names in its library directory."""

_IMAGE = f"""mkdir /tmp/image; cd /tmp/image; tar -xf /bench/layer.tar
    for file in usr/lib/x86_64-linux-gnu/libzoo*; do
        number=${{file##*libzoo}}; number=${{number%%.*}}; number=${{number##0}}; number=${{number##0}}
        [ "${{number##0}}" -lt {LIBRARIES} ] 2>/dev/null || rm "$file"
    done
    ldconfig -r . 2>/dev/null
    find . -type d -exec touch -d 2026-01-01 {{}} +"""
"""A script that makes the image as a package manager does: ldconfig runs after the last library was
installed."""


def forms(runs: int) -> Iterator[Line]:
    """Containers that run /bin/true."""
    for name, device in ((HOST, DEVICE), (HOST_OF_8, ALL)):
        yield from _forms(name, device, runs)


def _forms(name: str, device: str, runs: int) -> Iterator[Line]:
    host = hosts.cached(name)
    host_specs = specs.of(host)
    documents = {
        "tree, no hook": host_specs.tree_hookless,
        "tree, with the hook": host_specs.tree,
        "files, with the hook": host_specs.hooked,
        "files, no hook": host_specs.hookless,
    }
    if host_specs.nvidia:
        documents["nvidia"] = host_specs.nvidia
    gpus = "1 GPU" if device == DEVICE else "8 GPUs"
    with tempfile.TemporaryDirectory() as folder:
        layer(Path(folder, "layer.tar"), LARGE)
        binds: dict[str, str | os.PathLike[str]] = {
            **PROGRAMS,
            "/bench/layer.tar": Path(folder, "layer.tar"),
            **driver_tree.BINDS,
        }
        nvidia_hook = nvidia_ctk.hook_program()
        if nvidia_hook:
            binds[nvidia_ctk.HOOK_PATH] = nvidia_hook
        with Lab(SUITE).enter(under=[host.root], dev_from=host.root, binds=binds) as inside:
            install_hook(inside)
            driver_tree.make(inside, json_form.dump(specs.inventory(host)), "none")
            inside.run(["sh", "-ec", _IMAGE])
            for runtime in ("crun", "runc"):
                laps = race(inside, _bundles(inside, runtime, documents, device), runs)
                yield Line("tree", f"{runtime} run: no device ({gpus})", laps["none"])
                for form, limit in BARS.items():
                    against = laps.get("nvidia", ())
                    bars = (
                        (wall_bar("of the added time", laps[form], against, limit, laps["none"]),)
                        if limit and against
                        else ()
                    )
                    case = f"{runtime} run: {gpus}, {form}"
                    yield Line("tree", case, laps[form], against, laps["none"], bars)


def _bundles(
    inside: Inside, runtime: str, documents: dict[str, Document], device: str
) -> dict[str, list[Step]]:
    """A bundle for each spec, on an overlay of the image, as engines have it."""
    config = configuration(inside, runtime)
    configs = {"none": config} | {
        form: specs.apply(config, spec, device) for form, spec in documents.items()
    }
    runners = {}
    for number, (form, spec_config) in enumerate(configs.items()):
        bundle = f"/tmp/{runtime}-{number}"
        inside.write(f"{bundle}/config.json", json.dumps(spec_config))
        runners[form] = [untimed(_overlay(bundle)), run_step(runtime, bundle, str(number))]
        if form.endswith("with the hook"):
            # The check fails if the hook did nothing, which would be fast.
            cache = f"{bundle}/rootfs/etc/ld.so.cache"
            runners[form].append(untimed(f"grep -q libcuda.so.1 {cache}; grep -q zoo0386 {cache}"))
    return runners


def _overlay(bundle: str) -> str:
    """A script that mounts a new overlay of the image as the root of a bundle."""
    options = f"lowerdir=/tmp/image,upperdir={bundle}/upper,workdir={bundle}/work"
    return f"""cd {bundle}; ! mountpoint -q rootfs || umount -R rootfs
        rm -rf rootfs upper work; mkdir rootfs upper work
        mount -t overlay -o {options} overlay rootfs"""
