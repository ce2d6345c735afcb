# SPDX-License-Identifier: Apache-2.0
"""``list``, ``show``, ``validate``, ``inventory``, and what ``generate`` tells instead of writing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cdi_gen.cdi.wire import Format, dump, load
from tests.cli.program import (
    CHECKOUT,
    GOLDEN,
    INVENTORY,
    MIG,
    ONE_GPU,
    PROGRAM,
    SPEC,
    cdi_gen,
    failure,
    generate,
)

UUID = "GPU-ab100000-c0de-4000-8000-000000001000"
NAMES = ["0", UUID, "pci-0000-1b-00-0", "all", "none"]


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """A spec directory: one good file, two that conflict, a broken one, and what nobody reads."""
    folder = tmp_path / "cdi"
    folder.mkdir()
    (folder / "good.json").write_text(SPEC.replace("nvidia.com/gpu", "example.org/gpu"))
    for name in ("one.json", "two.yaml"):
        (folder / name).write_text(SPEC)
    (folder / "broken.json").write_text("{")
    (folder / "notes.txt").write_text(SPEC.replace("nvidia.com/gpu", "example.org/unread"))
    return folder


def _list(*arguments: str) -> str:
    found = cdi_gen("list", "--inventory", str(MIG / "inventory.json"), *arguments)
    assert (found.code, found.err.count("\n")) == (4, 1)
    assert "warning: left out: GPU 2 at 0000:21:00.0: MIG is enabled, and it has no" in found.err
    return found.out


def test_the_table_is_aligned_and_complete() -> None:
    header, *rows = _list().splitlines()
    assert header.split("  ")[0] == "DEVICE"
    starts = [header.index(word) for word in ("INDEX", "MINOR", "UUID", "PCI ADDRESS", "MODEL")]
    for row in rows:
        assert all(row[start - 1] == " " and row[start] != " " for start in starts)
    wide = _list("-o", "wide").splitlines()
    assert wide[0].split()[-1] == "NODES"
    assert len(wide) == len(rows) + 1
    assert all("/dev/nvidia" in row for row in wide[1:])


def test_the_forms_say_the_same() -> None:
    document = json.loads(_list("-o", "json"))
    assert yaml.safe_load(_list("-o", "yaml")) == document
    names = _list("-o", "name").splitlines()
    assert [f"nvidia.com/gpu={name}" for row in document for name in row["names"]] == names[:-2]
    assert [row["device"] for row in document] == [
        row.split()[0] for row in _list().splitlines()[1:]
    ]


def test_every_listed_name_is_in_the_spec() -> None:
    """And the other way round."""
    spec = load((MIG / "nvidia.json").read_text())
    assert sorted(_list("-o", "name").split()) == sorted(
        f"{spec.kind}={device.name}" for device in spec.devices
    )


def test_another_kind() -> None:
    assert _list("--vendor", "example.org", "--class", "x", "-o", "name").startswith(
        "example.org/x="
    )


@pytest.mark.parametrize("form", ["table", "wide", "json", "yaml", "name"])
def test_installed_specs_as_engines_find_them(specs: Path, form: str) -> None:
    found = cdi_gen("list", "--spec-dir", str(specs), "-o", form)
    assert found.code == 0
    read: dict[str, Callable[[str], list[str]]] = {
        "json": lambda text: [each["device"] for each in json.loads(text) if each["file"]],
        "yaml": lambda text: [each["device"] for each in yaml.safe_load(text) if each["file"]],
        "name": str.split,
        "table": lambda text: [line.split()[0] for line in text.splitlines()[1:]],
    }
    rows = read["table" if form == "wide" else form](found.out)
    assert rows == sorted(f"example.org/gpu={name}" for name in NAMES)
    assert f"warning: {specs}/broken.json: line 1, column 2" in found.err
    assert found.err.count("conflict") == 0
    assert f"engines cannot resolve nvidia.com/gpu=0, nvidia.com/gpu={UUID}" in found.err
    assert f"{specs}/one.json, {specs}/two.yaml all define these devices" in found.err
    assert "unread" not in found.out + found.err


def test_the_later_directory_wins(specs: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    later.mkdir()
    (later / "mine.json").write_text((specs / "good.json").read_text())
    both = ("list", "--spec-dir", str(specs), "--spec-dir", str(later))
    first = json.loads(cdi_gen(*both, "-o", "json").out)[0]
    assert (first["file"], first["shadowed"]) == (
        str(later / "mine.json"),
        [str(specs / "good.json")],
    )
    assert str(specs / "good.json") in cdi_gen(*both, "-o", "wide").out
    variable = {"NVIDIA_CTK_CDI_SPEC_DIRS": str(later)}
    assert str(later / "mine.json") in cdi_gen("cdi", "list", env=variable).out


def test_a_directory_without_specs(tmp_path: Path) -> None:
    found = cdi_gen("list", "--spec-dir", str(tmp_path / "none"), "-o", "name")
    assert (found.code, found.out) == (0, "")
    assert f"no spec file in {tmp_path}/none" in found.err


def test_show_of_an_installed_device(specs: Path) -> None:
    found = cdi_gen("show", "example.org/gpu=0", "--spec-dir", str(specs))
    assert found.code == 0
    lines = found.out.splitlines()
    assert lines[0] == f"example.org/gpu=0  (CDI 0.5.0, from {specs}/good.json)"
    assert "device  /dev/nvidia0  c 195:0  rw" in lines
    document = json.loads(SPEC)
    edits = [document["containerEdits"], document["devices"][0]["containerEdits"]]
    for key, word in (
        ("env", "env"),
        ("deviceNodes", "device"),
        ("mounts", "mount"),
        ("hooks", "hook"),
    ):
        wanted = sum(len(each.get(key, ())) for each in edits)
        assert len([line for line in lines if line.startswith(f"{word} ")]) == wanted > 0


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_show_as_a_spec_of_one_device(form: Format) -> None:
    found = cdi_gen("show", UUID, "--inventory", INVENTORY, "-o", form)
    spec = load(found.out)
    assert [device.name for device in spec.devices] == [UUID]
    assert spec.container_edits == load(SPEC).container_edits
    assert found.out == dump(spec, form)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nvidia.com/gpu=0", "engines cannot resolve nvidia.com/gpu=0"),
        ("nvidia.com/gpu=9", "no spec file in"),
        ("example.org/unread=0", "no spec file in"),
        ("=", "no spec file in"),
    ],
)
def test_show_of_what_does_not_resolve(specs: Path, name: str, told: str) -> None:
    said = failure(cdi_gen("show", name, "--spec-dir", str(specs)), 1)
    assert told in said
    assert "  hint: " in said
    if "no spec" in told:
        assert f"engines ignore {specs}/broken.json [CDG-F103]\n" in said
        assert f"see the reasons with: cdi-gen validate {specs}/broken.json\n" in said
        ours = "cdi-gen generate -o" if "nvidia" in name else f"cdi-gen list --spec-dir {specs}"
        assert ours in said, "cdi-gen makes no spec of another vendor's"


def test_a_host_root_that_is_not_there(tmp_path: Path) -> None:
    said = failure(cdi_gen("generate", "--host-root", str(tmp_path / "none")), 1)
    assert f"--host-root: there is no directory {tmp_path}/none" in said


def test_validate_says_every_problem_with_its_place(tmp_path: Path) -> None:
    document = json.loads(SPEC)
    document["cdiVersion"] = "0.2.0"
    document["devices"][0]["containerEdits"]["deviceNodes"][0]["path"] = ""
    document["devices"][1]["name"] = "0"
    document["containerEdits"]["hooks"][0]["hookName"] = "sometimes"
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(document))
    text = cdi_gen("validate", str(path))
    assert (text.code, text.err) == (6, "")
    found = cdi_gen("validate", "-o", "json", str(path), str(ONE_GPU / "nvidia.json"))
    assert found.code == 6
    bad, good = json.loads(found.out)
    assert good["problems"] == []
    places = [each["path"] for each in bad["problems"]]
    for place in (
        ".devices[0].containerEdits.deviceNodes[0].path",
        ".devices[1].name",
        ".containerEdits.hooks[0].hookName",
    ):
        assert place in places
        assert f"{path}: fatal: {place}: " in text.out
    assert all(each["consequence"] and each["message"] for each in bad["problems"])
    assert all("1.1.1" in each["refusedBy"] for each in bad["problems"])
    assert text.out.count(f"{path}: ") == len(places)


@pytest.mark.parametrize("name", ["nvidia.json", "cap.json", "nohooks.json"])
def test_our_own_specs_are_valid(name: str) -> None:
    files = [str(path) for path in sorted(GOLDEN.glob(f"*/{name}"))]
    found = cdi_gen("validate", *files)
    assert found.code == 0
    assert found.out.splitlines() == [f"{path}: ok" for path in files]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "fatal"),
        (b"\x7fELF\x02\x01\x01" + bytes(range(256)), "not UTF-8 text"),
        (b"a: [", "line"),
        (b"[" * 100_000, "nested too deeply"),
        (SPEC.encode() + b" " * (5 << 20), "more than 4194304 bytes"),
        (SPEC.encode("utf-16")[:-1], "not UTF-8 text"),
        (SPEC.replace('"0.5.0"', "NaN", 1).encode(), "NaN"),
        (b"a: &a [*a]", ""),
    ],
)
def test_validate_takes_anything(content: bytes, told: str) -> None:
    found = cdi_gen("validate", "-", input=content)
    assert found.code == 6
    assert found.out.startswith("-: fatal: ")
    assert told in found.out
    assert len(found.out) < 1000
    assert found.err == ""


def test_validate_of_what_can_not_be_read(tmp_path: Path) -> None:
    failure(cdi_gen("validate", str(tmp_path)), 1)
    failure(cdi_gen("validate", str(tmp_path / "none.json")), 1)


def test_a_dry_run_shows_the_difference_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "nvidia.json"
    new = generate("--dry-run", "-o", str(path))
    assert new.code == 5
    assert not path.exists()
    assert "".join(line[1:] for line in new.out.splitlines(keepends=True)[3:]) == SPEC
    assert "dry run, nothing written: nvidia.com/gpu in" in new.err
    path.write_text(SPEC)
    same = generate("--dry-run", "-o", str(path))
    assert (same.code, same.out) == (0, "")
    other = generate("--dry-run", "-o", str(path), "--vendor", "example.org").out
    assert '-  "kind": "nvidia.com/gpu",\n+  "kind": "example.org/gpu",\n' in other
    assert path.read_text() == SPEC


def test_a_dry_run_into_a_directory_that_is_not_there_makes_none(tmp_path: Path) -> None:
    assert generate("--dry-run", "-o", str(tmp_path / "cdi" / "nvidia.json")).code == 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", sorted(path.name for path in GOLDEN.iterdir()))
@pytest.mark.parametrize("flags", [(), ("--capabilities", "utility")])
def test_explain_accounts_for_every_file_of_the_spec(host: str, flags: tuple[str, ...]) -> None:
    arguments = ("generate", "--inventory", str(GOLDEN / host / "inventory.json"), *flags)
    found = cdi_gen(*arguments, "--explain")
    assert (found.code, found.err) == (0, "")
    rows = [line.split(maxsplit=2) for line in found.out.splitlines()]
    assert all(len(row) == 3 for row in rows), "each with a reason"
    taken = {what for verdict, what, _ in rows if verdict == "taken"}
    spec = load(cdi_gen(*arguments).out)
    mounted = {mount.host_path for mount in spec.container_edits.mounts}
    nodes = {node.path for node in spec.container_edits.device_nodes}
    assert mounted | nodes <= taken
    left = {what for verdict, what, _ in rows if verdict == "left"}
    assert not (mounted | nodes) & left
    assert not flags or any("libcuda.so" in what for what in left)


@pytest.mark.parametrize(
    ("engine", "newest", "groups"),
    [("podman@4.9", "0.5.0", False), ("docker@25", "0.5.0", False), ("podman@5.5", "0.7.0", True)],
)
def test_for_an_engine(engine: str, newest: str, groups: bool) -> None:
    found = generate("--for", engine)
    assert found.code == 0
    assert load(found.out).cdi_version == newest
    assert ("additionalGids" in found.out) == groups


def test_for_an_engine_that_knows_no_names_with_a_digit_first() -> None:
    inventory = str(GOLDEN / "server-550-4gpu-headless" / "inventory.json")
    old = ("generate", "--inventory", inventory, "--for", "podman@4.2")
    assert "--device-name-strategy type-index" in failure(cdi_gen(*old), 1)
    found = cdi_gen(*old, "--device-name-strategy", "type-index", "--no-all-device")
    assert found.code == 0
    assert load(found.out).cdi_version == "0.4.0"
    assert [device.name for device in load(found.out).devices] == ["gpu0", "gpu1", "gpu2", "gpu3"]


def test_the_output_of_an_inventory_is_safe_too(tmp_path: Path) -> None:
    """What is not there cannot be looked at, and the old file stays."""
    path = tmp_path / "host.json"
    path.write_text("old")
    failure(cdi_gen("inventory", "--host-root", str(CHECKOUT / "docs"), "-o", str(path)), 3)
    assert path.read_text() == "old"


NODE = {"path": "/dev/x"}


@pytest.mark.parametrize(
    ("edits", "line"),
    [
        # As amd-ctk writes /dev/kfd, and vfio plugins their groups: numbers are the host's.
        ({"deviceNodes": [{"path": "/dev/kfd"}]}, "device  /dev/kfd  as on the host  rwm"),
        (
            {"deviceNodes": [{"path": "/dev/vfio/vfio", "permissions": "mrw", "gid": 44}]},
            "device  /dev/vfio/vfio  as on the host  mrw  gid 44",
        ),
        (
            {"deviceNodes": [NODE | {"type": "c", "hostPath": "/dev/accel/accel0"}]},
            "device  /dev/x  c as on the host  rwm  from /dev/accel/accel0",
        ),
        (
            {"deviceNodes": [NODE | {"type": "b", "major": 8, "fileMode": 0o640, "uid": 0}]},
            "device  /dev/x  b 8:0  rwm  mode 0640  uid 0",
        ),
        ({"deviceNodes": [NODE | {"type": "p"}]}, "device  /dev/x  p  rwm"),
        (
            {"netDevices": [{"hostInterfaceName": "ens1f0v3", "name": "rdma0"}]},
            "net     rdma0  from ens1f0v3",
        ),
        (
            {"intelRdt": {"closID": "gold", "schemata": ["L3:0=ff", "MB:0=50"]}},
            "rdt     closID gold  schemata L3:0=ff, MB:0=50",
        ),
        ({"intelRdt": {}}, "rdt     a group of its own"),
        (
            {"mounts": [{"hostPath": "tmpfs", "containerPath": "/scratch", "type": "tmpfs",
                         "options": ["nosuid", "size=64m"]}]},
            "mount   /scratch  a new tmpfs  (writable, size=64m)",
        ),
        (
            {"mounts": [{"hostPath": "/opt/habana", "containerPath": "/opt/habana", "type": "none",
                         "options": ["rbind", "ro", "exec"]}]},
            "mount   /opt/habana  (exec)",
        ),
        (
            {"hooks": [{"hookName": "createRuntime", "path": "/usr/bin/tool", "timeout": 5}]},
            "hook    createRuntime: /usr/bin/tool (at most 5 s)",
        ),
        (
            {"hooks": [{"hookName": "prestart", "path": "/opt/h", "args": ["other", "-x"]}]},
            "hook    prestart: /opt/h -x (as other)",
        ),
        ({"env": ["A=\u001b[31m\nmount   /etc"]}, "env     A=\\x1b[31m\\nmount   /etc"),
    ],
)  # fmt: skip
def test_show_tells_all_that_any_vendors_spec_gives(
    tmp_path: Path, edits: object, line: str
) -> None:
    document = {
        "cdiVersion": "1.1.0",
        "kind": "vendor.example/thing",
        "devices": [{"name": "a", "containerEdits": edits}],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    found = cdi_gen("show", "vendor.example/thing=a", "--spec-dir", str(tmp_path))
    assert found.code == 0
    assert found.out.splitlines()[1:] == [line]


@pytest.mark.parametrize(
    "words",
    [
        ["validate", "FIFO"],
        ["show", "0", "--inventory", "FIFO"],
        ["generate", "--inventory", "FIFO"],
        ["generate", "--inventory", INVENTORY, "--dry-run", "-o", "FIFO"],
        ["inject", "FIFO", "--device", "a.b/c=d"],
    ],
    ids=" ".join,
)
def test_no_command_waits_for_ever_for_a_pipe_that_it_is_given(
    tmp_path: Path, words: list[str]
) -> None:
    fifo = str(tmp_path / "pipe")
    os.mkfifo(fifo)
    found = cdi_gen(*(fifo if word == "FIFO" else word for word in words), timeout=20)
    assert f"{fifo}: a named pipe without a writer for 3 sec" in failure(found, 1)
    assert stat.S_ISFIFO(os.stat(fifo).st_mode)


def test_nothing_is_written_in_the_place_of_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "config.json"
    os.mkfifo(fifo)
    for words in ([str(fifo)], [str(tmp_path)], ["/dev/null"]):
        said = failure(cdi_gen("inject", "-i", *words, "--device", "a.b/c=d"), 2)
        assert "is not a regular file and cannot be replaced" in said
    assert stat.S_ISFIFO(os.stat(fifo).st_mode)


@pytest.mark.parametrize("words", [["validate"], ["list", "--inventory"]])
def test_what_has_no_end_is_not_read(words: list[str]) -> None:
    assert "/dev/zero: neither a file nor a pipe" in failure(cdi_gen(*words, "/dev/zero"), 1)


def test_a_pipe_that_the_shell_opened_is_read(tmp_path: Path) -> None:
    """As `cdi-gen validate <(make-spec)`; its content may come late."""
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb") as pipe:
        words = [*PROGRAM, "validate", f"/dev/fd/{reading}", "/dev/stdin"]
        with subprocess.Popen(
            words, cwd=CHECKOUT, pass_fds=(reading,), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            time.sleep(0.5)
            pipe.write(SPEC.encode())
            pipe.close()
            out, err = process.communicate(SPEC.encode(), timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert out.decode() == f"/dev/fd/{reading}: ok\n/dev/stdin: ok\n"


def test_an_inventory_of_another_host_takes_the_hook_that_it_is_told_of() -> None:
    found = cdi_gen("generate", "--inventory", INVENTORY, "--nvidia-cdi-hook-path", "/opt/hook")
    assert found.code == 0
    assert [hook.path for hook in load(found.out).container_edits.hooks] == ["/opt/hook"]
    shown = cdi_gen("show", "0", "--inventory", INVENTORY, "--nvidia-cdi-hook-path", "/opt/hook")
    assert "hook    createContainer: /opt/hook " in shown.out


@pytest.mark.parametrize("command", [["generate"], ["list"], ["show", "0"]])
@pytest.mark.parametrize(
    "option", ["--driver-root", "--dev-root", "--library-search-path", "--config-search-path",
               "--host-root"],
)  # fmt: skip
def test_where_to_look_makes_no_sense_beside_an_inventory(command: list[str], option: str) -> None:
    said = failure(cdi_gen(*command, "--inventory", INVENTORY, option, "/opt"), 2)
    assert f"{option} has no effect with --inventory: this host is not searched" in said
    environment = {"NVIDIA_CTK_DRIVER_ROOT": "/opt"}
    assert cdi_gen(*command, "--inventory", INVENTORY, env=environment).code == 0
