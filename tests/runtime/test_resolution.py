# SPDX-License-Identifier: Apache-2.0
"""Resolution of requests to edits: the specs of each mode, and the error if none has a device."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cdi_base.errors import HookError
from cdi_runtime import request
from cdi_runtime.specs import prepared
from tests.runtime.resolving import FILE, PREPARED, UUID, World, spec

CAPS = ["PREPARED=nvidia.com/cap=compute", "PREPARED=nvidia.com/cap=utility"]


@pytest.mark.parametrize(
    ("mode", "file", "value", "wanted"),
    [
        ("auto", False, "0", ["PREPARED=nvidia.com/gpu=0", *CAPS]),
        ("auto", True, "0", ["FILE=nvidia.com/gpu=0"]),
        ("auto", True, "1:0", "has no device 1:0"),
        ("auto", False, "1:0", ["PREPARED=nvidia.com/gpu=1:0", *CAPS]),
        ("auto", True, "0,1", ["FILE=nvidia.com/gpu=0", "FILE=nvidia.com/gpu=1"]),
        ("auto", True, "0,0", ["FILE=nvidia.com/gpu=0"]),
        ("auto", True, "all", ["FILE=nvidia.com/gpu=all"]),
        ("auto", True, "none", ["FILE=nvidia.com/gpu=none"]),
        ("auto", False, "none", ["PREPARED=nvidia.com/gpu=none", *CAPS]),
        ("auto", True, UUID, [f"FILE=nvidia.com/gpu={UUID}"]),
        ("auto", True, UUID.lower(), [f"FILE=nvidia.com/gpu={UUID}"]),
        ("auto", False, UUID.replace("ab", "AB"), [f"PREPARED=nvidia.com/gpu={UUID}", *CAPS]),
        ("auto", True, "nvidia.com/gpu=0", ["FILE=nvidia.com/gpu=0"]),
        ("auto", False, "nvidia.com/gpu=0", ["PREPARED=nvidia.com/gpu=0"]),
        ("auto", True, "runtime.nvidia.com/gpu=0", ["PREPARED=nvidia.com/gpu=0"]),
        ("auto", True, "runtime.nvidia.com/gpu=all", ["PREPARED=nvidia.com/gpu=all"]),
        (
            "auto",
            True,
            "runtime.nvidia.com/gpu=0,nvidia.com/gpu=1",
            "cannot be requested together",
        ),
        ("auto", True, "runtime.nvidia.com/gpu=0,1", "cannot be requested together"),
        ("auto", True, "runtime.nvidia.com/nic=0", "cannot be requested together"),
        ("legacy", True, "0", ["FILE=nvidia.com/gpu=0"]),
        ("legacy", False, "0", ["PREPARED=nvidia.com/gpu=0", *CAPS]),
        ("cdi", True, "0", ["FILE=nvidia.com/gpu=0"]),
        ("cdi", False, "0", "no CDI spec in"),
        ("cdi", False, "nvidia.com/gpu=0", "no CDI spec in"),
        ("cdi", False, "runtime.nvidia.com/gpu=0", ["PREPARED=nvidia.com/gpu=0"]),
        ("jit-cdi", True, "0", ["PREPARED=nvidia.com/gpu=0", *CAPS]),
        ("jit-cdi", False, "7", "has no device 7; available: 0, 1, 1:0, all, none"),
        ("csv", True, "0", "mode csv of config.toml is not supported"),
        ("auto", True, "void", None),
        ("auto", True, "", None),
    ],
)
def test_mode_selects_the_specs(
    world: World, mode: str, file: bool, value: str, wanted: list[str] | str | None
) -> None:
    world.settings.mode = mode
    if file:
        world.file(FILE)
    if isinstance(wanted, str):
        assert wanted in world.refusal(f"NVIDIA_VISIBLE_DEVICES={value}")
        return
    devices = world.devices(value)
    # Capabilities are a matter of specs that are made; a file's have them all.
    if wanted and value.startswith("runtime."):
        wanted = [*wanted, *CAPS]
    assert devices == wanted


@pytest.mark.parametrize("written", [f"MIG-{UUID}/1/0", f"MIG-{UUID.upper()}/1/0"])
def test_mig_device_of_an_old_driver_is_found(world: World, written: str) -> None:
    world.file(spec("nvidia.com/gpu", "FILE", "1:0", f"MIG-{UUID}:1:0", f"MIG-{UUID}:2:0"))
    assert world.devices(written) == [f"FILE=nvidia.com/gpu=MIG-{UUID}:1:0"]


def test_no_edits_without_a_request(world: World) -> None:
    world.prepared = HookError("not needed")
    assert world.edits() is None
    assert world.edits("NVIDIA_DRIVER_CAPABILITIES=all", "NVIDIA_GDS=enabled") is None


def test_prepared_file_is_not_needed_if_a_spec_file_exists(world: World) -> None:
    world.prepared = HookError("not needed")
    world.file(FILE)
    assert world.devices("0") == ["FILE=nvidia.com/gpu=0"]


def test_capabilities_come_from_a_spec_file(world: World) -> None:
    world.file(FILE)
    world.file(spec("nvidia.com/cap", "FILE", "compute", "graphics"), "cap.json")
    assert world.devices("0", "NVIDIA_DRIVER_CAPABILITIES=compute,graphics,video") == [
        "FILE=nvidia.com/gpu=0",
        "FILE=nvidia.com/cap=compute",
        "FILE=nvidia.com/cap=graphics",
    ]
    assert any("no files for the capability video" in line for line in world.messages)
    assert world.devices("nvidia.com/gpu=0") == ["FILE=nvidia.com/gpu=0"]


def test_default_kind_is_configurable(world: World) -> None:
    world.settings.default_kind = "acme.com/gpu"
    world.file(spec("acme.com/gpu", "FILE", "0"))
    assert world.devices("0") == ["FILE=acme.com/gpu=0"]


@pytest.mark.parametrize("mode", ["auto", "legacy", "cdi"])
@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("all", ["MANAGEMENT=management.nvidia.com/gpu=all"]),
        (UUID, [f"FILE=nvidia.com/gpu={UUID}"]),
        (f"{UUID.upper()},1", [f"FILE=nvidia.com/gpu={UUID}", "FILE=nvidia.com/gpu=1"]),
    ],
)
def test_a_gpu_that_the_default_kind_lacks_is_one_of_nvidia_com(
    world: World, mode: str, value: str, wanted: list[str]
) -> None:
    """NVIDIA/gpu-operator#1876 (2025), NVIDIA/nvidia-container-toolkit#1239 (2025).

    The GPU Operator makes the management spec, whose one device is `all`, the default of the shim.
    Pods with NVIDIA_VISIBLE_DEVICES=GPU-… of the device plugin did not start.
    """
    world.settings.mode = mode
    world.settings.default_kind = "management.nvidia.com/gpu"
    world.file(spec("management.nvidia.com/gpu", "MANAGEMENT", "all"), "management.json")
    world.file(FILE)
    assert world.devices(value) == wanted
    assert "management.nvidia.com/gpu has no device 9" in world.refusal("NVIDIA_VISIBLE_DEVICES=9")


def test_later_directory_wins(world: World, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir(mode=0o755)
    world.settings.spec_dirs = (str(world.folder), "/nowhere", str(later))
    world.file(FILE)
    (later / "a.json").write_text(json.dumps(spec("nvidia.com/gpu", "LATER", "0")))
    assert world.devices("0,1") == ["LATER=nvidia.com/gpu=0", "FILE=nvidia.com/gpu=1"]


def test_two_definitions_in_one_directory_are_an_error(world: World) -> None:
    world.file(FILE)
    world.file(FILE, "again.json")
    assert "more than one CDI spec" in world.refusal("NVIDIA_VISIBLE_DEVICES=0")


def test_one_missing_device_is_an_error(world: World) -> None:
    world.file(FILE)
    assert "has no device 9" in world.refusal("NVIDIA_VISIBLE_DEVICES=0,9")


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": 1, "devices": 2}', '{"devices": [3]}'])
def test_faulty_file_does_not_hide_a_valid_one(world: World, content: str) -> None:
    world.file(FILE)
    (world.folder / "bad.json").write_text(content)
    assert world.devices("0") == ["FILE=nvidia.com/gpu=0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("fault", ["owner", "mode", "link", "fifo", "directory"])
@pytest.mark.parametrize("name", ["nvidia.json", "nvidia.yaml"])
def test_untrusted_spec_file_is_not_used(
    world: World, name: str, fault: str, tmp_path: Path
) -> None:
    """A user who can write a spec can make root run a hook."""
    world.prepared = HookError("not here")
    world.file(FILE, name)
    assert world.devices("0")
    file = world.folder / name
    if fault == "owner":
        os.chown(file, 1000, 0)
    elif fault == "mode":
        file.chmod(0o666)
    elif fault == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    elif fault == "fifo":
        file.unlink()
        os.mkfifo(file)
    else:
        world.folder.chmod(0o777)
    world.refusal("NVIDIA_VISIBLE_DEVICES=0")
    assert any("used" in line for line in world.messages)


@pytest.mark.parametrize("name", ["nvidia.yaml", "nvidia.json"])
def test_yaml_comes_from_the_prepared_file_for_any_file_name(world: World, name: str) -> None:
    path = world.folder / name
    path.write_text("kind: x\n")
    world.prepared = {**PREPARED, "converted": {str(path): {"document": FILE}}}
    assert world.devices("0") == ["FILE=nvidia.com/gpu=0"]
    assert list(world.stamps) == [str(path)]
    world.prepared = {**PREPARED, "converted": {str(path): {"problem": "engines ignore it: .kind"}}}
    assert world.devices("0") == ["PREPARED=nvidia.com/gpu=0", *CAPS]
    assert any(f"{name}' is not used: engines ignore it: .kind" in line for line in world.messages)
    world.prepared = {**PREPARED, "converted": {str(path): None}}
    assert world.devices("0") == ["PREPARED=nvidia.com/gpu=0", *CAPS]
    assert any(f"{name}' is not used: it is not a valid spec" in line for line in world.messages)


def test_json_needs_no_prepared_file_for_any_file_name(world: World) -> None:
    world.file(FILE, "nvidia.yaml")
    world.prepared = HookError("not prepared")
    assert world.devices("0") == ["FILE=nvidia.com/gpu=0"]


IGNORED: dict[str, dict[str, Any]] = {
    "no edits": {"devices": [{"name": "0", "containerEdits": {}}]},
    "an unknown version": {"cdiVersion": "9.9.9"},
    "a version too low": {"cdiVersion": "0.3.0"},
    "an unknown field": {"colour": "green"},
    "a device twice": {"devices": [FILE["devices"][0]] * 2},
    "a device's name": {"devices": [{**FILE["devices"][0], "name": "-"}]},
    "a variable without =": {"containerEdits": {"env": ["A"]}},
    "a number as text": {"containerEdits": {"deviceNodes": [{"path": "/dev/a", "major": "1"}]}},
    "no hook's name": {"containerEdits": {"hooks": [{"path": "/a", "hookName": "create"}]}},
    "a mount from nowhere": {"containerEdits": {"mounts": [{"containerPath": "/a"}]}},
}


@pytest.mark.parametrize("name", ["nvidia.json", "nvidia.yaml"])
@pytest.mark.parametrize("fault", IGNORED)
def test_spec_that_every_engine_ignores_is_not_used(world: World, fault: str, name: str) -> None:
    world.file({**FILE, **IGNORED[fault]}, name)
    assert world.devices("0") == ["PREPARED=nvidia.com/gpu=0", *CAPS]
    assert any(f"{name}' is not used: engines ignore it: ." in line for line in world.messages)


def test_error_names_unused_files(world: World) -> None:
    """The log names them too, but podman and docker print only the error."""
    world.settings.mode = "cdi"
    world.file({**FILE, "colour": "green"})
    assert "nvidia.json' is not used: engines ignore it: .colour" in world.refusal(
        "NVIDIA_VISIBLE_DEVICES=0"
    )
    (world.folder / "nvidia.json").unlink()
    (world.folder / "nvidia.yaml").write_text("kind: x\n")
    world.prepared = HookError("as root, run: cdi-gen runtime prepare")
    message = world.refusal("NVIDIA_VISIBLE_DEVICES=0")
    assert "nvidia.yaml' is not used: as root, run: cdi-gen runtime prepare" in message


def test_spec_that_some_engine_accepts_is_used(world: World) -> None:
    document = {**FILE, "Kind": FILE["kind"], "containerEdits": {"Env": ["TOO=1"]}}
    del document["kind"]
    world.file(document)
    assert world.devices("0") == ["TOO=1", "FILE=nvidia.com/gpu=0"]


def test_json_that_engines_read_as_yaml_is_converted_by_the_library(world: World) -> None:
    r"""Go's YAML knows no \/, and refuses the file; only the library has a YAML reader."""
    (world.folder / "nvidia.json").write_text(json.dumps(FILE).replace("/", "\\/"))
    world.prepared = {**PREPARED, "converted": {}}
    assert world.devices("0") == ["PREPARED=nvidia.com/gpu=0", *CAPS]
    assert any(
        "nvidia.json' is not used: it is not a valid spec" in line for line in world.messages
    )


