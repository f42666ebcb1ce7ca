import pytest
import torch

from videopoet.data import toybox
from videopoet.data.toybox import ToyBox
from videopoet.errors import CheckpointError, ConfigError, MediaError
from videopoet.generation.poet_folder import BUNDLED
from videopoet.nn.causal_conv import (
    CausalConv3d,
    FrameNorm,
    FrameStatistics,
    PastFrames,
    PlaceNorm,
    ResidualBlock,
)
from videopoet.tokenizers.magvit_v2 import Config, MagvitV2

PAPER_STRIDES = ((1, 2), (2, 2), (2, 2))
CONFIGS = {
    "patch_stem_spherical": Config(
        num_bits=8,
        patch_size=4,
        channels=(16, 16),
        strides=((4, 2),),
        num_blocks=1,
        num_middle_blocks=1,
        spherical=True,
    ),
    "paper_strides_lookup_free": Config(
        num_bits=18, channels=(8, 8, 8, 16), strides=PAPER_STRIDES, num_blocks=1, num_middle_blocks=1
    ),
    "by_place_and_flat": Config(
        num_bits=8, patch_size=4, channels=(16, 16), strides=((4, 2),), num_blocks=1, norm="place", num_flat_levels=1
    ),
}


@pytest.fixture(params=CONFIGS, scope="module")
def tokenizer(request):
    torch.manual_seed(0)
    tokenizer = MagvitV2(CONFIGS[request.param]).eval()
    for layer in tokenizer.modules():
        if isinstance(layer, CausalConv3d):  # as after training, when what is past counts
            torch.nn.init.kaiming_uniform_(layer.weight, a=5**0.5)
    return tokenizer


