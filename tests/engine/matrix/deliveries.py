# SPDX-License-Identifier: Apache-2.0
"""The ways in which one spec reaches a container, each a function that starts one.

What comes back is what the engine printed: the container's answers, or why there is no container.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Callable
from typing import Any

from tests.engine.matrix.container import WORDS
from tests.engine.matrix.place import Place

Ended = subprocess.CompletedProcess[str]
Delivery = Callable[[Place, str, int], Ended]
"""Of a place, an OCI runtime and a user."""

GPU = "nvidia.com/gpu=0"
REQUEST = "NVIDIA_VISIBLE_DEVICES=0"
SHIM = "/usr/bin/nvidia-container-runtime"
FIRST_ID = 200_000
"""The first of the host's user ids that a container's users are mapped to."""
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


NESTED = """
runtime=$1 image=$2; shift 2
mkdir -p /mnt; mount -t tmpfs -o mode=755 dev /mnt
mkdir /mnt/dri /mnt/pts /mnt/shm /mnt/mqueue
for node in null zero full random urandom tty fuse nvidiactl nvidia-uvm nvidia-uvm-tools \
    nvidia-modeset nvidia0 dri/card1 dri/renderD128; do
    : > /mnt/$node
    mount --bind /dev/$node /mnt/$node
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts /mnt/pts
ln -s /proc/self/fd /mnt/fd
ln -s pts/ptmx /mnt/ptmx
mount --no-mtab --move /mnt /dev
for folder in /run /tmp /var/lib/containers; do mount -t tmpfs tmpfs $folder; done
export HOME=/tmp
podman load --quiet --input /image.tar >/dev/null
exec podman --runtime "$runtime" run --rm --cgroups=disabled --device nvidia.com/gpu=0 "$image" "$@"
"""
"""As root of a user namespace, with the nodes of GPU 0 mounted and no udev: an engine in a container."""


def podman(*options: str, shim: bool = False, command: str = "podman") -> Delivery:
    """``podman run`` with these options."""

    def run(place: Place, runtime: str, user: int) -> Ended:
        place.podman(user)
        program = SHIM if shim else runtime
        words = (command, "--runtime", program, "run", "--rm", *options, f"localhost/{place.image}")
        return place.run(*words, *WORDS, user=user)

    return run


def podman_hooks_d(place: Place, runtime: str, user: int) -> Ended:
    """``podman run`` where the prestart hook is in hooks.d."""
    place.configure("podman", "--oci-hook")
    try:
        return podman("--env", REQUEST)(place, runtime, user)
    finally:
        place.must("cdi-gen", "engine", "unconfigure", "podman")


def podman_nested(place: Place, runtime: str, user: int) -> Ended:
    """``podman run`` in a container that was given GPU 0 alone."""
    script = place.write("/run/nested.sh", NESTED)
    for name in ("subuid", "subgid"):  # util-linux before 2.39 has newuidmap do it, for root too
        place.write(f"/etc/{name}", f"user:100000:65536\nroot:{FIRST_ID}:65536\n")
    ids = f"{FIRST_ID},0,65536"
    others = ("--user", "--map-users", ids, "--map-groups", ids, "--setuid", "0", "--setgid", "0")
    outer = ("unshare", *others, "--mount", "--pid", "--fork", "--mount-proc")
    return place.run(*outer, "sh", "-e", script, runtime, f"localhost/{place.image}", *WORDS)


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
        words = ("docker", "run", "--rm", "--network", "none", *options, f"localhost/{place.image}")
        return place.run(*words, *WORDS, user=user)

    return run


def docker_compose(**device: object) -> Delivery:
    """A service of Compose that reserves a device."""

    def run(place: Place, runtime: str, user: int) -> Ended:
        place.docker(user)
        reserved = {"resources": {"reservations": {"devices": [device]}}}
        service = {"image": f"localhost/{place.image}", "network_mode": "none", "command": WORDS}
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
        words = ("ctr", "run", "--rm", *shares, *other, *options, f"localhost/{place.image}:latest")
        return place.run(*words, next(_names), *WORDS)

    return run


def cri(*, handler: str = "", annotated: bool = False, **container: Any) -> Delivery:
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
            "image": {"image": f"localhost/{place.image}:latest"},
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
        environment = place.environment() + ([] if injected else [REQUEST])
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
    dockerfile = f"FROM localhost/{place.image}\n{run}{json.dumps(WORDS)}\n"
    return place.write("/run/context/Dockerfile", dockerfile).rpartition("/")[0]
