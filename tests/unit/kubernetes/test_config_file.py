# SPDX-License-Identifier: Apache-2.0
"""The config file of NVIDIA's device plugin."""

from __future__ import annotations

import pytest

from cdi_gen.errors import CdiGenError, UsageError
from cdi_gen.kubernetes.settings import DEFAULTS, SharedResource
from cdi_gen.kubernetes.settings.config_file import ConfigFile, parse_config_file
from cdi_gen.kubernetes.settings.merge import merge
from cdi_gen.kubernetes.settings.names import mig_resource_name, resource_name

EVERY_KEY = """
version: v1
flags:
  migStrategy: mixed
  failOnInitError: true
  mpsRoot: /run/mps
  nvidiaDriverRoot: /run/nvidia/driver
  nvidiaDevRoot: /run/nvidia/dev
  gdrcopyEnabled: true
  gdsEnabled: true
  mofedEnabled: true
  useNodeFeatureAPI: true
  deviceDiscoveryStrategy: nvml
  plugin:
    passDeviceSpecs: true
    deviceListStrategy: [cdi-annotations, cdi-cri]
    deviceIDStrategy: index
    cdiAnnotationPrefix: cdi.example.com/
    nvidiaCTKPath: /opt/nvidia/nvidia-ctk
    containerDriverRoot: /driver
    sharedDevicesAllocationPolicy: packed
  gfd:
    oneshot: true
    noTimestamp: true
    sleepInterval: 30s
    outputFile: /labels
    machineTypeFile: /machine
resources:
  gpus: [{pattern: "*H200*", name: h200}]
  mig: [{pattern: "1g.*", name: nvidia.com/small}]
sharing:
  timeSlicing:
    renameByDefault: true
    failRequestsGreaterThanOne: true
    resources:
    - {name: nvidia.com/gpu, rename: nvidia.com/part, devices: [0, "GPU-1"], replicas: 4}
imex: {channelIDs: [0], required: true}
"""


def settings(text: str, **flags: object) -> object:
    return merge(flags, parse_config_file(text.encode(), "config.yaml"))


def test_every_key_of_the_file_has_its_effect() -> None:
    file = parse_config_file(EVERY_KEY.encode(), "config.yaml")
    assert not file.findings
    merged = merge({}, file)
    unchanged = [
        name
        for name in DEFAULTS.__dataclass_fields__
        if getattr(merged, name) == getattr(DEFAULTS, name)
    ]
    # These have no key.
    assert unchanged == ["cdi_root", "disabled_hooks", "kubelet_socket"]
    assert merged.sharing.resources == (
        SharedResource(
            name="nvidia.com/gpu", rename="nvidia.com/part", devices=("0", "GPU-1"), replicas=4
        ),
    )
    assert file.labels == {
        "oneshot": True,
        "no_timestamp": True,
        "sleep_interval": "30s",
        "output_file": "/labels",
        "machine_type_file": "/machine",
        "node_feature_api": True,
    }


def test_a_flag_wins_over_the_file_and_the_file_over_the_default() -> None:
    file = ConfigFile(flags={"mig_strategy": "mixed", "gds": True})
    merged = merge({"mig_strategy": "single", "gds": None}, file)
    assert (merged.mig_strategy, merged.gds, merged.mofed) == ("single", True, False)


def test_a_flag_can_switch_off_what_the_file_switches_on() -> None:
    assert merge({"gds": False}, ConfigFile(flags={"gds": True})).gds is False


def test_mps_wins_over_time_slicing() -> None:
    text = """
version: v1
sharing:
  timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 2}]}
  mps: {resources: [{name: nvidia.com/gpu, replicas: 10}]}
"""
    sharing = parse_config_file(text.encode(), "f").sharing
    assert (sharing.strategy, sharing.resources[0].replicas) == ("mps", 10)
    assert sharing.fail_requests_greater_than_one, "the default of mps; false for time-slicing"