@pytest.fixture(scope="module")
def clip():
    return torch.rand(2, 3, 9, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def long_clip():
    return torch.rand(1, 3, 17, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_norms_by_place_say_nothing_under_autocast(recwarn):
    norm, x = PlaceNorm(8), torch.randn(1, 8, 2, 3, 3).bfloat16()
    torch.set_warn_always(True)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            normalized = norm(x)
    finally:
        torch.set_warn_always(False)
    assert not recwarn.list
    assert torch.equal(normalized, norm(x.float()).bfloat16())


def test_what_is_decoded_keeps_nothing_for_a_backward_pass(tokenizer, clip):
    assert any(weight.requires_grad for weight in tokenizer.parameters())
    assert not tokenizer.decode(tokenizer.encode(clip)).requires_grad


def test_a_later_frame_cannot_change_an_earlier_code(tokenizer, clip):
    edited = clip.clone()
    edited[:, :, 5:] = 0.0
    with torch.no_grad():
        codes, edited_codes = tokenizer.encode(clip), tokenizer.encode(edited)
    assert torch.equal(codes[:, :2], edited_codes[:, :2])
    assert not torch.equal(codes[:, 2], edited_codes[:, 2])


def test_a_later_code_cannot_change_an_earlier_frame(tokenizer, clip):
    with torch.no_grad():
        codes = tokenizer.encode(clip)
        edited = codes.clone()
        edited[:, 2] = 0
        video, edited_video = tokenizer.decode(codes), tokenizer.decode(edited)
    assert torch.equal(video[:, :, :5], edited_video[:, :, :5])


def test_a_one_frame_clip_has_the_codes_of_frame_0(tokenizer, clip):
    with torch.no_grad():
        codes, image_codes = tokenizer.encode(clip), tokenizer.encode(clip[:, :, :1])
        video, image = tokenizer.decode(codes), tokenizer.decode(image_codes)
    assert torch.equal(codes[:, :1], image_codes)
    torch.testing.assert_close(video[:, :, :1], image, atol=1e-5, rtol=1e-5)


# Clips that come in pieces


@pytest.mark.parametrize("cuts", [(1,), (5, 13), (1, 5, 9, 13)])
def test_a_clip_encoded_in_pieces_has_the_codes_of_the_whole(tokenizer, long_clip, cuts):
    past = PastFrames()
    with torch.no_grad():
        whole = tokenizer.encode(long_clip)
        pieces = [tokenizer.encode(piece, past) for piece in long_clip.tensor_split(cuts, dim=2)]
    assert [piece.shape[1] for piece in pieces[1:]] == [
        (b - a) // 4 for a, b in zip(cuts, (*cuts[1:], 17), strict=True)
    ]
    assert torch.equal(torch.cat(pieces, dim=1), whole)


@pytest.mark.parametrize("cuts", [(1, 2, 3, 4), (2,), (1, 3)])
def test_a_clip_decoded_in_pieces_has_the_frames_of_the_whole(tokenizer, long_clip, cuts):
    past = PastFrames()
    with torch.no_grad():
        codes = tokenizer.encode(long_clip)
        whole = tokenizer.decode(codes)
        pieces = [tokenizer.decode(piece, past) for piece in codes.tensor_split(cuts, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole, atol=1e-5, rtol=1e-5)


def test_what_is_remembered_does_not_grow_with_the_clip(tokenizer):
    past, sizes = PastFrames(), []
    with torch.no_grad():
        for _ in range(4):
            tokenizer.decode(torch.zeros(1, 1, 2, 2, dtype=torch.int64), past)
            sizes.append(sum(frames.untyped_storage().nbytes() for frames in past._of_layers.values()))
    assert sizes[0] > 0 and len(set(sizes)) == 1


def test_a_piece_is_unlike_the_same_frames_at_the_beginning_of_a_clip(tokenizer, long_clip):
    past = PastFrames()
    with torch.no_grad():
        codes = tokenizer.encode(long_clip)
        first, second = (tokenizer.decode(codes[:, :1], past) for _ in range(2))
    assert (first.shape[2], second.shape[2]) == (1, 4)
    assert not torch.equal(first[:, :, 0], second[:, :, -1])


def test_a_piece_off_the_grid_or_of_another_size_is_refused(tokenizer, clip):
    past = PastFrames()
    with torch.no_grad():
        tokenizer.encode(clip[:, :, :5], past)
        with pytest.raises(MediaError, match="piece that goes on of 5 frames.*use 4$") as error:
            tokenizer.encode(clip[:, :, :5], past)
        assert error.value.code == "frames_not_on_grid"
        with pytest.raises(MediaError, match="all pieces have one batch and size") as error:
            tokenizer.encode(clip[:, :, :4, :16], past)
        assert error.value.code == "size_invalid"
        again = tokenizer.encode(clip[:, :, 5:], past)
    assert torch.equal(again, tokenizer.encode(clip)[:, 2:])


# Frames in tiles


@pytest.fixture
def tiled(tokenizer):
    tokenizer.enable_tiling(tile_size=16, tile_overlap=8)
    yield tokenizer
    del tokenizer.tiling


def test_what_a_place_makes_of_itself_alone_is_the_same_in_tiles(tiled, clip, monkeypatch):
    time, space = tiled.time_stride, tiled.space_stride

    def local_codes(video, past):
        past.begun = True
        return (video[:, 0, (video.shape[2] - 1) % time :: time, ::space, ::space] * 100).long()

    def local_pixels(codes, past):
        frames = codes[:, None].float().repeat_interleave(time, dim=2)[:, :, 0 if past.begun else time - 1 :]
        past.begun = True
        return frames.repeat_interleave(space, dim=3).repeat_interleave(space, dim=4).expand(-1, 3, -1, -1, -1)

    monkeypatch.setattr(tiled, "encode_whole", local_codes)
    monkeypatch.setattr(tiled, "decode_whole", local_pixels)
    codes = tiled.encode(clip)
    assert torch.equal(codes, local_codes(clip, PastFrames()))
    torch.testing.assert_close(tiled.decode(codes), local_pixels(codes, PastFrames()))


def test_a_part_of_a_frame_is_normalized_by_what_the_first_frame_was():
    norm, whole = FrameNorm(6, max_groups=2), torch.randn(2, 6, 3, 8, 8) * 5 + 2
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    past = PastFrames()
    past.statistics = FrameStatistics()
    with torch.no_grad():
        torch.testing.assert_close(norm(whole, past), norm(whole), atol=1e-5, rtol=1e-5)
        part = norm(whole[..., :3, 4:], past)
        torch.testing.assert_close(part, norm(whole)[..., :3, 4:], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(part, norm(whole[..., :3, 4:]), atol=0.01)


def test_tiles_of_the_bundled_tokenizer_are_nearer_the_whole_than_those_of_norms_over_frames_were():
    tokenizer = MagvitV2.load(BUNDLED / "video_tokenizer")
    world = ToyBox(toybox.Config(split="test", num_frames=1))
    clip = world.render([world.scene(number) for number in range(4)], torch.device("cpu"), audio=False).video
    with torch.no_grad():
        whole = tokenizer.encode(clip)
        frames = tokenizer.decode(whole)
        tokenizer.enable_tiling(tile_size=32, tile_overlap=8)
        codes, pixels = tokenizer.encode(clip), tokenizer.decode(whole)
    # The tokenizer bundled before, each tile normalized by itself: 0.617 and 0.0111.
    assert (codes == whole).float().mean() > 0.617
    assert (pixels - frames).square().mean() < 0.0111


def test_a_network_never_sees_more_than_a_tile_of_a_latent_frame(tiled, clip, monkeypatch):
    seen = set()
    for part in (tiled.encoder, tiled.decoder):
        monkeypatch.setattr(part, "forward", lambda x, past, see=part.forward: seen.add(x.shape[2:]) or see(x, past))
    side = 16 // tiled.space_stride
    with torch.no_grad():
        tiled.decode(tiled.encode(clip))
    assert seen == {(1, 16, 16), (4, 16, 16), (1, side, side)}


def test_frames_no_larger_than_a_tile_are_taken_whole(tokenizer, clip):
    with torch.no_grad():
        usual = tokenizer.encode(clip)
        tokenizer.enable_tiling(tile_size=32, tile_overlap=8)
        assert torch.equal(tokenizer.encode(clip), usual)
        tokenizer.enable_tiling(tile_size=16, tile_overlap=8)
        assert not torch.equal(tokenizer.encode(clip), usual)
        tokenizer.disable_tiling()
        assert torch.equal(tokenizer.encode(clip), usual)
    del tokenizer.tiling


def test_a_clip_in_pieces_and_in_tiles_is_the_whole_in_tiles(tiled, clip):
    encoding, decoding = PastFrames(), PastFrames()
    with torch.no_grad():
        codes = tiled.encode(clip)
        video = tiled.decode(codes)
        pieces = [tiled.encode(piece, encoding) for piece in clip.tensor_split([5], dim=2)]
        frames = [tiled.decode(piece, decoding) for piece in codes.tensor_split([1], dim=1)]
    assert torch.equal(torch.cat(pieces, dim=1), codes)
    torch.testing.assert_close(torch.cat(frames, dim=2), video, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("other", [(16, 16), (16, 32), (40, 32)])
def test_a_piece_in_other_tiles_is_refused_and_changes_nothing(tiled, clip, other):
    past = PastFrames()
    with torch.no_grad():
        tiled.encode(clip[:, :, :5], past)
        with pytest.raises(MediaError, match="all pieces have one batch and size") as error:
            tiled.encode(torch.zeros(2, 3, 4, *other), past)
        assert error.value.code == "size_invalid"
        assert torch.equal(tiled.encode(clip[:, :, 5:], past), tiled.encode(clip)[:, 2:])


@pytest.mark.parametrize("shape", [(1, 16, 24), (5, 32, 16), (9, 24, 40)])
def test_encode_and_decode_keep_every_shape(tokenizer, shape):
    video = torch.zeros(1, 3, *shape)
    with torch.no_grad():
        codes = tokenizer.encode(video)
        assert codes.shape == (1, *tokenizer.grid(*shape))
        assert tokenizer.decode(codes).shape == video.shape
    assert codes.dtype == torch.int64 and codes.min() >= 0 and codes.max() < tokenizer.num_codes


@pytest.mark.parametrize(("shape", "code"), [((8, 32, 32), "frames_not_on_grid"), ((9, 30, 32), "size_invalid")])
def test_a_clip_off_the_grid_is_refused_with_the_nearest_size(tokenizer, shape, code):
    with pytest.raises(MediaError) as error:
        tokenizer.encode(torch.zeros(1, 3, *shape))
    assert error.value.code == code and "use" in str(error.value)


def test_saving_and_loading_keep_the_codes(tokenizer, clip, tmp_path):
    tokenizer.save(tmp_path)
    loaded = MagvitV2.load(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded.encode(clip), tokenizer.encode(clip))


def test_it_overfits_one_clip():
    torch.manual_seed(0)
    tokenizer = MagvitV2(CONFIGS["patch_stem_spherical"])
    clip = torch.nn.functional.interpolate(torch.rand(1, 3, 2, 4, 4) * 2 - 1, size=(5, 16, 16), mode="trilinear")
    optimizer = torch.optim.AdamW(tokenizer.parameters(), 3e-3)
    for _ in range(120):
        video, quantized = tokenizer(clip)
        loss = (video - clip).square().mean() + 0.05 * quantized.commitment
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    error = (tokenizer.decode(tokenizer.encode(clip)) - clip).square().mean()
    assert 10 * torch.log10(4 / error) > 30


def test_a_fresh_tokenizer_treats_each_frame_as_a_picture(clip):
    conv = CausalConv3d(3, 4)
    frames = torch.stack([conv(frame[:, :, None])[:, :, 0] for frame in clip.unbind(dim=2)], dim=2)
    torch.testing.assert_close(conv(clip), frames, atol=1e-5, rtol=1e-5)


def test_normalized_by_place_a_crop_passes_as_in_the_whole_frame():
    norm, whole = PlaceNorm(6), torch.randn(2, 6, 3, 8, 8) * 5 + 2
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    torch.testing.assert_close(norm(whole[..., :3, 4:]), norm(whole)[..., :3, 4:])
    plain = PlaceNorm(6, affine=False)(whole)
    torch.testing.assert_close(plain.square().mean(dim=1), torch.ones(2, 3, 8, 8))


def test_flat_levels_are_smaller_and_no_more_than_there_are():
    config = CONFIGS["patch_stem_spherical"]
    kernels = [
        block.conv1.kernel_size
        for block in MagvitV2(config.model_copy(update={"num_flat_levels": 1})).encoder.layers
        if isinstance(block, ResidualBlock)
    ]
    assert kernels == [(1, 3, 3), (3, 3, 3), (3, 3, 3)]
    with pytest.raises(ConfigError, match="3 flat levels are more than the 2"):
        Config(channels=(8, 8), strides=((2, 2),), num_flat_levels=3)


def test_levels_without_matching_strides_are_a_config_error():
    with pytest.raises(ConfigError, match="strides"):
        Config(channels=(8, 8), strides=())


def test_the_paper_config_constructs_at_full_size():
    with torch.device("meta"):
        tokenizer = MagvitV2(Config())
    assert tokenizer.grid(17, 128, 128) == (5, 16, 16)
    assert tokenizer.num_codes == 2**18


def test_a_tokenizer_of_more_bits_begins_with_the_pictures_and_the_bits_of_one_with_fewer(clip):
    config = CONFIGS["patch_stem_spherical"]
    torch.manual_seed(3)
    narrow, wide = MagvitV2(config).eval(), MagvitV2(config.model_copy(update={"num_bits": 10})).eval()
    for level in narrow.decoder.levels:
        torch.nn.init.normal_(level["norm"].scale_and_shift.weight, std=0.1)  # pyright: ignore
    wide.begin_from(narrow, "narrow")
    with torch.no_grad():
        codes, wide_codes = narrow.encode(clip), wide.encode(clip)
        assert torch.equal(wide_codes % 2**8, codes)
        assert len((wide_codes >> 8).unique()) == 4
        torch.testing.assert_close(wide.decode(wide_codes), narrow.decode(codes), atol=1e-4, rtol=0)


def test_a_tokenizer_does_not_begin_from_one_of_more_bits():
    config = CONFIGS["patch_stem_spherical"]
    wide = MagvitV2(config.model_copy(update={"num_bits": 10}))
    with pytest.raises(CheckpointError, match=r"weights in 'wide' do not fit: .* use the config they were saved with"):
        MagvitV2(config).begin_from(wide, "wide")
