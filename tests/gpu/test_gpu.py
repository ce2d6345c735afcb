# SPDX-License-Identifier: Apache-2.0
"""A real GPU in a real container.

Needs root, an NVIDIA GPU, Podman, a C compiler and a glibc image. From the environment:
``CDI_GEN_TEST_IMAGE`` (an image that is there already), ``CDI_GEN_TEST_PODMAN`` (how to call
Podman, options before its command included), ``CDI_GEN_TEST_RUN`` (options of ``podman run``),
``CDI_GEN_TEST_SQUARE`` and ``CDI_GEN_TEST_EGL_DEVICES`` (the two C programs, built elsewhere) and
``CDI_GEN_TEST_EGL`` (options that bring libEGL.so.1 into the image).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
IMAGE = os.environ.get("CDI_GEN_TEST_IMAGE", "docker.io/library/debian")
PODMAN = shlex.split(os.environ.get("CDI_GEN_TEST_PODMAN", "podman"))
RUN = shlex.split(os.environ.get("CDI_GEN_TEST_RUN", "--network none"))
SPEC = Path("/etc/cdi/cdi-gen-test.json")
KIND = "cdi-gen-test.example/gpu"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not Path("/proc/driver/nvidia/version").exists(), reason="no NVIDIA GPU on this machine"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it writes to /etc/cdi"),
    pytest.mark.skipif(shutil.which(PODMAN[0]) is None, reason="no Podman on this machine"),
]


def cdi_gen(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cdi_gen", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def container(*command: str, options: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*PODMAN, "run", "--rm", *RUN, *options, IMAGE, *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("square", tmp_path_factory)


def built(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A C program; one that was built elsewhere, against an older glibc, where there is one."""
    ready = os.environ.get(f"CDI_GEN_TEST_{name.upper()}")
    if ready:
        return Path(ready)
    program = tmp_path_factory.mktemp("built") / name
    subprocess.run(["cc", "-O1", "-o", program, HERE / f"{name}.c", "-ldl"], check=True)
    return program


@pytest.fixture(params=["auto", "none"])
def spec(request: pytest.FixtureRequest) -> Iterator[str]:
    SPEC.parent.mkdir(exist_ok=True)
    cdi_gen(
        "generate", "--hooks", request.param, "--vendor", "cdi-gen-test.example", "-o", str(SPEC)
    )
    yield request.param
    SPEC.unlink()


def test_nvidia_smi_lists_what_it_lists_on_the_host(spec: str) -> None:
    host = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    assert "GPU 0: " in host.stdout
    assert container("nvidia-smi", "-L", options=("--device", f"{KIND}=all")) == host.stdout


def test_a_cuda_kernel_runs(spec: str, square: Path) -> None:
    said = container("/square", options=("--device", f"{KIND}=0", "-v", f"{square}:/square:ro"))
    assert said.count("kernel ran, 31 * 31 = 961") == 1


def test_a_container_sees_the_gpus_it_asked_for_and_no_other(spec: str) -> None:
    names = cdi_gen("list", "-o", "name").split()
    uuids = [name.partition("=")[2] for name in names if "=GPU-" in name]
    for uuid in uuids:
        said = container("nvidia-smi", "-L", options=("--device", f"{KIND}={uuid}"))
        assert [each for each in uuids if each in said] == [uuid]


def test_without_a_device_there_is_no_gpu(spec: str) -> None:
    said = container("nvidia-smi", "-L", options=("--device", f"{KIND}=none"))
    assert said.strip() == "No devices found."


