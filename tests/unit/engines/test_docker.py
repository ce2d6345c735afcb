# SPDX-License-Identifier: Apache-2.0
"""What becomes of daemon.json, by Docker's version; and what is found of Docker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdi_gen.engines import docker
from cdi_gen.engines.plan import Plan, Request, Runtime
from cdi_gen.engines.status import EngineStatus
from cdi_gen.errors import CdiGenError, UsageError

from .machine import Told, carried_out, notes, taken_back, warnings

FILE = "/etc/docker/daemon.json"
INFO: tuple[str, ...] = ("docker", "info", "--format", "{{json .}}")
SHIM = Runtime("nvidia", "/usr/bin/nvidia-container-runtime")
DEFAULT = SHIM._replace(default=True)
ENTRY = {"path": "/usr/bin/nvidia-container-runtime", "args": []}

TABBED = '{\n\t"log-level": "warn",\n\t"runtimes": {\n\t\t"kata": {"path": "/opt/kata"}\n\t}\n}'
"""A person's file: tabs, an object in one line, no newline at its end."""


def plan(version: str | None = "27.5.1", text: str | None = None, **wishes: Any) -> Plan:
    machine = Told(
        {"dockerd": version} if version else {}, {FILE: text} if text is not None else {}
    )
    return docker.plan(Request(**wishes), machine)


def after(version: str | None, text: str | None, **wishes: Any) -> str | None:
    files = {FILE: text} if text is not None else {}
    return carried_out(plan(version, text, **wishes), files).get(FILE)


@pytest.mark.parametrize(
    ("before", "wishes", "expected"),
    [
        (None, {}, '{\n    "features": {\n        "cdi": true\n    }\n}\n'),
        ("", {}, '{\n    "features": {\n        "cdi": true\n    }\n}\n'),
        ("{}\n", {}, '{\n    "features": {\n        "cdi": true\n    }\n}\n'),
        ('{"debug":true}', {}, '{"debug":true,"features":{"cdi": true}}'),
        ('{"debug": true}', {}, '{"debug": true, "features": {"cdi": true}}'),
        (
            '{\n  "features": {"buildkit": true}\n}\n',
            {},
            '{\n  "features": {"buildkit": true, "cdi": true}\n}\n',
        ),
        ('{"features": {"cdi": false}}', {}, '{"features": {"cdi": true}}'),
        (
            TABBED,
            {"runtime": SHIM, "cdi": False},
            (
                '{\n\t"log-level": "warn",\n\t"runtimes": {\n\t\t"kata": {"path": "/opt/kata"},\n'
                '\t\t"nvidia": {\n\t\t\t"path": "/usr/bin/nvidia-container-runtime",\n'
                '\t\t\t"args": []\n\t\t}\n\t}\n}'
            ),
        ),
        (
            '{\n    "default-runtime": "runc"\n}\n',
            {"runtime": DEFAULT, "cdi": False},
            (
                '{\n    "default-runtime": "nvidia",\n    "runtimes": {\n        "nvidia": {\n'
                '            "path": "/usr/bin/nvidia-container-runtime",\n            "args": []\n'
                "        }\n    }\n}\n"
            ),
        ),
        (
            '{\n  "runtimes": {"kata": {"path": "/k"}}\n}\n',
            {"runtime": SHIM, "cdi": False},
            (
                '{\n  "runtimes": {"kata": {"path": "/k"}, "nvidia": '
                '{"path": "/usr/bin/nvidia-container-runtime", "args": []}}\n}\n'
            ),
        ),
    ],
)
def test_before_and_after(before: str | None, wishes: dict[str, object], expected: str) -> None:
    made = after("27.5.1", before, **wishes)
    assert made == expected


def test_other_features_stay() -> None:
    """nvidia-ctk drops them: it expects features to be a map of bool, and finds a map of any."""
    made = after("27.5.1", '{"features": {"buildkit": true, "containerd-snapshotter": false}}')
    assert made == '{"features": {"buildkit": true, "containerd-snapshotter": false, "cdi": true}}'


@pytest.mark.parametrize(
    ("version", "text", "wanted"),
    [
        ("25.0.0", None, True),
        ("26.1.5", "{}", True),
        ("28.1.1", "{}", True),
        ("28.2.0", None, False),
        ("28.5.2", "{}", False),
        ("28.5.2", '{"features": {"cdi": false}}', True),
        (None, "{}", True),
        ("20.10.24", "{}", False),
        ("24.0.7", None, False),
    ],
)
def test_the_feature_is_set_where_the_version_needs_it(
    version: str | None, text: str | None, wanted: bool
) -> None:
    made = after(version, text)
    assert (made is not None) == wanted
    assert not wanted or json.loads(made or "")["features"]["cdi"] is True


