"""Several processes of one job, as torchrun and `accelerate launch` start them.

A process whose group of gloo still stands as the interpreter goes may be aborted after all its
work: a thread of the group that lets go of a finished collective's tensors asks for the
interpreter's lock, and before Python 3.14 that ends in `terminate called without an active
exception` (SIGABRT). torch joins these threads when nothing holds the group any more; where
something still does (a global of the user's, ZeRO's engine), they get a moment to be done.
transformers' Trainer makes it likely: the last thing that it does in training is a collective.
"""

import atexit
import functools
import gc
import importlib
import os
import sys
import time

_MOMENT = 0.5  # seconds in which threads that go on can have the interpreter's lock


def rank() -> int:
    """Return this process's number as its launcher gave it: 0 for the first and for a lone one."""
    return int(os.environ.get("RANK", "0"))


@functools.cache  # once is enough
def leave_gloo_at_exit() -> None:
    """Have gloo's group, should there be one, end before the interpreter does.

    To be called before there is one: a module that makes the group of the time of its import a
    default of its functions keeps it to the end. The group of a model under ZeRO 3 outlives this
    all the same, for DeepSpeed's parameters hold each other where Python cannot see it, as does
    the one of an engine of ZeRO that its owner did not let go.
    """
    importlib.import_module("torch.distributed.nn.functional")
    atexit.register(_leave_gloo)


def _leave_gloo() -> None:
    from torch import cuda, distributed

    if not distributed.is_initialized():
        return
    if distributed.get_backend() != "gloo" and cuda.is_available():  # "undefined" where both may be
        return  # leaving NCCL's group may wait for processes that an error has ended
    comm = sys.modules.get("deepspeed.comm")  # which holds it in globals of its own
    (comm if comm and comm.is_initialized() else distributed).destroy_process_group()
    gc.collect()  # models that held it, in cycles
    time.sleep(_MOMENT)
