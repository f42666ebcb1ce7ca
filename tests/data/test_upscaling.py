import pytest
import torch

from videopoet import runtime
from videopoet.data.toybox import Config, ToyBox, words
from videopoet.data.upscaling import PairBatches, PairsConfig, halved
from videopoet.errors import ConfigError
from videopoet.models.super_resolution import UNKNOWN
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers import magvit_v2


def make_batches(**values) -> PairBatches:
    torch.manual_seed(0)
    tokenizer = magvit_v2.MagvitV2(
        magvit_v2.Config(
            num_bits=4, patch_size=8, channels=(8, 8), strides=((4, 1),), num_blocks=1, num_middle_blocks=0
        )
    ).eval()
    config = PairsConfig(**({"batch_size": 4, "pool_clips": 8, "pool_batches": 4, "image_share": 0.0} | values))
    world = ToyBox(Config(height=16, width=24, num_frames=5))
    return PairBatches(world, config, tokenizer, OwnTokens.from_words(words()), seed=0)


def test_both_sizes_show_the_same_clip_and_its_words():
    batches = make_batches()
    pairs = batches.pairs([3, 4])
    assert pairs.codes.shape == (2, 2, 4, 6) and pairs.low_codes.shape == (2, 2, 2, 3)
    world = batches.world.at_scale(2)
    scenes = [world.scene(seed) for seed in (3, 4)]
    video = world.render(scenes, audio=False).video
    with torch.no_grad(), runtime.autocast("cpu"):
        assert torch.equal(pairs.codes, batches.video_tokenizer.encode(video))
        assert torch.equal(pairs.low_codes, batches.video_tokenizer.encode(halved(video)))
    for ids, scene in zip(pairs.text, scenes, strict=True):
        assert batches.text_encoder.decode(ids[ids != UNKNOWN].tolist()) == scene.caption


def test_a_batch_depends_on_its_number_alone():
    batches = make_batches(image_share=0.5)
    forwards = [batches(index) for index in (0, 3, 6)]
    batches._pools.clear()
    backwards = [batches(index) for index in (6, 3, 0)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        assert torch.equal(one.codes, other.codes) and torch.equal(one.text, other.text)
    assert not torch.equal(batches(0).low_codes, batches(1).low_codes)


def test_some_batches_are_pictures():
    shapes = {tuple(make_batches(image_share=0.5)(index).codes.shape) for index in range(4)}
    assert shapes == {(4, 2, 4, 6), (4, 1, 4, 6)}


def test_pools_of_several_scales_cost_about_the_same():
    batches = make_batches(scales=(1, 2), pool_batches=1)
    shapes = {tuple(batches(index).low_codes.shape) for index in range(8)}
    assert shapes == {(4, 2, 2, 3), (1, 2, 4, 6)}


def test_a_batch_beyond_its_pool_is_refused():
    with pytest.raises(ConfigError, match="pool_clips"):
        make_batches(batch_size=9)