def test_other_files_are_ignored(world: World) -> None:
    for name in ("nvidia.yml", "nvidia.conf", "nvidia.json.tmp", ".cdi-gen-x.tmp"):
        world.file(spec("nvidia.com/gpu", "WRONG", "0"), name)
    assert world.devices("0") == ["PREPARED=nvidia.com/gpu=0", *CAPS]


def test_missing_driver_is_an_error(world: World) -> None:
    world.prepared = {"specs": [], "converted": {}, "problem": "no NVIDIA driver is loaded"}
    assert world.refusal("NVIDIA_VISIBLE_DEVICES=0") == "no NVIDIA driver is loaded"


def test_special_modes_are_injected(world: World) -> None:
    devices = world.devices("0", "NVIDIA_GDS=enabled", "NVIDIA_NVSWITCH=enabled")
    assert devices is not None
    assert devices[-2:] == ["PREPARED=nvidia.com/gds=all", "PREPARED=nvidia.com/nvswitch=all"]


def test_special_mode_comes_from_the_prepared_file(world: World) -> None:
    world.file(FILE)
    assert world.devices("0", "NVIDIA_GDS=enabled") == [
        "FILE=nvidia.com/gpu=0",
        "PREPARED=nvidia.com/gds=all",
    ]
    world.file(spec("nvidia.com/gds", "FILE", "all"), "gds.json")
    assert world.devices("0", "NVIDIA_GDS=enabled") == [
        "FILE=nvidia.com/gpu=0",
        "FILE=nvidia.com/gds=all",
    ]


