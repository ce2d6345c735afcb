# SPDX-License-Identifier: Apache-2.0
"""The verdict for combinations of image, driver and GPU."""

from __future__ import annotations

import json

import pytest

from cdi_gen.compat.facts import (
    CompatLibrary,
    CompatNote,
    DeviceCode,
    HostFacts,
    HostGpu,
    ImageFacts,
)
from cdi_gen.compat.host_facts import host_facts
from cdi_gen.compat.verdict import Verdict, verdict
from cdi_gen.inventory.json_form import load
from tests.host.looking import REPOSITORY

H200 = HostGpu(name="GPU 0 (NVIDIA H200)", capability="9.0", brand="nvidia")
T4 = HostGpu(name="GPU 0 (Tesla T4)", capability="7.5", brand="tesla")
P40 = HostGpu(name="GPU 0 (Tesla P40)", capability="6.1", brand="tesla")
V100 = HostGpu(name="GPU 0 (Tesla V100)", capability="7.0", brand="tesla")
B200 = HostGpu(name="GPU 0 (NVIDIA B200)", capability="10.0", brand="nvidia")
RTX4090 = HostGpu(name="GPU 0 (NVIDIA GeForce RTX 4090)", capability="8.9", brand="geforce")

NOTE_12_9 = CompatNote(
    cuda="12.9", drivers=(535, 550, 560, 565, 570, 575), brands=(0, 2, 4, 13, 14)
)
COMPAT_12_9 = CompatLibrary(
    path="/usr/local/cuda/compat/libcuda.so.575.57.08", version="575.57.08", note=NOTE_12_9
)
COMPAT_12_4 = CompatLibrary(path="/usr/local/cuda/compat/libcuda.so.550.54.15", version="550.54.15")
COMPAT_13_1 = CompatLibrary(
    path="/usr/local/cuda/compat/libcuda.so.590.44.01",
    version="590.44.01",
    note=CompatNote(cuda="13.1", drivers=(535, 550, 570, 575, 580, 590), brands=(2, 14)),
)


def host(driver: str | None, *gpus: HostGpu, module: str = "proprietary") -> HostFacts:
    return HostFacts(driver=driver, kernel_module=module, architecture="x86_64", gpus=gpus)


def image(cuda: str | None, *compat: CompatLibrary, **more: object) -> ImageFacts:
    return ImageFacts(cuda=cuda, cuda_source="CUDA_VERSION", compat=compat, **more)  # type: ignore[arg-type]


def codes(answer: Verdict) -> tuple[list[str], list[str]]:
    return [reason.code for reason in answer.reasons], [limit.code for limit in answer.limits]