def test_the_inventory_gives_the_same_spec(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.json"
    cdi_gen("inventory", "-o", str(inventory))
    assert cdi_gen("generate", "--inventory", str(inventory)) == cdi_gen("generate")


def minors() -> list[int]:
    """The minors of the host's GPUs, by index."""
    gpus = json.loads(cdi_gen("inventory"))["gpus"]
    return [gpu["minor"] for gpu in sorted(gpus, key=lambda gpu: gpu["index"])]


PARAMS = "/proc/driver/nvidia/params"


def test_the_driver_is_told_to_make_no_nodes(spec: str) -> None:
    """A33. The image's root can neither change that nor take it away."""
    host = Path(PARAMS).read_text()
    if "ModifyDeviceFiles: 1\n" not in host:
        pytest.skip("this host's driver makes no nodes anyway")
    options = ("--device", f"{KIND}=0", "--cap-drop", "sys_admin")
    said = container("cat", PARAMS, options=options)
    expected = host.replace("ModifyDeviceFiles: 1\n", "ModifyDeviceFiles: 0\n")
    assert said == (expected if spec == "auto" else host)
    if spec == "auto":
        tries = f"echo x > {PARAMS}; umount {PARAMS}; mount -o remount,rw {PARAMS}; cat {PARAMS}"
        assert container("sh", "-c", f"({tries}) 2>/dev/null", options=options) == said
    assert Path(PARAMS).read_text() == host
    assert "nvct-params" not in Path("/proc/self/mountinfo").read_text()


def test_the_profile_names_the_containers_gpus(spec: str) -> None:
    if spec == "none":
        pytest.skip("a spec without a hook writes none")
    for index, minor in enumerate(minors()):
        path = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"
        said = container("cat", path, options=("--device", f"{KIND}={index}"))
        # The driver's own dialect of JSON: a number may be hexadecimal.
        assert f'"settings":["EGLVisibleDGPUDevices",0x{1 << minor:x}]' in said


def test_egl_finds_the_containers_gpu_and_no_other(
    spec: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    egl = shlex.split(os.environ.get("CDI_GEN_TEST_EGL", ""))
    program = built("egl_devices", tmp_path_factory)
    options = (*egl, "-v", f"{program}:/egl_devices:ro", "--device")
    if "libEGL.so.1" in container(
        "sh", "-c", "/egl_devices 2>&1 || :", options=(*options, f"{KIND}=0")
    ):
        pytest.skip("the image has no libEGL.so.1")
    said = container("/egl_devices", options=(*options, f"{KIND}=0"))
    if spec == "auto":
        assert said.splitlines()[0] == "1 EGL devices"
        assert ": EGL 1." in said.splitlines()[1]


NOTE = re.compile(
    rb'{"format":1,"CUDA version":"[0-9.]+","driver":\[([0-9,]+)\],"device":\[([0-9,]+)\]}'
)
"""In every libcuda since R575, the host's own included."""


class TestForwardCompatibility:
    """The host's own libcuda as the compat library of an image, with what NVIDIA says of it."""

    @pytest.fixture
    def used(self, spec: str, square: Path, tmp_path: Path) -> Callable[..., str]:
        """Run a CUDA program with such a library in the image; return the libcuda it loaded."""
        (libcuda,) = [
            each["path"]
            for each in json.loads(cdi_gen("inventory"))["libraries"]
            if each["soname"] == "libcuda.so.1" and each["bits"] == 64
        ]
        content = Path(libcuda).read_bytes()
        found = NOTE.search(content)
        if found is None:
            pytest.skip("the host's libcuda has no note: it is older than R575")
        major = Path(libcuda).name.split(".")[2]

        def run(*, driver: str | None = None, brand: str | None = None) -> str:
            """Replace the host's driver or the GPU's brand in the note by another."""
            note = found[0].decode()
            if driver:
                assert major in found[1].decode().split(",")
                note = note.replace(major, driver)
            if brand:
                assert "14" in found[2].decode().split(",")
                note = note.replace("14]", f"{brand}]")
            compat = tmp_path / "compat"
            compat.mkdir()
            name = f"libcuda.so.{major}.999.1"
            (compat / name).write_bytes(content.replace(found[0], note.encode()))
            (compat / "libcuda.so.1").symlink_to(name)
            mounts = (f"{square}:/square:ro", f"{compat}:/usr/local/cuda/compat:ro")
            options = ("--device", f"{KIND}=0", "-v", mounts[0], "-v", mounts[1])
            said = container("sh", "-c", "LD_DEBUG=libs /square 2>&1", options=options)
            assert "kernel ran, 31 * 31 = 961" in said
            loaded = re.search(r"calling init: (\S+libcuda\.so\S*)", said)
            assert loaded
            return loaded[1]

        return run

    def test_a_newer_compat_libcuda_for_this_driver_and_gpu_is_used(
        self, used: Callable[..., str], spec: str
    ) -> None:
        assert used().startswith("/usr/local/cuda/compat/") is (spec == "auto")

    def test_a_compat_libcuda_for_other_drivers_is_not_used(self, used: Callable[..., str]) -> None:
        assert "compat" not in used(driver="999")

    def test_a_compat_libcuda_for_other_brands_is_not_used(self, used: Callable[..., str]) -> None:
        """On a GeForce it would fail with error 804. NVIDIA's hook compares only the drivers."""
        assert "compat" not in used(brand="15")
