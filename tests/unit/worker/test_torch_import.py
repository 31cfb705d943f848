"""The import of torch, in processes that have not done it yet."""

import subprocess
import sys

START = """
import sys
from worker.torch_import import import_torch

assert import_torch(meanwhile=lambda: 7) == 7
import torch, torchvision
assert "torch._dynamo.utils" not in sys.modules
"""
REGIONS = """
assert "torch._dynamo" not in sys.modules
boxes = torch.tensor([[0.0, 1.0, 1.0, 5.0, 5.0]])
assert torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2).tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]
"""
COMPILER = """
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist() == [2, 2]
assert torch._dynamo.utils is sys.modules["torch._dynamo.utils"]
"""
COMPILER_MEANWHILE = """
import sys
import torch
from worker import torch_import

with torch_import._compiler_put_off():
    from torch._dynamo.utils import counters
    import torch._dynamo
assert torch._dynamo.utils.counters is counters
"""


def run(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_compiler_is_imported_when_it_is_used() -> None:
    run(START + REGIONS + COMPILER)


def test_who_wants_the_compiler_during_the_import_gets_it() -> None:
    run(COMPILER_MEANWHILE + COMPILER)
