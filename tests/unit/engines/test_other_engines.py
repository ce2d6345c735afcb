# SPDX-License-Identifier: Apache-2.0
"""CRI-O, Podman, Buildah and nerdctl: what becomes of their files, and what is found."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from cdi_gen.engines import buildah, crio, hooks_d, nerdctl, podman
from cdi_gen.engines.plan import Request, Runtime
from cdi_gen.engines.text import toml_text
from cdi_gen.engines.text.toml_settings import HEADER
from cdi_gen.errors import UsageError

from .machine import HOOK_FILE, Told, carried_out, notes, taken_back, warnings

SHIM = "/usr/bin/nvidia-container-runtime"
RUNTIME = Runtime("nvidia", SHIM)
BOTH = ["/etc/cdi", "/var/run/cdi"]

CRIO = "/etc/crio/crio.conf.d/99-nvidia.toml"
CRIO_FILES = {
    "/etc/crio/crio.conf": '[crio.runtime]\ndefault_runtime = "crun"\n',
    "/etc/crio/crio.conf.d/10-crun.conf": "[crio.runtime.runtimes.crun]\n"
    'runtime_path = "/usr/bin/crun"\nmonitor_path = "/usr/libexec/crio/conmon"\n'
    'allowed_annotations = ["io.containers.trace-syscall", "cdi.k8s.io", "c"]\n',
}


def test_crio_needs_nothing_for_cdi() -> None:
    found = crio.plan(Request(), Told({"crio": "1.30.1"}))
    assert carried_out(found, {}) == {}
    assert notes(found) == ("CRI-O enables CDI by default",)
    old = crio.plan(Request(), Told({"crio": "1.22.5"}))
    assert "does not support CDI (1.24 and later do)" in warnings(old)[0]


def test_a_runtime_of_crio_is_as_the_default_one() -> None:
    """A34: it lets no more annotations through, and not those of CDI."""
    wishes = Request(runtime=RUNTIME._replace(default=True))
    made = carried_out(crio.plan(wishes, Told({"crio": "1.30.1"}, CRIO_FILES)), CRIO_FILES)
    assert [*made] == [CRIO]
    assert made[CRIO].startswith(HEADER)
    assert toml_text.parse(made[CRIO])["crio"]["runtime"] == {
        "default_runtime": "nvidia",
        "runtimes": {
            "nvidia": {
                "runtime_path": SHIM,
                "runtime_type": "oci",
                "monitor_path": "/usr/libexec/crio/conmon",
                "allowed_annotations": ["io.containers.trace-syscall"],
            }
        },
    }
    now = {**CRIO_FILES, **made}
    assert carried_out(crio.plan(wishes, Told({"crio": "1.30.1"}, now)), now) == {}
    back = taken_back(crio.plan(Request(), Told({}, now)), now, {})
    assert back == {**CRIO_FILES, CRIO: ""}


def test_a_drop_in_of_another_author_for_crio_is_kept_and_restored() -> None:
    theirs = '[crio.runtime.runtimes.kata]\nruntime_path = "/k" # k\n'
    files = {CRIO: theirs}
    wishes = Request(runtime=RUNTIME)
    now = carried_out(crio.plan(wishes, Told({"crio": "1.30.1"}, files)), files)
    assert 'runtime_path = "/k" # k' in now[CRIO]
    assert taken_back(crio.plan(Request(), Told({}, now)), now, files) == files
    assert taken_back(crio.plan(Request(), Told({}, files)), files, {}) == files


def test_crio_that_looks_elsewhere_is_told_of_and_left() -> None:
    """A34: its spec directories are never widened."""
    files = {"/etc/crio/crio.conf": '[crio.runtime]\ncdi_spec_dirs = ["/opt/cdi"]\n'}
    found = crio.plan(Request(runtime=RUNTIME), Told({"crio": "1.30.1"}, files))
    assert "/opt/cdi" in warnings(found)[0]
    assert "cdi_spec_dirs" not in carried_out(found, files)[CRIO]
    usual = {path: text.replace("/opt/cdi", "/run/cdi/") for path, text in files.items()}
    assert not any(
        "cdi_spec_dirs" in each for each in warnings(crio.plan(Request(), Told({}, usual)))
    )


def test_what_is_found_of_crio() -> None:
    (found,) = crio.statuses(Told({"crio": "1.34.0"}, {CRIO: crio_with_runtime()}))
    assert (found.cdi, found.newest_cdi_version) == ("on", "1.0.0")
    assert found.runtimes == (("nvidia", SHIM),)
    (none,) = crio.statuses(
        Told({"crio": "1.34.0"}, {"/etc/crio/crio.conf": "[crio.runtime]\ncdi_spec_dirs = []\n"})
    )
    assert none.cdi == "off"


def crio_with_runtime() -> str:
    plan = crio.plan(Request(runtime=RUNTIME), Told({"crio": "1.34.0"}))
    return carried_out(plan, {})[CRIO]


PODMAN = "/etc/containers/containers.conf.d/99-nvidia.conf"
USERS = "/home/u/.config/containers/containers.conf.d/99-nvidia.conf"


@pytest.mark.parametrize(
    ("engine", "version", "wanted"),
    [
        (podman, "4.3.1", None),
        (podman, "5.3.0", None),
        (podman, "5.4.2", BOTH),  # for podman build: run on Debian
        (podman, "5.5.1", BOTH),
        (podman, "5.6.0", None),
        (podman, "5.8.6", None),
        (buildah, "1.28.2", None),
        (buildah, "1.39.3", BOTH),
        (buildah, "1.41.0", None),
    ],
)
def test_podman_is_told_where_to_look_if_it_does_not_look_in_both(
    engine: ModuleType, version: str, wanted: list[str] | None
) -> None:
    """podman#26569."""
    name = engine.__name__.rpartition(".")[2]
    found = engine.plan(Request(), Told({name: version}))
    made = carried_out(found, {})
    assert (made != {}) == (wanted is not None)
    assert not wanted or toml_text.parse(made[PODMAN])["engine"]["cdi_spec_dirs"] == wanted
    assert found.restart is None


