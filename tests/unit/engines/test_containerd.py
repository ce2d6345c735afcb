# SPDX-License-Identifier: Apache-2.0
"""What becomes of containerd's files, by its version and theirs."""

from __future__ import annotations

from typing import Any

import pytest

from cdi_gen.engines import containerd
from cdi_gen.engines.containerd import imports
from cdi_gen.engines.plan import Plan, Request, Runtime
from cdi_gen.engines.text import toml_text
from cdi_gen.errors import CdiGenError, UsageError

from .machine import Told, carried_out, notes, taken_back, warnings

FILE = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/99-nvidia.toml"
IMPORTS = ["/etc/containerd/conf.d/*.toml"]
SHIM = "/usr/bin/nvidia-container-runtime"
RUNTIME = Runtime("nvidia", SHIM)
V2 = "io.containerd.grpc.v1.cri"
V3 = "io.containerd.cri.v1.runtime"

DEBIAN = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"   # Debian's
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd"
"""

KUBEADM = """\
version = 2
imports = ["/etc/containerd/kube.d/*.toml", # ours
]
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "kata"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
kata = { runtime_type = "io.containerd.kata.v2", privileged_without_host_devices = true, pod_annotations = ["io.katacontainers.*", "cdi.k8s.io/*", "*"], options = { ConfigPath = "/k" } }
runc = { runtime_type = "", options = { SystemdCgroup = true } }
"""

VERSION_1 = """\
# by hand
[plugins]
  [plugins.cri]
    sandbox_image = "pause:3"
    [plugins.cri.containerd.runtimes.runc]
      runtime_type = "io.containerd.runtime.v1.linux"
[grpc]
  gid = 0 # root
"""

DOCKERS = 'disabled_plugins = ["cri"]\n\n#root = "/var/lib/containerd"\n'


def plan(version: str | None, files: dict[str, str], **wishes: Any) -> Plan:
    machine = Told({"containerd": version} if version else {}, files)
    return containerd.plan(Request(**wishes), machine)


def after(version: str | None, files: dict[str, str], **wishes: Any) -> dict[str, dict[str, Any]]:
    made = carried_out(plan(version, files, **wishes), files)
    return {path: toml_text.parse(text) for path, text in made.items()}


FALLBACK = {
    "runtime_type": "io.containerd.runc.v2",
    "runtime_root": "",
    "runtime_engine": "",
    "privileged_without_host_devices": False,
    "options": {"BinaryName": SHIM},
}


def test_version_2_gets_a_drop_in_that_carries_the_section() -> None:
    """containerd#5837."""
    made = after("1.7.24", {FILE: DEBIAN}, runtime=RUNTIME)
    assert made[FILE] == toml_text.parse(DEBIAN) | {"imports": IMPORTS}
    section = toml_text.parse(DEBIAN)["plugins"][V2]
    runtimes = {"runc": {"runtime_type": "io.containerd.runc.v2"}, "nvidia": FALLBACK}
    section |= {"enable_cdi": True, "containerd": {"runtimes": runtimes}}
    assert made[DROP_IN] == {"version": 2, "plugins": {V2: section}}


def test_from_2_1_on_a_drop_in_has_ours_alone() -> None:
    made = after("2.1.4", {FILE: DEBIAN}, runtime=RUNTIME)
    section = {"containerd": {"runtimes": {"nvidia": FALLBACK}}}
    assert made[DROP_IN] == {"version": 2, "plugins": {V2: section}}


def test_comments_and_order_of_the_main_file_stay() -> None:
    """A56."""
    for text in (DEBIAN, KUBEADM):
        made = carried_out(plan("1.7.24", {FILE: text}), {FILE: text})[FILE]
        left = iter(made.splitlines())
        assert all(line in left for line in text.splitlines() if "imports" not in line)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("version = 2\n", 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'),
        ("version = 2", 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]'),
        (
            "# mine\nversion = 2 # two\n\n# and\n[grpc]\n  gid = 0\n",
            (
                '# mine\nversion = 2 # two\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
                "\n# and\n[grpc]\n  gid = 0\n"
            ),
        ),
        (
            "version = 2\nimports = []\n",
            'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
        ),
        (
            'imports = ["/a"]\nversion = 2\n',
            'imports = ["/a", "/etc/containerd/conf.d/*.toml"]\nversion = 2\n',
        ),
        (
            "version = 2\nimports = [\n  '/a]', # a\n  '/b' # b\n] # c\n",
            (
                "version = 2\nimports = [\n  '/a]', # a\n  '/b', # b\n"
                '  "/etc/containerd/conf.d/*.toml"\n] # c\n'
            ),
        ),
        (
            "version = 2\nimports = [\n\t'/a', # a\n]\n",
            "version = 2\nimports = [\n\t'/a', # a\n\t\"/etc/containerd/conf.d/*.toml\",\n]\n",
        ),
    ],
)
def test_the_import_in_the_text(before: str, after: str) -> None:
    """A56."""
    made = imports.with_import(before, DROP_IN, directory="/etc/containerd", file_version=2)
    assert made == after


