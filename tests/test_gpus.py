"""What is told of GPUs, by a driver that follows a script: each question is asked in a process that finds it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pynvml
import pytest
from nvml import GIB, FakeNvml, a100, fake_nvml

from loadgen.measure.facts import GpuFacts

CHILD = """
import sys
import msgspec
import pynvml
from loadgen.launch.gpus import free_bytes, gpus, processes, wait_freed, why_none
for line in sys.stdin:
    print(msgspec.json.encode(eval(line)).decode(), flush=True)
"""


class Asked:
    """A process that looks at GPUs when it is told to."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, expression: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, expression: str) -> Any:
        self.begin(expression)
        return self.answer()

    def gpus(self) -> list[GpuFacts]:
        return msgspec.convert(self.ask("gpus()"), list[GpuFacts], strict=False)

    def end(self) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    return fake_nvml(tmp_path_factory.mktemp("nvml"))


Ask = Callable[..., Asked]


@pytest.fixture
def asking(fake: FakeNvml) -> Iterator[Ask]:
    """Start a process that finds the fake, or what its environment says otherwise."""
    started: list[Asked] = []

    def start(environment: dict[str, str] | None = None, **more: str) -> Asked:
        started.append(Asked((environment or fake.environment) | more))
        return started[-1]

    yield start
    for asked in started:
        asked.end()


def test_two_a100_with_nvlink_are_told_exactly(fake: FakeNvml, asking: Ask) -> None:
    fake.says(a100(0), a100(1, memory_used=5 * GIB, sm_mhz=1410, persistence=0, ecc="0 1", mig=1))
    first = GpuFacts(
        index=0,
        uuid="GPU-0a5e0f3c-1b2d-4c3e-8f90-0123456789ab",
        name="NVIDIA A100-SXM4-80GB",
        bus_id="00000000:07:00.0",
        memory_bytes=80 * GIB,
        memory_free_bytes=79 * GIB,
        driver="580.95.05",
        cuda="13.0",
        compute_capability="8.0",
        sm_clock_mhz=210,
        memory_clock_mhz=1593,
        max_sm_clock_mhz=1410,
        max_memory_clock_mhz=1593,
        power_cap_w=350.5,
        power_default_w=400.0,
        persistence=True,
        ecc=True,
        mig=False,
        links={1: "NV12"},
    )
    second = msgspec.structs.replace(
        first,
        index=1,
        uuid="GPU-1a5e0f3c-1b2d-4c3e-8f90-0123456789ab",
        bus_id="00000000:08:00.0",
        memory_free_bytes=74 * GIB,
        sm_clock_mhz=1410,
        persistence=False,
        ecc=False,
        mig=True,
        links={0: "NV12"},
    )
    asked = asking()
    assert asked.gpus() == [first, second]
    assert asked.ask("why_none()") == ""


@pytest.mark.parametrize(("number", "version"), [(13000, "13.0"), (12080, "12.8"), (11040, "11.4")])
def test_the_version_of_cuda_is_told_as_people_write_it(fake: FakeNvml, asking: Ask, number: int, version: str) -> None:
    fake.says(a100(0), cuda=number)
    assert asking().gpus()[0].cuda == version


def test_what_is_not_supported_is_none_and_never_zero(fake: FakeNvml, asking: Ask) -> None:
    fake.says({}, driver=None, cuda=None)
    assert asking().gpus() == [GpuFacts(index=0, links={})]


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        (["ecc"], {"ecc"}),
        (["mig"], {"mig"}),
        (["memory_total"], {"memory_bytes", "memory_free_bytes"}),
        (["sm_mhz", "max_memory_mhz"], {"sm_clock_mhz", "max_memory_clock_mhz"}),
        (["cap_mw"], {"power_cap_w"}),
        (["name"], {"name"}),
    ],
)
def test_one_value_that_is_not_supported_takes_no_other_with_it(
    fake: FakeNvml, asking: Ask, keys: list[str], fields: set[str]
) -> None:
    fake.says(a100(0, **dict.fromkeys(keys)), a100(1))
    told = asking().gpus()[0]
    assert {name for name in told.__struct_fields__ if getattr(told, name) is None} == fields


def test_what_an_older_driver_cannot_be_asked_is_none(tmp_path: Path, asking: Ask) -> None:
    missing = ["nvmlDeviceGetMigMode", "nvmlDeviceGetNvLinkState", "nvmlSystemGetCudaDriverVersion"]
    older = fake_nvml(tmp_path, without=missing)
    older.says(a100(0), a100(1))
    told = asking(older.environment).gpus()[0]
    assert {name for name in told.__struct_fields__ if getattr(told, name) is None} == {"mig", "cuda"}
    assert told.links == {1: "SYS"}  # it does not know NVLink either


