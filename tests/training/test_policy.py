"""One place says how a GPU computes, and records tell it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CODE = """
import json, sys, torch
from bench.training import policy
policy.prepare(deterministic=sys.argv[1] == "yes")
with policy.tf32(True):
    inside = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
after = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
import os
print(json.dumps({**policy.in_force("cuda"), "inside": inside, "after": after, "cpu": policy.in_force("cpu"),
    "workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG")}))
"""


@pytest.mark.parametrize(("deterministic", "own"), [(True, None), (False, "max_split_size_mb:64")])
def test_what_is_set_is_told(deterministic: bool, own: str | None) -> None:
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    if own:
        environment["PYTORCH_CUDA_ALLOC_CONF"] = own
    call = [sys.executable, "-c", CODE, "yes" if deterministic else "no"]
    answer = json.loads(subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout)
    assert answer["deterministic"] is deterministic and answer["cudnn_benchmark"] is not deterministic
    assert answer["allocator"] == (own or "expandable_segments:True")
    assert answer["inside"] == [True, True] and answer["after"] == [False, False]
    assert answer["cpu"] == {}
    assert (answer["workspace"] is not None) == deterministic
