# SPDX-License-Identifier: Apache-2.0
"""Reports of users whose image did not run on some of their hosts, each rebuilt from its facts.

The name of a case is the report. What the report does not say (the brand of a GPU, the version of a
compat library) is what NVIDIA's image of that version and that model have.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from cdi_gen.compat.facts import CompatLibrary, DeviceCode, HostFacts, HostGpu, ImageFacts
from cdi_gen.compat.verdict import Verdict, verdict

A100 = HostGpu(name="NVIDIA A100-SXM4-80GB", capability="8.0", brand="nvidia")
H200 = HostGpu(name="NVIDIA H200", capability="9.0", brand="nvidia")
V100 = HostGpu(name="Tesla V100-SXM2-32GB", capability="7.0", brand="tesla")
T4 = HostGpu(name="Tesla T4", capability="7.5", brand="tesla")
P4 = HostGpu(name="Tesla P4", capability="6.1", brand="tesla")
GTX_1050 = HostGpu(name="NVIDIA GeForce GTX 1050", capability="6.1", brand="geforce")
GTX_1080_TI = HostGpu(name="NVIDIA GeForce GTX 1080 Ti", capability="6.1", brand="geforce")
P40 = HostGpu(name="Tesla P40", capability="6.1", brand="tesla")
RTX_2080_TI = HostGpu(name="NVIDIA GeForce RTX 2080 Ti", capability="7.5", brand="geforce")
RTX_3060 = HostGpu(name="NVIDIA GeForce RTX 3060", capability="8.6", brand="geforce")
RTX_3090 = HostGpu(name="NVIDIA GeForce RTX 3090", capability="8.6", brand="geforce")
RTX_5090 = HostGpu(name="NVIDIA GeForce RTX 5090", capability="12.0", brand="geforce")
RTX_PRO_4500 = HostGpu(
    name="NVIDIA RTX PRO 4500 Blackwell Server Edition", capability="12.0", brand="nvidia"
)
THOR = HostGpu(name="NVIDIA Thor", capability="11.0")

REQUIRE = "NVIDIA_REQUIRE_CUDA"


def host(driver: str, cuda: str, gpu: HostGpu, kernel_module: str = "") -> HostFacts:
    """A host; its kernel module is the one that drives the GPU, if the report does not name it."""
    module = kernel_module or ("open" if float(gpu.capability or 0) >= 7.5 else "proprietary")
    return HostFacts(
        driver=driver, cuda=cuda, kernel_module=module, architecture="x86_64", gpus=(gpu,)
    )


def image(
    cuda: str,
    require: str = "",
    compat: str = "",
    code: DeviceCode | None = None,
    setting: str = "",
) -> ImageFacts:
    """An image, with a compat libcuda of that driver, and what makes the loader find it."""
    directory = "/usr/local/cuda/compat"
    library = CompatLibrary(path=f"{directory}/libcuda.so.{compat}", version=compat)
    return ImageFacts(
        architecture="amd64",
        cuda=cuda,
        cuda_source="CUDA_VERSION",
        requirements=((REQUIRE, require),) if require else (),
        compat=(library,) if compat else (),
        compat_setting=setting,
        device_code=(code,) if code else (),
    )


def torch(*architectures: str, ptx: tuple[str, ...] = ()) -> DeviceCode:
    """The code of PyTorch's largest library."""
    return DeviceCode(path="/opt/torch/lib/libtorch_cuda.so", cubins=architectures, ptx=ptx)


class Case(NamedTuple):
    """A report."""

    image: ImageFacts
    host: HostFacts
    kind: str
    codes: set[str]
    """Of findings of which each tells the user something that the report's author had to find."""