@pytest.mark.parametrize(
    ("driver", "gpu", "cuda", "compat", "kind", "reasons", "limits"),
    [
        # The table of toolkits: 535 has CUDA 12.2.
        ("535.104.05", T4, "12.2", [], "native", ["M001"], []),
        ("535.104.05", T4, "11.8.0", [], "native", ["M001"], []),
        ("580.95.05", T4, "10.2", [], "native", ["M001"], []),
        ("535.104.05", T4, "12.3", [], "minor-version", ["M002"], ["M007", "M008"]),
        ("535.104.05", T4, "12.9.1", [], "minor-version", ["M002"], ["M007", "M008"]),
        ("525.60.13", T4, "12.9", [], "minor-version", ["M002"], ["M007", "M008"]),
        ("535.104.05", T4, "13.0", [], "no", ["M004"], []),
        ("520.61.05", T4, "12.0", [], "no", ["M004"], []),
        ("450.80.02", T4, "11.8", [], "minor-version", ["M002"], ["M007", "M008"]),
        # 450.36 has CUDA 11.0, and is older than the first driver of minor-version compatibility.
        ("450.36.06", T4, "11.1", [], "no", ["M004"], []),
        # Before CUDA 11 there is none.
        ("418.39", T4, "10.2", [], "no", ["M004"], []),
        # Forward compatibility: by the ELF note, or by branch and brand.
        ("535.104.05", T4, "12.9.1", [COMPAT_12_9], "forward-compat", ["M003"], ["M010"]),
        ("550.163.01", T4, "12.9.1", [COMPAT_12_9], "forward-compat", ["M003"], ["M010", "M009"]),
        ("545.23.08", T4, "12.9.1", [COMPAT_12_9], "minor-version", ["M002"], ["M007", "M008", "M011"]),
        ("535.104.05", RTX4090, "12.9", [COMPAT_12_9], "minor-version", ["M002"], ["M007", "M008", "M011"]),
        ("580.95.05", H200, "12.9", [COMPAT_12_9], "native", ["M001"], []),
        ("470.82.01", T4, "12.4", [COMPAT_12_4], "forward-compat", ["M003"], ["M010", "M009"]),
        ("470.82.01", RTX4090, "12.4", [COMPAT_12_4], "no", ["M004", "M011"], []),
        ("535.104.05", T4, "13.1", [COMPAT_13_1, COMPAT_12_9], "no", ["M004", "M011"], []),
        ("535.104.05", T4, "13.1", [COMPAT_13_1], "forward-compat", ["M003"], ["M010"]),
        # GPUs that a driver, a toolkit, a kernel module or a compat library no longer has.
        ("590.48.01", P40, "12.2", [], "no", ["M012"], []),
        ("580.95.05", P40, "12.9", [], "native", ["M001"], []),
        ("580.95.05", V100, "13.0", [], "no", ["M014"], []),
        ("580.95.05", V100, "13.1", [COMPAT_13_1], "no", ["M012"], []),
        ("580.95.05", B200, "12.8", [], "no", ["M013"], []),
        ("580.95.05", H200, "11.4", [], "native", ["M001"], ["M017"]),
        # What is not known.
        (None, T4, "12.2", [], "unknown", ["M006"], []),
        ("700.1.1", T4, "12.2", [], "unknown", ["M006"], []),
        ("535.104.05", T4, None, [], "unknown", ["M005"], []),
        ("535.104.05", HostGpu(name="GPU 0 (?)"), "12.2", [], "native", ["M001"], ["M018"]),
    ],
)  # fmt: skip
def test_verdict_by_versions_and_gpu(
    driver: str | None,
    gpu: HostGpu,
    cuda: str | None,
    compat: list[CompatLibrary],
    kind: str,
    reasons: list[str],
    limits: list[str],
) -> None:
    answer = verdict(image(cuda, *compat), host(driver, gpu))
    assert answer.kind == kind
    assert codes(answer) == (
        [f"CDG-{code}" for code in reasons],
        [f"CDG-{code}" for code in limits],
    )


def test_reason_names_both_numbers_and_the_driver_that_is_needed() -> None:
    answer = verdict(image("13.0.1"), host("535.104.05", T4))
    assert answer.reasons[0].message == (
        "the image has CUDA 13.0.1 (CUDA_VERSION), driver 535.104.05 supports CUDA up to 12.2; "
        "it needs driver 580.65.06 or newer"
    )
    assert answer.reasons[0].fix == (
        "install driver 580.65.06 or newer, or use an image with CUDA 12.2 or older"
    )


def test_rejected_compat_library_is_named_with_the_rule() -> None:
    answer = verdict(image("12.9", COMPAT_12_9), host("545.23.08", T4))
    assert answer.limits[-1].message == (
        "the image's /usr/local/cuda/compat/libcuda.so.575.57.08 cannot be used here: "
        "its ELF note does not list driver branch 545 (error 803)"
    )


def test_open_kernel_module_does_not_drive_a_gpu_before_turing() -> None:
    answer = verdict(image("12.2"), host("580.95.05", P40, module="open"))
    assert (answer.kind, codes(answer)[0]) == ("no", ["CDG-M013"])
    assert verdict(image("12.8"), host("580.95.05", B200, module="open")).kind == "native"


def test_one_of_two_gpus_that_cannot_run_the_image_is_a_limit() -> None:
    answer = verdict(image("13.0"), host("580.95.05", H200, V100))
    assert answer.kind == "native"
    assert [limit.code for limit in answer.limits] == ["CDG-M014"]


def test_image_for_another_processor_does_not_run() -> None:
    answer = verdict(image("12.2", architecture="arm64"), host("580.95.05", H200))
    assert (answer.kind, codes(answer)[0]) == ("no", ["CDG-M015"])
    assert verdict(image("12.2", architecture="amd64"), host("580.95.05", H200)).runs


