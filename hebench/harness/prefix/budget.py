"""How many tokens one forward pass reads."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

_CPU_TOKENS = 512  # with more a token is no faster, and what is masked costs
_CPU_SLOTS_BYTES = 576 * 2**20  # answers in the making: the more, the fewer fetches of the weights
_FIRST_TOKENS = 256  # of an accelerator, to see what a token costs there
_MOST_TOKENS = 4096  # from here on the mask, which grows by the square, costs more than it saves


class Budget:
    """Tokens a pass: on an accelerator as many as fit its memory, fewer once it ran out."""

    def __init__(self, device: torch.device) -> None:
        """Start with what surely fits."""
        self._device = device
        self._measured = device.type != "cuda"
        self.tokens = _FIRST_TOKENS if device.type == "cuda" else _CPU_TOKENS

    def attempt(self, forward: Callable[[int], Result]) -> Result:
        """Return what `forward(tokens)` returns, with half the tokens after each lack of memory.

        Raises the error itself if a single token is too many.
        """
        while True:
            try:
                return self._measure(forward)
            except RuntimeError as error:
                if self.tokens == 1 or not is_lack_of_memory(error):
                    raise
            # Outside the handler, whose traceback holds the tensors that filled the memory.
            self.tokens //= 2
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def slots(self, model: Any, states: Sequence[tuple[Any, Any]]) -> int:
        """Return how many tokens' keys and values may be held while answers are written.

        Half the memory of the weights, of a small model up to twice of it; of an accelerator a
        quarter of what is free.
        states: of each layer, keys and values (heads, any, width).
        """
        weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
        room = max(weights / 2, min(2 * weights, _CPU_SLOTS_BYTES))
        if self._device.type == "cuda":
            room = torch.cuda.mem_get_info(self._device)[0] / 4
        one = sum(x.shape[0] * x.shape[-1] * x.element_size() for pair in states for x in pair)
        return int(room / one)

    def _measure(self, forward: Callable[[int], Result]) -> Result:
        if self._measured:
            return forward(self.tokens)
        torch.cuda.reset_peak_memory_stats(self._device)
        before = torch.cuda.memory_allocated(self._device)
        found = forward(self.tokens)
        self._measured = True
        one = (torch.cuda.max_memory_allocated(self._device) - before) / self.tokens
        free, _ = torch.cuda.mem_get_info(self._device)
        # Half: the keys and values of what is kept need room, too.
        self.tokens = max(self.tokens, min(int(free / 2 / max(one, 1)), _MOST_TOKENS))
        return found


def is_lack_of_memory(error: RuntimeError) -> bool:
    """Return whether a pass failed for want of memory; on a CPU only the text says so."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)
