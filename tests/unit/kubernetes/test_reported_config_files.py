# SPDX-License-Identifier: Apache-2.0
"""Config files of public reports and repositories: written by people, as people write them."""

from __future__ import annotations

import pytest

from cdi_gen.kubernetes.settings import DEFAULTS, Sharing
from cdi_gen.kubernetes.settings.config_file import ConfigFile, parse_config_file
from cdi_gen.kubernetes.settings.document import ConfigFileError
from cdi_gen.kubernetes.settings.merge import merge


def parse(text: str) -> ConfigFile:
    return parse_config_file(text.encode(), "config.yaml")


def test_a_key_in_the_wrong_table_is_reported_with_its_right_place() -> None:
    """NVIDIA/k8s-device-plugin#1433 (2025): "renameByDefault appears to be ignored"."""
    file = parse("""
version: v1
flags:
  migStrategy: none
  renameByDefault: true
  failRequestsGreaterThanOne: false
  deviceListStrategy: envvar
sharing:
  timeSlicing:
    sleepInterval: 10s
    resources:
      - name: nvidia.com/gpu
        replicas: 16384
""")
    fixes = {finding.subject: finding.fix for finding in file.findings}
    assert {finding.code for finding in file.findings} == {"CDG-N101"}
    sharing = "Write it as sharing.mps.{0} or sharing.timeSlicing.{0}."
    assert fixes == {
        "flags.renameByDefault": sharing.format("renameByDefault"),
        "flags.failRequestsGreaterThanOne": sharing.format("failRequestsGreaterThanOne"),
        "flags.deviceListStrategy": "Write it as flags.plugin.deviceListStrategy.",
        "sharing.timeSlicing.sleepInterval": "Write it as flags.gfd.sleepInterval.",
    }
    assert (file.sharing.rename_by_default, file.sharing.resources[0].replicas) == (False, 16384)


@pytest.mark.parametrize("strategy", ["timeSlicing", "mps"])
def test_sharing_that_names_no_resource_is_refused(strategy: str) -> None:
    """Guides have ``replicas`` in the place of ``resources``, and the GPU would not be shared."""
    with pytest.raises(ConfigFileError, match=f"sharing.{strategy}.resources is missing"):
        parse(f"version: v1\nsharing: {{{strategy}: {{replicas: 4}}}}")
    # A template without values asks for nothing.
    assert parse(f"sharing: {{{strategy}: {{}}}}").sharing == Sharing()
    assert parse(f"sharing: {{{strategy}: {{resources: []}}}}").sharing == Sharing()


def test_upper_and_lower_case_of_a_key_are_the_same() -> None:
    """Guides write ``timeslicing``; the JSON library of NVIDIA's plugin reads it."""
    file = parse("""
Version: v1
Flags: {MigStrategy: mixed, plugin: {deviceIdStrategy: index}}
sharing: {timeslicing: {renamebydefault: true, resources: [{Name: gpu, Replicas: 2}]}}
""")
    assert not file.findings
    settings = merge({}, file)
    assert (settings.mig_strategy, settings.id_strategy) == ("mixed", "index")
    (shared,) = settings.sharing.resources
    assert settings.sharing.advertised_name(shared) == "nvidia.com/gpu.shared"


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "flags:\n", "version:\nsharing: null\n"])
def test_a_file_without_settings_has_the_defaults(text: str) -> None:
    """An entry of a ConfigMap that is left empty; NVIDIA's plugin takes it, too."""
    assert merge({}, parse(text)) == DEFAULTS


@pytest.mark.parametrize(
    "text", ["cdi-annotations,cdi-cri", "'cdi-annotations, cdi-cri'", "[cdi-annotations, cdi-cri]"]
)
def test_a_list_of_strategies_may_be_a_text(text: str) -> None:
    """NVIDIA/nvidia-container-toolkit#1895 (2026): values of the variable, copied to the file."""
    file = parse(f"flags:\n  plugin:\n    deviceListStrategy: {text}\n")
    assert merge({}, file).list_strategies == ("cdi-annotations", "cdi-cri")


@pytest.mark.parametrize("strategy", ["mps", "timeSlicing"])
def test_one_replica_is_a_number_of_replicas(strategy: str) -> None:
    """NVIDIA/k8s-device-plugin#1548 (2025): "Setting MPS replicas to 1" ended plugin and labels."""
    text = f"sharing: {{{strategy}: {{resources: [{{name: nvidia.com/gpu, replicas: 1}}]}}}}"
    assert parse(text).sharing.resources[0].replicas == 1


def test_gpus_of_a_node_may_have_different_replicas() -> None:
    """NVIDIA/k8s-device-plugin#1786 (2026), and Harvester's manual: a name for each GPU."""
    file = parse("""
version: v1
sharing:
  timeSlicing:
    renameByDefault: false
    resources:
    - {name: nvidia.com/gpu, rename: nvidia.com/gpu-0, devices: ["0"], replicas: 2}
    - {name: nvidia.com/gpu, rename: nvidia.com/gpu-1, devices: [1], replicas: 8}
""")
    described = [
        (shared.rename, shared.devices, shared.replicas) for shared in file.sharing.resources
    ]
    assert described == [("nvidia.com/gpu-0", ("0",), 2), ("nvidia.com/gpu-1", ("1",), 8)]
