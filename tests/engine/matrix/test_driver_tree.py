# SPDX-License-Identifier: Apache-2.0
"""Every kind of engine mounts the driver tree: one row of the matrix for each, in both forms."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.engine.matrix import deliveries as by
from tests.engine.matrix.conftest import PlaceOf
from tests.engine.matrix.container import WORDS, lacking
from tests.engine.matrix.deliveries import GPU, Delivery, Ended
from tests.engine.matrix.homes import HOMES
from tests.engine.matrix.place import Place
from tests.lab import debian

pytestmark = [pytest.mark.engine, pytest.mark.host]

FORM = "--form=tree"
RUNSC = ("runsc", "--network=none", "--ignore-cgroups")

OTHER_PATHS = ("links", "listing")
"""What the other form gives otherwise. With a hook, links have another text, and the cache lists
libcuda by another path than LD_LIBRARY_PATH has. Without one, there is neither."""

NOTHING = ("container",)

APPTAINER = (
    *("apptainer", "exec", "--bind", "/run/cdi-gen/driver/current:/usr/local/nvidia:ro"),
    *("--env", "LD_LIBRARY_PATH=/usr/local/nvidia/lib64"),
)
"""Debian's has no option for CDI devices."""


def runsc(place: Place, runtime: str, user: int) -> Ended:
    """``runsc run``, again if its sandbox ended with 2 and said nothing, as it does with any spec."""
    run = by.alone(*RUNSC, injected=True)
    ended = run(place, runtime, user)
    for _ in range(5):
        if ended.returncode != 2 or ended.stdout or ended.stderr:
            break
        ended = run(place, runtime, user)
    return ended


class Row(NamedTuple):
    """An engine, how it is asked for a GPU, and whether it runs hooks."""

    name: str
    run: Delivery
    runtime: str = "runc"
    user: int = 0
    hooks: bool = True


ROWS = (
    Row("podman-crun", by.podman("--device", GPU), "crun"),
    Row("podman-runc", by.podman("--device", GPU)),
    Row("podman-crun-rootless", by.podman("--device", GPU), "crun", debian.USER),
    Row("podman-runc-rootless", by.podman("--device", GPU), "runc", debian.USER),
    Row("docker", by.docker("--device", GPU)),
    Row("docker-rootless", by.docker("--device", GPU), user=debian.USER),
    Row("containerd-ctr", by.ctr("--device", GPU)),
    Row("containerd-cri", by.cri(CDI_devices=[{"name": GPU}])),
    Row("runc", by.alone("runc", injected=True)),
    Row("crun", by.alone("crun", injected=True)),
    Row("runsc", runsc, hooks=False),
)


@pytest.mark.engines
@pytest.mark.parametrize("mode", ["auto", "none"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_engine_mounts_the_driver_tree(place_of: PlaceOf, row: Row, mode: str) -> None:
    home = HOMES[0]
    place = place_of("sid-engines", "v1", home)
    place.machine.make_tree(mode)
    place.serve(FORM, f"--hooks={mode}")
    try:
        ended = row.run(place, row.runtime, row.user)
    finally:
        place.serve()
    printed = ended.stdout + ended.stderr
    assert lacking(printed, home, every=False) == OTHER_PATHS, ended
    is_listed = "listed\tlibcuda.so.1\t/etc/cdi-gen/glibc/" in printed
    assert is_listed == (row.hooks and mode == "auto"), printed


@pytest.mark.engines
def test_an_engine_in_a_container_does_not_see_the_tree(place_of: PlaceOf) -> None:
    """Its /run is its own: it starts no container, and says which path is missing."""
    place = place_of("sid-engines", "v1", HOMES[0])
    place.machine.make_tree("none")
    place.serve(FORM, "--hooks=none")
    try:
        ended = by.podman_nested(place, "crun", 0)
    finally:
        place.serve()
    assert lacking(ended.stdout + ended.stderr, HOMES[0], every=False) == NOTHING
    assert "/run/cdi-gen/driver/current/" in ended.stderr


@pytest.mark.engines
def test_apptainer_binds_the_tree(place_of: PlaceOf) -> None:
    """As a user: as root it asks for capabilities that root of a build machine may lack."""
    place = place_of("sid-engines", "v1", HOMES[0])
    place.machine.make_tree("none")
    ended = place.run(*APPTAINER, place.files(), *WORDS, user=debian.USER)
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        assert f"who\t{name}\tok\t/usr/local/nvidia/lib64/{name}\t" in ended.stdout, ended