def test_a_version_without_cdi_is_told() -> None:
    found = plan("20.10.24", "{}")
    assert "docker 20.10.24 does not support CDI (25.0 and later do)" in warnings(found)[0]
    assert "--runtime" in found.findings[0].fix


def test_a_note_says_that_docker_enables_cdi_by_default() -> None:
    assert notes(plan("28.5.2")) == ("docker 28.5.2 enables CDI by default",)


def test_the_plan_names_the_command_that_restarts_docker() -> None:
    assert plan().restart == "systemctl restart docker"
    assert plan(rootless=True).restart == "systemctl --user restart docker"


@pytest.mark.parametrize("version", ["27.5.1", "28.5.2"])
def test_rootless(version: str) -> None:
    machine = Told({"dockerd": version}, uid=1000)
    found = docker.plan(Request(rootless=True), machine)
    made = json.loads(carried_out(found, {})["/home/u/.config/docker/daemon.json"])
    directories = ["/etc/cdi", "/var/run/cdi", "/home/u/.config/cdi", "/run/user/1000/cdi"]
    assert made["cdi-spec-dirs"] == directories
    assert ("features" in made) == (version == "27.5.1")
    newer = docker.plan(Request(rootless=True), Told({"dockerd": "29.2.1"}, uid=1000))
    assert carried_out(newer, {}) == {}


def test_the_machines_spec_directories_are_never_widened() -> None:
    """A34: those of a daemon that runs as root."""
    text = '{"cdi-spec-dirs": ["/opt/cdi"]}'
    assert warnings(plan("27.5.1", text)) == (
        'cdi-spec-dirs of docker is ["/opt/cdi"]: docker does not read specs in /etc/cdi',
    )
    assert warnings(plan("27.5.1", '{"cdi-spec-dirs": ["/opt/cdi", "/etc/cdi"]}')) == ()
    for usual in ("/etc/cdi/", "/run/cdi", "/etc/../etc/cdi"):
        assert warnings(plan("27.5.1", json.dumps({"cdi-spec-dirs": [usual]}))) == (), usual
    made = after("27.5.1", text, runtime=DEFAULT)
    assert json.loads(made or "") == {
        "cdi-spec-dirs": ["/opt/cdi"],
        "features": {"cdi": True},
        "runtimes": {"nvidia": ENTRY},
        "default-runtime": "nvidia",
    }


@pytest.mark.parametrize(
    ("before", "later", "expected"),
    [
        # Nothing but ours: as it was, whatever that was.
        (None, None, None),
        ("{}", None, "{}"),
        (" {\n}\n\n", None, " {\n}\n\n"),
        ("", None, ""),
        (TABBED, None, TABBED),
        ('{"default-runtime": "kata"}', None, '{"default-runtime": "kata"}'),
        ('{"features": {"cdi": true}}', None, '{"features": {"cdi": true}}'),
        # Another program added a key: only our keys go, and the values that they replaced return.
        ('{"default-runtime":"kata"}', "x", '{"default-runtime":"kata","x":1}'),
        (
            '{"features": {"cdi": false}, "a": 1}',
            "x",
            '{"features": {"cdi": false}, "a": 1, "x": 1}',
        ),
        ('{"runtimes": {}}', "x", '{"runtimes": {}, "x": 1}'),
        (None, "x", '{\n    "x": 1\n}\n'),
    ],
)
def test_back(before: str | None, later: str | None, expected: str | None) -> None:
    files = {FILE: before} if before is not None else {}
    found = plan("27.5.1", before, runtime=DEFAULT)
    now = {**files, **carried_out(found, files)}
    if later:
        text = now[FILE]
        end = text.rstrip().removesuffix("}").rstrip()
        flat = "\n" not in text
        apart = "," if flat and '":"' in text else ", " if flat else ",\n    "
        colon = ":" if flat and '":"' in text else ": "
        now[FILE] = f'{end}{apart}"x"{colon}1' + ("}" if flat else "\n}\n")
    back = taken_back(plan("27.5.1", now[FILE]), now, files)
    assert back[FILE] == ("" if expected is None else expected)


