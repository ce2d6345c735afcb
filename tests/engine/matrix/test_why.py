# SPDX-License-Identifier: Apache-2.0
"""What `cdi-gen why` says of broken spec directories, and what the engines themselves make of them.

``make test`` asks Podman, ``make test-engines`` every engine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomlkit
import yaml

from tests.engine.matrix import deliveries
from tests.engine.matrix.cells import MOBY
from tests.engine.matrix.conftest import PlaceOf
from tests.engine.matrix.homes import HOMES
from tests.engine.matrix.place import DOCKER_OF, SOURCES, Place
from tests.host.looking import REPOSITORY
from tests.lab import debian
from tests.lab.engines import Inside, Lab
from tests.lab.podman import Podman
from tests.lab.probe import probe
from tests.unit.why import broken_specs
from tests.unit.why.broken_specs import CASES, VARIABLE

PACKAGES = "/opt/packages"
"""Where the packages of this interpreter are that a small root lacks."""

WORDS = probe(("env", VARIABLE.partition("=")[0]))
Result = dict[str, Any]

CRI_RUN = f"""\
#!/usr/bin/python3
import json, os, sys
device, image, *command = sys.argv[1:]
name = f"why-{{os.getpid()}}"
node = {{"namespace_options": {{"network": 2}}}}
pod = {{
    "metadata": {{"name": name, "uid": name, "namespace": "default"}},
    "log_directory": f"/run/{{name}}",
    "linux": {{"security_context": node}},
}}
container = {{
    "metadata": {{"name": name}},
    "image": {{"image": image}},
    "command": command,
    "log_path": "log",
    "linux": {{"security_context": node}},
    "CDI_devices": [{{"name": device}}],
}}
for kind, document in ("pod", pod), ("container", container):
    with open(f"/run/{{name}}.{{kind}}", "w") as file:
        json.dump(document, file)
script = {deliveries.CRI_SCRIPT!r}
os.execvp("sh", ["sh", "-c", script, "sh", f"/run/{{name}}.pod", f"/run/{{name}}.container", ""])
"""
"""Of a device, an image and a command: a container of a pod, as a kubelet has it made."""


class Engine(NamedTuple):
    """An engine of a root, and the user who runs it."""

    suite: str
    name: str
    user: int = 0
    runtime: str = "crun"

    def __str__(self) -> str:
        return f"{self.suite}-{self.name}-{'rootless' if self.user else 'rootful'}"


SMALL = (Engine("bookworm", "podman"), Engine("trixie", "podman", debian.USER))
ALL = (
    *(
        Engine(suite, "podman", user)
        for suite in ("bookworm", "trixie", "sid")
        for user in (0, debian.USER)
    ),
    *(Engine(suite, "docker", runtime="runc") for suite in ("bookworm", "trixie", "sid", MOBY)),
    *(Engine(suite, "containerd", runtime="runc") for suite in ("bookworm", "trixie", "sid")),
)


NEWER_LIBRARY = {
    (MOBY, "docker"): ("other-capitals",),
    ("trixie", "containerd"): ("version-0.8.0",),
}
"""Cases for which the build here has a newer library than the release, of which `why` knows."""


@pytest.fixture(scope="module")
def small_lab(
    lab_of: Callable[[str], Lab], image_archives: dict[str, Path]
) -> Callable[[Engine], dict[str, Result]]:
    """Give the results of all quick cases for Podman in a small root."""
    results: dict[Engine, dict[str, Result]] = {}
    packages = {
        f"{PACKAGES}/{module.__name__}": Path(str(module.__file__)).parent
        for module in (tomlkit, yaml)
    }

    def of(engine: Engine) -> dict[str, Result]:
        if engine not in results:
            binds = {"/images.tar": image_archives["all"], SOURCES: REPOSITORY, **packages}
            with lab_of(engine.suite).enter(binds=binds) as inside:
                Podman(inside, user=engine.user).load("/images.tar")
                cases = [case.id for case in CASES if case.quick]
                results[engine] = compared(inside, engine, "localhost/distroless", cases)
        return results[engine]

    return of


def compared(inside: Inside, engine: Engine, image: str, cases: list[str]) -> dict[str, Result]:
    """Have the lab's own interpreter run the cases."""
    env = {
        "HOME": "/home/user" if engine.user else "/root",
        **({"XDG_RUNTIME_DIR": f"/run/user/{engine.user}"} if engine.user else {}),
        **(DOCKER_OF[bool(engine.user)] if engine.name == "docker" else {}),
    }
    plan = {
        "engine": engine.name,
        "user": engine.user,
        "words": words(engine, image),
        "env": env,
        "cases": cases,
        "daemon": engine.name != "podman",
    }
    folders = ("", "/specs", "/hooks")
    path = os.pathsep.join((*(f"{SOURCES}{folder}" for folder in folders), PACKAGES))
    ended = inside.run(
        ["python3", "-W", "ignore", "-m", "tests.engine.matrix.why_in_lab", json.dumps(plan)],
        env={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=600,
    )
    results = [json.loads(line) for line in ended.stdout.splitlines()]
    return {result["id"]: result for result in results}


def words(engine: Engine, image: str) -> list[str]:
    """The command line that starts a container with the device NAME."""
    options = ["run", "--rm", "--network", "none", "--device", "NAME", image, *WORDS]
    if engine.name == "podman":
        return ["podman", "--runtime", engine.runtime, *options]
    if engine.name == "docker":
        return ["docker", *options]
    return ["/usr/local/bin/cri-run", "NAME", f"{image}:latest", *WORDS]


@pytest.mark.engine
@pytest.mark.parametrize("case", [case.id for case in CASES if case.quick])
@pytest.mark.parametrize("engine", SMALL, ids=str)
def test_why_says_what_podman_does(
    engine: Engine, case: str, small_lab: Callable[[Engine], dict[str, Result]]
) -> None:
    check(small_lab(engine)[case])


@pytest.mark.engines
@pytest.mark.parametrize("engine", ALL, ids=str)
def test_why_says_what_the_engine_does(engine: Engine, place_of: PlaceOf) -> None:
    place = place_of(f"{engine.suite}-engines", "v1", HOMES[0])
    cases = [case.id for case in CASES if case.daemons or engine.name == "podman"]
    for case in NEWER_LIBRARY.get((engine.suite, engine.name), ()):
        cases.remove(case)
    try:
        start(engine, place)
        results = compared(place.machine.inside, engine, f"localhost/{place.image}", cases)
    finally:
        broken_specs_removed(place)
    assert sorted(results) == sorted(cases)
    assert [result for result in results.values() if result["why"] != result["engine"]] == []
    for result in results.values():
        check(result)


def check(result: Result) -> None:
    assert result["why"] == result["engine"], result
    if result["why"] != "works":
        assert result["findings"], "a cause is named"
        assert all(finding["code"] for finding in result["findings"])


def start(engine: Engine, place: Place) -> None:
    """Start the engine's daemon, if it has one."""
    if engine.name == "podman":
        place.podman(engine.user)
    elif engine.name == "docker":
        place.docker(engine.user)
    else:
        if not place.has("crictl"):
            pytest.skip("no crictl")
        place.containerd()
        place.machine.inside.write("/usr/local/bin/cri-run", CRI_RUN, mode=0o755)


def broken_specs_removed(place: Place) -> None:
    """Leave the place with its own spec, as other tests expect it."""
    place.must("rm", "-rf", broken_specs.ETC, broken_specs.RUN)
    place.must("mkdir", "-p", broken_specs.ETC)
    place.machine.inside.write(f"{broken_specs.ETC}/nvidia.json", place.machine.generate())
