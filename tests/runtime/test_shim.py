# SPDX-License-Identifier: Apache-2.0
"""The shim between an engine and a real low-level runtime, on a machine with fake GPUs."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable

import pytest

from tests.runtime.machine import Bundle, Ended, Machine, note_calls

pytestmark = pytest.mark.host

SEE = "head -c1 /dev/nvidia0; ls /usr/lib/x86_64-linux-gnu/libcuda.so.1; ls /dev"
ALLOWED = "No such device or address"
"""What opening a node says that is there and allowed, of a device without a driver (ENXIO)."""


class Runtime:
    """One low-level runtime, through the shim or by itself."""

    def __init__(self, name: str, machine: Machine) -> None:
        self.name = name
        self.machine = machine
        self.path = shutil.which(name) or pytest.skip(f"needs {name}")
        self.before = ":"
        self.words: list[str] = ["--root", str(machine.folder / "state")]
        if name == "crun":
            self.words.insert(0, "--cgroup-manager=disabled")
            # crun refuses a tree of cgroups of both versions.
            self.before = "umount -l -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup"
        machine.configure(runtime=f'runtimes = ["{self.path}"]')

    def by_shim(self, *words: str) -> Ended:
        return self.machine.run(str(self.machine.shim), *self.words, *words, within=self.before)

    def alone(self, *words: str) -> Ended:
        return self.machine.run(self.path, *self.words, *words, within=self.before)

    def start(self, bundle: Bundle, *words: str) -> Ended:
        return self.by_shim(*words, "run", "--bundle", str(bundle.path), f"t{os.getpid()}")


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest, machine: Machine) -> Runtime:
    return Runtime(request.param, machine)


def test_container_gets_gpu_and_driver(runtime: Runtime, bundle: Bundle) -> None:
    ended = runtime.start(bundle.asks("NVIDIA_VISIBLE_DEVICES=0", script=SEE))
    assert ended.returncode == 0, ended
    assert "libcuda.so.1" in ended.stdout
    assert "nvidia-uvm\n" in ended.stdout
    assert ALLOWED in ended.stderr
    assert bundle.environment()["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "CDI devices nvidia.com/gpu=0, nvidia.com/cap=compute" in runtime.machine.logged()
    assert runtime.machine.times_prepared() == 1


def test_create_and_start_as_separate_commands(runtime: Runtime, bundle: Bundle) -> None:
    """As engines do it; the container lives on in between, so all of it is one command."""
    shim, name = str(runtime.machine.shim), f"t{os.getpid()}"
    bundle.asks("NVIDIA_VISIBLE_DEVICES=all", script="ls /dev > /tmp/seen; exec sleep 60")
    log = bundle.path / "log.json"
    script = f"""
        rt() {{ {shim} {" ".join(runtime.words)} --log {log} --log-format json "$@"; }}
        rt create --bundle {bundle.path} --pid-file {bundle.path}/pid {name} </dev/null >/dev/null 2>&1
        rt state {name}; rt start {name}; rt list -q; sleep 0.1
        rt exec {name} /bin/sh -c 'exit 7' || echo "exec $?"
        rt kill {name} KILL; sleep 0.1; rt delete {name}; rt state {name} || echo "state $?"
    """
    ended = runtime.machine.run("sh", "-ec", script, within=runtime.before)
    assert '"status": "created"' in ended.stdout, ended
    assert f"{name}\nexec 7\n" in ended.stdout
    assert ended.stdout.endswith("state 1\n")
    assert "nvidia0" in (bundle.root / "tmp/seen").read_text()
    assert int((bundle.path / "pid").read_text()) > 0


def test_variable_of_the_user_replaces_that_of_the_image(
    machine_of: Callable[[str], Machine], bundle: Bundle
) -> None:
    """The engine's value comes after the image's; the process sees the last value."""
    machine = machine_of("550-8gpu")
    for name in ("runc", "crun"):
        runtime = Runtime(name, machine)
        bundle.asks(
            "NVIDIA_VISIBLE_DEVICES=all",
            "NVIDIA_REQUIRE_CUDA=cuda>=99",
            "NVIDIA_DRIVER_CAPABILITIES=rubbish",
            "NVIDIA_VISIBLE_DEVICES=3",
            "NVIDIA_DRIVER_CAPABILITIES=utility",
            "NVIDIA_REQUIRE_CUDA=cuda>=12",
            script="env | grep -c ^NVIDIA_[RVD]; echo $NVIDIA_REQUIRE_CUDA; cd /dev; echo nvidia[0-9]*; "
            "test -e /usr/lib/x86_64-linux-gnu/libcuda.so.1 || echo no libcuda",
        )
        ended = runtime.start(bundle)
        assert (ended.returncode, ended.stdout) == (
            0,
            "3\ncuda>=12\nnvidia3\nno libcuda\n",
        ), ended


def test_pod_with_time_slices(machine_of: Callable[[str], Machine], bundle: Bundle) -> None:
    """kubelet's device plugin names the GPU of each slice: 11,200 words, 448 kB."""
    runtime = Runtime("runc", machine_of("550-8gpu"))
    uuids = [gpu.uuid for gpu in runtime.machine.gpus[1:8]]
    value = ",".join(uuids * 1600)
    ended = runtime.start(
        bundle.asks(
            "NVIDIA_VISIBLE_DEVICES=all",
            f"NVIDIA_VISIBLE_DEVICES={value}",
            script="cd /dev; echo nvidia[0-9]*; echo $NVIDIA_VISIBLE_DEVICES",
        )
    )
    nodes = " ".join(f"nvidia{number}" for number in range(1, 8))
    assert (ended.returncode, ended.stdout) == (0, f"{nodes}\nvoid\n"), ended


