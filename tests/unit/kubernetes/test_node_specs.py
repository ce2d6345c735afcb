# SPDX-License-Identifier: Apache-2.0
"""The management spec, and the files of a node's specs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cdi_gen.errors import NoDriverError
from cdi_gen.generate import DEFAULTS, management
from cdi_gen.generate.driver_edits import hooks
from cdi_gen.kubernetes.node import specs
from cdi_gen.kubernetes.node.settings import NodeSettings, ShimSettings

from .nodes import inventory

MANAGEMENT = DEFAULTS._replace(vendor=management.VENDOR)
CDI_MODE = ShimSettings(mode="cdi", default_kind="management.nvidia.com/gpu")


def test_the_management_device_has_every_node_of_the_host() -> None:
    spec = management.spec(inventory("flat-550-mig-mixed"), MANAGEMENT)
    (device,) = spec.devices
    paths = [node.path for node in device.container_edits.device_nodes]
    assert (spec.kind, device.name) == ("management.nvidia.com/gpu", "all")
    assert paths == sorted(paths)
    # The divided GPU as a whole, its MIG devices, and the access nodes of MIG.
    assert {"/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm"} <= set(paths)
    assert {"/dev/nvidia-caps/nvidia-cap1", "/dev/nvidia-caps/nvidia-cap2"} <= set(paths)
    gpus = inventory("flat-550-mig-mixed").gpus
    assert {f"/dev/nvidia{gpu.minor}" for gpu in gpus} <= set(paths)


def test_the_management_device_has_no_node_of_graphics_or_nvswitch() -> None:
    spec = management.spec(inventory("hgx-550-8gpu"), MANAGEMENT)
    paths = [node.path for node in spec.devices[0].container_edits.device_nodes]
    assert not [path for path in paths if path.startswith(management.LEFT_OUT)]
    assert all(path.startswith("/dev/nvidia") for path in paths)
    assert len([path for path in paths if path[11:].isdigit()]) == 8


def test_management_containers_may_create_nodes() -> None:
    host = inventory("flat-550-1gpu")
    usual = hooks(host, DEFAULTS)
    (hook,) = management.spec(host, MANAGEMENT).container_edits.hooks
    assert usual is not None
    assert "--disable-device-node-modification" in usual[0].args
    assert "--disable-device-node-modification" not in hook.args


def test_a_host_without_nodes_has_no_management_spec() -> None:
    host = inventory("flat-550-1gpu")
    empty = replace(host, gpus=(), control_nodes=(), transport_nodes=())
    empty = replace(empty, mig_config=None, mig_monitor=None, mig_devices=())
    with pytest.raises(NoDriverError):
        management.spec(empty, MANAGEMENT)


@pytest.mark.parametrize("shim", [ShimSettings(), CDI_MODE], ids=["default", "GPU Operator"])
def test_the_shim_gets_a_spec_of_the_gpus_beside_the_management_spec(shim: ShimSettings) -> None:
    """NVIDIA/gpu-operator#1876 (2025), NVIDIA/nvidia-container-toolkit#1895 (2026).

    A pod asks the shim for a GPU by its UUID; the management spec has `all` alone, and a spec with
    indices alone has no UUID.
    """
    host = inventory("flat-550-1gpu")
    written = {
        item.spec.kind: item.spec for item in specs.node_specs(host, NodeSettings(shim=shim))
    }
    assert [*written] == ["management.nvidia.com/gpu", "nvidia.com/gpu"]
    names = [device.name for device in written["nvidia.com/gpu"].devices]
    assert {"0", host.gpus[0].uuid, "all"} <= {*names}


def test_hook_free_specs_have_no_hook() -> None:
    for item in specs.node_specs(inventory("flat-550-1gpu"), NodeSettings(hooks=False)):
        assert item.spec.container_edits.hooks == ()


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    tmp_path.chmod(0o755)
    return NodeSettings(cdi_directory=str(tmp_path / "cdi"))


def test_nvidias_management_spec_gives_way_and_comes_back(settings: NodeSettings) -> None:
    """Engines reject a device that two files of a directory define."""
    folder = Path(settings.cdi_directory)
    folder.mkdir(mode=0o755)
    theirs = folder / "management.nvidia.com-gpu.yaml"
    theirs.write_text("cdiVersion: 0.5.0\nkind: management.nvidia.com/gpu\ndevices: []\n")
    before = theirs.read_text()
    written = specs.node_specs(inventory("flat-550-1gpu"), settings)
    (finding,) = specs.write_specs(written, settings, None)
    assert finding["code"] == "CDG-N413"
    assert sorted(path.name for path in folder.iterdir()) == [
        "management.nvidia.com-gpu.yaml.cdi-gen-replaced",
        "setup-node.management.nvidia.com-gpu.json",
        "setup-node.nvidia.com-gpu.json",
    ]
    specs.remove_specs(settings)
    assert [path.name for path in folder.iterdir()] == [theirs.name]
    assert theirs.read_text() == before


@pytest.mark.parametrize(
    "text",
    [
        'cdiVersion: "0.5.0"\nkind: nvidia.com/gpu\ndevices: []\n',
        '{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[]}',
        '{\n  "kind": "nvidia.com/gpu",\n  "devices": []\n}\n',
    ],
    ids=["yaml", "a line of json", "json"],
)
def test_another_spec_of_the_gpus_wins(settings: NodeSettings, text: str) -> None:
    folder = Path(settings.cdi_directory)
    folder.mkdir(mode=0o755)
    (folder / "nvidia.yaml").write_text(text)
    written = specs.node_specs(inventory("flat-550-1gpu"), settings)
    (finding,) = specs.write_specs(written, settings, None)
    assert "defines nvidia.com/gpu already" in finding["message"]
    assert not (folder / "setup-node.nvidia.com-gpu.json").exists()
    assert (folder / "nvidia.yaml").read_text() == text


def test_a_spec_of_another_kind_is_not_in_the_way(settings: NodeSettings) -> None:
    folder = Path(settings.cdi_directory)
    folder.mkdir(mode=0o755)
    (folder / "other.json").write_text('{"kind": "k8s.device-plugin.nvidia.com/gpu"}')
    written = specs.node_specs(inventory("flat-550-1gpu"), settings)
    assert specs.write_specs(written, settings, None) == []
