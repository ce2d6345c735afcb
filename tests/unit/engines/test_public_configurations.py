# SPDX-License-Identifier: Apache-2.0
"""Configurations of Docker, CRI-O and Podman as people have them: each modelled on a public report or file, which it names.

Engines' own programs read what is written in `tests/engine/configuration`.
"""

from __future__ import annotations

import pytest

from cdi_gen.engines import crio, docker, podman
from cdi_gen.engines.plan import Request, Runtime
from cdi_gen.engines.text import toml_text
from cdi_gen.errors import CdiGenError

from .machine import DOCKER_FILE, Told, carried_out, taken_back, warnings
from .public_files import DAEMON_JSON, SHIM, TOOLKIT

RUNTIME = Runtime("nvidia", SHIM)


def test_docker_with_crun_as_the_default() -> None:
    """NVIDIA/nvidia-container-toolkit#15: `--runtime nvidia` always fell to runc."""
    files = {DOCKER_FILE: DAEMON_JSON["crun is the default"]}
    machine = Told({"dockerd": "28.5.2", "runc": "1"}, files)
    made = carried_out(docker.plan(Request(runtime=RUNTIME), machine), files)
    launcher = made["/etc/cdi-gen/docker/nvidia-container-runtime"]
    assert "export CDI_GEN_LOW_LEVEL_RUNTIME=/usr/local/bin/crun\n" in launcher


@pytest.mark.parametrize("also", ['\n{\n   "dns": ["172.20.130.181"]\n}\n', "\n{ “dns”: 1 }\n"])
def test_two_documents_in_daemon_json(also: str) -> None:
    """NVIDIA/nvidia-docker#761."""
    files = {DOCKER_FILE: '{\n    "runtimes": {}\n}' + also}
    with pytest.raises(CdiGenError, match="line 4, column 1: text after the end"):
        carried_out(docker.plan(Request(), Told({"dockerd": "27.5.1"}, files)), files)


OPENSHIFT = {
    "/etc/crio/crio.conf.d/00-default": (
        '[crio]\ninternal_wipe = true\n[crio.runtime]\nselinux = true\nconmon = ""\n'
        'conmon_cgroup = "pod"\n[crio.runtime.runtimes.runc]\nallowed_annotations = [\n'
        '    "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw",\n]\n'
        "[crio.runtime.runtimes.crun]\nallowed_annotations = []\n"
    ),
    # openshift/openshift-docs#86378: no ending, and it is read all the same.
    "/etc/crio/crio.conf.d/01-ctrcfg-defaultRuntime": (
        '[crio]\n  [crio.runtime]\n    default_runtime = "crun"\n'
    ),
    # The performance profile's.
    "/etc/crio/crio.conf.d/99-runtimes.conf": (
        "[crio.runtime.runtimes.high-performance]\ninherit_default_runtime = true\n"
        'exec_cpu_affinity = "first"\n'
    ),
}


def test_openshift() -> None:
    """NVIDIA/gpu-operator#984: both are in /usr/bin there, and crun is the default."""
    machine = Told({"crio": "1.33.0", "runc": "1.2", "crun": "1.20"}, OPENSHIFT)
    wishes = Request(runtime=RUNTIME._replace(default=True))
    made = carried_out(crio.plan(wishes, machine), OPENSHIFT)
    assert "=/usr/bin/crun\n" in made["/etc/cdi-gen/crio/nvidia-container-runtime"]
    said = toml_text.parse(made["/etc/crio/crio.conf.d/99-nvidia.toml"])["crio"]["runtime"]
    assert said["default_runtime"] == "nvidia"
    now = {**OPENSHIFT, **made}
    back = taken_back(crio.plan(Request(revert=True), Told({}, now)), now, OPENSHIFT)
    assert {path: text for path, text in back.items() if text} == OPENSHIFT


