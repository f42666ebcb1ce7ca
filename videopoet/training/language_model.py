"""The stage of the language model: it learns every task in codes of the tokenizers, and makes the poet whole."""

from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from videopoet import ranks, runtime
from videopoet.config import BaseConfig
from videopoet.data.mixture import MixtureConfig, TaskBatches, beside
from videopoet.data.token_batches import Prefetched, from_tokens
from videopoet.data.toybox import ToyBox
from videopoet.data.world import all_words, drawn_scenes
from videopoet.errors import ConfigError
from videopoet.generation.pipeline import VideoPoet
from videopoet.generation.request import Settings
from videopoet.models import construction, language_model
from videopoet.models.language_model import AUDIO_FRAMES, LanguageModel
from videopoet.models.super_resolution import SuperResolution
from videopoet.sequence import vocabulary as vocabularies
from videopoet.sequence.tasks import TASKS, find_task
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.base import TextEncoder
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.text_encoders.t5 import T5
from videopoet.tokenizers.base import AudioTokenizer, VideoTokenizer
from videopoet.tokenizers.magvit_v2 import MagvitV2
from videopoet.training import adaptation, checkpoints, loop, next_token, run_folder, tokenizers
from videopoet.training.adaptation import LoraConfig
from videopoet.training.self_play import PairBatches, SelfPlay, SelfPlayConfig
from videopoet.training.streams import Streams
from videopoet.training.surroundings import Surroundings

_AT_ONCE = 16
"""Clips that are tokenized together where codes are translated."""


class LanguageModelRun(BaseConfig):
    """The stage of the language model, which learns the codes of both tokenizers."""

    model: language_model.Config
    """Of a model from fresh weights; one that `init_from` brings stays what it is."""
    text_encoder: str | None = None
    """Folder or hub id of a T5 whose frozen features stand for prompts; None lets the model embed their ids itself. A
    poet that `init_from` brings has its own."""
    lora: LoraConfig | None = None
    """Train low-rank changes of the layers, and all of what is new to a text model; None trains every weight."""
    keep_text: bool = False
    """Leave the rows of text ids as they are, as LoRA always does."""
    translated_clips: int = Field(default=0, ge=0)
    """Clips that show a model which `init_from` brings what the codes of a new video tokenizer stand for: those that it
    knows, in the same places. 0 lets it find out in training."""
    draft_width: int = Field(default=0, ge=0)
    """Width inside the head that drafts tokens for the speculative decoder, and learns beside the model; 0 makes none,
    and one that `init_from` brings stays what it is."""
    recompute: bool = False
    """Compute each layer's inner values again in the backward pass: a third more work, for far less memory."""
    compile: bool = False
    """Have torch compile the layers: half a minute at the start of a run, and a third more steps a second on a CPU."""
    mixture: MixtureConfig
    self_play: SelfPlayConfig | None = None
    """Learn to prefer what is true to the answers of the model that `init_from` brings; None learns what is true."""
    training: loop.Config
    validation_tasks: tuple[str, ...] = ("text_to_video", "video_to_audio")
    """Tasks whose loss is measured on validation clips."""
    sample_prompts: tuple[str, ...] = ("a red ball bounces on the grass", "a blue star flies over the sea, pan left")
    """Prompts of the clips that are made at each validation."""