@pytest.mark.parametrize(
    ("version", "known"), [("1.7.24", 2), ("1.6.20", 2), (None, 2), ("2.0.1", 3), ("2.2.0", 3)]
)
def test_no_file_yet(version: str | None, known: int) -> None:
    made = after(version, {}, runtime=RUNTIME)
    assert made[FILE] == {"version": known, "imports": IMPORTS}
    plugin = V3 if known == 3 else V2
    entry = made[DROP_IN]["plugins"][plugin]["containerd"]["runtimes"]["nvidia"]
    assert entry["options"]["BinaryName"] == SHIM
    assert entry["runtime_type"] == "io.containerd.runc.v2"


def test_version_3() -> None:
    text = 'version = 3\n[plugins."io.containerd.cri.v1.runtime"]\nenable_cdi = false\n'
    made = after("2.1.4", {FILE: text})
    assert made[DROP_IN] == {"version": 3, "plugins": {V3: {"enable_cdi": True}}}


def test_version_1_is_changed_itself() -> None:
    files = {FILE: VERSION_1}
    made = carried_out(plan("1.7.24", files, runtime=RUNTIME._replace(default=True)), files)
    assert [*made] == [FILE]
    text = made[FILE]
    cri = toml_text.parse(text)["plugins"]["cri"]
    assert cri["enable_cdi"] is True
    assert cri["containerd"]["default_runtime_name"] == "nvidia"
    assert cri["containerd"]["runtimes"]["nvidia"] == {
        "runtime_type": "io.containerd.runtime.v1.linux",
        "options": {"BinaryName": SHIM, "Runtime": SHIM},
    }
    assert "# by hand" in text
    assert "gid = 0 # root" in text
    again = {FILE: text}
    assert carried_out(plan("1.7.24", again, runtime=RUNTIME._replace(default=True)), again) == {}
    assert taken_back(plan("1.7.24", again), again, files) == files


@pytest.mark.parametrize(
    ("version", "text", "there"),
    [
        ("1.7.24", DEBIAN, True),
        ("1.6.20", None, True),
        (None, DEBIAN, True),
        ("2.1.4", DEBIAN, False),
    ],
)
def test_the_built_in_runtime_stays(version: str | None, text: str | None, there: bool) -> None:
    """containerd 1 forgets it when a file names another, and is then without its default.

    nvidia-ctk 1.20 leaves it at that.
    """
    made = after(version, {FILE: text} if text else {}, runtime=RUNTIME)
    runtimes = made[DROP_IN]["plugins"][V2]["containerd"]["runtimes"]
    assert (runtimes.get("runc") == {"runtime_type": "io.containerd.runc.v2"}) == there
    assert (
        "runc"
        not in after(version, {FILE: KUBEADM.replace("runc", "other")}, runtime=RUNTIME)[DROP_IN][
            "plugins"
        ][V2]["containerd"]["runtimes"]
    )


def test_version_1_is_not_looked_at_by_containerd_2() -> None:
    """Not at its CRI plugin; but at a drop-in of version 3 that it imports."""
    files = {FILE: DOCKERS}
    now = {**files, **carried_out(plan("2.1.4", files, runtime=RUNTIME), files)}
    assert toml_text.parse(now[FILE]) == toml_text.parse(DOCKERS) | {"imports": IMPORTS}
    assert [*toml_text.parse(now[DROP_IN])["plugins"]] == [V3]
    for version in ("2.1.4", "1.7.24", None):
        back = taken_back(plan(version, now), now, files)
        assert back == {**files, DROP_IN: ""}


def test_back_after_containerd_was_renewed() -> None:
    files = {FILE: VERSION_1}
    now = {**files, **carried_out(plan("1.7.24", files, runtime=RUNTIME), files)}
    assert taken_back(plan("2.1.4", now), now, files) == files


