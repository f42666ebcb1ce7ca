"""Training and generation agree: a model that has learned one clip by heart says it back, token for token."""

import torch

from videopoet.data.mixture import TaskBatch
from videopoet.data.tokenizer_batches import Windows
from videopoet.data.toybox import Config, ToyBox, words
from videopoet.generation.pipeline import VideoPoet
from videopoet.generation.request import Settings
from videopoet.models import construction, language_model
from videopoet.sequence import layout, vocabulary
from videopoet.sequence.tasks import find_task
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.tokenizers import magvit_v2, soundstream
from videopoet.training import loop, optimizer
from videopoet.training.next_token import NextToken
from videopoet.training.reconstruction import VideoConfig, VideoReconstruction, psnr

TOKENIZER = magvit_v2.Config(
    num_bits=10, patch_size=4, channels=(32, 48), strides=((4, 2),), num_blocks=1, num_middle_blocks=1, spherical=True
)
OBJECTIVE = VideoConfig(adversarial_weight=0.0, entropy_weight=0.0, commitment_weight=0.05)


def training(num_steps, learning_rate):
    settings = optimizer.Config(name="muon", learning_rate=learning_rate, warmup_steps=5)
    return loop.Config(
        num_steps=num_steps, optimizer=settings, ema_decay=0.0, validate_every=num_steps, checkpoint_every=num_steps
    )


def test_tokenizer_and_language_model_learn_one_clip_by_heart(tmp_path):
    world = ToyBox(Config(height=32, width=32, num_frames=9))
    scene = world.scene(3, num_subjects=1)
    clip = world.render([scene], audio=False).video

    torch.manual_seed(0)
    tokenizer = magvit_v2.MagvitV2(TOKENIZER)
    objective, batch = VideoReconstruction(tokenizer, OBJECTIVE), Windows(clip)
    loop.train(objective, lambda index: batch, training(150, 3e-3), tmp_path / "tokenizer")
    with torch.no_grad():
        codes = tokenizer.encode(clip)
        seen = tokenizer.decode(codes)
    assert psnr(seen, clip) > 25

    sound = soundstream.SoundStream(
        soundstream.Config(patch=20, strides=(4, 4), channels=8, dim=8, codebook_size=16, num_quantizers=1)
    )
    text_encoder = OwnTokens.from_words(words())
    joint = vocabulary.Vocabulary(
        vocabulary.Config(text_size=text_encoder.size, visual_codes=2**10, audio_codebook_size=16, audio_quantizers=1)
    )
    shape = language_model.Config(
        width=64, num_layers=2, num_heads=2, num_key_value_heads=2, head_width=32, hidden_width=128
    )
    model = construction.from_scratch(shape, joint.size, joint.range("video"), (1, 512), joint.special("<pad>"))
    row = layout.build(
        find_task("text_to_video"),
        joint,
        {"text_in": torch.tensor(text_encoder.encode(scene.caption)), "video_out": codes[0]},
    )
    batch = TaskBatch("text_to_video", layout.batch_rows([row], joint.special("<pad>")))
    loop.train(NextToken(model, []), lambda index: batch, training(60, 5e-3), tmp_path / "language_model")

    settings = Settings(height=32, width=32, num_frames=9, frame_rate=8.0)
    poet = VideoPoet(tokenizer, sound, text_encoder, model, joint, settings)
    result = poet.generate(
        "text_to_video", prompt=scene.caption, temperature=0.0, guidance_scale=1.0, seed=0, sound=False, progress=False
    )
    assert psnr(result.media.pixels()[None], seen) >= 40