def test_missing_special_mode_is_left_out_with_a_warning(world: World) -> None:
    """An image may always request the mode, so the container starts without it."""
    assert world.devices("0", "NVIDIA_MOFED=enabled") == ["PREPARED=nvidia.com/gpu=0", *CAPS]
    assert any("has no nvidia.com/mofed" in line for line in world.messages)
    world.file(FILE)
    world.prepared = prepared.NotPreparedError("no cdi-gen")
    assert world.devices("0", "NVIDIA_MOFED=enabled") == ["FILE=nvidia.com/gpu=0"]


def test_imex_channels_are_injected(world: World) -> None:
    devices = world.devices("0", "NVIDIA_IMEX_CHANNELS=0,7")
    assert devices is not None
    assert devices[-2:] == [f"PREPARED=nvidia.com/imex-channel={number}" for number in (0, 7)]
    assert "has no device 3" in world.refusal("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_IMEX_CHANNELS=3")


def test_imex_channels_without_a_spec_file_are_left_out(world: World) -> None:
    world.settings.mode = "cdi"
    world.file(FILE)
    wanted = ["FILE=nvidia.com/gpu=0"]
    assert world.devices("0", "NVIDIA_IMEX_CHANNELS=0") == wanted
    assert any("no IMEX channel is injected" in line for line in world.messages)
    world.file(spec("nvidia.com/imex-channel", "FILE", "0"), "imex.json")
    wanted.append("FILE=nvidia.com/imex-channel=0")
    assert world.devices("0", "NVIDIA_IMEX_CHANNELS=0") == wanted