def test_the_file_of_dockers_package_says_no_version_and_no_cri() -> None:
    found = plan("1.7.24", {FILE: DOCKERS})
    assert [change.path for change in found.changes] == [FILE]
    assert f"{FILE} disables the CRI plugin (disabled_plugins)" in warnings(found)


def test_the_runtime_is_as_the_default_one() -> None:
    """A34: but no annotation gets through to it by which a pod would ask for devices."""
    made = after("1.7.24", {FILE: KUBEADM}, runtime=RUNTIME)
    section = made[DROP_IN]["plugins"][V2]
    assert section["containerd"]["runtimes"]["nvidia"] == {
        "runtime_type": "io.containerd.kata.v2",
        "privileged_without_host_devices": True,
        "pod_annotations": ["io.katacontainers.*"],
        "options": {"ConfigPath": "/k", "BinaryName": SHIM},
    }
    assert section["containerd"]["default_runtime_name"] == "kata"


def test_a_missing_runtime_type_is_filled_in() -> None:
    """containerd cannot start a runtime without a type. nvidia-ctk before 1.20 left it out."""
    text = KUBEADM.replace('default_runtime_name = "kata"', "")
    made = after("1.7.24", {FILE: text}, runtime=RUNTIME)
    assert made[DROP_IN]["plugins"][V2]["containerd"]["runtimes"]["nvidia"] == {
        "runtime_type": "io.containerd.runc.v2",
        "options": {"SystemdCgroup": True, "BinaryName": SHIM},
    }


def test_what_others_drop_in_says_is_carried_too() -> None:
    """Before 2.1 the last file that names the plugin counts: ours comes after it."""
    other = f'version = 2\n[plugins."{V2}"]\nsandbox_image = "theirs"\n'
    files = {FILE: DEBIAN.replace("2\n", f"2\nimports = {IMPORTS}\n", 1)}
    files["/etc/containerd/conf.d/10-other.toml"] = other
    files["/etc/containerd/conf.d/README"] = "not TOML ="
    made = after("1.7.24", files)
    assert [*made] == [DROP_IN]
    assert made[DROP_IN]["plugins"][V2] == {"sandbox_image": "theirs", "enable_cdi": True}
    files[FILE] = files[FILE].replace("[plugins]", "[plugins]\n")
    merged = after(
        "2.1.4", {**files, FILE: files[FILE] + f'[plugins."{V2}".x]\ny = 1\n'}, cdi=False
    )
    assert merged == {}


@pytest.mark.parametrize(
    ("entry", "there"),
    [
        ("/etc/containerd/conf.d/*.toml", True),
        ("conf.d/*.toml", False),  # containerd 1.6 looks below its working directory
        ("./conf.d/99-nvidia.toml", True),
        ("/etc/containerd/conf.d/99-nvidia.toml", True),
        ("/etc/containerd/conf.d/*.conf", False),
        ("/etc/containerd/*.toml", False),
        ("/etc/containerd/conf.d", False),
    ],
)
def test_an_import_that_is_there_already(entry: str, there: bool) -> None:
    text = f'version = 2\nimports = ["{entry}"]\n'
    made = imports.with_import(text, DROP_IN, directory="/etc/containerd", file_version=2)
    assert (made == text) == there
    assert there or toml_text.parse(made)["imports"] == [entry, *IMPORTS]


def test_twice_is_once_and_a_runtime_of_before_stays() -> None:
    files = {FILE: DEBIAN}
    files |= carried_out(plan("1.7.24", files, runtime=RUNTIME._replace(default=True)), files)
    assert carried_out(plan("1.7.24", files, runtime=RUNTIME._replace(default=True)), files) == {}
    assert carried_out(plan("1.7.24", files), files) == {}
    files[FILE] = files[FILE].replace("/usr/lib/cni", "/opt/cni/bin")
    made = after("1.7.24", files)
    assert [*made] == [DROP_IN], "a section that is carried is renewed"
    section = made[DROP_IN]["plugins"][V2]
    assert section["cni"]["bin_dir"] == "/opt/cni/bin"
    assert section["containerd"]["default_runtime_name"] == "nvidia"
    assert section["containerd"]["runtimes"]["nvidia"] == FALLBACK


@pytest.mark.parametrize("before", [None, DEBIAN, KUBEADM, "", "# nothing\nversion = 3\n"])
@pytest.mark.parametrize("version", ["1.7.24", "2.1.4", None])
def test_back(before: str | None, version: str | None) -> None:
    """A56."""
    files = {FILE: before} if before is not None else {}
    now = {**files, **carried_out(plan(version, files, runtime=RUNTIME), files)}
    assert now != files
    back = taken_back(plan(version, now), now, files)
    assert {path: text for path, text in back.items() if text or path in files} == files


