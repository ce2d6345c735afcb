# SPDX-License-Identifier: Apache-2.0
"""Containers of real engines get the driver from its tree, with and without a hook."""

from __future__ import annotations

import posixpath

import pytest

from tests.engine.conftest import TWO_ENGINES, Engine, MachineOf
from tests.engine.expected import loadable
from tests.engine.machine import Machine
from tests.engine.test_specs_libraries import GPU, NEEDED, check_nvidia_smi, in_usr
from tests.lab import debian, driver_tree
from tests.lab.podman import Podman
from tests.lab.probe import probe

pytestmark = [pytest.mark.engine, pytest.mark.host]

TREE = "/usr/local/nvidia/lib64"
LOADER_DIRECTORIES = {
    *("/usr/lib/glibc-hwcaps/x86-64-v2", "/usr/lib64/glibc-hwcaps/x86-64-v2"),
    *("/usr/lib/x86_64", "/usr/lib64/x86_64"),
}
IN_IMAGES = {"/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"}
"""Without a hook, libcuda and a few others are also there, as files."""

MODES = pytest.mark.parametrize("mode", ["auto", "none"])
OWN_LIBCUDA = (
    *("cuda-base", "cuda-runtime", "cuda-devel", "cuda-compat", "cuda-rockylinux"),
    *("committed", "pytorch", "service", "large-bullseye", "large-rhel"),
)


def serve_tree(machine: Machine, mode: str) -> str:
    machine.make_tree(mode)
    spec = machine.generate("--form=tree", f"--hooks={mode}")
    machine.serve(nvidia=spec)
    return spec


def check_libraries(machine: Machine, podman: Podman, image: str, mode: str) -> None:
    """Every library that can be loaded in the image is, by its SONAME, from the tree."""
    serve_tree(machine, mode)
    names = loadable(machine.inventory)
    assert set(NEEDED) <= set(names)
    answers = podman.ask(image, ("dlopen", *names), options=GPU)
    folders = {TREE} if mode == "auto" else {TREE, *LOADER_DIRECTORIES, *IN_IMAGES}
    for name in names:
        result, place = answers["dlopen", name]
        assert result == "ok", f"{name}: {place}"
        assert posixpath.basename(place) == name
        assert in_usr(image, posixpath.dirname(place)) in folders


@MODES
def test_libraries_by_soname(machine: Machine, podman: Podman, mode: str) -> None:
    check_libraries(machine, podman, "debian", mode)


@TWO_ENGINES
@MODES
@pytest.mark.parametrize("image", ["rhel", "distroless"])
def test_libraries_by_soname_in_other_layouts(
    machine: Machine, podman: Podman, image: str, mode: str
) -> None:
    check_libraries(machine, podman, image, mode)


@TWO_ENGINES
@pytest.mark.parametrize(
    ("image", "mode"), [("debian", "none"), ("rhel", "none"), ("distroless", "auto")]
)
def test_nvidia_smi(machine: Machine, podman: Podman, image: str, mode: str) -> None:
    serve_tree(machine, mode)
    check_nvidia_smi(machine, podman, image)


@TWO_ENGINES
@MODES
def test_musl_loads_libcuda(machine: Machine, podman: Podman, mode: str) -> None:
    serve_tree(machine, mode)
    answers = podman.ask("alpine", ("dlopen", "libcuda.so.1"), options=GPU)
    assert answers["dlopen", "libcuda.so.1"][0] == "ok"


@TWO_ENGINES
@MODES
def test_files_at_their_paths(machine: Machine, podman: Podman, mode: str) -> None:
    """ICD, EGL and OpenCL files, and the firmware, whose path has the version."""
    serve_tree(machine, mode)
    egl = "usr/share/glvnd/egl_vendor.d/10_nvidia.json"
    of_host = {
        "/etc/OpenCL/vendors/nvidia.icd": "etc/OpenCL/vendors/nvidia.icd",
        "/etc/vulkan/icd.d/nvidia_icd.json": "usr/share/vulkan/icd.d/nvidia_icd.json",
        f"/{egl}": egl,
    }
    firmware = f"/lib/firmware/nvidia/{machine.fake.driver_version}/gsp_ga10x.bin"
    answers = podman.ask(
        "debian", ("read", *of_host), ("stat", firmware), options=[*GPU, "--user", "1000:1000"]
    )
    for path, source in of_host.items():
        assert answers["read", path] == ((machine.fake.root / source).read_text("ascii"),)
    assert answers["stat", firmware][0] == "f"