def train(run: LanguageModelRun, around: Surroundings) -> None:
    """Train on the codes of the run's tokenizers, or of the poet it starts from, and write the poet to `poet`.

    Raises:
        CheckpointError: A tokenizer is not finished.
        ConfigError: A clip, or a row, is longer than the model can take.
    """
    device, world = around.device, around.world.config
    video_tokenizer, audio_tokenizer = tokenizers.trained(around.output, around.source)
    for tokenizer in (video_tokenizer, audio_tokenizer):
        tokenizer.to(device)
    torch.manual_seed(run.training.seed)
    text_encoder, vocabulary, model = _beginning(run, around, video_tokenizer, audio_tokenizer)
    if run.draft_width and model.draft_head is None:
        model.add_draft_head(run.draft_width)
    model = model.to(device)
    settings = (Settings() if around.source is None else _sampling(around.source.settings)).model_copy(
        update={
            "height": world.height,
            "width": world.width,
            "num_frames": world.num_frames,
            "frame_rate": world.frame_rate,
            "tasks": _trained_tasks(run, around),
        }
    )
    source = around.source  # of other codes its super-resolution would know nothing
    upscaler = source.super_resolution if source is not None and source.video_tokenizer is video_tokenizer else None
    own = around.output / "poet" / "super_resolution"
    if own.is_dir() and run_folder.has_begun(around.output, "language_model"):  # of the same codes, and learned since
        upscaler = SuperResolution.load(own).to(device).requires_grad_(False)
    if upscaler is not None and upscaler.config.text_size < text_encoder.size:
        upscaler.widen_text(text_encoder.size)
    poet = VideoPoet(video_tokenizer, audio_tokenizer, text_encoder, model, vocabulary, settings, upscaler)

    prompts = _sample_prompts(run, around, text_encoder) if "text_to_video" in settings.tasks else ()

    def write_samples(folder: Path) -> None:
        for number, prompt in enumerate(prompts):
            poet.generate("text_to_video", prompt=prompt, seed=number, progress=False).save(folder / f"{number}.mp4")

    before = deepcopy(model) if run.self_play is not None else None  # as it is now: no layer of it is compiled
    if run.recompute:
        model.recompute_layers()
    if run.compile:
        model.compile_layers()
    num_text = vocabulary.config.text_size if source is None else source.vocabulary.config.text_size
    if run.keep_text:
        adaptation.keep_text_rows(model, num_text)
    adapted = run.lora and adaptation.add_lora(model, run.lora, num_text)
    parts = (video_tokenizer, audio_tokenizer, text_encoder, vocabulary)
    known = TaskBatches(around.validation, run.mixture, *parts, run.training.seed, device)
    pool = known.pool(0, around.num_validation)
    _check_lengths(run.mixture, known, model, around)
    held_out = [
        known.batch(find_task(task), min(8, around.num_validation), pool, runtime.generator("validation", task, number))
        for task in run.validation_tasks
        if pool.suited(find_task(task))
        for number in range(-(-around.num_validation // 8))
    ]
    if run.self_play is None:
        objective = next_token.NextToken(model, held_out, write_samples)
    else:
        objective = SelfPlay(run.self_play, model, held_out, write_samples)

    def made(seed: int | str) -> TaskBatches:
        return TaskBatches(around.world, run.mixture, *parts, seed, device)

    training = run.training
    per_step = training.accumulation * ranks.count()
    num_batches = training.num_steps * per_step
    streams = Streams(made, training.seed, training.accumulation)
    # One pool ahead: it is made while batches of the one before are trained on. A GPU would compute them one after the
    # other in any case, and hold what both take.
    a_pool = run.mixture.pool_batches * training.accumulation
    with (
        from_tokens(made(training.seed), num_batches, around.output / "tokens", per_step) as read,
        Prefetched(streams, ranks.count(), num_ahead=a_pool, num_workers=1, end=num_batches) as ahead,
    ):
        batches = read or (ahead if device.type == "cpu" else streams)
        if run.self_play is not None and before is not None:
            batches = PairBatches(batches, before, vocabulary, settings, run.self_play, training.seed, training.bf16)
        around.train("language_model", objective, batches, training)
    if adapted is not None:
        adaptation.merge(adapted)
    if ranks.rank() == 0:
        poet.save_pretrained(around.output / "poet")


def check_architecture(config: language_model.Config) -> None:
    """Try what a model from fresh weights is to be built of, and say which of its settings it does not heed.

    Raises:
        ConfigError: It cannot be built, or not steered as ours must be.
    """
    construction.needs_causal_prefix(config.architecture)
    if names := construction.unheeded(config.architecture):
        logging.getLogger(__name__).warning(
            "language_model: %s decides %s by itself, whatever is set", config.architecture, " and ".join(names)
        )


def fresh(config: language_model.Config, vocabulary: Vocabulary, num_features: int = 0) -> LanguageModel:
    """A language model of this shape for rows of a vocabulary, with weights from torch's present random state."""
    return construction.from_scratch(
        config,
        vocabulary.size,
        vocabulary.range("video"),
        (vocabulary.config.audio_quantizers, AUDIO_FRAMES),
        vocabulary.special("<pad>"),
        num_features,
    )


def vocabulary_of(
    text: TextEncoder, video: VideoTokenizer, audio: AudioTokenizer, sizes: tuple[tuple[int, int], ...] = ()
) -> Vocabulary:
    """The vocabulary that these make, beside the special tokens; rows can name the sizes, heights and widths."""
    return Vocabulary(
        vocabularies.Config(
            text_size=text.answer_size,
            prompt_ids=text.size if text.num_features else 0,
            visual_codes=video.num_codes,
            audio_codebook_size=audio.codebook_size,
            audio_quantizers=audio.num_quantizers,
            resolutions=sizes,
        )
    )


def widened(model: LanguageModel, vocabulary: Vocabulary, video: VideoTokenizer) -> Vocabulary:
    """The vocabulary of a model, which is changed in place, once it knows the codes of a tokenizer of more bits."""
    known, wanted = vocabulary.config.visual_codes, video.num_codes
    if wanted <= known or not isinstance(video, MagvitV2):
        return vocabulary
    model.widen_codes(vocabulary.range("video")[0], known, wanted)
    return Vocabulary(vocabulary.config.model_copy(update={"visual_codes": wanted}))


def _trained_tasks(run: LanguageModelRun, around: Surroundings) -> tuple[str, ...]:
    """The tasks that the poet which the run starts from knows, and those that the run has batches of."""
    known = set() if around.source is None else set(around.source.settings.tasks)
    hears, tells = around.world.has_sound, bool(around.world.words())
    for share in run.mixture.shares:
        task = find_task(share.task)
        fits = hears or not task.hears
        fits = fits or beside(around.world, task) is not None
        fits = fits and (tells or all(view.modality != "text" for view in task.predict))
        if fits and (share.weight or share.early_weight):
            known.add(task.name)
    return tuple(name for name in TASKS if name in known)


def _sampling(settings: Settings) -> Settings:
    """Settings that choose tokens as these do."""
    names = ("temperature", "top_k", "top_p", "guidance_scale", "task_sampling", "upscaling")
    return Settings().model_copy(update={name: getattr(settings, name) for name in names})


def _beginning(
    run: LanguageModelRun, around: Surroundings, video: VideoTokenizer, audio: AudioTokenizer
) -> tuple[TextEncoder, Vocabulary, LanguageModel]:
    """The model before its first step: that of the poet which the run starts from, or one of fresh weights."""
    if around.source is not None:
        model = around.source.language_model.requires_grad_(True)
        vocabulary = widened(model, around.source.vocabulary, video)
        changed = run.translated_clips and video is not around.source.video_tokenizer
        # A run that is resumed has what came of it in its checkpoint, but for the model that it plays against.
        if changed and (run.self_play is not None or checkpoints.newest(around.output / "language_model") is None):
            _translate(model, vocabulary, around, video, run.translated_clips)
        text_encoder, vocabulary = _taught(model, vocabulary, around.source.text_encoder, all_words(around.world))
        return text_encoder, Vocabulary(vocabulary.config.with_resolutions(run.mixture.sizes)), model
    own = OwnTokens.from_words(all_words(around.world))
    text_encoder = own if run.text_encoder is None else T5.open(run.text_encoder, own)
    vocabulary = vocabulary_of(text_encoder, video, audio, run.mixture.sizes)
    model = fresh(run.model, vocabulary, text_encoder.num_features)
    model.causal_prefix = construction.needs_causal_prefix(run.model.architecture)
    return text_encoder, vocabulary, model


def _taught(
    model: LanguageModel, vocabulary: Vocabulary, text_encoder: TextEncoder, words: list[str]
) -> tuple[TextEncoder, Vocabulary]:
    """Text encoder and vocabulary of a model, which is changed in place, once it has ids for all words of captions."""
    if not isinstance(text_encoder, OwnTokens) or (wider := text_encoder.with_words(words)) is text_encoder:
        return text_encoder, vocabulary
    num_new = wider.size - text_encoder.size
    found = "1 word of the captions is" if num_new == 1 else f"{num_new} words of the captions are"
    logging.getLogger(__name__).warning("language_model: %s new to the model", found)
    size = vocabulary.config.text_size  # of a table that may be longer than the list
    if wider.size > size:
        model.insert_words(size, wider.size - size, runtime.generator("words"))
    return wider, Vocabulary(vocabulary.config.model_copy(update={"text_size": max(size, wider.size)}))


@torch.no_grad()
def _translate(
    model: LanguageModel, vocabulary: Vocabulary, around: Surroundings, video: VideoTokenizer, num_clips: int
) -> None:
    """Let a model that knows the codes of the source's video tokenizer begin with those of another.

    Raises:
        ConfigError: The two make other numbers of codes of a clip.
    """
    assert around.source is not None
    known = around.source.video_tokenizer.to(around.device)
    scenes = drawn_scenes(around.world, num_clips, runtime.generator("translation"))
    pairs: list[tuple[Tensor, Tensor]] = []
    for first in range(0, num_clips, _AT_ONCE):
        clips = around.world.render(scenes[first : first + _AT_ONCE], device=around.device, audio=False)
        with runtime.autocast(around.device):
            new, old = video.encode(clips.video), known.encode(clips.video)
        if new.shape != old.shape:
            raise ConfigError(
                f"the codes of a clip are {_grid(new)} now and were {_grid(old)}; codes are translated place by place; "
                "set language_model.translated_clips=0",
                code="config_invalid",
            )
        pairs.append((new.flatten().cpu(), old.flatten().cpu()))
    new, old = (torch.cat(codes) for codes in zip(*pairs, strict=True))
    first, last = vocabulary.range("video")
    model.translate_codes(first, last - first, new, old)


def _grid(codes: Tensor) -> str:
    return "x".join(map(str, codes.shape[1:]))


def _check_lengths(mixture: MixtureConfig, known: TaskBatches, model: LanguageModel, around: Surroundings) -> None:
    """Find a clip or a row that is too long for the model before any training."""
    num_clips = 1 if isinstance(around.validation, ToyBox) else around.num_validation
    for size in dict.fromkeys(mixture.turns):
        few = known.pool(mixture.turns.index(size), num_clips)
        t, h, w = few.codes["video"].shape[1:]
        model.embedding.check((t, h, w))
        for share in mixture.shares:
            task = find_task(share.task)
            if not (share.weight or share.early_weight) or not (suited := few.suited(task)):
                continue
            if task.hears:
                levels, frames = few.codes["audio"][suited[:1]].shape[1:]
                model.embedding.check_sound((levels, frames))
            row = known.batch(task, 1, few, runtime.generator("length", share.task)).rows
            model.check_length(row.tokens.shape[1])


def _sample_prompts(run: LanguageModelRun, around: Surroundings, text_encoder: TextEncoder) -> tuple[str, ...]:
    """What samples are made of: the config's prompts, or for footage the captions of the first clips held out."""
    prompts, validation = run.sample_prompts, around.validation
    if isinstance(validation, ToyBox):
        return prompts
    captions = dict.fromkeys(validation.scene(seed).caption for seed in range(around.num_validation))
    texts = [beginning for caption in captions if (beginning := text_encoder.beginning(caption))]
    return tuple(texts[: len(prompts)]) or prompts