@pytest.mark.parametrize("version", ["5.5.0", "5.8.6", None])
def test_rootless_podman(version: str | None) -> None:
    machine = Told({"podman": version} if version else {}, uid=1000)
    made = carried_out(podman.plan(Request(rootless=True), machine), {})
    assert toml_text.parse(made[USERS]) == {
        "engine": {"cdi_spec_dirs": [*BOTH, "/run/user/1000/cdi"]}
    }


def test_rootless_podman_that_can_not_be_told() -> None:
    machine = Told({"podman": "5.2.0"}, uid=1000)
    found = podman.plan(Request(rootless=True), machine)
    assert carried_out(found, {}) == {}
    assert "podman run 5.2.0 ignores cdi_spec_dirs and reads only /etc/cdi" in warnings(found)[0]
    found = podman.plan(Request(rootless=True), Told({"podman": "5.4.2"}, uid=1000))
    assert "podman run 5.4.2 ignores cdi_spec_dirs and reads only /etc/cdi" in warnings(found)[0]
    assert "/run/user/1000/cdi" in carried_out(found, {})[USERS]


def test_what_a_person_said_of_directories_stays() -> None:
    files = {"/etc/containers/containers.conf": '[engine]\ncdi_spec_dirs = ["/opt/cdi"]\n'}
    found = podman.plan(Request(), Told({"podman": "5.8.6"}, files))
    assert carried_out(found, files) == {}
    assert "sets cdi_spec_dirs, which is not changed" in warnings(found)[0]
    usual = {
        path: text.replace('"/opt/cdi"', '"/etc/cdi/", "/run/cdi"') for path, text in files.items()
    }
    assert warnings(podman.plan(Request(), Told({"podman": "5.8.6"}, usual))) == ()


def test_a_runtime_of_podman() -> None:
    wishes = Request(runtime=RUNTIME._replace(default=True))
    made = carried_out(podman.plan(wishes, Told({"podman": "4.3.1"})), {})
    assert toml_text.parse(made[PODMAN]) == {
        "engine": {"runtimes": {"nvidia": [SHIM]}, "runtime": "nvidia"}
    }
    assert taken_back(podman.plan(Request(), Told({}, made)), made, {}) == {PODMAN: ""}