@TWO_ENGINES
@MODES
def test_no_file_can_be_written(machine: Machine, podman: Podman, mode: str) -> None:
    """The engine makes the top mount read-only; the mount of each library is so by itself."""
    serve_tree(machine, mode)
    version = machine.fake.driver_version
    paths = (
        *(f"{TREE}/libcuda.so.{version}", f"{TREE}/libcuda.so.1", "/usr/bin/nvidia-smi"),
        "/usr/local/nvidia/driver.json",
    )
    new = (f"{TREE}/new", "/usr/local/nvidia/new", "/usr/local/nvidia/bin/new")
    answers = podman.ask("debian", ("open", *paths), ("create", *new), options=GPU)
    expected = {("EACCES",), ("EROFS",)} if podman.user else {("EROFS",)}
    assert set(answers.values()) <= expected


@TWO_ENGINES
@MODES
def test_a_read_only_container(machine: Machine, podman: Podman, mode: str) -> None:
    serve_tree(machine, mode)
    questions = ("dlopen", "libcuda.so.1", "libnvidia-ml.so.1"), ("create", "/new")
    answers = podman.ask("rhel", *questions, options=[*GPU, "--read-only"])
    assert answers["create", "/new"] == ("EROFS",)
    assert answers["dlopen", "libcuda.so.1"][0] == "ok"
    assert answers["dlopen", "libnvidia-ml.so.1"][0] == "ok"


@MODES
@pytest.mark.parametrize("image", OWN_LIBCUDA)
def test_the_driver_goes_before_what_images_bring(
    machine_of: MachineOf, image: str, mode: str
) -> None:
    """Compat libraries and stubs that an image lists, and what a former driver left in it."""
    machine = machine_of("trixie", "550-lib64")
    podman = machine.podman("crun", 0)
    serve_tree(machine, mode)
    machine.load(podman, image)
    names = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1")
    found = podman.ask(image, ("who", *names, "libnvidia-nvvm.so.4"), options=GPU)
    for name in names:
        # The libraries of the images say who they are; the driver's do not.
        assert (found["who", name][0], *found["who", name][3:]) == ("ok", ""), found
    assert found["who", "libnvidia-nvvm.so.4"][3:] == ("",), found


@pytest.mark.parametrize("directory", ["/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib"])
@MODES
def test_modules_that_are_opened_by_their_path(
    machine_of: MachineOf, directory: str, mode: str
) -> None:
    machine = machine_of("trixie", "550-lib64")
    podman = machine.podman("crun", 0)
    serve_tree(machine, mode)
    machine.load(podman, "graphics")
    gbm, vdpau = f"{directory}/gbm/nvidia-drm_gbm.so", f"{directory}/vdpau/libvdpau_nvidia.so.1"
    found = podman.ask(
        "graphics",
        ("dlopen", gbm, vdpau, "libvdpau_nvidia.so", "libGLX_indirect.so.0"),
        options=GPU,
    )
    if mode == "auto" or directory != "/usr/lib":  # images of Arch have a link /usr/lib64
        assert found["dlopen", gbm] == ("ok", gbm)
    if mode == "auto":
        assert found["dlopen", vdpau] == ("ok", vdpau)
    # The name that libvdpau asks the loader for, if its own directory does not have the module.
    assert mode == "auto" or found["dlopen", "libvdpau_nvidia.so"][0] == "ok"
    assert found["dlopen", "libGLX_indirect.so.0"][0] == "ok"


