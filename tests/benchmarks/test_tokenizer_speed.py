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