def test_the_hook_of_podman() -> None:
    found = podman.plan(Request(hook="/usr/bin/nvidia-container-runtime-hook"), Told())
    made = carried_out(found, {})[HOOK_FILE]
    assert json.loads(made) == {
        "version": "1.0.0",
        "hook": {
            "path": "/usr/bin/nvidia-container-runtime-hook",
            "args": ["nvidia-container-runtime-hook", "prestart"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "when": {"always": True, "commands": [".*"]},
        "stages": ["prestart"],
    }
    assert made.startswith('{\n  "version"')
    back = podman.plan(Request(hook="", revert=True), Told())
    assert taken_back(back, {HOOK_FILE: made}, {}) == {HOOK_FILE: ""}
    changed = {HOOK_FILE: made.replace("1.0.0", "1.0.1")}
    assert taken_back(back, changed, {}) == changed, "a file that was changed since is kept"


def test_revert_keeps_the_hook_file_of_nvidias_toolkit() -> None:
    """The file equals ours byte for byte: nothing was written, so nothing is removed."""
    theirs = {HOOK_FILE: hooks_d.hook_file("/usr/bin/nvidia-container-runtime-hook")}
    found = podman.plan(Request(hook="/usr/bin/nvidia-container-runtime-hook"), Told())
    assert carried_out(found, theirs) == {}
    assert taken_back(podman.plan(Request(hook="", revert=True), Told()), theirs, {}) == theirs
    other = {HOOK_FILE: hooks_d.hook_file("/usr/bin/nvidia-container-toolkit")}
    made = carried_out(found, other)
    assert taken_back(podman.plan(Request(hook="", revert=True), Told()), made, other) == other


def test_nothing_is_asked_of_a_user_about_hooks() -> None:
    with pytest.raises(UsageError):
        podman.plan(Request(hook="/h", rootless=True), Told(uid=1000))


def test_what_is_found_of_podman() -> None:
    (found,) = podman.statuses(Told({"podman": "5.5.1"}))
    assert (found.cdi, found.spec_directories) == ("on", ("/etc/cdi",))
    assert warnings(found) == ("podman reads specs only in /etc/cdi",)
    assert found.findings[0].fix == "run: cdi-gen engine configure podman"
    (build,) = podman.statuses(Told({"podman": "5.4.2"}))
    assert build.spec_directories == tuple(BOTH)
    assert warnings(build) == ("podman build reads specs only in /etc/cdi",)
    files = {
        "/usr/share/containers/containers.conf": '[engine]\ncdi_spec_dirs = ["/a"]\n',
        "/etc/containers/containers.conf.d/1.conf": (
            '[engine]\ncdi_spec_dirs = ["/b", {append=true}]\n'
        ),
        "/etc/containers/containers.conf.d/2.txt": '[engine]\ncdi_spec_dirs = ["/c"]\n',
        "/home/u/.config/containers/containers.conf": '[engine]\ncdi_spec_dirs = ["/u"]\n',
    }
    (found,) = podman.statuses(Told({"podman": "5.8.6"}, files))
    assert found.spec_directories == ("/a", "/b")
    assert found.source == "/etc/containers/containers.conf.d/1.conf"
    (users,) = podman.statuses(Told({"podman": "5.8.6"}, files, uid=1000))
    assert (users.rootless, users.spec_directories) == (True, ("/u",))
    (old,) = podman.statuses(Told({"podman": "5.2.0"}, files))
    assert old.spec_directories == tuple(BOTH)
    assert "podman 5.2.0 ignores cdi_spec_dirs" in notes(old)[0]
    (none,) = buildah.statuses(Told({"buildah": "1.28.2"}))
    assert (none.cdi, none.newest_cdi_version, none.spec_directories) == ("no", None, ())


NERDCTL = "/home/u/.config/nerdctl/nerdctl.toml"
ALL = [*BOTH, "/home/u/.config/cdi", "/run/user/1000/cdi"]


def test_nerdctl() -> None:
    assert carried_out(nerdctl.plan(Request(), Told({"nerdctl": "2.1.2"})), {}) == {}
    text = 'debug = false # quiet\n\nhosts_dir = ["/x"]\n'
    machine = Told({"nerdctl": "2.1.2"}, {NERDCTL: text}, uid=1000)
    found = nerdctl.plan(Request(rootless=True), machine)
    made = carried_out(found, {NERDCTL: text})
    assert made[NERDCTL].startswith(text)
    assert toml_text.parse(made[NERDCTL])["cdi_spec_dirs"] == ALL
    again = nerdctl.plan(Request(rootless=True), Told({"nerdctl": "2.1.2"}, made, uid=1000))
    assert carried_out(again, made) == {}
    assert taken_back(again, made, {NERDCTL: text}) == {NERDCTL: text}


def test_a_runtime_is_nothing_to_nerdctl() -> None:
    with pytest.raises(UsageError) as told:
        nerdctl.plan(Request(runtime=RUNTIME), Told({"nerdctl": "2.1.2"}))
    assert told.value.hint == f"nerdctl run --runtime {SHIM}"


def test_what_is_found_of_nerdctl() -> None:
    (found,) = nerdctl.statuses(Told({"nerdctl": "2.1.2"}))
    assert (found.cdi, found.spec_directories) == ("on", tuple(BOTH))
    (users,) = nerdctl.statuses(Told({"nerdctl": "2.1.2"}, uid=1000))
    assert users.spec_directories == ("/home/u/.config/cdi", "/run/user/1000/cdi")
    (told,) = nerdctl.statuses(
        Told({"nerdctl": "2.1.2"}, {NERDCTL: 'cdi_spec_dirs = ["/x"]\n'}, uid=1000)
    )
    assert (told.spec_directories, told.source) == (("/x",), NERDCTL)
    (old,) = nerdctl.statuses(Told({"nerdctl": "1.7.7"}))
    assert old.cdi == "no"
