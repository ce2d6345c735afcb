# SPDX-License-Identifier: Apache-2.0
"""Each image's own loader finds the driver's libraries, and nvidia-smi itself runs."""

from __future__ import annotations

import json
import posixpath

import pytest

from tests.engine.conftest import TWO_ENGINES, Engine, MachineOf
from tests.engine.expected import library_folders, loadable, sonames
from tests.engine.machine import NVIDIA_SMI, Machine
from tests.lab import debian
from tests.lab.podman import Podman

pytestmark = [pytest.mark.engine, pytest.mark.host]

GPU = ("--device", "nvidia.com/gpu=0")
NEEDED = (
    *("libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.1", "libnvcuvid.so.1"),
    *("libnvidia-encode.so.1", "libnvidia-opticalflow.so.1", "libnvidia-opencl.so.1"),
)
MERGED_USR = ("debian", "rhel")

MODES = pytest.mark.parametrize("mode", ["auto", "none"])
GLIBC_IMAGES = pytest.mark.parametrize("image", ["debian", "rhel", "distroless"])


def check_libraries(machine: Machine, podman: Podman, image: str, mode: str) -> None:
    """Every library that can be loaded in the image is, by its SONAME, and is the host's."""
    machine.serve(nvidia=machine.generate(f"--hooks={mode}"))
    names = loadable(machine.inventory)
    assert set(NEEDED) <= set(names)
    questions = ("dlopen", *names), ("env", "NVIDIA_CTK_LIBCUDA_DIR")
    answers = podman.ask(image, *questions, options=GPU)
    folders = library_folders(machine.inventory, hooked=mode == "auto")
    for name in names:
        result, place = answers["dlopen", name]
        assert result == "ok", f"{name}: {place}"
        assert posixpath.basename(place) == name
        assert in_usr(image, posixpath.dirname(place)) in folders
    # What names libcuda's directory to programs tells the truth: test_specs_images.py.
    assert answers["env", "NVIDIA_CTK_LIBCUDA_DIR"][1] in folders


def in_usr(image: str, folder: str) -> str:
    """The folder by the name that it has in a spec, where the image has /lib merged into /usr."""
    return f"/usr{folder}" if image in MERGED_USR and folder.startswith("/lib") else folder


def check_nvidia_smi(machine: Machine, podman: Podman, image: str) -> None:
    """NVIDIA's own program is in the PATH, finds NVML, and sees the GPU of the container alone."""
    run = ("run", "--rm", *GPU)
    command = (f"localhost/{image}", "nvidia-smi")
    gpu = machine.gpu(0)
    listed = podman(*run, *NVIDIA_SMI, *command, "-L").stdout
    assert listed == f"GPU 0: {gpu.model.name} (UUID: {gpu.uuid})\n"
    refused = podman(*run, *command, check=False)
    assert refused.returncode == 9, refused  # no driver; 12 would be: no NVML
    assert "couldn't communicate with the NVIDIA driver" in refused.stdout


@MODES
@GLIBC_IMAGES
def test_libraries_by_soname(machine: Machine, podman: Podman, image: str, mode: str) -> None:
    check_libraries(machine, podman, image, mode)


@pytest.mark.parametrize(
    ("image", "mode"), [("debian", "auto"), ("rhel", "none"), ("distroless", "auto")]
)
def test_nvidia_smi(machine: Machine, podman: Podman, image: str, mode: str) -> None:
    machine.serve(nvidia=machine.generate(f"--hooks={mode}"))
    check_nvidia_smi(machine, podman, image)


def test_nvidia_smi_sees_every_gpu_of_all(machine: Machine, podman: Podman) -> None:
    machine.serve(nvidia=machine.generate())
    run = ("run", "--rm", "--device", "nvidia.com/gpu=all", *NVIDIA_SMI)
    listed = podman(*run, "localhost/distroless", "nvidia-smi", "-L").stdout
    assert [line.split("UUID: ")[1] for line in listed.splitlines()] == [
        f"{gpu.uuid})" for gpu in machine.fake.kernel.gpus
    ]


@MODES
def test_musl_finds_the_libraries_too(machine: Machine, podman: Podman, mode: str) -> None:
    """Whether it can use one is glibc's matter: libcuda it loads, others ask for glibc's loader."""
    machine.serve(nvidia=machine.generate(f"--hooks={mode}"))
    answers = podman.ask("alpine", ("dlopen", *NEEDED), options=GPU)
    folders = library_folders(machine.inventory, hooked=mode == "auto")
    for name in NEEDED:
        result, said = answers["dlopen", name]
        # A failure names the library in which it was met: this one, or one that this one needs.
        met_in = said if result == "ok" else said.partition("(needed by ")[2].rstrip(")")
        assert posixpath.dirname(met_in) in folders, said
    assert answers["dlopen", "libcuda.so.1"][0] == "ok"