def test_two_of_eight_gpus(machine_of: Callable[[str], Machine], bundle: Bundle) -> None:
    runtime = Runtime("runc", machine_of("550-8gpu"))
    uuid = runtime.machine.gpus[5].uuid.upper().replace("GPU-", "gpu-")
    ended = runtime.start(
        bundle.asks(f"NVIDIA_VISIBLE_DEVICES=2,{uuid}", script="cd /dev; echo nvidia[0-9]*")
    )
    assert (ended.returncode, ended.stdout) == (0, "nvidia2 nvidia5\n"), ended


def test_requested_capabilities_are_injected(machine: Machine, bundle: Bundle) -> None:
    def sources(capabilities: str) -> str:
        bundle.asks("NVIDIA_VISIBLE_DEVICES=0", f"NVIDIA_DRIVER_CAPABILITIES={capabilities}")
        ended = Runtime("runc", machine).start(bundle)
        assert ended.returncode == 0, ended
        sources = " ".join(mount.get("source", "") for mount in bundle.edited()["mounts"])
        bundle.config.pop("hooks", None)
        return sources

    utility, compute = sources("utility"), sources("compute")
    assert "libnvidia-ml.so" in utility
    assert "libcuda.so" not in utility
    assert "libcuda.so" in compute
    assert "libnvidia-eglcore" not in compute
    assert "libnvidia-eglcore" in sources("graphics")


def test_none_injects_driver_files_without_a_gpu(runtime: Runtime, bundle: Bundle) -> None:
    ended = runtime.start(
        bundle.asks("NVIDIA_VISIBLE_DEVICES=none", script="ls /usr/lib/*/libcuda.so.1 /dev")
    )
    assert ended.returncode == 0, ended
    assert "libcuda.so.1" in ended.stdout
    assert "nvidia0" not in ended.stdout