class TestRequirement:
    """An image of CUDA 12.9 requires `cuda>=12.9`, and runs on a driver of CUDA 12.2."""

    STRICT = (("NVIDIA_REQUIRE_CUDA", "cuda>=12.9 brand=tesla,driver>=550,driver<551"),)

    def test_expression_that_refuses_an_image_that_runs_is_reported_beside_the_verdict(
        self,
    ) -> None:
        answer = verdict(image("12.9", requirements=self.STRICT), host("535.104.05", T4))
        assert (answer.kind, answer.requirement, answer.differs) == (
            "minor-version", "unsatisfied", True,
        )  # fmt: skip
        assert "cuda>=12.9 (this host: 12.2)" in answer.requirement_reason
        assert answer.limits[0].code == "CDG-M019"
        assert "NVIDIA_DISABLE_REQUIRE=1" in answer.limits[0].fix

    def test_expression_that_accepts_an_image_that_does_not_run(self) -> None:
        loose = (("NVIDIA_REQUIRE_CUDA", "driver>=450"),)
        answer = verdict(image("13.0", requirements=loose), host("535.104.05", T4))
        assert (answer.kind, answer.requirement, answer.differs) == ("no", "satisfied", True)

    def test_expression_that_agrees_is_no_limit(self) -> None:
        answer = verdict(image("12.9", requirements=self.STRICT), host("580.95.05", H200))
        assert (answer.requirement, answer.differs, answer.limits) == ("satisfied", False, ())

    def test_expression_on_an_unknown_fact_is_not_decided(self) -> None:
        brand = (("NVIDIA_REQUIRE_CUDA", "brand=tesla"),)
        gpu = HostGpu(name="GPU 0 (?)", capability="7.5")
        answer = verdict(image("12.2", requirements=brand), host("535.104.05", gpu))
        assert (answer.requirement, answer.differs) == ("unknown", False)

    def test_disabled_expression_is_not_evaluated(self) -> None:
        facts = image("12.9", requirements=self.STRICT, requirements_disabled=True)
        assert verdict(facts, host("535.104.05", T4)).requirement == "none"


class TestDeviceCode:
    OLD = DeviceCode(path="/opt/libold.so", cubins=("sm_70", "sm_75"))
    PORTABLE = DeviceCode(path="/opt/libportable.so", cubins=("sm_70",), ptx=("compute_70",))
    HOPPER = DeviceCode(path="/opt/libhopper.so", cubins=("sm_90a",))

    def test_no_library_with_code_for_the_gpu(self) -> None:
        answer = verdict(image("12.2", device_code=(self.OLD,)), host("580.95.05", H200))
        assert (answer.kind, codes(answer)[0]) == ("no", ["CDG-M016"])
        assert "/opt/libold.so" in answer.reasons[0].message

    def test_library_that_was_read_in_part_decides_nothing(self) -> None:
        part = DeviceCode(path="/opt/libold.so", cubins=("sm_70",), complete=False)
        answer = verdict(image("12.2", device_code=(part,)), host("580.95.05", H200))
        assert (answer.kind, codes(answer)[1]) == ("native", ["CDG-M016"])

    def test_one_library_without_code_is_a_limit(self) -> None:
        facts = image("12.2", device_code=(self.OLD, self.HOPPER))
        answer = verdict(facts, host("580.95.05", H200))
        assert (answer.kind, codes(answer)[1]) == ("native", ["CDG-M016"])

    def test_ptx_runs_after_compiling_and_not_by_minor_version_compatibility(self) -> None:
        answer = verdict(image("12.2", device_code=(self.PORTABLE,)), host("580.95.05", H200))
        assert (answer.kind, codes(answer)[1]) == ("native", ["CDG-M017"])
        answer = verdict(image("12.9", device_code=(self.PORTABLE,)), host("535.104.05", H200))
        assert [(limit.code, limit.severity) for limit in answer.limits][-1] == (
            "CDG-M007",
            "error",
        )


@pytest.mark.parametrize("name", ["h200-580-2gpu", "debian-bookworm-tesla-470-2gpu"])
def test_facts_of_a_host_are_those_of_its_inventory(name: str) -> None:
    text = (REPOSITORY / f"specs/golden/{name}/inventory.json").read_text(encoding="utf-8")
    facts = host_facts(load(text), "node1")
    assert facts.name == "node1"
    assert facts.driver == json.loads(text)["driver"]["version"]
    assert (len(facts.gpus), {gpu.capability for gpu in facts.gpus}) == (
        2, {"9.0"} if name.startswith("h200") else {"7.5"},
    )  # fmt: skip