def test_without_the_library_there_are_no_gpus_and_a_reason(tmp_path: Path, asking: Ask) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()  # no library, and found before any that this machine may have
    asked = asking(FakeNvml(tmp_path).environment)
    assert asked.ask("gpus()") == []
    assert asked.ask("why_none()") == (
        "no NVIDIA driver: its library, NVML (libnvidia-ml.so.1), cannot be loaded; "
        "a container gets it when it is started with --gpus all"
    )
    assert asked.ask("[processes(0), free_bytes([0]), wait_freed([0], {}, 9, 0), wait_freed([0], {0: 1}, 9, 0)]") == [
        [],
        {},
        [],
        [0],
    ]


@pytest.mark.parametrize(
    ("init", "reason"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "installed but not loaded"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "restart the machine"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission"),
        (pynvml.NVML_ERROR_UNKNOWN, "does not answer: Unknown Error"),
        (77, "does not answer: "),
    ],
)
def test_a_driver_that_does_not_begin_is_told_from_none(fake: FakeNvml, asking: Ask, init: int, reason: str) -> None:
    fake.says(a100(0), init=f"!{init}")
    asked = asking()
    assert asked.ask("gpus()") == []
    assert reason in asked.ask("why_none()")


def test_a_driver_without_a_gpu_says_so(fake: FakeNvml, asking: Ask) -> None:
    fake.says()
    asked = asking()
    assert asked.ask("gpus()") == []
    assert asked.ask("why_none()") == "the NVIDIA driver is loaded, but has no GPU that we may use"


def test_somebody_elses_gpu_does_not_count_and_leaves_the_others_their_indices(fake: FakeNvml, asking: Ask) -> None:
    fake.says(a100(0, handle="!4"), a100(1))
    assert [gpu.index for gpu in asking().gpus()] == [1]


@pytest.mark.parametrize(
    ("named", "counting"),
    [
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 0 , 1 ", [0, 1]),
        ("GPU-1a5e0f3c-1b2d-4c3e-8f90-0123456789ab", [1]),
        ("GPU-1a5e,0", [1, 0]),
        ("", []),
        ("-1", []),
        ("0,7,1", [0]),  # as with CUDA, nothing counts after a GPU that there is not
        ("0,0", [0]),
        ("GPU-", []),  # which of them?
        ("MIG-1a5e0f3c-1b2d-4c3e-8f90-0123456789ab", []),
        ("none", []),
    ],
)
def test_cuda_visible_devices_says_which_gpus_count(
    fake: FakeNvml, asking: Ask, named: str, counting: list[int]
) -> None:
    fake.says(a100(0), a100(1))
    asked = asking(CUDA_VISIBLE_DEVICES=named)
    told = asked.gpus()
    assert [gpu.index for gpu in told] == counting
    assert [gpu.uuid for gpu in told] == [a100(number)["uuid"] for number in counting]
    assert [set(gpu.links or {}) for gpu in told] == [set(counting) - {number} for number in counting]
    why = "" if counting else f"CUDA_VISIBLE_DEVICES={named!r} leaves none of the GPUs 0, 1"
    assert asked.ask("why_none()") == why


def test_nvlinks_are_counted_by_their_ends_directly_or_through_switches(fake: FakeNvml, asking: Ask) -> None:
    through = " ".join(["switch"] * 18)
    places = [f"00000000:0{number}:00.0" for number in range(4)]
    fake.says(
        a100(0, bus_id=places[0], nvlinks=f"{through} 3 3 down"),
        a100(1, bus_id=places[1], nvlinks=through),
        a100(2, bus_id=places[2], nvlinks="down 3", **{"ancestor.0": 10, "ancestor.1": 40}),
        a100(3, bus_id=places[3], nvlinks="0 0 2 down", **{"ancestor.1": None}),
    )
    links = {gpu.index: gpu.links for gpu in asking().gpus()}
    assert links == {
        0: {1: "NV18", 2: "PIX", 3: "NV2"},
        1: {0: "NV18", 2: "NODE"},  # nobody says what joins 1 and 3
        2: {0: "PIX", 1: "NODE", 3: "NV1"},
        3: {0: "NV2", 2: "NV1"},
    }


@pytest.mark.parametrize(("level", "word"), [(0, "PSB"), (20, "PXB"), (30, "PHB"), (50, "SYS"), (60, None)])
def test_gpus_without_nvlink_are_joined_by_what_they_have_in_common(
    fake: FakeNvml, asking: Ask, level: int, word: str | None
) -> None:
    fake.says(a100(0, nvlinks=None, **{"ancestor.1": level}), a100(1, nvlinks=None, **{"ancestor.0": level}))
    assert [gpu.links for gpu in asking().gpus()] == [{1: word} if word else {}, {0: word} if word else {}]


