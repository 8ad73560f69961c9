"""Matrix products of a half-precision model on a CPU, by float32 kernels where these are faster.

Without tile instructions a CPU may multiply bfloat16 matrices at half the speed of float32 ones.
Operands widened for the one product, and a product rounded back, give what the slow kernels give:
those sum in float32, too. Activations stay in half precision between the products, as they were.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

_FEWEST_ROWS = 64  # with fewer, to widen the weights costs more than it saves
_HALVES = (torch.bfloat16, torch.float16)
_CLEARLY = 1.15  # times faster: less may be chance


class WideProducts(TorchFunctionMode):  # type: ignore[misc]
    """While entered, products of many half-precision rows are computed in float32."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a torch function, `linear` and attention with widened operands."""
        kwargs = kwargs or {}
        wide = func is linear or func is scaled_dot_product_attention
        if not wide or args[0].shape[-2] < _FEWEST_ROWS or args[0].dtype not in _HALVES:
            return func(*args, **kwargs)
        found = func(*map(_wide, args), **{key: _wide(value) for key, value in kwargs.items()})
        return found.to(args[0].dtype)


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value


def wide_is_faster(model: Any) -> bool:
    """Return whether this machine multiplies a model's matrices faster in float32: by trial."""
    if model.device.type != "cpu" or model.dtype not in _HALVES:
        return False
    width = model.config.get_text_config().hidden_size
    rows = torch.ones((256, width), dtype=model.dtype)
    weights = torch.ones((2 * width, width), dtype=model.dtype)
    with torch.inference_mode():
        plain = _seconds(lambda: linear(rows, weights))
        with WideProducts():
            wide = _seconds(lambda: linear(rows, weights))
    return _CLEARLY * wide < plain


def _seconds(work: Callable[[], Any]) -> float:
    """Return the processor time of the fastest of a few runs: other processes do not count."""
    found = []
    for _ in range(5):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)
