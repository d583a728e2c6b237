"""One thread: tensors here are tiny, and threads that wait for one another on a busy machine cost seconds.

Without a GPU Triton interprets its kernels on the CPU. It decides that once, when it is imported, so it is said here.
"""

import os
from collections.abc import Iterator

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