CASES = {
    # --- The runtime refuses the image; CUDA itself would run it.
    "ggml-org/llama.cpp#9665": Case(
        image("12.6.0", "cuda>=12.6 brand=tesla,driver>=470,driver<471"),
        host("550.142", "12.4", RTX_3090),
        "minor-version",
        {"CDG-M002", "CDG-M007", "CDG-M019"},
    ),
    "rapidsai/devcontainers#332, nvidia/cuda:12.5.0-base runs": Case(
        image("12.5.0", "cuda>=12.5 brand=tesla,driver>=535,driver<536"),
        host("535.161.08", "12.2", T4),
        "minor-version",
        {"CDG-M002"},
    ),
    "rapidsai/devcontainers#332, the image without the clause of 535": Case(
        image("12.5.0", "cuda>=12.5"),
        host("535.161.08", "12.2", T4),
        "minor-version",
        {"CDG-M002", "CDG-M019"},
    ),
    "NVIDIA/nvidia-container-toolkit#152, the image of November 2023": Case(
        image("11.8.0", "cuda>=11.8 brand=tesla,driver>=470,driver<471"),
        host("470.199.02", "11.4", RTX_3090),
        "minor-version",
        {"CDG-M002", "CDG-M019"},
    ),
    "NVIDIA/nvidia-container-toolkit#152, the image before": Case(
        image("11.8.0", "cuda>=11.8 brand=geforce,driver>=470,driver<471"),
        host("470.199.02", "11.4", RTX_3090),
        "minor-version",
        {"CDG-M002"},
    ),
    "MauriceNino/dashdot#1226": Case(
        image("12.8.0", "cuda>=12.8 brand=tesla,driver>=535,driver<536"),
        host("535.247.01", "12.2", RTX_3060),
        "minor-version",
        {"CDG-M002", "CDG-M019"},
    ),
    # --- The driver is too old.
    "Xilinx/Vitis-AI#103": Case(
        image("10.0.130", "cuda>=10.0"), host("390.116", "9.1", GTX_1080_TI), "no", {"CDG-M004"}
    ),
    "tensorflow/tensorflow#50299": Case(
        image("11.2.1", "cuda>=11.2"), host("440.33.01", "10.2", RTX_2080_TI), "no", {"CDG-M004"}
    ),
    "NVIDIA/nvidia-docker#1442": Case(
        image("11.0.3", "cuda>=11.0 brand=tesla,driver>=418,driver<419"),
        host("430.64", "10.1", RTX_3060),
        "no",
        {"CDG-M004"},
    ),
    "defilantech/LLMKube#1424, CUDA 12.9": Case(
        image("12.9.1"), host("550.144.03", "12.4", A100), "minor-version", {"CDG-M002", "CDG-M007"}
    ),
    "defilantech/LLMKube#1424, CUDA 13.0": Case(
        image("13.0.1"), host("550.144.03", "12.4", A100), "no", {"CDG-M004"}
    ),
    # --- Forward compatibility: where it helps, and where it must not be used.
    "NVIDIA-NeMo/labs-molt#44, R535": Case(
        image("13.0.2", compat="580.173.02"),
        host("535.261.03", "12.2", A100),
        "forward-compat",
        {"CDG-M003"},
    ),
    "NVIDIA-NeMo/labs-molt#44, R595": Case(
        image("13.0.2", compat="580.173.02"),
        host("595.71.05", "13.2", A100),
        "native",
        {"CDG-M001"},
    ),
    "mistralai/mistral-inference#144": Case(
        image("12.1.1", compat="530.30.02"),
        host("525.147.05", "12.0", RTX_3060),
        "minor-version",
        {"CDG-M002", "CDG-M011"},
    ),
    "kubernetes-sigs/dra-driver-nvidia-gpu#425": Case(
        image("12.4.1", compat="550.54.15"), host("575.57.08", "12.9", A100), "native", {"CDG-M001"}
    ),
    "VIAME/VIAME#276": Case(
        image("12.4.1", compat="550.54.15", setting="LD_LIBRARY_PATH"),
        host("580.126.09", "13.0", T4),
        "no",
        {"CDG-M110", "CDG-M011"},
    ),
    "gpustack/gpustack#4678": Case(
        image("12.9.1", compat="575.57.08", setting="/etc/ld.so.conf.d/cuda-compat.conf"),
        host("580.126.09", "13.0", A100),
        "native",
        {"CDG-M001", "CDG-M110"},
    ),
    "ggml-org/llama.cpp#23111": Case(
        image("13.0.1", compat="580.82.07", setting="/etc/ld.so.conf.d/00-compat.conf"),
        host("595.58.03", "13.2", RTX_5090),
        "native",
        {"CDG-M001", "CDG-M110"},
    ),
    "NVIDIA-NeMo/labs-molt#44, R535 with the directory in LD_LIBRARY_PATH": Case(
        image("13.0.2", compat="580.173.02", setting="LD_LIBRARY_PATH"),
        host("535.261.03", "12.2", A100),
        "forward-compat",
        {"CDG-M003"},
    ),
    "NVIDIA/gpu-operator#1428": Case(
        image("12.6.1", compat="560.35.03"),
        host("570.133.20", "12.8", H200),
        "native",
        {"CDG-M001"},
    ),
    "vllm-project/vllm#4940": Case(
        image("12.4.1", compat="550.54.15"),
        host("525.147.05", "12.0", RTX_3090),
        "minor-version",
        {"CDG-M002", "CDG-M011"},
    ),
    # --- The GPU.
    "AbdBarho/stable-diffusion-webui-docker#765": Case(
        image("12.1.1", code=torch("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")),
        host("570.133.07", "12.8", RTX_5090),
        "no",
        {"CDG-M016"},
    ),
    "lecode-official/comfyui-docker#30": Case(
        image(
            "12.9.1", code=torch("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
        ),
        host("575.57.08", "12.9", P40),
        "no",
        {"CDG-M016"},
    ),
    "moyix/fauxpilot#19": Case(
        image(
            "11.7.0",
            code=DeviceCode(path="/opt/tritonserver/backends/libft.so", ptx=("compute_70",)),
        ),
        host("470.141.03", "11.4", RTX_3060),
        "minor-version",
        {"CDG-M002", "CDG-M007"},
    ),
    "NVIDIA/personaplex#23": Case(
        image("12.4.1", code=torch("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")),
        host("572.83", "12.8", RTX_5090),
        "no",
        {"CDG-M016"},
    ),
    "vllm-project/vllm#19542": Case(
        image("12.6.3", code=torch("sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90")),
        host("570.133.07", "12.8", GTX_1080_TI),
        "no",
        {"CDG-M016"},
    ),
    "vllm-project/vllm#39233": Case(
        replace(
            image("13.0.1", code=torch("sm_87", "sm_89", "sm_90", "sm_100", "sm_120")),
            architecture="arm64",
        ),
        replace(host("580.00", "13.0", THOR, "nvgpu"), architecture="aarch64"),
        "no",
        {"CDG-M016"},
    ),
    "mudler/LocalAI#9948": Case(
        image("13.0.1"), host("580.126.20", "13.0", V100), "no", {"CDG-M014"}
    ),
    "mudler/LocalAI#9948, the image of CUDA 12": Case(
        image("12.8.1"), host("580.126.20", "13.0", V100), "native", {"CDG-M001"}
    ),
    "NixOS/nixos-hardware#1880": Case(
        image("12.4.1"), host("595.71.05", "13.2", GTX_1050), "no", {"CDG-M012"}
    ),
    "zzzhouuu/truenas-nvidia-drivers#20": Case(
        image("12.4.1"), host("580.178.04", "13.0", P4, "open"), "no", {"CDG-M013"}
    ),
    "awslabs/amazon-eks-ami#2769": Case(
        image("13.0.1"), host("580.126.09", "13.0", RTX_PRO_4500, "proprietary"), "no", {"CDG-M013"}
    ),
}


def codes(answer: Verdict) -> set[str]:
    return {finding.code for finding in (*answer.reasons, *answer.limits)}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_says_what_the_report_found(name: str) -> None:
    case = CASES[name]
    answer = verdict(case.image, case.host)
    assert answer.kind == case.kind, answer
    assert codes(answer) >= case.codes, answer


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if "CDG-M019" not in case.codes]
)
def test_the_requirement_does_not_differ_where_the_report_does_not_say_so(name: str) -> None:
    assert "CDG-M019" not in codes(verdict(CASES[name].image, CASES[name].host))


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if not case.image.compat_setting]
)
def test_an_image_that_leaves_its_compat_library_to_the_hook_is_not_reproached(name: str) -> None:
    assert "CDG-M110" not in codes(verdict(CASES[name].image, CASES[name].host))
