# SPDX-License-Identifier: Apache-2.0
"""The ways in which one spec reaches a container, each a function that starts one.

What comes back is what the engine printed: the container's answers, or why there is no container.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable

from tests.engine.matrix.container import IMAGE, WORDS
from tests.engine.matrix.place import Place

Ended = subprocess.CompletedProcess[str]
Delivery = Callable[[Place, str, int], Ended]
"""Of a place, an OCI runtime and a user."""

GPU = "nvidia.com/gpu=0"
REQUEST = "NVIDIA_VISIBLE_DEVICES=0"
SHIM = "/usr/bin/nvidia-container-runtime"
_names = (f"c{number}" for number in itertools.count())

CRI_SCRIPT = """
crictl() {
    /usr/local/bin/crictl -r unix:///run/containerd/containerd.sock -t 30s "$@"
}
pod=$(crictl runp --runtime "$3" "$1") || exit
if id=$(crictl create "$pod" "$2" "$1") && crictl start "$id" >/dev/null; then
    for i in $(seq 100); do
        [ -z "$(crictl ps --all --id "$id" --state exited --quiet)" ] || break
        sleep 0.1
    done
    crictl logs "$id"
fi
crictl rmp --force "$pod" >/dev/null
"""
"""Of the files of a pod and its container, and a runtime's name: the container's life and output."""


def podman(*options: str, shim: bool = False, command: str = "podman") -> Delivery:
    """``podman run`` with these options."""

    def run(place: Place, runtime: str, user: int) -> Ended:
        place.podman(user)
        program = SHIM if shim else runtime
        words = (command, "--runtime", program, "run", "--rm", *options, f"localhost/{IMAGE}")
        return place.run(*words, *WORDS, user=user)

    return run


def podman_hooks_d(place: Place, runtime: str, user: int) -> Ended:
    """``podman run`` where the prestart hook is in hooks.d."""
    place.configure("podman", "--oci-hook")
    try:
        return podman("--env", REQUEST)(place, runtime, user)
    finally:
        place.must("cdi-gen", "engine", "unconfigure", "podman")


def built(*command: str) -> Delivery:
    """An image that is built by a container that has the GPU."""

    def run(place: Place, runtime: str, user: int) -> Ended:
        place.podman(user)
        return place.run(*command, "--runtime", runtime, _context(place), user=user)

    return run


def docker(*options: str) -> Delivery:
    """``docker run`` with these options."""

    def run(place: Place, runtime: str, user: int) -> Ended:
        place.docker(user)
        words = ("docker", "run", "--rm", "--network", "none", *options, f"localhost/{IMAGE}")
        return place.run(*words, *WORDS, user=user)

    return run


def docker_compose(**device: object) -> Delivery:
    """A service of Compose that reserves a device."""

    def run(place: Place, runtime: str, user: int) -> Ended:
        place.docker(user)
        reserved = {"resources": {"reservations": {"devices": [device]}}}
        service = {"image": f"localhost/{IMAGE}", "network_mode": "none", "command": WORDS}
        document = {"version": "3.8", "services": {"gpu": {**service, "deploy": reserved}}}
        path = place.write("/run/compose/compose.yaml", document)
        return place.run("docker-compose", "--file", path, "run", "--rm", "gpu", timeout=60)

    return run


def docker_build(*options: str, spec: tuple[str, ...] = ()) -> Delivery:
    """``RUN --device`` in a Dockerfile that BuildKit builds.

    Args:
        options: of the build.
        spec: options of `cdi-gen generate`, if it is to be another spec than the other cells'.
    """

    def run(place: Place, runtime: str, user: int) -> Ended:
        place.docker(user)
        if place.run("docker", "buildx", "version").returncode != 0:
            return place.run("docker", "build", *options, "--device", GPU, _context(place))
        context = _context(place, f"RUN --device={GPU} ")
        words = ("build", "--progress=plain", "--no-cache", "--allow", f"device={GPU}", *options)
        place.serve(*spec)
        try:
            return place.run("docker", "buildx", *words, context)
        finally:
            place.serve()

    return run


def ctr(*options: str) -> Delivery:
    """``ctr run``: containerd without anybody between."""

    def run(place: Place, runtime: str, user: int) -> Ended:
        place.containerd()
        # Without a cpu controller there is no share to set.
        shares = ("--cpu-shares", "0") if place.groups == "v2" else ()
        other = ("--runc-binary", runtime) if runtime != "runc" else ()
        words = ("ctr", "run", "--rm", *shares, *other, *options, f"localhost/{IMAGE}:latest")
        return place.run(*words, next(_names), *WORDS)

    return run


def cri(*, handler: str = "", annotated: bool = False, **container: object) -> Delivery:
    """A container of a pod, as Kubernetes' kubelet has it made, by crictl."""

    def run(place: Place, runtime: str, user: int) -> Ended:
        place.containerd()
        name = next(_names)
        node = {"namespace_options": {"network": 2}}
        pod = {
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "log_directory": f"/run/{name}",
            "linux": {"security_context": node},
        }
        document = {
            "metadata": {"name": name},
            "image": {"image": f"localhost/{IMAGE}:latest"},
            "command": WORDS,
            "log_path": "log",
            "linux": {"security_context": node},
            "annotations": {"cdi.k8s.io/test": GPU} if annotated else {},
            **container,
        }
        files = [place.write(f"/run/{name}.{n}", each) for n, each in enumerate((pod, document))]
        return place.run("sh", "-c", CRI_SCRIPT, "sh", *files, handler)

    return run


def alone(program: str, *options: str, injected: bool, spec: tuple[str, ...] = ()) -> Delivery:
    """A runtime and a bundle, whose configuration `cdi-gen inject` has edited, or the shim edits.

    Args:
        program: the runtime.
        options: its own.
        injected: whether `cdi-gen inject` edits.
        spec: options of `cdi-gen generate`, if it is to be another spec than the engines'.
    """

    def run(place: Place, runtime: str, user: int) -> Ended:
        bundle = place.bundle()
        config = json.loads(place.must("cat", f"{bundle}/config.json"))
        environment = config["process"]["env"] + ([] if injected else [REQUEST])
        config["process"] |= {"terminal": False, "args": WORDS, "env": environment}
        config["process"].pop("rlimits")
        config["root"]["readonly"] = False
        place.write(f"{bundle}/config.json", config)
        if injected:
            where = ("--spec-dir", place.another_spec(*spec)) if spec else ()
            place.must("cdi-gen", "inject", "--device", GPU, *where, "--in-place", bundle)
        return place.run(program, *options, "run", "--bundle", bundle, next(_names))

    return run


def apptainer(place: Place, runtime: str, user: int) -> Ended:
    """``apptainer exec --device`` of a folder."""
    return place.run("apptainer", "exec", "--device", GPU, place.files(), *WORDS, user=user)


def _context(place: Place, run: str = "RUN ") -> str:
    """A folder to build an image from, whose one step asks the questions."""
    dockerfile = f"FROM localhost/{IMAGE}\n{run}{json.dumps(WORDS)}\n"
    return place.write("/run/context/Dockerfile", dockerfile).rpartition("/")[0]