def test_mps_may_be_configured_as_time_slicing() -> None:
    text = "version: v1\nsharing: {mps: {resources: [{name: gpu, replicas: 2}]}}"
    merged = merge({}, parse_config_file(text.encode(), "f"))
    assert (merged.sharing.strategy, merged.mps_root) == ("mps", "/run/nvidia/mps")


def test_an_mps_root_whose_sockets_would_have_too_long_paths_is_refused() -> None:
    flag = {"mps_root": "/" + "x" * 42}
    with pytest.raises(UsageError, match="the path of the MPS root is too long"):
        merge(flag, None)


@pytest.mark.parametrize("key", ["mps_root", "driver_root", "dev_root", "hook_path"])
def test_a_path_of_the_file_is_absolute(key: str) -> None:
    """The option refuses another one; that of the file depended on the current directory."""
    with pytest.raises(UsageError, match="'run/x' is not an absolute path"):
        merge({}, ConfigFile(flags={key: "run/x"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: v2", "version is 'v2'; it must be v1"),
        ("- version: v1", "the config file must be a mapping"),
        ("version: v1\nflags: 3", "flags must be a mapping"),
        ("version: v1\nflags: {migStrategy: mix}", "flags.migStrategy is 'mix'; it must be one of"),
        ("version: v1\nflags: {migStrategy: 3}", "flags.migStrategy must be a text"),
        ("version: v1\nflags: {gdsEnabled: 'yes'}", "flags.gdsEnabled must be true or false"),
        (
            "version: v1\nflags: {plugin: {deviceListStrategy: cdi}}",
            "flags.plugin.deviceListStrategy is 'cdi'",
        ),
        ("version: v1\nresources: {gpus: [{pattern: '*'}]}", r"resources.gpus\[0\] needs"),
        (
            "version: v1\nsharing: {timeSlicing: {resources: [{name: gpu, replicas: 0}]}}",
            r"sharing.timeSlicing.resources\[0\].replicas must be 1 or more",
        ),
        (
            # The list of devices would fill the memory, and no kubelet takes it.
            "version: v1\nsharing: {timeSlicing: {resources: [{name: gpu, replicas: 100000000}]}}",
            r"sharing.timeSlicing.resources\[0\].replicas must be 65536 or less",
        ),
        (
            "version: v1\nsharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, device: 1}]}}",
            r"resources\[0\].device is not a key",
        ),
        (
            "version: v1\nsharing: {timeSlicing: {resources: [{name: gpu, devices: 0, replicas: 2}]}}",
            "devices must be all, a number, or a list",
        ),
        ("version: v1\nimex: {channelIDs: [1]}", r"imex.channelIDs must be \[\] or \[0\]"),
        ("version: v1\nflags: {a: &x 1, a: 2}", "config.yaml"),
        ("version: [", "config.yaml, line"),
    ],
)
def test_an_invalid_value_is_an_error_that_names_its_place(text: str, message: str) -> None:
    with pytest.raises(CdiGenError, match=message) as refusal:
        settings(text)
    assert refusal.value.code == "CDG-N002"
    assert refusal.value.message.startswith("config.yaml")


def test_an_unknown_key_is_a_warning() -> None:
    file = parse_config_file(b"version: v1\nflags: {plugin: {newKey: 1}}\nmore: 2", "config.yaml")
    assert [finding.subject for finding in file.findings] == ["more", "flags.plugin.newKey"]


@pytest.mark.parametrize("name", ["", "a/b/c", "-x", "nvidia.com/" + "g" * 60, "kubernetes.io/gpu"])
def test_a_name_that_kubernetes_refuses_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="not the name of a resource"):
        resource_name(name)


def test_names_get_the_prefix_of_nvidia() -> None:
    assert resource_name("gpu.shared") == "nvidia.com/gpu.shared"
    assert resource_name("example.com/gpu") == "example.com/gpu"
    assert mig_resource_name("1g.10gb+me.all") == "nvidia.com/mig-1g.10gb.me.all"
