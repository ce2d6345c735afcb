# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen compat --inventories DIR --images LIST``."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
from junitparser import JUnitXml

from cdi_gen.doctor import report
from tests.cli.program import GOLDEN, Result, cdi_gen

HOSTS = {"a-550": "hgx-550-8gpu", "b-550": "debian-trixie-550-8gpu", "c-580": "h200-580-1gpu"}


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A directory with three inventories in `hosts`, and a list of images that all of them run."""
    (tmp_path / "hosts").mkdir()
    for name, golden in HOSTS.items():
        shutil.copy(GOLDEN / golden / "inventory.json", tmp_path / f"hosts/{name}.json")
    (tmp_path / "images.txt").write_text("cuda:12.4\n# a comment\n\ncuda:12.1 # another\n")
    return tmp_path


def compat(fleet: Path, *words: str, code: int = 0) -> Result:
    """Run it on a fleet."""
    directories = ("--inventories", f"{fleet}/hosts", "--images", f"{fleet}/images.txt")
    result = cdi_gen("compat", *directories, *words)
    assert result.code == code, result.out + result.err
    return result


def test_all_run(fleet: Path) -> None:
    output = compat(fleet).out
    assert output.startswith("2 images on 3 hosts (2 classes): all 6 pairs run\n")
    assert "a-550, b-550" in output


def test_one_does_not_run(fleet: Path) -> None:
    (fleet / "images.txt").write_text("cuda:12.4\ncuda:13.0\n")
    output = compat(fleet, code=1).out
    assert "on A: cuda:13.0" in output
    assert "4 of 6 pairs run, 2 do not" in output


@pytest.mark.parametrize(
    ("expression", "code"), [("driver>=570", 1), ("driver>=550", 0), ("cuda>=12.4", 0)]
)
def test_a_requirement_is_an_image(fleet: Path, expression: str, code: int) -> None:
    (fleet / "images.txt").write_text(f"require:{expression}\n")
    compat(fleet, code=code)


def test_images_that_cannot_be_read_are_rows(fleet: Path) -> None:
    (fleet / "images.txt").write_text("cuda:12.4\n./gone.tar\n/nowhere\nno.such/image:1\n")
    (fleet / "gone.tar").write_bytes(b"no archive")
    document = json.loads(compat(fleet, "-o", "json", code=4).out)
    rows = {row["name"]: row["reason"] for row in document["unreadable"]}
    assert [*rows] == ["./gone.tar", "/nowhere", "no.such/image:1"]
    assert rows["./gone.tar"]["message"].startswith(f"{fleet}/./gone.tar: ")
    assert all(reason["code"].startswith("CDG-M") for reason in rows.values())
    assert [image["image"] for image in document["images"]] == ["cuda:12.4"]


def test_a_root_file_system_beside_the_list_is_an_image(fleet: Path) -> None:
    (fleet / "root/usr/local/cuda").mkdir(parents=True)
    version = {"cuda": {"name": "CUDA SDK", "version": "12.4.1"}}
    (fleet / "root/usr/local/cuda/version.json").write_text(json.dumps(version))
    (fleet / "images.txt").write_text("./root\n")
    document = json.loads(compat(fleet, "-o", "json").out)
    assert [(image["image"], image["cuda"]) for image in document["images"]] == [
        ("./root", "12.4.1")
    ]


def test_broken_inventories_are_rows(fleet: Path) -> None:
    hosts = fleet / "hosts"
    (hosts / "d.json").write_text('{"formatVersion": 2, "platform"')
    (hosts / "e.json").write_bytes(b"\xff")
    (hosts / "f.json").write_text("[]")
    (hosts / "g.json").mkdir()
    os.mkfifo(hosts / "h.json")
    (hosts / "i.json").symlink_to("nowhere")
    (hosts / "j.json").write_text('{"formatVersion": 99}')
    (hosts / "k.json").symlink_to("a-550.json")
    (hosts / ".hidden.json").write_text("")
    (hosts / "readme.txt").write_text("")
    document = json.loads(compat(fleet, "-o", "json", code=4).out)
    codes = {row["name"]: row["reason"]["code"] for row in document["unreadable"]}
    assert codes == {
        "d": "CDG-I001",
        "e": "CDG-I001",
        "f": "CDG-I001",
        "g": "CDG-M102",
        "h": "CDG-M102",
        "i": "CDG-M102",
        "j": "CDG-I003",
    }
    assert document["hostClasses"][0]["hosts"] == ["a-550", "b-550", "k"]


def test_a_report_of_doctor_is_a_host(fleet: Path) -> None:
    hosts = fleet / "hosts"
    inventory = json.loads((hosts / "a-550.json").read_text())
    fault = {"code": "CDG-H001", "severity": "error", "subject": "", "message": "no driver"}
    fault |= {"fix": "", "source": "", "noDriver": True}  # type: ignore[dict-item]
    for name, answer in {"a-550": {"value": inventory}, "d": {"error": fault}}.items():
        document = {"kind": report.KIND, "formatVersion": report.FORMAT, "version": "1"}
        content = json.dumps(document | {"answers": {"inventory": {"": answer}}}, indent=1)
        assert report.answers(content.encode(), name)
        (hosts / f"{name}.json").write_text(content)
    document = json.loads(compat(fleet, "-o", "json", code=4).out)
    assert document["hostClasses"][0]["hosts"] == ["a-550", "b-550"]
    (row,) = document["unreadable"]
    assert (row["name"], row["reason"]["code"]) == ("d", "CDG-M102")
    assert "no inventory of the host: no driver" in row["reason"]["message"]


def test_a_host_without_a_driver_is_not_known(fleet: Path) -> None:
    document = json.loads((fleet / "hosts/a-550.json").read_text())
    inventory = {"formatVersion": 2, "platform": "vfio", "architecture": "x86_64"}
    assert document["platform"] == "dgpu"
    (fleet / "hosts/a-550.json").write_text(json.dumps(inventory))
    assert "2 unknown" in compat(fleet, code=4).out


def test_outputs_are_written_by_the_names_of_the_files(fleet: Path) -> None:
    files = ("x.html", "x.json", "x.csv", "x.xml", "x.txt")
    result = compat(fleet, *(word for name in files for word in ("-o", f"{fleet}/{name}")))
    assert result.out == ""
    assert "all 6 pairs run" in result.err
    assert (fleet / "x.html").read_text().startswith("<!doctype html>")
    assert json.loads((fleet / "x.json").read_text())["summary"]["images"] == 2
    assert len([*csv.reader(io.StringIO((fleet / "x.csv").read_text()))]) == 5
    assert JUnitXml.fromfile(f"{fleet}/x.xml").tests == 4
    assert (fleet / "x.txt").read_text() == compat(fleet).out


def test_a_file_and_a_printed_format(fleet: Path) -> None:
    result = compat(fleet, "-o", f"{fleet}/table", "--format", "html", "-o", "csv")
    assert result.out.startswith("image,digest,")
    assert (fleet / "table").read_text().startswith("<!doctype html>")


def test_the_same_inputs_give_the_same_bytes(fleet: Path) -> None:
    outputs = []
    for seed in ("1", "2"):
        files = [fleet / f"{seed}.{suffix}" for suffix in ("html", "json", "csv", "xml", "txt")]
        words = [word for file in files for word in ("-o", str(file))]
        result = cdi_gen(
            *("compat", "--inventories", f"{fleet}/hosts", "--images", f"{fleet}/images.txt"),
            *words,
            env={"PYTHONHASHSEED": seed, "TZ": f"UTC+{seed}"},
        )
        assert result.code == 0, result.err
        outputs.append([file.read_bytes() for file in files])
    assert outputs[0] == outputs[1]


def test_signs_are_ascii_where_the_terminal_has_no_others(fleet: Path) -> None:
    result = cdi_gen(
        *("compat", "--inventories", f"{fleet}/hosts", "--images", f"{fleet}/images.txt"),
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert result.code == 0, result.err
    assert "+ native" in result.out


def test_a_lock_file_is_written_and_checked(fleet: Path) -> None:
    lock = fleet / "fleet.lock"
    assert "wrote 3 hosts and 2 images" in compat(fleet, "--pin", str(lock)).err
    content = lock.read_bytes()
    assert compat(fleet, "--pin", str(lock)).err == ""
    path = fleet / "hosts/c-580.json"
    path.write_text(path.read_text().replace("580.", "570."))
    junit = fleet / "x.xml"
    result = compat(fleet, "--pin", str(lock), "-o", str(junit), code=5)
    assert "host c-580 has left the lock file: driver is 570." in result.err
    assert "CDG-M106" in result.err
    assert JUnitXml.fromfile(str(junit)).failures == 1
    assert lock.read_bytes() == content
    compat(fleet, "--pin", str(lock), "--update-pin")
    assert lock.read_bytes() != content
    compat(fleet, "--pin", str(lock))


def test_leaving_the_lock_file_counts_more_than_not_running(fleet: Path) -> None:
    lock = fleet / "fleet.lock"
    compat(fleet, "--pin", str(lock))
    (fleet / "images.txt").write_text("cuda:12.4\ncuda:99.0\n")
    compat(fleet, code=1)
    err = compat(fleet, "--pin", str(lock), code=5).err
    assert "image cuda:12.1 is in the lock file and not in the list" in err
    assert "image cuda:99.0 is in the list and not in the lock file" in err


def test_a_new_host_like_the_others_has_not_left(fleet: Path) -> None:
    lock = fleet / "fleet.lock"
    compat(fleet, "--pin", str(lock))
    (fleet / "hosts/a-550.json").rename(fleet / "hosts/z-550.json")
    err = compat(fleet, "--pin", str(lock)).err
    assert "host a-550 is in the lock file and has no inventory" in err
    assert "host z-550 is not in the lock file; another host like it is" in err


def test_an_incomplete_lock_file_is_not_written(fleet: Path) -> None:
    (fleet / "hosts/d.json").write_text("{")
    result = compat(fleet, "--pin", f"{fleet}/fleet.lock", code=1)
    assert "CDG-M108" in result.err
    assert not (fleet / "fleet.lock").exists()


def test_a_file_that_is_no_lock_file_stays(fleet: Path) -> None:
    other = fleet / "hosts/a-550.json"
    content = other.read_bytes()
    assert "CDG-M105" in compat(fleet, "--pin", str(other), code=1).err
    assert other.read_bytes() == content


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--images", "-"), "a fleet needs both"),
        (("--inventories", "/"), "a fleet needs both"),
        (("--inventories", "/nowhere", "--images", "LIST"), "/nowhere: No such file"),
        (("--inventories", "EMPTY", "--images", "LIST"), "has no inventory"),
        (("--inventories", "HOSTS", "--images", "EMPTY/none"), "names no image"),
        (("--inventories", "HOSTS", "--images", "LIST", "-o", "x.pdf"), "neither a format nor"),
        (("--inventories", "HOSTS", "--images", "LIST", "-o", "csv", "-o", "json"), "both csv and"),
        (("--inventories", "HOSTS", "--images", "LIST", "debian"), "exclude"),
        (("--inventories", "HOSTS", "--images", "LIST", "--cuda", "12.4"), "exclude"),
        (("--inventories", "HOSTS", "--images", "LIST", "--update-pin"), "--pin, which is not"),
        (("--inventories", "HOSTS", "--images", "LIST", "--host-root", "/x"), "no effect"),
        (("--cuda", "12.4", "--pin", "x"), "--pin is only for fleets"),
        (("--cuda", "12.4", "-o", "html"), "no format html"),
        (("--data", "-o", "csv"), "no format csv"),
    ],
)
def test_usage_errors(fleet: Path, words: tuple[str, ...], text: str) -> None:
    (fleet / "empty").mkdir()
    (fleet / "empty/none").write_text("# nothing\n")
    places = {"HOSTS": "hosts", "LIST": "images.txt", "EMPTY": "empty", "EMPTY/none": "empty/none"}
    words = tuple(f"{fleet}/{places[word]}" if word in places else word for word in words)
    result = cdi_gen("compat", *words)
    assert (result.code, result.out) == (2, "")
    assert text in result.err
