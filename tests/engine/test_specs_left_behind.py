# SPDX-License-Identifier: Apache-2.0
"""What an ended container has of us, to the last file; and what the host has: nothing."""

from __future__ import annotations

import functools
import json
import posixpath

import pytest

from tests.engine.conftest import TWO_ENGINES, MachineOf
from tests.engine.machine import Machine
from tests.lab.podman import Podman

pytestmark = [pytest.mark.engine, pytest.mark.host]

GPU = ("--device", "nvidia.com/gpu=0")
NOTHING = ("/probe", "stat", "/")
IMAGES = pytest.mark.parametrize("image", ["debian", "rhel", "alpine", "distroless"])
MERGED_USR = ("debian", "rhel")

LIBRARIES = "/usr/lib/x86_64-linux-gnu"
CONF, CACHE = "/etc/ld.so.conf", "/etc/ld.so.cache"
DROP_IN = "/etc/ld.so.conf.d/00-cdi-gen.conf"
MUSL_PATH = "/etc/ld-musl-x86_64.path"

LOADER_FILES: dict[str, dict[str, str | None]] = {
    "debian": {CACHE: None, DROP_IN: f"{LIBRARIES}/vdpau\n"},
    "rhel": {CACHE: None, DROP_IN: f"{LIBRARIES}\n{LIBRARIES}/vdpau\n"},
    "distroless": {
        CACHE: None,
        CONF: "include /etc/ld.so.conf.d/*.conf\n",
        DROP_IN: f"{LIBRARIES}/vdpau\n",
    },
    "alpine": {MUSL_PATH: f"/lib\n/usr/local/lib\n/usr/lib\n{LIBRARIES}\n{LIBRARIES}/vdpau\n"},
}
"""What the hook writes for each image's loader: the folders that it does not search by itself."""

LINKS = """
libEGL_nvidia.so.0          libEGL_nvidia.so.VERSION
libGLESv1_CM_nvidia.so.1    libGLESv1_CM_nvidia.so.VERSION
libGLESv2_nvidia.so.2       libGLESv2_nvidia.so.VERSION
libGLX_indirect.so.0        libGLX_nvidia.so.VERSION
libGLX_nvidia.so.0          libGLX_nvidia.so.VERSION
libcuda.so                  libcuda.so.1
libcuda.so.1                libcuda.so.VERSION
libcudadebugger.so.1        libcudadebugger.so.VERSION
libnvcuvid.so               libnvcuvid.so.1
libnvcuvid.so.1             libnvcuvid.so.VERSION
libnvidia-allocator.so.1    libnvidia-allocator.so.VERSION
libnvidia-cfg.so            libnvidia-cfg.so.1
libnvidia-cfg.so.1          libnvidia-cfg.so.VERSION
libnvidia-egl-gbm.so.1      libnvidia-egl-gbm.so.1.1.2
libnvidia-egl-wayland.so.1  libnvidia-egl-wayland.so.1.1.18
libnvidia-encode.so         libnvidia-encode.so.1
libnvidia-encode.so.1       libnvidia-encode.so.VERSION
libnvidia-fbc.so            libnvidia-fbc.so.1
libnvidia-fbc.so.1          libnvidia-fbc.so.VERSION
libnvidia-ml.so             libnvidia-ml.so.1
libnvidia-ml.so.1           libnvidia-ml.so.VERSION
libnvidia-ngx.so            libnvidia-ngx.so.1
libnvidia-ngx.so.1          libnvidia-ngx.so.VERSION
libnvidia-nvvm.so.4         libnvidia-nvvm.so.VERSION
libnvidia-opencl.so.1       libnvidia-opencl.so.VERSION
libnvidia-opticalflow.so    libnvidia-opticalflow.so.1
libnvidia-opticalflow.so.1  libnvidia-opticalflow.so.VERSION
libnvidia-ptxjitcompiler.so libnvidia-ptxjitcompiler.so.1
libnvidia-ptxjitcompiler.so.1 libnvidia-ptxjitcompiler.so.VERSION
libnvoptix.so.1             libnvoptix.so.VERSION
gbm/nvidia-drm_gbm.so       ../libnvidia-allocator.so.1
vdpau/libvdpau_nvidia.so.1  libvdpau_nvidia.so.VERSION
"""
"""The links that the hook makes in the folder of the libraries, and what they say."""

FOR_LINKERS = [
    "libcuda",
    "libnvcuvid",
    "libnvidia-cfg",
    "libnvidia-encode",
    "libnvidia-fbc",
    "libnvidia-ml",
    "libnvidia-opticalflow",
    "libnvidia-ptxjitcompiler",
]
"""What has its names in the directories of every image too, where linkers look."""

OF_OTHER_LAYOUTS = {
    "/usr/lib64/xorg/modules/drivers/nvidia_drv.so": "/usr/lib/xorg/modules/drivers/nvidia_drv.so",
    "/usr/lib64/xorg/modules/extensions/libglxserver_nvidia.so": (
        "/usr/lib/xorg/modules/extensions/libglxserver_nvidia.so"
    ),
    **{
        f"/{home}/{module}": f"{LIBRARIES}/{library}"
        for home in ("usr/lib", "usr/lib64")
        for module, library in (
            ("gbm/nvidia-drm_gbm.so", "libnvidia-allocator.so.VERSION"),
            ("vdpau/libvdpau_nvidia.so.1", "vdpau/libvdpau_nvidia.so.VERSION"),
            ("libGLX_indirect.so.0", "libGLX_nvidia.so.VERSION"),
        )
    },
}
"""Modules and names that are no SONAME, for images of Red Hat's and Arch's layout."""