def test_mig_device_is_injected(machine_of: Callable[[str], Machine], bundle: Bundle) -> None:
    runtime = Runtime("runc", machine_of("550-mig-mixed"))
    ended = runtime.start(
        bundle.asks("NVIDIA_VISIBLE_DEVICES=1:0", script="cd /dev; echo nvidia[0-9]* nvidia-caps/*")
    )
    assert ended.returncode == 0, ended
    assert ended.stdout.startswith("nvidia1 nvidia-caps/nvidia-cap")
    refused = runtime.start(bundle.asks("NVIDIA_VISIBLE_DEVICES=1"))
    assert refused.returncode == 1
    assert "nvidia.com/gpu has no device 1; available: " in refused.stderr


def test_special_modes_and_channels_are_injected(
    machine_of: Callable[[str], Machine], bundle: Bundle
) -> None:
    runtime = Runtime("runc", machine_of("550-hgx"))
    bundle.asks(
        "NVIDIA_VISIBLE_DEVICES=0",
        "NVIDIA_NVSWITCH=enabled",
        "NVIDIA_GDRCOPY=enabled",
        "NVIDIA_IMEX_CHANNELS=1,3",
        script="cd /dev; echo nvidia-nvs* gdrdrv nvidia-caps-imex-channels/*; test -c gdrdrv",
    )
    ended = runtime.start(bundle)
    switches = " ".join(f"nvidia-nvswitch{name}" for name in (*range(4), "ctl"))
    channels = " ".join(f"nvidia-caps-imex-channels/channel{number}" for number in (1, 3))
    assert (ended.returncode, ended.stdout) == (0, f"{switches} gdrdrv {channels}\n"), ended
    refused = runtime.start(bundle.asks("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_IMEX_CHANNELS=9"))
    assert "nvidia.com/imex-channel has no device 9" in refused.stderr


def test_missing_special_mode_is_left_out(machine: Machine, bundle: Bundle) -> None:
    ended = Runtime("runc", machine).start(
        bundle.asks("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_GDS=enabled")
    )
    assert ended.returncode == 0, ended
    assert "has no nvidia.com/gds: left out" in machine.logged()


def test_mig_access_needs_a_privileged_container(
    machine_of: Callable[[str], Machine], bundle: Bundle
) -> None:
    runtime = Runtime("runc", machine_of("550-mig-mixed"))
    bundle.config["process"]["capabilities"] = {"bounding": ["CAP_SYS_ADMIN"]}
    ended = runtime.start(
        bundle.asks(
            "NVIDIA_VISIBLE_DEVICES=none",
            "NVIDIA_MIG_CONFIG_DEVICES=all",
            "NVIDIA_MIG_MONITOR_DEVICES=all",
            script="echo /dev/nvidia-caps/*",
        )
    )
    caps = " ".join(f"/dev/nvidia-caps/nvidia-cap{number}" for number in (1, 2))
    assert (ended.returncode, ended.stdout) == (0, f"{caps}\n"), ended


@pytest.mark.parametrize(
    "variables", [(), ("NVIDIA_VISIBLE_DEVICES=void",), ("NVIDIA_VISIBLE_DEVICES=",)]
)
def test_container_without_a_request_is_unchanged(
    runtime: Runtime, bundle: Bundle, variables: tuple[str, ...]
) -> None:
    bundle.asks(*variables, script="ls /dev")
    before = bundle.file.stat()
    content = bundle.file.read_bytes()
    ended = runtime.start(bundle)
    after = bundle.file.stat()
    assert ended.returncode == 0, ended
    assert "nvidia" not in ended.stdout
    assert bundle.file.read_bytes() == content
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    assert runtime.machine.times_prepared() == 0


def test_error_is_in_the_runtimes_log(runtime: Runtime, bundle: Bundle) -> None:
    """containerd, dockerd and conmon read the last error in the file of the runtime's --log."""
    log = bundle.path / "log.json"
    bundle.asks("NVIDIA_VISIBLE_DEVICES=7")
    content = bundle.file.read_bytes()
    ended = runtime.start(bundle, "--log", str(log), "--log-format", "json")
    assert ended.returncode == 1
    line = json.loads(log.read_text())
    assert line["level"] == "error"
    assert line["msg"].startswith("cdi-gen-runtime: nvidia.com/gpu has no device 7; available: 0, ")
    assert time.strptime(line["time"], "%Y-%m-%dT%H:%M:%SZ")
    assert line["msg"] in ended.stderr
    assert bundle.file.read_bytes() == content