def test_a_runtime_of_crio_that_is_as_another_has_no_program_of_its_own() -> None:
    files = {
        "/etc/crio/crio.conf.d/10.conf": '[crio.runtime]\ndefault_runtime = "p"\n'
        '[crio.runtime.runtimes.p]\nruntime_path = "/usr/bin/crun"\ninherit_default_runtime = true\n'
        '[crio.runtime.runtimes.p.platform_runtime_paths]\n"wasi/wasm32" = "/usr/bin/crun-wasm"\n'
    }
    made = carried_out(crio.plan(Request(runtime=RUNTIME), Told({"crio": "1.33.0"}, files)), files)
    said = toml_text.parse(made["/etc/crio/crio.conf.d/99-nvidia.toml"])["crio"]["runtime"]
    assert said["runtimes"]["nvidia"] == {"runtime_path": SHIM, "runtime_type": "oci"}


def test_crio_after_nvidias_toolkit_and_a_file_that_is_read_later() -> None:
    """Public scripts: 99-nvidia.conf of the toolkit; 999-runc.conf, which makes runc the default."""
    files = {
        "/etc/crio/crio.conf.d/10-crio.conf": '[crio.runtime]\ndefault_runtime = "crun"\n'
        '[crio.runtime.runtimes.crun]\nruntime_path = "/usr/libexec/crio/crun"\n'
        'monitor_path = "/usr/libexec/crio/conmon"\n',
        "/etc/crio/crio.conf.d/99-nvidia.conf": '[crio.runtime]\ndefault_runtime = "nvidia"\n'
        f'[crio.runtime.runtimes.nvidia]\nruntime_path = "{TOOLKIT}"\n',
        "/etc/crio/crio.conf.d/999-runc.conf": '[crio.runtime]\ndefault_runtime = "runc"\n'
        '[crio.runtime.runtimes.runc]\nruntime_path = "/usr/sbin/runc"\n',
    }
    wishes = Request(runtime=RUNTIME._replace(default=True))
    found = crio.plan(wishes, Told({"crio": "1.33.0"}, files))
    assert any("999-runc.conf is read after" in each for each in warnings(found))
    del files["/etc/crio/crio.conf.d/999-runc.conf"]
    found = crio.plan(wishes, Told({"crio": "1.33.0"}, files))
    assert not any("is read after" in each for each in warnings(found))
    launcher = carried_out(found, files)["/etc/cdi-gen/crio/nvidia-container-runtime"]
    assert "=/usr/libexec/crio/crun\n" in launcher


def test_podman_of_a_runner_that_has_two_cruns() -> None:
    """actions/runner-images#14480: the file names the newer one, outside of Podman's own list."""
    files = {
        "/etc/containers/containers.conf.d/00-crun.conf": '[engine]\nruntime = "crun"\n\n'
        '[engine.runtimes]\ncrun = ["/opt/podman/bin/crun"]\n'
    }
    versions = {"podman": "5.5.2", "crun": "1.14.1", "runc": "1", "/opt/podman/bin/crun": "1.21"}
    made = carried_out(podman.plan(Request(runtime=RUNTIME), Told(versions, files)), files)
    assert "=/opt/podman/bin/crun\n" in made["/etc/cdi-gen/podman/nvidia-container-runtime"]


def test_a_users_own_file_of_podman_comes_after_the_machines() -> None:
    """toolbox and distrobox set a user's containers.conf; the machine's drop-in is read before it."""
    users = "/home/u/.config/containers/containers.conf.d/zz.conf"
    files = {
        "/usr/share/containers/containers.conf": '[engine]\nruntime = "crun"\n'
        '[engine.runtimes]\nkrun = ["/usr/bin/krun"]\n',
        users: '[engine]\nruntime = "runc"\n',
    }
    machine = Told({"podman": "5.8.6", "crun": "1"}, files, uid=1000)
    wishes = Request(runtime=RUNTIME._replace(default=True), rootless=True)
    found = podman.plan(wishes, machine)
    assert any(f"{users} is read after" in each for each in warnings(found))
