# SPDX-License-Identifier: Apache-2.0
"""A host that has no Python: hook, shim and prestart hook of the bundle, with real engines."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine import machine as machines
from tests.engine.expected import library_folders, loadable, sonames
from tests.engine.machine import NVIDIA_SMI, Machine
from tests.fakehost.driver_packages import DriverRootUnavailableError
from tests.host import looking
from tests.lab.engines import Lab
from tests.lab.podman import Podman
from tools.bundle import contents
from tools.steps import BuildError

pytestmark = [pytest.mark.engine, pytest.mark.host]

DIRECTORY = "/usr/local/nvidia/toolkit"
GPU = ("--device", "nvidia.com/gpu=0")
REQUEST = ("--env", "NVIDIA_VISIBLE_DEVICES=nvidia.com/gpu=0")
RUNTIMES = pytest.mark.parametrize("runtime", ["crun", "runc"])


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def host(
    request: pytest.FixtureRequest,
    lab_of: Callable[[str], Lab],
    image_archives: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machine]:
    """A fake host with the bundle, and without Python."""
    folder = tmp_path_factory.mktemp("without-python")
    lab = lab_of(request.param)
    try:
        fake = machines.prepare("550-8gpu", folder / "550-8gpu")
        toolkit = Path(f"{fake.root}{DIRECTORY}")
        toolkit.mkdir(parents=True)
        contents.lay_out(toolkit, platform.machine(), looking.REPOSITORY)
    except (DriverRootUnavailableError, BuildError) as error:
        pytest.skip(f"no host without Python: {error}")
    with machines.enter(lab, fake, image_archives["all"]) as machine:
        patterns = "/usr/bin/*python* /usr/lib/python* /usr/libexec/cdi-gen /usr/lib/*/libpython*"
        machine.inside.run(["sh", "-c", f"rm -rf {patterns}"])
        assert machine.inside.run(["sh", "-c", "command -v python3"], check=False).returncode
        where = {"host_root": str(fake.root), "driver_root": looking.driver_root_of(fake)}
        where["nvidia_cdi_hook_path"] = f"{DIRECTORY}/bin/cdi-gen-hook"
        generated = looking.run("generate", check=True, **where)
        assert generated.stderr.endswith("one hook\n"), generated.stderr
        machine.serve(nvidia=generated.stdout)
        yield machine


def hook_paths(machine: Machine) -> set[str]:
    spec = json.loads(machine.inside.read("/etc/cdi/nvidia.json"))
    return {hook["path"] for hook in spec["containerEdits"]["hooks"]}


@RUNTIMES
@pytest.mark.parametrize("image", ["debian", "distroless"])
def test_libraries_are_found_by_their_sonames(host: Machine, runtime: str, image: str) -> None:
    assert hook_paths(host) == {f"{DIRECTORY}/bin/cdi-gen-hook"}
    podman = host.podman(runtime, 0)
    names = loadable(host.inventory)
    answers = podman.ask(image, ("dlopen", *names), options=GPU)
    assert {answers["dlopen", name][0] for name in names} == {"ok"}
    # An image with /lib merged into /usr has both names.
    folders = {f.removeprefix("/usr") for f in library_folders(host.inventory, hooked=True)}
    loaded = {answers["dlopen", name][1].rpartition("/")[0] for name in names}
    assert {folder.removeprefix("/usr") for folder in loaded} <= folders


@RUNTIMES
def test_ldconfig_of_the_image_lists_them(host: Machine, runtime: str) -> None:
    podman = host.podman(runtime, 0)
    printed = podman("run", "--rm", *GPU, "localhost/debian", "ldconfig", "-p").stdout
    listed = {line.split()[0] for line in printed.splitlines() if "=>" in line}
    assert set(sonames(host.inventory)) <= listed


@RUNTIMES
def test_the_shim_starts_a_container(host: Machine, runtime: str) -> None:
    """`podman --runtime nvidia-container-runtime`; its low-level runtime is the one of config.toml."""
    host.inside.write(
        "/etc/nvidia-container-runtime/config.toml",
        f'[nvidia-container-runtime]\nmode = "cdi"\nruntimes = ["{runtime}"]\n',
    )
    host.podman(runtime, 0)  # loads the images
    podman = Podman(host.inside, runtime=f"{DIRECTORY}/bin/nvidia-container-runtime")
    try:
        check_one_gpu(host, podman, *REQUEST)
    finally:
        host.inside.run(["rm", "/etc/nvidia-container-runtime/config.toml"])


@RUNTIMES
def test_the_prestart_hook_injects_a_gpu(host: Machine, runtime: str) -> None:
    hook = {
        "path": f"{DIRECTORY}/bin/nvidia-container-runtime-hook",
        "args": ["nvidia-container-runtime-hook", "prestart"],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
    }
    document = {"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": ["prestart"]}
    host.inside.write("/hooks.d/nvidia.json", json.dumps(document))
    podman = host.podman(runtime, 0)
    options = ("--hooks-dir", "/hooks.d", "run", "--rm", *REQUEST, *NVIDIA_SMI)
    listed = podman(*options, "localhost/debian", "nvidia-smi", "-L").stdout
    assert listed == of_gpu(host, 0)


def check_one_gpu(host: Machine, podman: Podman, *options: str) -> None:
    run = ("run", "--rm", *options, *NVIDIA_SMI, "localhost/debian", "nvidia-smi", "-L")
    assert podman(*run).stdout == of_gpu(host, 0)


def of_gpu(host: Machine, index: int) -> str:
    """What nvidia-smi says of one GPU."""
    gpu = host.gpu(index)
    return f"GPU 0: {gpu.model.name} (UUID: {gpu.uuid})\n"


def test_starts_leave_nothing_but_the_directory(host: Machine) -> None:
    """So that removing the directory removes everything."""
    host.podman("crun", 0)("run", "--rm", *GPU, "localhost/debian", "true")
    find = ["find", DIRECTORY, "-mindepth", "1", "-printf", "%P\\n"]
    installed = {*host.inside.run(find).stdout.splitlines()}
    toolkit = Path(f"{host.fake.root}{DIRECTORY}")
    assert installed == {path.relative_to(toolkit).as_posix() for path in toolkit.rglob("*")}
    places = ["/etc", "/root", "/run", "/tmp", "/usr/local", "/var/cache", "/var/tmp"]
    named = ["find", *places, "-path", DIRECTORY, "-prune", "-o", "-name", "*cdi-gen*", "-print"]
    assert host.inside.run(named).stdout == ""
