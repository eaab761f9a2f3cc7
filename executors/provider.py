"""Which device models run on: the setting, what a session really got, and what is said when the two differ.

``cuda`` means a GPU or nothing: an executor that finds none ends with a sentence before it takes work, and a model that
does not come up on it is not served. ``auto`` takes a GPU where one is and says once per process when there is none.
The provider of a session is read from the session; what the library says is available is no evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

# Before the library itself: it switches telemetry off.
from executors.runtime import CPU, CUDA, RUNTIME_ERRORS, cuda_is_usable, session_options  # isort: skip
import onnxruntime

from streams.errors import IsosError

Device = Literal["auto", "cuda", "cpu"]

_NO_CUDA: Final = "no usable CUDA device: models of this process run on the CPU"

GRAPHS: Final = {"enable_cuda_graph": "1"}
"""Provider options of a session whose runs are captured."""


class DeviceError(IsosError):
    """The setting asks for a device that is not here."""

    exit_code = 1

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.device = device

    def __str__(self) -> str:
        return (
            f"the setting device is `{self.device}`, and no session comes up on a GPU. `isos doctor` says what is "
            "missing; `auto` or `cpu` run models on the CPU"
        )


@dataclass(frozen=True, slots=True)
class Fallback:
    """That ``auto`` wanted CUDA and got the CPU, for whoever logs it: on the first such session of the process only."""

    wanted: str
    got: str
    sentence: str


_first_fallback: Final = iter((Fallback(CUDA, CPU, _NO_CUDA),))


def require(device: Device) -> str:
    """The provider that sessions of this process will get. Raises DeviceError where ``cuda`` has no GPU.

    Blocks for the first session of the process, a second or two where there is a GPU.
    """
    if device == "cpu":
        return CPU
    if cuda_is_usable():
        return CUDA
    if device == "cuda":
        raise DeviceError(device)
    return CPU


def create(
    blob: bytes, device: Device, *, graphs: bool = False
) -> tuple[onnxruntime.InferenceSession, Fallback | None]:
    """A session on the device, and the fallback where it is worth a word. Raises what ONNX Runtime raises.

    ``graphs``: runs on a GPU are captured as CUDA graphs; RuntimeError where a part of the model is not the GPU's.
    """
    use_cuda = device != "cpu" and (device == "cuda" or cuda_is_usable())
    cuda: Any = (CUDA, GRAPHS) if graphs else CUDA
    session = onnxruntime.InferenceSession(blob, session_options(), providers=[cuda, CPU] if use_cuda else [CPU])
    got: str = session.get_providers()[0]
    if device == "cuda" and got != CUDA:
        raise RuntimeError(f"device `cuda` was asked for, and the session runs on {got}")
    if device == "auto" and got != CUDA:
        return session, next(_first_fallback, None)
    return session, None


def create_best(blob: bytes, device: Device) -> tuple[onnxruntime.InferenceSession, Fallback | None, bool]:
    """As ``create``, with CUDA graphs where the model allows them on a GPU; the last of the three says whether."""
    if device != "cpu" and cuda_is_usable():
        try:
            return (*create(blob, device, graphs=True), True)
        except RUNTIME_ERRORS:
            pass  # a part of it runs on the CPU, or its shapes are decided there: runs cannot be captured
    return (*create(blob, device), False)
