import torch


def test_the_other_tokenizer_makes_as_many_codes_of_the_same_clip(benchmark):
    speed = benchmark("tokenizer_speed")
    video = torch.zeros(1, 3, speed.FRAMES, speed.SIZE, speed.SIZE)
    other = speed.emu3()
    with torch.no_grad():
        codes = other.encode(video)
        assert codes.shape == (1, 5, 8, 8)
        assert other.decode(codes).shape[-2:] == (speed.SIZE, speed.SIZE)
    parameters = sum(parameter.numel() for parameter in other.network.parameters())
    own = sum(parameter.numel() for parameter in speed.ours(None).network.parameters())
    assert 0.8 < parameters / own < 1.25


def test_ours_without_its_order_of_memory_makes_the_same_codes(benchmark):
    speed = benchmark("tokenizer_speed")
    video = 2 * torch.rand(1, 3, speed.FRAMES, speed.SIZE, speed.SIZE) - 1
    own = speed.ours(None)
    plain, seen = speed.channels_first(own), []
    for way in (plain, own):
        conv = next(module for module in way.network.modules() if type(module).__name__ == "Upsample").conv
        conv.register_forward_pre_hook(lambda _, given: seen.append(given[0].is_contiguous()))
    with torch.no_grad():
        codes = own.encode(video)
        assert (plain.encode(video) == codes).float().mean() > 0.99
        torch.testing.assert_close(plain.decode(codes), own.decode(codes), rtol=0, atol=1e-3)
    assert seen == [True, False]
