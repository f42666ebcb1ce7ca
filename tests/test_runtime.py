import torch
import yaml

from videopoet import runtime
from videopoet.training import rehearsal


def test_a_described_machine_is_made_of_plain_values():
    described = runtime.describe_machine()
    assert yaml.safe_load(yaml.safe_dump(described)) == described


def test_a_random_stream_is_a_function_of_its_seeds():
    one, same, other = (torch.rand(4, generator=runtime.generator(*seeds)) for seeds in ((1, "a"), (1, "a"), (1, "b")))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_half_precision_is_left_out_where_it_is_slow(monkeypatch):
    product = {}
    for fast in (True, False):
        monkeypatch.setattr(runtime, "bf16_is_fast", lambda kind, fast=fast: fast)
        with runtime.autocast("cpu"):
            product[fast] = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        assert product[fast] == runtime.compute_dtype("cpu")
    assert product == {True: torch.bfloat16, False: torch.float32}


def test_a_plan_is_of_devices_that_are_fast_in_half_precision(monkeypatch):
    monkeypatch.setattr(runtime, "bf16_is_fast", lambda kind: False)
    with rehearsal.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