def test_a_gpu_that_falls_off_the_bus_is_still_counted_and_says_nothing(fake: FakeNvml, asking: Ask) -> None:
    fake.says(a100(0), a100(1, processes="4242:1000"))
    asked = asking()
    assert [gpu.name is None for gpu in asked.gpus()] == [False, False]
    assert asked.ask("processes(1)") == [[4242, 1000]]
    fake.says(a100(0), a100(1, error=f"!{pynvml.NVML_ERROR_GPU_IS_LOST}"))
    whole, lost = asked.gpus()
    assert whole.name == "NVIDIA A100-SXM4-80GB"
    assert lost == GpuFacts(index=1, driver="580.95.05", cuda="13.0")
    assert asked.ask("[processes(1), free_bytes([0, 1]), why_none()]") == [[], {"0": 79 * GIB}, ""]
    fake.says(a100(0), a100(1))
    assert [gpu.name is None for gpu in asked.gpus()] == [False, False]


def test_a_gpu_whose_values_are_lost_and_not_its_handle_says_nothing_either(fake: FakeNvml, asking: Ask) -> None:
    fake.says(dict.fromkeys(a100(0), "!15"))
    assert asking().gpus() == [GpuFacts(index=0, driver="580.95.05", cuda="13.0", links={})]


def test_nvml_is_closed_after_each_call(fake: FakeNvml, asking: Ask) -> None:
    fake.says(a100(0), a100(1))
    asked = asking()
    for call in ("gpus()", "why_none()", "processes(0)", "free_bytes([0])", "wait_freed([0], {0: 1}, 0, 0)"):
        asked.ask(call)
        assert asked.ask("pynvml._nvmlGetFunctionPointer('nvmlShutdown')()") == pynvml.NVML_ERROR_UNINITIALIZED


def test_processes_are_told_with_their_memory_where_the_driver_knows_it(fake: FakeNvml, asking: Ask) -> None:
    fake.says(a100(0, processes="4242:1073741824 4243:?"), a100(1), a100(0, processes=None))
    asked = asking()
    assert asked.ask("processes(0)") == [[4242, GIB], [4243, None]]
    assert asked.ask("[processes(1), processes(2), processes(3)]") == [[], [], []]


def test_free_memory_is_told_by_index_and_only_where_it_is_known(fake: FakeNvml, asking: Ask) -> None:
    fake.says(a100(0), a100(1, memory_used=9 * GIB), a100(0, memory_used=None))
    # What the environment hides may still be looked at by its index.
    asked = asking(CUDA_VISIBLE_DEVICES="0")
    assert asked.ask("free_bytes([1, 2, 3])") == {"1": 70 * GIB}


def test_memory_that_comes_back_is_waited_for(fake: FakeNvml, asking: Ask) -> None:
    fake.says(a100(0, memory_used=70 * GIB), a100(1, memory_used=70 * GIB))
    asked = asking()
    asked.begin(f"wait_freed([0, 1], {{0: {79 * GIB}, 1: {79 * GIB}}}, 300, {GIB})")
    time.sleep(0.3)
    fake.says(a100(0, memory_used=GIB), a100(1, memory_used=70 * GIB))
    time.sleep(0.3)
    fake.says(a100(0), a100(1, memory_used=GIB))
    assert asked.answer() == []


def test_memory_that_does_not_come_back_is_named_when_the_time_is_over(fake: FakeNvml, asking: Ask) -> None:
    fake.says(a100(0, memory_used=GIB), a100(1, memory_used=GIB + 1), a100(1, error="!15"), a100(1, memory_used=None))
    asked = asking()
    before = dict.fromkeys(range(3), 79 * GIB)
    began = time.monotonic()
    assert asked.ask(f"wait_freed([0, 1, 2, 3], {before}, 0.3, {GIB})") == [1, 2]  # of 3, nothing was known before
    assert time.monotonic() - began >= 0.3


def test_memory_is_looked_at_even_if_there_is_no_time(fake: FakeNvml, asking: Ask) -> None:
    fake.says(a100(0))
    assert asking().ask(f"[wait_freed([0], {{0: {79 * GIB}}}, 0, 0), wait_freed([0], {{0: {80 * GIB}}}, 0, 0)]") == [
        [],
        [0],
    ]


def test_what_is_told_of_a_gpu_survives_being_written(fake: FakeNvml, asking: Ask) -> None:
    fake.says(a100(0), a100(1))
    told = asking().gpus()
    assert msgspec.json.decode(msgspec.json.encode(told), type=list[GpuFacts]) == told
