# SPDX-License-Identifier: Apache-2.0
"""Row ``bundle``: starts of the programs with the bundle's interpreter, and with the host's python3.

The right column is the host's python3. Row ``hook`` has the whole work of the hook.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cdi_base import HOOK, PRESTART_HOOK, RUNTIME
from cdi_gen.programs import collect
from tests.bench.contest import ENVIRONMENT, Line, Step, race
from tests.bench.installed import CHECKOUT
from tests.lab.cache import LabUnavailableError
from tools.bundle import contents
from tools.steps import BuildError, run

PYTHON = "/usr/bin/python3"

STARTS = (
    ("hook: --version", HOOK, ("--version",)),
    ("prestart hook: -version", PRESTART_HOOK, ("-version",)),
    ("shim: a command that creates no container", RUNTIME, ("state", "x")),
)


def lay_out(directory: Path) -> None:
    """Fill a directory with the bundle of this machine's architecture.

    Raises:
        LabUnavailableError: it cannot be built here.
    """
    try:
        contents.lay_out(directory, platform.machine(), Path(CHECKOUT))
    except BuildError as error:
        raise LabUnavailableError(str(error)) from error


def bundle(runs: int) -> Iterator[Line]:
    """Each program, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        bundled, installed = Path(folder, "bundle"), Path(folder, "installed")
        bundled.mkdir()
        lay_out(bundled)
        shutil.copytree(f"{CHECKOUT}/hooks", installed)
        run(PYTHON, "-I", "-S", "-m", "compileall", "-q", installed)
        run(PYTHON, "-I", "-S", collect.__file__, installed)
        low_level = Path(folder, "programs")
        low_level.mkdir()
        (low_level / "runc").symlink_to("/bin/true")
        path = f"{low_level}:{ENVIRONMENT['PATH']}"
        for case, program, words in STARTS:
            environment = ENVIRONMENT | ({"PATH": path} if program == RUNTIME else {})
            runners: dict[str, list[Step]] = {
                name: [{"argv": [f"{directory}/{program}", *words], "env": environment}]
                for name, directory in (("bundle", f"{bundled}/bin"), ("host", installed))
            }
            laps = race(runners, runs)
            yield Line("bundle", case, laps["bundle"], laps["host"], note="right: python3")