def test_revert_keeps_a_file_that_we_never_changed() -> None:
    """The keys equal ours, but no record says that cdi-gen wrote them: the keys stay."""
    text = json.dumps({"runtimes": {"nvidia": ENTRY}, "features": {"cdi": True}})
    assert after("27.5.1", text, runtime=SHIM) is None
    assert taken_back(plan("27.5.1", text), {FILE: text}, {}) == {FILE: text}


def test_revert_keeps_a_runtime_that_nvidia_ctk_registered() -> None:
    """NVIDIA's toolkit has registered the runtime; we added only the feature."""
    text = json.dumps({"runtimes": {"nvidia": ENTRY}})
    now = {FILE: after("27.5.1", text, runtime=SHIM) or ""}
    now[FILE] = now[FILE].replace("{", '{"debug": true, ', 1)
    back = json.loads(taken_back(plan("27.5.1", now[FILE]), now, {FILE: text})[FILE])
    assert back == {"debug": True, "runtimes": {"nvidia": ENTRY}}


def test_keys_that_were_changed_after_our_change_stay() -> None:
    text = "{}"
    now = {FILE: after("27.5.1", text, runtime=DEFAULT) or ""}
    now[FILE] = now[FILE].replace("nvidia-container-runtime", "their-nvidia-runtime")
    now[FILE] = now[FILE].replace('"default-runtime": "nvidia"', '"default-runtime": "runc"')
    back = json.loads(taken_back(plan("27.5.1", now[FILE]), now, {FILE: text})[FILE])
    there = ENTRY | {"path": "/usr/bin/their-nvidia-runtime"}
    assert back == {"runtimes": {"nvidia": there}, "default-runtime": "runc"}


def test_our_runtime_stays_if_it_became_the_default_after_our_change() -> None:
    """dockerd does not start with a default runtime that it does not have."""
    now = {FILE: after("27.5.1", "{}", runtime=SHIM) or ""}
    now[FILE] = now[FILE].replace("{", '{"default-runtime": "nvidia", ', 1)
    back = json.loads(taken_back(plan("27.5.1", now[FILE]), now, {FILE: "{}"})[FILE])
    assert back == {"default-runtime": "nvidia", "runtimes": {"nvidia": ENTRY}}


def test_one_is_no_true() -> None:
    """For Python it is; dockerd takes no number there."""
    made = after("27.5.1", '{"features": {"cdi": 1}}')
    assert made == '{"features": {"cdi": true}}'
    back = taken_back(plan("27.5.1", made), {FILE: made}, {FILE: '{"features": {"cdi": 1}}'})
    assert back[FILE] == '{"features": {"cdi": 1}}'


def test_another_runtime_that_is_the_default_stays_so() -> None:
    text = json.dumps({"default-runtime": "kata"})
    now = {FILE: after("27.5.1", text, runtime=SHIM) or ""}
    now[FILE] = now[FILE].replace("{", '{"debug": true, ', 1)
    back = taken_back(plan("27.5.1", text), now, {FILE: text})
    assert json.loads(back[FILE]) == {"default-runtime": "kata", "debug": True}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "is a duplicate key"),
        ("\ufeff{}", "byte order mark"),
        ('{"a": NaN}', "not a JSON value"),
        ('{"a": 1,}', "a name in quotes"),
        ("{'a': 1}", "a name in quotes"),
        ('{"a": 1} // x', "after the end"),
        ("[]", "not a JSON object"),
        ("{", "a name in quotes"),
        ('{"a": "\t"}', "not a JSON value"),
        ('{"a": 01}', "a comma"),
        ('{"features": [], "b": 1}', "features is not an object"),
        ('{"a":' * 70 + "1" + "}" * 70, "levels"),
    ],
)
def test_what_is_not_strict_json_is_refused(text: str, said: str) -> None:
    with pytest.raises(CdiGenError, match=said):
        after("27.5.1", text)


def test_what_docker_does_not_have() -> None:
    for wishes in ({"drop_in": "/x.json"}, {"hook": "/usr/bin/hook"}):
        with pytest.raises(UsageError, match="is not supported for docker"):
            plan(**wishes)


def one(**machine: Any) -> EngineStatus:
    (found,) = docker.statuses(Told(**machine))
    return found


