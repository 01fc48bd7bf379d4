"""A task whose runs wait for each other before they train, and leave word of where they were.

Where fewer workers than ``MEETING_SIZE`` are at work at once, it fails; so that it ends at all
proves that as many were.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import ray
from torch import nn

from tune_adaptive.tasks import Dataset, Examples, Task
from tune_adaptive.tasks.data import Description

PATIENCE_S = 600.0


def _examples(num: int, seed: int) -> Examples:
    random = np.random.default_rng(seed)
    x = random.normal(size=(num, 16)).astype(np.float32)
    return Examples(x, (x[:, 0] > 0).astype(np.int64))


def load() -> Dataset:
    return Dataset(train=_examples(4000, 0), validation=_examples(500, 1), test=_examples(500, 2))


def build(data: Description) -> nn.Module:
    context = ray.get_runtime_context()
    if context.get_actor_id() is not None:  # a trial's, not the measurement before the search
        folder = Path(os.environ["MEETING"])
        here = {"node": context.get_node_id(), "network": os.readlink("/proc/self/ns/net")}
        word = folder / context.get_actor_id()
        if not word.exists():  # its time is when this worker came
            word.write_text(json.dumps(here))
        end = time.monotonic() + PATIENCE_S
        while len(list(folder.iterdir())) < int(os.environ["MEETING_SIZE"]):
            if time.monotonic() > end:
                raise TimeoutError("the others did not come")
            time.sleep(0.05)
    return nn.Linear(data.shape[0], data.num_classes)


task = Task("meeting/linear", data=load, build=build, batch_size=16)
