import torch

from videopoet.nn.quantizers import LookupFreeQuantizer


def test_written_out_the_entropy_is_that_of_one_group_of_bits(benchmark):
    torch.manual_seed(0)
    latents = 0.01 * torch.randn(2, 6, 3, 4, 4)
    quantizer = LookupFreeQuantizer(6, group_bits=6, inverse_temperature=100.0)
    expected = quantizer._entropy(latents)
    written_out = benchmark("lookup_free_entropy").written_out(6, 100.0)
    torch.testing.assert_close(written_out(latents), expected, rtol=1e-4, atol=1e-4)
