# SPDX-License-Identifier: Apache-2.0
"""What `cdi-gen engine` says of containerd."""

from __future__ import annotations

from cdi_gen.engines import containerd
from cdi_gen.engines.status import EngineStatus
from cdi_gen.engines.text.toml_settings import HEADER
from tests.unit.engines.test_containerd import DEBIAN, DROP_IN, FILE, RUNTIME, SHIM, V3, plan

from .machine import Told, carried_out, warnings


def one(version: str, files: dict[str, str], dump: str | None = None) -> EngineStatus:
    outputs: dict[tuple[str, ...], str] = {}
    if dump:
        outputs["containerd", "config", "dump"] = dump
    (found,) = containerd.statuses(Told({"containerd": version}, files, outputs))
    return found


def test_what_is_found() -> None:
    assert one("1.6.20", {FILE: DEBIAN}).cdi == "no"
    found = one("1.7.24", {FILE: DEBIAN})
    assert (found.cdi, found.source, found.newest_cdi_version) == ("off", FILE, "0.7.0")
    assert one("2.1.4", {}).source == "default"
    assert one("2.1.4", {}).cdi == "on"
    files = {FILE: DEBIAN}
    files |= carried_out(plan("1.7.24", files, runtime=RUNTIME), files)
    found = one("1.7.24", files)
    assert (found.cdi, found.source) == ("on", f"{FILE}, {DROP_IN}")
    assert found.runtimes == (("nvidia", SHIM),)
    assert warnings(one("2.1.4", {FILE: "a = 1\na = 2\n"}))


def test_what_containerd_says_counts() -> None:
    dump = f"version = 3\n[plugins.'{V3}']\nenable_cdi = true\ncdi_spec_dirs = ['/opt/cdi']\n"
    found = one("2.1.4", {FILE: DEBIAN}, dump)
    assert (found.spec_directories, found.source) == (("/opt/cdi",), "containerd config dump")


def test_ours_says_that_it_is() -> None:
    made = carried_out(plan("1.7.24", {FILE: DEBIAN}), {FILE: DEBIAN})[DROP_IN]
    assert made.startswith(HEADER)