@pytest.mark.parametrize(
    ("version", "text", "cdi", "newest"),
    [
        ("20.10.24", None, "no", None),
        ("25.0.0", None, "off", "0.6.0"),
        ("26.1.5", '{"features": {"cdi": true}}', "on", "0.7.0"),
        ("28.1.0", "{}", "off", "1.0.0"),
        ("28.5.2", None, "on", "1.0.0"),
        ("28.5.2", '{"features": {"cdi": false}}', "off", "1.0.0"),
    ],
)
def test_what_is_found_where_the_daemon_is_down(
    version: str, text: str | None, cdi: str, newest: str | None
) -> None:
    found = one(versions={"dockerd": version}, files={FILE: text} if text else {})
    assert (found.version, found.cdi, found.newest_cdi_version) == (version, cdi, newest)
    assert found.spec_directories == (() if cdi == "no" else ("/etc/cdi", "/var/run/cdi"))
    assert found.source == "default"


def test_what_the_daemon_says_counts() -> None:
    info = {
        "ServerVersion": "26.1.5+dfsg1",
        "CDISpecDirs": ["/opt/cdi"],
        "Runtimes": {
            "runc": {"path": "runc"},
            "gpu": {"path": "/usr/bin/nvidia-container-runtime"},
        },
        "SecurityOptions": ["name=seccomp,profile=builtin"],
    }
    outputs = {INFO: json.dumps(info)}
    found = one(
        versions={"docker": "", "dockerd": "26.1.5"},
        files={FILE: '{"cdi-spec-dirs": ["/etc/cdi"]}'},
        outputs=outputs,
    )
    assert (found.cdi, found.spec_directories, found.source) == ("on", ("/opt/cdi",), "docker info")
    assert found.runtimes == (("gpu", "/usr/bin/nvidia-container-runtime"),)
    off = json.dumps(info | {"CDISpecDirs": []})
    outputs = {INFO: off}
    assert one(versions={"docker": "", "dockerd": "26.1.5"}, outputs=outputs).cdi == "off"


@pytest.mark.parametrize("printed", ["[" * 100_000, '{"ServerVersion": %s}' % ("9" * 9000), "{"])
def test_a_daemon_that_says_nonsense(printed: str) -> None:
    outputs = {INFO: printed}
    assert one(versions={"docker": "", "dockerd": "26.1.5"}, outputs=outputs).cdi == "off"


def test_podmans_docker_is_no_docker() -> None:
    outputs = {INFO: '{"host": {"arch": "amd64"}}'}
    assert docker.statuses(Told({"docker": "4.3.1"}, outputs=outputs)) == []


def test_a_users_own_docker() -> None:
    own = "/home/u/.config/docker/daemon.json"
    machine = Told({"dockerd": "29.2.0"}, {own: "{}"}, uid=1000)
    machines, users = docker.statuses(machine)
    assert (machines.rootless, users.rootless) == (False, True)
    assert users.spec_directories[2:] == ("/home/u/.config/cdi", "/run/user/1000/cdi")


def test_a_broken_file_is_a_note() -> None:
    found = one(versions={"dockerd": "28.5.2"}, files={FILE: "{"})
    assert found.cdi == "on"
    assert warnings(found) == (f"{FILE}: line 1, column 2: a name in quotes is missing",)
    assert found.findings[0].code == "CDG-E002"


BY_CDI, BY_HOOK = "nvidia-cdi-hook", "nvidia-container-runtime-hook"


@pytest.mark.parametrize(
    ("version", "programs", "note"),
    [
        ("28.5.2", (), f"docker run --gpus does not work: dockerd does not find {BY_HOOK}"),
        ("28.5.2", (BY_CDI,), f"docker run --gpus does not work: dockerd does not find {BY_HOOK}"),
        ("28.5.2", (BY_CDI, BY_HOOK), f"docker run --gpus: dockerd finds /usr/bin/{BY_HOOK}"),
        ("29.0.1", (BY_CDI, BY_HOOK), f"docker run --gpus: dockerd finds /usr/bin/{BY_CDI}"),
        ("29.0.1", (BY_HOOK,), f"docker run --gpus: dockerd finds /usr/bin/{BY_HOOK}"),
        (
            "29.0.1",
            (),
            f"docker run --gpus: dockerd does not find {BY_CDI}; perhaps it takes the devices from the specs alone",
        ),
    ],
)
def test_what_gpus_comes_to(version: str, programs: tuple[str, ...], note: str) -> None:
    found = one(versions={"dockerd": version, **dict.fromkeys(programs, "")})
    assert note in notes(found)
