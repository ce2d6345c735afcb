# SPDX-License-Identifier: Apache-2.0
"""Settings of a node: the operator's variables, what is known of hosts, the installed files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

import cdi_specs
from cdi_gen.cli import kubernetes_node, kubernetes_toolkit
from cdi_gen.errors import CdiGenError
from cdi_gen.host.roots import Root
from cdi_gen.kubernetes.node import hosts
from cdi_gen.kubernetes.node.installed_files import LowLevel, installed_files
from cdi_gen.kubernetes.node.settings import NodeSettings, ShimSettings
from cdi_runtime.config_toml import configuration

OPERATOR = {
    "ROOT": "/usr/local/nvidia",
    "NVIDIA_CONTAINER_RUNTIME_MODES_CDI_DEFAULT_KIND": "management.nvidia.com/gpu",
    "TOOLKIT_PID_FILE": "/run/nvidia/toolkit/toolkit.pid",
    "CDI_ENABLED": "true",
    "NVIDIA_RUNTIME_SET_AS_DEFAULT": "false",
    "NVIDIA_CONTAINER_RUNTIME_MODE": "cdi",
    "CRIO_CONFIG_MODE": "config",
    "RUNTIME": "containerd",
    "CONTAINERD_RUNTIME_CLASS": "nvidia",
    "RUNTIME_CONFIG": "/runtime/config-dir/config.toml",
    "RUNTIME_DROP_IN_CONFIG": "/runtime/config-dir.d/99-nvidia.toml",
    "RUNTIME_DROP_IN_CONFIG_HOST_PATH": "/etc/containerd/conf.d/99-nvidia.toml",
    "RUNTIME_SOCKET": "/runtime/sock-dir/containerd.sock",
    "NVIDIA_DRIVER_ROOT": "/run/nvidia/driver",
    "NVIDIA_DEV_ROOT": "/",
}
"""Of a cluster with containerd and CDI, object_controls.go of the operator 26.7."""


def toolkit(
    monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str], *words: str
) -> NodeSettings:
    """The settings of the operand for variables and a command line."""
    seen: list[NodeSettings] = []

    def run(settings: NodeSettings, **_options: object) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(kubernetes_node, "run", run)
    result = CliRunner().invoke(kubernetes_toolkit.toolkit, words, env=dict(variables))
    assert result.exit_code == 0, result.output
    return seen[0]


def test_the_operators_variables_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = toolkit(monkeypatch, OPERATOR)
    assert settings == NodeSettings(
        host_root="/host",
        root="/usr/local/nvidia",
        engine="containerd",
        configuration="/runtime/config-dir/config.toml",
        drop_in="/runtime/config-dir.d/99-nvidia.toml",
        drop_in_on_host="/etc/containerd/conf.d/99-nvidia.toml",
        socket="/runtime/sock-dir/containerd.sock",
        driver_root="/run/nvidia/driver",
        dev_root="/",
        keep_programs=True,
        shim=ShimSettings(mode="cdi", default_kind="management.nvidia.com/gpu"),
    )


def test_defaults_are_those_of_nvidias_container(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = toolkit(monkeypatch, {})
    assert (settings.engine, settings.set_as_default, settings.cdi) == ("docker", True, False)
    assert settings.enable_cdi_in_engine is False
    assert settings.shim == ShimSettings()


@pytest.mark.parametrize(
    ("variables", "name", "value"),
    [
        ({"RUNTIME": "crio", "CRIO_CONFIG_MODE": "hook"}, "crio_mode", "hook"),
        ({"RUNTIME": "crio", "CRIO_CONFIG": "/runtime/crio.conf"}, "configuration", "/runtime/crio.conf"),
        ({"CONTAINERD_SET_AS_DEFAULT": "false"}, "set_as_default", False),
        ({"NO_DAEMON": "true"}, "wait", False),
        ({"NO_RUNTIME_CONFIG": "1"}, "configure_engine", False),
        ({"CDI_ENABLED": "true", "RUNTIME_ENABLE_CDI": "false"}, "enable_cdi_in_engine", False),
        ({"HOST_ROOT_MOUNT": "/mnt/host"}, "host_root", "/mnt/host"),
        ({"RUNTIME_RESTART_MODE": "systemd"}, "restart_mode", "systemd"),
        ({"TOOLKIT_INSTALL_DIR": "/opt/x"}, "root", "/opt/x"),
        ({"DEV_ROOT": ""}, "dev_root", None),
    ],
)  # fmt: skip
def test_a_variable_has_its_effect(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str, value: object
) -> None:
    assert getattr(toolkit(monkeypatch, variables), name) == value


def test_a_flag_wins_over_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = toolkit(monkeypatch, OPERATOR, "--runtime=docker", "--cdi-enabled=false")
    assert (settings.engine, settings.cdi) == ("docker", False)


def test_lists_of_variables_have_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"NVIDIA_CONTAINER_RUNTIME_RUNTIMES": "/opt/crun, runc"}
    assert toolkit(monkeypatch, variables).shim.runtimes == ("/opt/crun", "runc")


def test_every_row_about_hosts_has_a_public_source() -> None:
    document = json.loads(cdi_specs.read_text("kubernetes_hosts.json"))
    for row in (*document["distributions"], *document["systems"]):
        assert row["sources"], row["name"]
        assert all(source.startswith("https://") for source in row["sources"])
    for row in document["distributions"]:
        assert row["changed"]
        assert row["untouched"]


def host_with(folder: Path, *paths: str) -> Root:
    for path in paths:
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return Root(seen_from=str(folder))


SOCKETS = {row.name: row.socket for row in hosts.distributions()}


@pytest.mark.parametrize("row", hosts.distributions(), ids=lambda row: row.name)
def test_a_running_engine_is_found_by_its_socket(tmp_path: Path, row: hosts.Distribution) -> None:
    host = host_with(
        tmp_path, f"{row.detect[0]}/x" if "." not in row.detect[0] else row.detect[0], row.socket
    )
    assert hosts.distribution_of(host, None, None) == row


def test_the_containerd_that_docker_brings_is_no_second_engine(tmp_path: Path) -> None:
    host = host_with(tmp_path, SOCKETS["containerd"], SOCKETS["Docker"])
    assert hosts.distribution_of(host, None, None).name == "containerd"
    assert hosts.distribution_of(host, "docker", None).name == "Docker"


def test_an_engine_that_runs_wins_over_files_that_are_left(tmp_path: Path) -> None:
    host = host_with(
        tmp_path, "/etc/containerd/config.toml", "/etc/crio/crio.conf", SOCKETS["CRI-O"]
    )
    assert hosts.distribution_of(host, None, None).name == "CRI-O"


@pytest.mark.parametrize(
    ("socket", "name"),
    [
        ("/run/k3s/containerd/containerd.sock", "k3s"),
        ("/var/run/k3s/containerd/containerd.sock", "k3s"),
        ("/run/containerd/containerd.sock", "containerd"),
    ],
)
def test_a_named_socket_says_whose_it_is(tmp_path: Path, socket: str, name: str) -> None:
    """NVIDIA/gpu-operator#1694 (2025): CONTAINERD_SOCKET of k3s beside the containerd of Docker."""
    host = host_with(
        tmp_path,
        SOCKETS["containerd"],
        SOCKETS["k3s"],
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    )
    assert hosts.distribution_of(host, None, None, socket).name == name
    with pytest.raises(CdiGenError, match="several engines: k3s, containerd"):
        hosts.distribution_of(host, None, None, "/srv/other.sock")