def test_unmet_requirement_stops_the_container(machine: Machine, bundle: Bundle) -> None:
    runtime = Runtime("runc", machine)
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_CUDA=cuda>=12.9 driver>=999")
    ended = runtime.start(bundle)
    assert ended.returncode == 1
    assert "NVIDIA_REQUIRE_CUDA" in ended.stderr
    assert machine.fake is not None
    assert machine.fake.driver_version in ended.stderr
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_CUDA=cuda>=11.0")
    assert runtime.start(bundle).returncode == 0
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_REQUIRE_CUDA=cuda>=99")
    machine.configure("disable-require = true", runtime=f'runtimes = ["{runtime.path}"]')
    assert runtime.start(bundle).returncode == 0


def test_prepared_file_follows_the_host(machine: Machine, bundle: Bundle) -> None:
    """A spec file's time stamp is part of the host's state; the driver's is in test_prepared."""
    runtime = Runtime("runc", machine)
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    content = bundle.file.read_bytes()
    for _ in range(2):
        assert runtime.start(bundle).returncode == 0
        bundle.file.write_bytes(content)
    assert machine.times_prepared() == 1
    (machine.specs / "other.yaml").write_text("cdiVersion: 0.5.0\n")
    assert runtime.start(bundle).returncode == 0
    assert machine.times_prepared() == 2
    assert "other.yaml' is not used" in machine.logged()


def test_rootless_engine_uses_the_prepared_file(machine: Machine, bundle: Bundle) -> None:
    """It uses the file that root prepared, and names the command for root if there is none."""
    note_calls(machine.folder)
    machine.configure(runtime=f'runtimes = ["{machine.folder}/runc"]')
    bundle.asks("NVIDIA_VISIBLE_DEVICES=0")
    words = (str(machine.shim), "create", "--bundle", str(bundle.path), "x")
    rootless = ("unshare", "--user", "--map-root-user")
    ended = machine.run(*rootless, *words)
    assert ended.returncode == 1
    assert "as root, run: cdi-gen runtime prepare --driver-root=" in ended.stderr
    assert machine.times_prepared() == 0
    assert machine.run(*words).returncode == 0
    bundle.write()
    assert machine.run(*rootless, *words).returncode == 0
    assert "/dev/nvidia0" in bundle.devices()
    assert machine.times_prepared() == 1


def test_spec_in_yaml_is_used(machine: Machine, bundle: Bundle) -> None:
    """nvidia-ctk writes such a spec."""
    runtime = Runtime("runc", machine)
    (machine.specs / "nvidia.yaml").write_text(
        'cdiVersion: "0.5.0"\nkind: nvidia.com/gpu\n'
        'devices: [{name: "0", containerEdits: {env: [FROM=yaml]}}]\n'
    )
    ended = runtime.start(bundle.asks("NVIDIA_VISIBLE_DEVICES=0", script="echo $FROM"))
    assert (ended.returncode, ended.stdout) == (0, "yaml\n"), ended


def test_other_commands_reach_the_runtime(runtime: Runtime) -> None:
    for words in (("list",), ("state", "nobody"), ("--version",), ("kill", "nobody"), ("--help",)):
        through, alone = runtime.by_shim(*words), runtime.alone(*words)
        assert through.returncode == alone.returncode, words
        stdout = through.stdout
        if words == ("--version",):
            first, _, stdout = stdout.partition("\n")
            assert first.startswith("cdi-gen-runtime version ")
        assert stdout == alone.stdout


def test_features_command_reaches_the_runtime(machine: Machine) -> None:
    runtime = Runtime("runc", machine)
    assert json.loads(runtime.by_shim("features").stdout)["ociVersionMax"]
    assert runtime.by_shim("features").stdout == runtime.alone("features").stdout