@pytest.mark.parametrize("image", ["debian", "rhel"])
def test_the_image_s_ldconfig_lists_the_libraries(
    machine: Machine, podman: Podman, image: str
) -> None:
    """Programs that ask ``ldconfig -p`` where libcuda is (Triton, Numba) get an answer."""
    machine.serve(nvidia=machine.generate())
    printed = podman("run", "--rm", *GPU, f"localhost/{image}", "ldconfig", "-p").stdout
    listed = {line.split()[0] for line in printed.splitlines() if "=>" in line}
    assert set(sonames(machine.inventory)) <= listed
    assert {"libcuda.so", "libc.so.6"} <= listed


@TWO_ENGINES
@MODES
@pytest.mark.parametrize("image", ["debian", "alpine"])
def test_configuration_files(machine: Machine, podman: Podman, image: str, mode: str) -> None:
    """The ICD, EGL and OpenCL files are the host's, where loaders of every distribution look."""
    machine.serve(nvidia=machine.generate(f"--hooks={mode}"))
    egl = "usr/share/glvnd/egl_vendor.d/10_nvidia.json"
    of_host = {
        "/etc/OpenCL/vendors/nvidia.icd": "etc/OpenCL/vendors/nvidia.icd",
        "/etc/vulkan/icd.d/nvidia_icd.json": "usr/share/vulkan/icd.d/nvidia_icd.json",
        f"/{egl}": egl,
    }
    answers = podman.ask(image, ("read", *of_host), options=[*GPU, "--user", "1000:1000"])
    for path, source in of_host.items():
        assert answers["read", path] == ((machine.fake.root / source).read_text("ascii"),)


@TWO_ENGINES
@MODES
def test_no_file_can_be_written(machine: Machine, podman: Podman, mode: str) -> None:
    """Not by root either, whose writing would reach the host's own file."""
    machine.serve(nvidia=machine.generate(f"--hooks={mode}"))
    mounts = json.loads(machine.generate(f"--hooks={mode}"))["containerEdits"]["mounts"]
    paths = [mount["containerPath"] for mount in mounts]
    answers = podman.ask("debian", ("open", *paths), options=GPU)
    # The host's root is nobody in a rootless container, which its modes keep out before.
    assert set(answers.values()) == {("EACCES",) if podman.user else ("EROFS",)}


@pytest.mark.parametrize(
    ("image", "mode"),
    [("debian", "auto"), ("rhel", "auto"), ("alpine", "auto"), ("distroless", "none")],
)
def test_a_read_only_container(machine: Machine, podman: Podman, image: str, mode: str) -> None:
    """The runtime makes the root read-only after the hook has run."""
    machine.serve(nvidia=machine.generate(f"--hooks={mode}"))
    questions = ("dlopen", "libcuda.so.1", "libnvidia-ml.so.1"), ("create", "/new")
    answers = podman.ask(image, *questions, options=[*GPU, "--read-only"])
    assert answers["create", "/new"] == ("EROFS",)
    assert answers["dlopen", "libcuda.so.1"][0] == "ok"
    assert answers["dlopen", "libnvidia-ml.so.1"][0] == "ok"


def test_an_image_of_its_own_has_none_of_it(machine: Machine, podman: Podman) -> None:
    """What the other tests find comes from the spec."""
    for image in ("debian", "rhel", "alpine", "distroless"):
        answers = podman.ask(image, ("dlopen", *NEEDED), ("stat", "/usr/bin/nvidia-smi"))
        assert {answer[0] for answer in answers.values()} == {"fail", "ENOENT"}


OTHER_HOSTS = {
    "550-debian": "alternatives, and the driver in a folder of its own",
    "550-lib64": "Fedora's and RHEL's folders",
    "550-operator": "a driver root below /run",
    "550-usr-local": "everything below /usr/local/nvidia",
    "470-tesla": "the oldest branch that is still in use",
}
OTHER_ENGINES = {
    "auto": Engine("trixie", "crun", debian.USER),
    "none": Engine("bookworm", "runc", 0),
}


@MODES
@GLIBC_IMAGES
@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_other_hosts(machine_of: MachineOf, host: str, image: str, mode: str) -> None:
    engine = OTHER_ENGINES[mode]
    machine = machine_of(engine.suite, host)
    podman = machine.podman(engine.runtime, engine.user)
    check_libraries(machine, podman, image, mode)
    check_nvidia_smi(machine, podman, image)
