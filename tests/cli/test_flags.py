# SPDX-License-Identifier: Apache-2.0
"""Every flag of ``nvidia-ctk cdi generate``, under its name, its alias and its variable."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cdi_gen.cdi.wire import load
from cdi_gen.inventory import json_form
from tests.cli.program import MIG, SPEC, TWO_GPUS, cdi_gen, failure, generate
from tests.fakehost.hosts import FakeHost

UUID = "GPU-ab100000-c0de-4000-8000-000000001000"


def _names(text: str) -> list[str]:
    return [device.name for device in load(text).devices]


@pytest.mark.parametrize(
    ("flags", "variable", "value", "sign"),
    [
        (["--format"], "GENERATE_OUTPUT_FORMAT", "yaml", "\nkind: nvidia.com/gpu\n"),
        (["--format"], "GENERATE_OUTPUT_FORMAT", "YAML", "\nkind: nvidia.com/gpu\n"),
        (["--vendor", "--cdi-vendor"], "GENERATE_VENDOR", "example.org", '"example.org/gpu"'),
        (["--class", "--cdi-class"], "GENERATE_CLASS", "accelerator", '"nvidia.com/accelerator"'),
        (["--mode", "--discovery-mode"], "GENERATE_MODE", "cap", '"nvidia.com/cap"'),
        (
            ["--device-name-strategy"],
            "GENERATE_DEVICE_NAME_STRATEGIES",
            "type-index",
            '"name": "gpu0"',
        ),
        (
            ["--device-id", "--device-ids", "--device", "--devices"],
            "GENERATE_DEVICE_IDS",
            "none",
            '"cdiVersion": "0.4.0"',
        ),
        (
            ["--ldconfig-path"],
            "GENERATE_LDCONFIG_PATH",
            "/opt/sbin/ldconfig",
            "/opt/sbin/ldconfig",
        ),
    ],
)
def test_a_flag_its_aliases_and_its_variable_say_the_same(
    flags: list[str], variable: str, value: str, sign: str
) -> None:
    wanted = generate(flags[0], value)
    assert wanted.code == 0, wanted
    assert sign in wanted.out
    assert sign not in SPEC
    for alias in flags[1:]:
        assert generate(alias, value).out == wanted.out, alias
    assert generate(env={f"NVIDIA_CTK_CDI_{variable}": value}).out == wanted.out


def test_leave_read_only_roots() -> None:
    wanted = generate("--leave-read-only-roots")
    assert '"--leave-read-only-root"' in wanted.out
    assert "--leave-read-only-root" not in SPEC


def test_no_all_device() -> None:
    wanted = generate("--no-all-device")
    assert _names(wanted.out) == ["0", UUID, "pci-0000-1b-00-0"]
    assert generate(env={"NVIDIA_CTK_CDI_GENERATE_NO_ALL_DEVICE": "true"}).out == wanted.out


@pytest.mark.parametrize("flag", ["--disable-hook", "--disable-hooks"])
def test_a_step_of_the_hook_is_left_out(flag: str) -> None:
    for name, sign in (("create-symlinks", "--link"), ("update-ldcache", "--folder")):
        found = generate(flag, name).out
        assert sign in SPEC
        assert sign not in found
        variable = {"NVIDIA_CTK_CDI_GENERATE_DISABLED_HOOKS": name}
        assert generate(env=variable).out == found


@pytest.mark.parametrize("flag", ["--enable-hook", "--enable-hooks"])
def test_a_step_of_the_hook_is_kept_against_all(flag: str) -> None:
    none = generate("--disable-hook", "all")
    assert "hooks" not in none.out
    kept = generate("--disable-hook", "all", flag, "create-symlinks")
    assert "--link" in kept.out
    assert "--folder" not in kept.out
    variables = {
        "NVIDIA_CTK_CDI_GENERATE_DISABLED_HOOKS": "all",
        "NVIDIA_CTK_CDI_GENERATE_ENABLED_HOOKS": "create-symlinks",
    }
    assert generate(env=variables).out == kept.out


def test_slice_flags_repeat_and_are_not_split_at_commas() -> None:
    two = ("--inventory", str(TWO_GPUS / "inventory.json"), "--no-all-device")
    both = cdi_gen("generate", *two, "--device-id", "0", "--device-id", "1")
    assert both.out == cdi_gen("generate", *two).out
    assert failure(cdi_gen("generate", *two, "--device-id", "0,1"), 2).count("0,1") == 1


def test_a_variable_is_one_value() -> None:
    two = ("--inventory", str(TWO_GPUS / "inventory.json"))
    for value in ("0,1", "0 1", "0:1"):
        variable = {"NVIDIA_CTK_CDI_GENERATE_DEVICE_IDS": value}
        assert f"no device {value}" in failure(cdi_gen("generate", *two, env=variable), 2)


def test_the_flag_wins_over_the_variable() -> None:
    variable = {"NVIDIA_CTK_CDI_GENERATE_VENDOR": "example.org"}
    assert generate("--vendor", "nvidia.com", env=variable).out == SPEC


def test_strategies_repeat_in_their_order() -> None:
    found = generate("--device-name-strategy", "uuid", "--device-name-strategy", "index")
    assert _names(found.out) == [UUID, "0", "all", "none"]


@pytest.mark.parametrize("name", ["0", UUID, "pci-0000-1b-00-0", "gpu0", "all"])
def test_a_device_is_known_by_all_its_names(name: str) -> None:
    assert generate("--device-id", name).out == SPEC


def test_mig_devices_by_their_names() -> None:
    inventory = str(MIG / "inventory.json")
    found = cdi_gen("generate", "--inventory", inventory, "--device-id", "1:0", "--no-all-device")
    assert found.code == 4, found.err  # GPU 2 has MIG enabled and nothing to give
    assert ": 1 MIG device, driver" in found.err
    assert _names(found.out)[0] == "1:0"
    assert len(_names(found.out)) == len({*_names(found.out)}) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--device-id", "0"), ": 1 GPU, driver"),
        (("--device-id", "1"), ": 4 MIG devices, driver"),
        (("--device-id", "1:2", "--device-id", "0"), ": 1 GPU, 1 MIG device, driver"),
        (("--device-id", "none"), ": no GPU, driver"),
        ((), ": 1 GPU, 4 MIG devices, driver"),
        (("--mode", "cap"), "nvidia.com/cap: the capabilities compute, utility, video, "),
    ],
)
def test_what_is_counted_is_in_the_spec(words: tuple[str, ...], said: str) -> None:
    found = cdi_gen("generate", "--inventory", str(MIG / "inventory.json"), *words)
    assert said in found.err


def test_the_output_by_its_variable(tmp_path: Path) -> None:
    path = tmp_path / "nvidia.yaml"
    found = generate(env={"NVIDIA_CTK_CDI_OUTPUT_FILE_PATH": str(path)})
    assert (found.code, found.out) == (0, "")
    assert yaml.safe_load(path.read_text())["kind"] == "nvidia.com/gpu"


@pytest.mark.parametrize("output", ["", "-"])
def test_an_empty_output_is_standard_output_as_in_nvidia_ctk(output: str) -> None:
    assert generate("-o", output) == generate("--output", output)
    assert generate("-o", output).out == SPEC


def test_known_feature_flags_are_taken() -> None:
    flag = "no-additional-gids-for-device-nodes"
    assert generate("--feature-flag", flag, "--feature-flags", flag).out == SPEC


def test_the_command_line_of_nvidia_ctk() -> None:
    assert cdi_gen("cdi", *_arguments()).out == SPEC
    quiet = cdi_gen("--quiet", "cdi", *_arguments())
    assert (quiet.out, quiet.err) == (SPEC, "")
    assert generate(env={"NVIDIA_CTK_QUIET": "true"}).err == ""


def _arguments() -> tuple[str, ...]:
    return ("generate", "--inventory", str(MIG.parent / "flat-550-1gpu/inventory.json"))


@pytest.mark.host
@pytest.mark.skipif(os.geteuid() != 0, reason="a fake host needs root")
class TestWhereToLook:
    """The flags that say where the driver is: on a fake host."""

    @pytest.mark.parametrize(
        ("flags", "variable", "value"),
        [
            (["--driver-root"], "NVIDIA_CTK_DRIVER_ROOT", "/run/nvidia/driver"),
            (["--dev-root"], "NVIDIA_CTK_DEV_ROOT", "/opt"),
            (
                ["--library-search-path"],
                "NVIDIA_CTK_CDI_GENERATE_LIBRARY_SEARCH_PATHS",
                "/usr/lib/i386-linux-gnu",
            ),
            (["--config-search-path"], "NVIDIA_CTK_CDI_GENERATE_CONFIG_SEARCH_PATHS", "/opt"),
            (
                ["--nvidia-cdi-hook-path", "--nvidia-ctk-path"],
                "NVIDIA_CTK_CDI_HOOK_PATH",
                "/opt/nowhere",
            ),
        ],
    )
    def test_flag_alias_and_variable(
        self, host: Callable[[str], FakeHost], flags: list[str], variable: str, value: str
    ) -> None:
        name = "550-operator" if value.startswith("/run") else "550-1gpu"
        root = str(host(name).root)

        def looked(*arguments: str, **variables: str) -> tuple[int, str]:
            found = cdi_gen("inventory", "--host-root", root, *arguments, env=variables)
            return found.code, found.out or found.err

        usual = looked()
        wanted = looked(flags[0], value)
        assert wanted != usual
        assert "Traceback" not in wanted[1]
        for alias in flags[1:]:
            assert looked(alias, value) == wanted
        assert looked(**{variable: value}) == wanted

    def test_an_inventory_gives_the_spec_of_its_host(
        self, host: Callable[[str], FakeHost], tmp_path: Path
    ) -> None:
        root = str(host("550-hgx").root)
        path = tmp_path / "host.json"
        assert cdi_gen("inventory", "--host-root", root, "-o", str(path)) == (0, "", "")
        assert json_form.load(path.read_text()).gpus
        there = cdi_gen("generate", "--host-root", root)
        here = cdi_gen("generate", "--inventory", str(path))
        assert there.code == 0
        assert here.out == there.out
        assert len(json.loads(here.out)["devices"]) > 8