@pytest.mark.parametrize("value", ["0,nvidia.com/cap=utility", "nvidia.com/cap=utility,0"])
def test_capability_by_its_qualified_name_is_found(world: World, value: str) -> None:
    """A complete GPU spec file does not hide a capability that is requested by name."""
    world.file(FILE)
    assert sorted(world.devices(value) or ()) == [
        "FILE=nvidia.com/gpu=0",
        "PREPARED=nvidia.com/cap=utility",
    ]


def test_the_request_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if annotations do not count, so no warning is lost."""
    calls: list[object] = []
    read = request.read

    def counted(*arguments: Any, **named: Any) -> request.Request:
        calls.append(named)
        return read(*arguments, **named)

    monkeypatch.setattr(request, "read", counted)
    world.file(FILE)
    names = {"cdi.k8s.io/x": "1"}
    variables = ("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_GDS=yes")
    assert world.edits(*variables, annotations=names) == ["FILE=nvidia.com/gpu=0"]
    assert len(calls) == 1
    assert [line for line in world.messages if "NVIDIA_GDS" in line] == [
        "NVIDIA_GDS is 'yes', which is ignored: use 'enabled' or 'disabled'"
    ]


def test_annotations_count_in_the_modes_auto_and_cdi(world: World) -> None:
    world.file(FILE)
    world.file(spec("acme.com/net", "FILE", "eth0"), "net.json")
    names = {"cdi.k8s.io/x": "acme.com/net=eth0,nvidia.com/gpu=1"}
    wanted = ["FILE=acme.com/net=eth0", "FILE=nvidia.com/gpu=1"]
    for mode in ("auto", "cdi"):
        world.settings.mode = mode
        assert world.devices("0", annotations=names) == wanted
    # The prestart hook knows none, nor do the other modes.
    assert world.devices("0", annotations=names, allowed=False) == ["FILE=nvidia.com/gpu=0"]
    for mode in ("legacy", "jit-cdi"):
        world.settings.mode = mode
        assert world.edits(annotations=names) is None


def test_annotations_without_cdi_names_are_ignored_in_mode_auto(world: World) -> None:
    """In mode auto they are ignored then."""
    world.file(FILE)
    names = {"cdi.k8s.io/x": "1"}
    assert world.devices("0", annotations=names) == ["FILE=nvidia.com/gpu=0"]
    assert world.edits(annotations=names) is None
    world.settings.mode = "cdi"
    assert world.edits(annotations=names) == ["FILE=nvidia.com/gpu=1"]
