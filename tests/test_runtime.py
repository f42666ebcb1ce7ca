import torch
import yaml

from videopoet import runtime


def test_a_described_machine_is_made_of_plain_values():
    described = runtime.describe_machine()
    assert yaml.safe_load(yaml.safe_dump(described)) == described


def test_a_random_stream_is_a_function_of_its_seeds():
    one, same, other = (torch.rand(4, generator=runtime.generator(*seeds)) for seeds in ((1, "a"), (1, "a"), (1, "b")))
    assert torch.equal(one, same) and not torch.equal(one, other)