def test_back_when_others_wrote_too() -> None:
    files = {FILE: DEBIAN}
    now = {**files, **carried_out(plan("1.7.24", files, runtime=RUNTIME), files)}
    now[FILE] += "\n[metrics]\naddress = ''\n"
    back = taken_back(plan("1.7.24", now), now, files)
    assert back[DROP_IN] == ""
    assert toml_text.parse(back[FILE]) == toml_text.parse(DEBIAN) | {"metrics": {"address": ""}}
    now["/etc/containerd/conf.d/50-theirs.toml"] = "version = 2\n"
    assert taken_back(plan("1.7.24", now), now, files)[FILE] == now[FILE], (
        "they count on the import"
    )


def test_what_lies_beside_and_nobody_reads_is_not_read_because_of_us() -> None:
    """nvidia-ctk imports all of conf.d."""
    files = {FILE: DEBIAN, "/etc/containerd/conf.d/old.toml": 'version = 2\nroot = "/old"\n'}
    now = {**files, **carried_out(plan("1.7.24", files), files)}
    imports = toml_text.parse(now[FILE])["imports"]
    assert imports == ["/etc/containerd/conf.d/99-nvidia*.toml"]
    assert carried_out(plan("1.7.24", now), now) == {}
    assert taken_back(plan("1.7.24", now), now, files) == {**files, DROP_IN: ""}


def test_a_drop_in_of_another_author_is_kept_and_restored() -> None:
    theirs = f'# by hand\nversion = 2\n[plugins."{V2}"]\nsandbox_image = "x" # why\n'
    files = {FILE: DEBIAN, DROP_IN: theirs}
    now = {**files, **carried_out(plan("1.7.24", files, runtime=RUNTIME), files)}
    assert now[DROP_IN].startswith(theirs)
    assert taken_back(plan("1.7.24", now), now, files) == files


def test_a_version_without_cdi_and_one_that_takes_it_by_itself() -> None:
    assert warnings(plan("1.6.20", {FILE: DEBIAN})) == (
        "containerd 1.6.20 does not support CDI (1.7 and later do)",
    )
    assert carried_out(plan("1.6.20", {FILE: DEBIAN}), {FILE: DEBIAN}) == {}
    found = plan("2.1.4", {FILE: DEBIAN})
    assert notes(found) == ("containerd 2.1.4 enables CDI by default",)
    assert carried_out(found, {FILE: DEBIAN}) == {}
    off = DEBIAN.replace("bin_dir", "x = 1\n      bin_dir").replace(
        '[plugins."io.containerd.grpc.v1.cri"]\n',
        '[plugins."io.containerd.grpc.v1.cri"]\n    enable_cdi = false\n',
    )
    assert after("2.1.4", {FILE: off})[DROP_IN]["plugins"][V2] == {"enable_cdi": True}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\na = 2\n", "already exists"),
        ("version = 'two'\n", "is not a version"),
        ("version = true\n", "is not a version"),
        ("\ufeffversion = 2\n", "byte order mark"),
        ("version = 2\n[x\n", "line 2"),
        ("version = 2\nimports = 'x'\n", "is not a list"),
    ],
)
def test_what_can_not_be_read_is_refused(text: str, said: str) -> None:
    with pytest.raises(CdiGenError, match=said):
        after("1.7.24", {FILE: text})


def test_a_form_that_can_not_be_changed_is_told() -> None:
    dotted = '[plugins]\ncri.containerd.default_runtime_name = "runc"\n'
    with pytest.raises(CdiGenError, match="cannot be changed") as told:
        after("1.7.24", {FILE: dotted}, runtime=RUNTIME)
    assert "by hand" in (told.value.hint or "")


def test_what_containerd_does_not_have() -> None:
    with pytest.raises(UsageError):
        plan("1.7.24", {}, rootless=True)
    with pytest.raises(UsageError):
        plan("1.7.24", {FILE: VERSION_1}, drop_in="/x.toml")


def test_another_place() -> None:
    files = {"/opt/c.toml": DEBIAN}
    made = after("1.7.24", files, configuration="/opt/c.toml")
    assert [*made] == ["/opt/conf.d/99-nvidia.toml", "/opt/c.toml"]
    made = after("1.7.24", files, configuration="/opt/c.toml", drop_in="/opt/x/a.toml")
    assert made["/opt/c.toml"]["imports"] == ["/opt/x/*.toml"]