OTHER_HOSTS = ("550-debian", "550-operator", "550-usr-local", "470-tesla", "550-nixos")
OTHER_ENGINES = {
    "auto": Engine("trixie", "crun", debian.USER),
    "none": Engine("bookworm", "runc", 0),
}


@MODES
@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_other_hosts(machine_of: MachineOf, host: str, mode: str) -> None:
    engine = OTHER_ENGINES[mode]
    machine = machine_of(engine.suite, host)
    podman = machine.podman(engine.runtime, engine.user)
    check_libraries(machine, podman, "rhel", mode)


def test_what_a_spec_without_a_hook_cannot_do(machine_of: MachineOf) -> None:
    """docs/driver-tree.md lists it."""
    machine = machine_of("trixie", "550-8gpu")
    podman = machine.podman("crun", 0)
    serve_tree(machine, "none")
    found = podman.ask(
        "debian",
        ("listed", "libcuda.so.1"),
        ("stat", f"/usr/lib/libcuda.so.{machine.fake.driver_version}"),
        options=GPU,
    )
    assert found["listed", "libcuda.so.1"] == ("none",)
    assert found["stat", f"/usr/lib/libcuda.so.{machine.fake.driver_version}"] == ("ENOENT",)
    # An image that lists its own libcuda for the loader, and has no /usr/local/nvidia/lib64 in
    # LD_LIBRARY_PATH.
    machine.load(podman, "cuda-rockylinux")
    options = (*GPU, "--env", "LD_LIBRARY_PATH=")
    found = podman.ask("cuda-rockylinux", ("who", "libcuda.so.1"), options=options)
    assert found["who", "libcuda.so.1"][3] != ""
    serve_tree(machine, "auto")
    found = podman.ask("cuda-rockylinux", ("who", "libcuda.so.1"), options=options)
    assert found["who", "libcuda.so.1"][3] == ""


ENTERED = "nsenter --mount=/proc/{}/ns/mnt podman --runtime crun run --rm {} localhost/debian {}"


@pytest.mark.parametrize("propagation", ["slave", "private"])
def test_an_engine_in_a_mount_namespace_of_its_own(machine_of: MachineOf, propagation: str) -> None:
    """It gets trees that are made later by propagation; without propagation it starts nothing."""
    machine = machine_of("trixie", "550-8gpu")
    machine.podman("crun", 0)
    service = ("unshare", "--mount", "--propagation", propagation, "sleep", "600")
    running = machine.inside.start(service, log="/var/log/service")
    # Until it is a program of its own, it is in the namespace of the lab.
    started = f"until [ $(readlink /proc/{running.pid}/exe) = /usr/bin/sleep ]; do sleep 0.01; done"
    machine.inside.run(["sh", "-c", started])
    try:
        driver_tree.remove(machine.inside)
        serve_tree(machine, "none")
        command = ENTERED.format(
            running.pid, " ".join(GPU), " ".join(probe(("who", "libcuda.so.1")))
        )
        ended = machine.inside.run(["sh", "-c", command], check=False)
    finally:
        running.signal(9)
    if propagation == "slave":
        assert ended.stdout.startswith("who\tlibcuda.so.1\tok\t"), ended
    else:
        assert ended.returncode != 0
        assert "/run/cdi-gen/driver/current/" in ended.stderr


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_containers_start_while_the_tree_is_replaced(machine_of: MachineOf, runtime: str) -> None:
    """The former tree stays for a while: a runtime opens it before it mounts it."""
    machine = machine_of("trixie", "550-8gpu")
    podman = machine.podman(runtime, 0)
    serve_tree(machine, "none")
    log = f"/var/log/trees-{runtime}"
    replacing = machine.alternate_trees(log)
    try:
        starts = 0
        while len(machine.inside.run(["cat", log]).stdout.splitlines()) < 4 or starts < 5:
            answers = podman.ask("debian", ("who", "libcuda.so.1"), options=GPU)
            assert answers["who", "libcuda.so.1"][0] == "ok"
            starts += 1
    finally:
        replacing.signal(9)
