# SPDX-License-Identifier: Apache-2.0
"""Where the programs of images look, on hosts of every layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cdi_gen.cdi.model import Spec
from cdi_gen.generate import generate, image_layouts
from cdi_gen.generate.options import Options
from cdi_gen.inventory import Inventory, json_form
from cdi_gen.paths import ContainerPath

Golden = Callable[[str], Inventory]

HOSTS = {
    "flat-550-1gpu": "/usr/lib/x86_64-linux-gnu",
    "debian-trixie-550-8gpu": "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "gpu-operator-550-2gpu": "/usr/lib/x86_64-linux-gnu",
    "h200-580-1gpu": "/usr/local/nvidia/lib64",
}
"""With the directory of libcuda in a container that has a hook."""


def variables(spec: Spec) -> dict[str, str]:
    return dict(each.split("=", 1) for each in spec.container_edits.env)


def places(spec: Spec) -> dict[str, str]:
    return {each.container_path: each.host_path for each in spec.container_edits.mounts}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("capabilities", ["all", "utility"])
def test_the_directory_of_libcuda_is_one(golden: Golden, host: str, capabilities: str) -> None:
    options = Options(capabilities=(capabilities,))
    told = variables(generate(golden(host), options))
    assert told["NVIDIA_CTK_LIBCUDA_DIR"] == HOSTS[host]
    assert "TRITON_LIBCUDA_PATH" not in told
    told = variables(generate(golden(host), options._replace(hooks=False)))
    assert told["NVIDIA_CTK_LIBCUDA_DIR"] == "/usr/lib64"
    assert told["TRITON_LIBCUDA_PATH"] == "/usr/lib64"


@pytest.mark.parametrize("step", ["update-ldcache", "all"])
def test_where_the_loaders_cache_is_not_made_triton_is_told(golden: Golden, step: str) -> None:
    told = variables(generate(golden("flat-550-1gpu"), Options(disabled_hooks=(step,))))
    assert told["TRITON_LIBCUDA_PATH"] == "/usr/lib/x86_64-linux-gnu"


def test_without_libcuda_nobody_is_told_where_it_is(golden: Golden) -> None:
    """Nor of a 32-bit one, which no program that reads the variable could use."""
    inventory = golden("flat-550-1gpu")
    others = [e for e in inventory.libraries if "libcuda.so" not in e.path or e.bits == 32]
    for hooks in (True, False):
        spec = generate(replace(inventory, libraries=tuple(others)), Options(hooks=hooks))
        assert variables(spec).keys() == {"NVIDIA_VISIBLE_DEVICES"}


def test_directories_that_were_named_are_used_alone(golden: Golden) -> None:
    spec = generate(golden("h200-580-1gpu"), Options(hooks=False, library_directories=("/opt/x",)))
    libraries = [each for each in places(spec) if "/libcuda.so" in each or "/libnvidia-ml" in each]
    assert {each.rpartition("/")[0] for each in libraries} == {"/opt/x"}
    assert variables(spec)["TRITON_LIBCUDA_PATH"] == "/opt/x"


@pytest.mark.parametrize("host", [*HOSTS, "nixos-550-1gpu"])
def test_modules_are_in_the_directories_of_every_image(golden: Golden, host: str) -> None:
    inventory = golden(host)
    hooked, alone = generate(inventory), generate(inventory, Options(hooks=False))
    words = hooked.container_edits.hooks[0].args
    links = {word.partition("::")[2] for word in words if "::" in word}
    for directory in ("/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib"):
        for module in ("gbm/nvidia-drm_gbm.so", "vdpau/libvdpau_nvidia.so.1"):
            place = f"{directory}/{module}"
            assert place in links | places(hooked).keys()
            assert place in places(alone)


def test_a_library_that_an_icd_file_names_by_its_path_is_there(golden: Golden) -> None:
    """NixOS writes the library's place in its store into the file."""
    found = places(generate(golden("nixos-550-1gpu"), Options(hooks=False)))
    named = [each for each in found if each.startswith("/nix/store/")]
    names = {each.rpartition("/")[2] for each in named}
    assert {"libGLX_nvidia.so.0", "libEGL_nvidia.so.0", "libnvidia-egl-gbm.so.1"} <= names
    # Where such files give names alone, nothing of the sort is needed.
    others = places(generate(golden("usr-local-550-1gpu"), Options(hooks=False)))
    assert "/usr/local/nvidia/lib64/libGLX_nvidia.so.0" not in others


def test_linkers_find_what_the_loader_alone_is_told_of(golden: Golden) -> None:
    words = generate(golden("h200-580-1gpu")).container_edits.hooks[0].args
    links = dict(word.split("::")[::-1] for word in words if "::" in word)
    for folder in ("/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib"):
        file = "/usr/local/nvidia/lib64/libcuda.so.580.159.04"
        assert links[f"{folder}/libcuda.so.1"] == file
        assert links[f"{folder}/libcuda.so"] == "libcuda.so.1"
        assert links[f"{folder}/libnvidia-ml.so"] == "libnvidia-ml.so.1"
    # No SONAME, and so in no loader's cache.
    assert links["/usr/lib/libGLX_indirect.so.0"].endswith("/libGLX_nvidia.so.580.159.04")
    # A link comes after the one that it leads to.
    order = [word.partition("::")[2] for word in words if "::" in word]
    assert order.index("/usr/lib/libcuda.so.1") < order.index("/usr/lib/libcuda.so")


def test_no_two_libraries_share_a_place_where_directories_are_one(golden: Golden) -> None:
    """A Red Hat host's 32-bit libraries in an image of Arch (89luca89/distrobox#2126)."""
    text = json_form.dump(golden("flat-550-1gpu"))
    for debian, red_hat in (("x86_64", "lib64"), ("i386", "lib")):
        text = text.replace(f"/usr/lib/{debian}-linux-gnu/", f"/usr/{red_hat}/")
    spec = generate(json_form.load(text), Options(capabilities=("all", "compat32")))
    found = places(spec)
    assert found["/usr/lib64/libcuda.so.550.163.01"] == "/usr/lib64/libcuda.so.550.163.01"
    assert found["/usr/lib32/libcuda.so.550.163.01"] == "/usr/lib/libcuda.so.550.163.01"
    words = spec.container_edits.hooks[0].args
    links = dict(word.split("::")[::-1] for word in words if "::" in word)
    assert links["/usr/lib32/libcuda.so.1"] == "libcuda.so.550.163.01"
    assert links["/usr/lib/libcuda.so.1"] == "/usr/lib64/libcuda.so.550.163.01"
    assert "/usr/lib32" in words
    merged = [each.replace("/usr/lib64/", "/usr/lib/") for each in found]
    modules = [each for each in merged if "/xorg/" in each or "/vdpau/" in each]
    assert len(set(merged) - set(modules)) == len(merged) - len(modules)


@pytest.mark.parametrize("host", [*HOSTS, "nixos-550-1gpu"])
def test_no_link_leads_to_itself_where_directories_are_one(golden: Golden, host: str) -> None:
    """Arch's /usr/lib64 is a link to /usr/lib; NVIDIA's hook makes every link that it is told of."""
    words = generate(golden(host)).container_edits.hooks[0].args
    for word in words:
        text, _, place = word.partition("::")
        # The X server's are mounted under the very name: cdi-gen's own hook leaves those alone.
        if place and "/xorg/" not in place:
            led = image_layouts.link_target(ContainerPath(place), text)
            assert led.replace("/usr/lib64/", "/usr/lib/") != place.replace(
                "/usr/lib64/", "/usr/lib/"
            )
