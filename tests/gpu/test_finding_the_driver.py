# SPDX-License-Identifier: Apache-2.0
"""Programs that look for the driver by other means than dlopen find it, in every form of spec.

The root is this machine's own, with its compilers and its Python; the driver is a fake host's, of
every layout.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cdi_gen.cdi.wire import to_document
from cdi_gen.generate import driver_tree, generate
from cdi_gen.generate.options import FORMS, Options
from cdi_gen.inventory import HookProgram, Inventory, json_form
from cdi_gen.paths import HostPath
from tests.fakehost.hosts import FakeHost
from tests.gpu.mount_namespace import output_of
from tests.gpu.programs.container import CHECKOUT

pytestmark = [
    pytest.mark.engine,
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("runc") is None, reason="needs runc"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]

IN_A_CONTAINER = """
import json, sys
from pathlib import Path
from cdi_gen import tree
from cdi_gen.generate import Options
from cdi_gen.generate.driver_tree import layout
from cdi_gen.inventory import json_form
from tests.gpu.programs import machine
from tests.gpu.programs.container import Form, Runner
from tests.gpu.programs.programs import Program

folder, specs = Path(sys.argv[1]), Path(sys.argv[2])
machine.mount("-t", "tmpfs", "tmpfs", folder)
root = machine.of_this_machine({"libraries": [], "files": []}, folder / "bare")
(folder / "containers").mkdir()
host_root, inventory = sys.argv[4], json_form.load(Path(sys.argv[5]).read_text())
content = layout(inventory, Options(form="tree", hooks=sys.argv[6] == "hook"))
files = tuple(file._replace(source=host_root + file.source) for file in content.files)
tree.make(content._replace(files=files), str(folder / "driver"))
environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp/home", "LC_ALL": "C.UTF-8"}
runner = Runner(["runc"], root, folder / "containers", "nvidia.com/gpu=all", environment)
print(json.dumps(runner.run(Program("look", sys.argv[3], 100), Form("found", specs))))
"""

TRITON = """
import os, subprocess
told = os.environ.get("TRITON_LIBCUDA_PATH")
listed = subprocess.check_output(["/sbin/ldconfig", "-p"], text=True).splitlines()
places = [told] if told else [os.path.dirname(l.split()[-1]) for l in listed if "libcuda.so.1" in l]
assert any(os.path.exists(os.path.join(place, "libcuda.so.1")) for place in places), places
with open("triton.c", "w") as file:
    file.write("int cuInit(unsigned); int main(void) { return cuInit(0) == -1; }")
for name in ("-lcuda", "-l:libcuda.so.1"):
    words = ["gcc", "triton.c", *(f"-L{place}" for place in places), name, "-o", "triton"]
    subprocess.run(words, check=True)
    subprocess.run(["./triton"], check=True)
"""
"""What Triton and its forks do; they have linked with the file's name since 3.0."""

LOOK = f"""
set -e
cat > as_triton.py <<'END'
{TRITON}
END
python3 as_triton.py
python3 -c 'import ctypes; ctypes.CDLL("/usr/lib/libcuda.so")'  # Numba
gcc -o linked /inside/linked.c -lcuda -lnvidia-ml
ldd ./linked > needed
cat needed
if grep 'not found' needed; then exit 1; fi
for name in cuda nvidia-ml nvidia-ptxjitcompiler nvcuvid nvidia-encode; do
    python3 /inside/run_find_library.py $name
done
python3 /inside/run_sonames.py libcuda.so libcuda.so.1 libnvidia-ml.so libnvidia-ml.so.1 \\
    libnvcuvid.so libnvcuvid.so.1 libnvidia-encode.so.1 libnvidia-ptxjitcompiler.so.1 \\
    libnvidia-opencl.so.1
ls /usr/lib*/libcuda.so*
test -e "$NVIDIA_CTK_LIBCUDA_DIR/libcuda.so.1"
echo all found
"""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hooks", [True, False], ids=["hook", "no-hook"])
@pytest.mark.parametrize(
    "name", ["550-1gpu", "550-debian", "550-lib64", "550-arch", "550-usr-local"]
)
def test_programs_find_the_driver(
    host: Callable[[str], FakeHost],
    look: Callable[..., Inventory],
    tmp_path: Path,
    name: str,
    hooks: bool,
    form: str,
) -> None:
    program = HookProgram(path=HostPath(str(CHECKOUT / "hooks/cdi-gen-hook")))
    inventory = replace(look(name), hook=program)
    document = to_document(generate(inventory, Options(hooks=hooks, form=form)))
    edits = document["containerEdits"]
    # They are of no driver; the files are in the fake host's directory.
    edits.pop("deviceNodes", None)
    root = str(host(name).root)
    for mount in edits["mounts"]:
        if not mount["hostPath"].startswith(driver_tree.ROOT):
            mount["hostPath"] = f"{root}{mount['hostPath']}"
    document["devices"] = [{"name": "all", "containerEdits": {"env": ["A=b"]}}]
    for folder in ("specs", "memory"):
        (tmp_path / folder).mkdir()
    text = json.dumps(document).replace(driver_tree.ROOT, f"{tmp_path}/memory/driver")
    (tmp_path / "specs/nvidia.json").write_text(text, encoding="utf-8")
    (tmp_path / "inventory.json").write_text(json_form.dump(inventory), encoding="utf-8")
    words = (tmp_path / "memory", tmp_path / "specs", LOOK, root, tmp_path / "inventory.json")
    stdout = output_of(IN_A_CONTAINER, *words, "hook" if hooks else "no hook")
    verdict, _, output = json.loads(stdout)
    assert (verdict, output.splitlines()[-1:]) == ("passed", ["all found"]), output
