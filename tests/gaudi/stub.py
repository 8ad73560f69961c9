"""Stands in for Habana's software, so that optimum-habana can be imported where there is none.

Every name of `habana_frameworks` is a mock, and so is torchvision, which optimum-habana imports for
models of pictures. The hardware's kernels are asked for on the device "hpu" only, so on a CPU
nothing that a mock computes reaches a result: what runs is optimum-habana's own Python. To be
imported before it; `compute_here` then has its Trainer train on a processor.
"""

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

_STOOD_IN_FOR = ("habana_frameworks", "torchvision")


class _Mocks(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        if name.partition(".")[0] not in _STOOD_IN_FOR:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Mocks(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


sys.meta_path.append(_Finder())


def compute_here() -> None:
    """Have optimum-habana's Trainer train on a processor; when a job starts, `change` is called."""
    from accelerate import DistributedType
    from optimum.habana.accelerate import GaudiAccelerator

    from hebench.train import device

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # it shares gradients between HPUs only
        kind = property(lambda _: DistributedType.MULTI_HPU)
        GaudiAccelerator.distributed_type = kind
    asked, here = device.trainer_arguments, {"use_cpu": True}
    here |= {"use_habana": False, "use_lazy_mode": False}  # which call the hardware

    def arguments(config: Any, backend: Any, out: Any) -> dict[str, Any]:
        found = asked(config, backend, out)
        if backend.name != "gaudi":
            return found
        change()  # as its arguments do on the hardware, before a model is loaded
        return found | here

    device.trainer_arguments = arguments


def change() -> None:
    """Have transformers' models be optimum-habana's from here on."""
    from optimum.habana.transformers.modeling_utils import adapt_transformers_to_gaudi
    from optimum.habana.transformers.models.llama import modeling_llama
    from optimum.habana.transformers.models.mistral import modeling_mistral

    adapt_transformers_to_gaudi()
    # Off the hardware Mistral's does not look angles up by position; Llama's does.
    modeling_mistral.apply_customized_rope = modeling_llama.apply_customized_rope