PROFILE = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"
"""What the hook writes in every image, for EGL and Vulkan."""

Left = dict[str, tuple[str, str]]
"""By path: its type, and a link's text; folders are not in it."""


def mount_points(machine: Machine, image: str, *options: str) -> Left:
    """The empty files that a runtime makes for a spec's mounts: none of our doing can avoid them."""
    spec = json.loads(machine.generate(*options))
    paths = [mount["containerPath"] for mount in spec["containerEdits"]["mounts"]]
    if image in MERGED_USR:
        paths = [f"/usr{path}" if path.startswith("/lib") else path for path in paths]
    return dict.fromkeys(paths, ("f", ""))


def links(machine: Machine) -> Left:
    lines = LINKS.split("\n")[1:-1]
    found = {f"{LIBRARIES}/{line.split()[0]}": line.split()[1] for line in lines}
    for name in FOR_LINKERS:
        for home in ("/usr/lib", "/usr/lib64"):
            found[f"{home}/{name}.so.1"] = f"{LIBRARIES}/{name}.so.VERSION"
            found[f"{home}/{name}.so"] = f"{name}.so.1"
    version = machine.fake.driver_version
    return {
        path: ("l", text.replace("VERSION", version))
        for path, text in (found | OF_OTHER_LAYOUTS).items()
    }


@functools.cache
def usual_files(podman: Podman, image: str) -> frozenset[str]:
    """What any container of the image leaves."""
    return frozenset(podman.left_behind(image, *NOTHING))


def check(podman: Podman, image: str, expected: Left) -> None:
    """The container's own layer has what is expected, also once it was started again."""
    usual = usual_files(podman, image)
    first, second = podman.left_by_starts(image, *NOTHING, options=GPU, starts=2)
    assert first == second
    ours = {path: found for path, found in first.items() if path not in usual}
    kinds = {path: (found[0], found[3]) for path, found in ours.items()}
    files = {path: kind for path, kind in kinds.items() if kind[0] != "d"}
    assert files == expected
    # Folders are there only for what is in them.
    folders = {path for path, (kind, _) in kinds.items() if kind == "d"}
    above: set[str] = set()
    for path in files:
        while (path := posixpath.dirname(path)) != "/":
            above.add(path)
    assert folders == above - usual
    for path, (kind, mode, size, _) in ours.items():
        if path in {*LOADER_FILES[image], PROFILE}:
            assert mode == "644"
        elif kind == "f":
            assert size == "0"


@IMAGES
def test_with_a_hook(machine: Machine, podman: Podman, image: str) -> None:
    machine.serve(nvidia=machine.generate())
    written: Left = dict.fromkeys((*LOADER_FILES[image], PROFILE), ("f", ""))
    check(podman, image, mount_points(machine, image) | links(machine) | written)


@TWO_ENGINES
@IMAGES
def test_without_a_hook(machine: Machine, podman: Podman, image: str) -> None:
    machine.serve(nvidia=machine.generate("--hooks=none"))
    check(podman, image, mount_points(machine, image, "--hooks=none"))


@IMAGES
def test_what_the_hook_tells_the_loader(machine_of: MachineOf, image: str) -> None:
    machine = machine_of("trixie", "550-8gpu")
    podman = machine.podman("crun", 0)
    machine.serve(nvidia=machine.generate())
    texts = {path: text for path, text in LOADER_FILES[image].items() if text}
    answers = podman.ask(image, ("read", *texts), options=GPU)
    assert {path: answers["read", path] for path in texts} == {
        path: (text,) for path, text in texts.items()
    }


@IMAGES
def test_what_the_hook_tells_egl(machine_of: MachineOf, image: str) -> None:
    """By the minors of the nodes that the container has, which are not the GPUs' indices."""
    machine = machine_of("trixie", "550-permuted")
    podman = machine.podman("crun", 0)
    machine.serve(nvidia=machine.generate())
    minor = machine.fake.host.gpus[2].minor
    assert minor != 2
    answers = podman.ask(image, ("read", PROFILE), options=("--device", "nvidia.com/gpu=2"))
    assert f'"EGLVisibleDGPUDevices",0x{1 << minor:x}]' in answers["read", PROFILE][0]


def test_the_host_is_left_as_it_was(machine: Machine, podman: Podman) -> None:
    """No file of the host is new, gone or touched: its name, owner, mode, size and time of change."""
    machine.serve(nvidia=machine.generate())
    podman.ask("debian", ("stat", "/"), options=GPU)  # the engine's own first-time work
    before = files_of_the_host(machine)
    for image in ("debian", "distroless"):
        podman.left_by_starts(image, *NOTHING, options=GPU, starts=2)
    assert len(before) > 5000
    assert before ^ files_of_the_host(machine) == set()


def files_of_the_host(machine: Machine) -> set[str]:
    """Every file with all that changes when it is changed."""
    listing = ["find", "/", "/dev", "-xdev", "-printf", r"%p %y %m %U %G %s %l %T@\n"]
    lines = machine.inside.run(listing).stdout.splitlines()
    # Podman touches these in every container, with a device or without.
    return {line for line in lines if line.split()[0] not in {"/dev/null", "/tmp", "/var/tmp"}}