def test_a_named_file_says_whose_it_is(tmp_path: Path) -> None:
    host = host_with(tmp_path)
    named = "/var/lib/rancher/rke2/agent/etc/containerd/config-v3.toml.d/99-nvidia.toml"
    assert hosts.distribution_of(host, "containerd", named).name == "RKE2"
    assert hosts.distribution_of(host, "containerd", "/srv/containerd.toml").name == "containerd"


def test_a_host_without_engine_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CdiGenError) as caught:
        hosts.distribution_of(host_with(tmp_path), None, None)
    assert caught.value.code == "CDG-N404"


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ('ID="flatcar"\n', "Flatcar"),
        ("NAME=x\nID=cos\n", "Container-Optimized OS"),
        ("ID=debian\n", None),
        ("ID='\n", None),
        ("", None),
    ],
)
def test_the_system_of_a_host(tmp_path: Path, text: str, system: str | None) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text(text)
    found = hosts.system_of(Root(seen_from=str(tmp_path)))
    assert (found.name if found else None) == system


def test_the_shim_reads_what_is_written_for_it() -> None:
    shim = ShimSettings(
        mode="cdi",
        default_kind="management.nvidia.com/gpu",
        annotation_prefixes=("a.example/", "b.example/"),
        accept_environment=False,
        accept_mounts=True,
    )
    settings = NodeSettings(driver_root="/run/nvidia/driver", shim=shim)
    low_level = LowLevel("/usr/libexec/crio/crun", is_found_by_name=False)
    files = installed_files(settings, "/opt/nvidia", "/opt/nvidia/x", low_level)
    name = ".config/nvidia-container-runtime/config{}.toml"
    read = configuration.parse(files[name.format("")].text.encode(), "config.toml")
    assert read.warnings == ()
    assert (read.mode, read.default_kind) == ("cdi", "management.nvidia.com/gpu")
    assert read.annotation_prefixes == ("a.example/", "b.example/")
    assert (read.accept_environment_unprivileged, read.accept_volume_mounts) == (False, True)
    assert read.runtimes == ("/usr/libexec/crio/crun", "runc", "crun")
    assert read.driver_root == "/run/nvidia/driver"
    assert read.hook_path == "/opt/nvidia/toolkit/nvidia-container-runtime-hook"
    modes = [
        configuration.parse(files[name.format(ending)].text.encode(), "").mode
        for ending in (".cdi", ".legacy")
    ]
    assert modes == ["cdi", "legacy"]


def test_the_usual_runtimes_are_written_as_the_shims_shell_part_expects() -> None:
    """Only with this line the shim starts the low-level runtime without Python."""
    files = installed_files(
        NodeSettings(), "/r", "/r/x", LowLevel("/usr/bin/runc", is_found_by_name=True)
    )
    text = files[".config/nvidia-container-runtime/config.toml"].text
    assert 'runtimes = ["runc", "crun"]' in text.splitlines()
