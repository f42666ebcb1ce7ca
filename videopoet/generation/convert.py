"""A text model becomes a poet: its vocabulary grows by media tokens, and tokenizers are put beside it.

Nothing is trained here. What the model makes of words stays what it was, to the bit; what it makes of clips is noise
until it is trained on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopoet import checkpoint, pretrained, registry
from videopoet.errors import CheckpointError, ConfigError
from videopoet.generation import poet_folder
from videopoet.generation.poet_folder import CONTENTS, Parts
from videopoet.generation.request import Settings
from videopoet.models import construction, probe
from videopoet.models.language_model import AUDIO_FRAMES
from videopoet.runtime import generator
from videopoet.sequence import vocabulary as vocabularies
from videopoet.sequence.vocabulary import Vocabulary
from videopoet.text_encoders.base import TextEncoder
from videopoet.text_encoders.own_tokens import OwnTokens
from videopoet.text_encoders.t5 import T5
from videopoet.tokenizers.base import AudioTokenizer, Published, PublishedAudioTokenizer, Tokenizer, VideoTokenizer


@dataclass(frozen=True)
class Conversion:
    """What a text model has become."""

    folder: Path
    family: str
    """Its model type in `transformers`."""
    parameters: int
    added: int
    """Parameters that were not there before."""
    vocabulary: vocabularies.Config
    sample_rate: int
    """Of the sound that its audio tokenizer takes, in Hz."""
    longest: int | None
    """The most positions of a row."""
    causal_prefix: bool
    """Whether the prefix is read in one direction only."""


def convert(
    source: str | Path,
    output: str | Path,
    *,
    video_tokenizer: str | Path | None = None,
    audio_tokenizer: str | Path | None = None,
    audio_levels: int | None = None,
    text_encoder: str | Path | None = None,
    seed: int = 0,
) -> Conversion:
    """Make a poet of a Hugging Face causal LM and two tokenizers, whole or not at all.

    Args:
        source: A folder, or an id on the Hugging Face hub. Weights are read from safetensors only.
        output: The poet's folder, which must not be there yet. Weights keep the precision of `source`.
        video_tokenizer: A tokenizer's folder, or that of a poet that has one, or the hub id of a published tokenizer;
            without it, the one that ships.
        audio_tokenizer: The same for sound.
        audio_levels: How many levels of a published codec are used; without it, 4 or what its folder says.
        text_encoder: The folder or hub id of a T5, whose frozen features the model is to read prompts as; without it,
            it reads them as ids of its own. It keeps its own for what it writes.
        seed: Of the new rows.

    Raises:
        ConfigError: `output` is there, or the model cannot be steered as a poet's must be, or a tokenizer's codes are
            none that a row can hold.
        CheckpointError: A model or tokenizer is missing, broken or of the wrong kind.
    """
    output = Path(output)
    if output.exists():
        raise ConfigError(
            f"'{output}' is there already; a conversion would overwrite it; remove it or choose another --output",
            code="output_exists",
        )
    folder = _folder(source)
    settings, video = _tokenizer(video_tokenizer, "video_tokenizer", VideoTokenizer)
    _, audio = _tokenizer(audio_tokenizer, "audio_tokenizer", AudioTokenizer)
    if audio_levels is not None:
        _use_levels(audio, audio_levels)
    own = _text_encoder(folder)
    encoder: TextEncoder = own if text_encoder is None else T5.open(text_encoder, own)
    backbone = _backbone(folder)
    before = sum(parameter.numel() for parameter in backbone.parameters())
    rows = len(backbone.get_input_embeddings().weight)
    num_known = min(rows, own.size)
    vocabulary = Vocabulary(
        vocabularies.Config(
            text_size=max(rows, own.size),
            visual_codes=video.num_codes,
            audio_codebook_size=audio.codebook_size,
            audio_quantizers=audio.num_quantizers,
            prompt_ids=encoder.size if encoder.num_features else 0,
        )
    )
    probe.check_family(backbone)
    own_logits = probe.text_logits(backbone, num_known)
    model = construction.from_text_model(
        backbone,
        vocabulary.size,
        vocabulary.range("video"),
        (audio.num_quantizers, AUDIO_FRAMES),
        num_known,
        generator("conversion", seed),
        encoder.num_features,
        video.codes_are_bits,
    ).eval()
    probe.check(model, num_known, own_logits)
    name = Path(str(source)).name
    settings = settings.model_copy(update={"name": f"{name}-videopoet", "tasks": ()})
    parts = Parts(video, audio, encoder, model, vocabulary, settings)
    poet_folder.save(parts, output, model.head_weight.dtype)
    after = sum(parameter.numel() for parameter in model.parameters())
    return Conversion(
        folder=output,
        family=backbone.config.model_type,
        parameters=after,
        added=after - before,
        vocabulary=vocabulary.config,
        sample_rate=audio.sample_rate,
        longest=model.longest,
        causal_prefix=model.causal_prefix,
    )


def _folder(source: str | Path) -> Path:
    folder = pretrained.model_folder(source)
    if (folder / CONTENTS).exists():
        raise ConfigError(
            f"'{source}' is a poet already; a text model is converted; train it with `videopoet train --init-from`",
            code="already_converted",
        )
    pretrained.check_no_code(folder, source)
    pretrained.check_safetensors(folder, source)
    return folder


def _backbone(folder: Path) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    what, remedy = "the language model", "choose a model that AutoModelForCausalLM loads"
    broken = f"the folder is broken or not a causal LM; {remedy}"
    with pretrained.loading(what, folder, broken):
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        construction.without_dropout(config)
    unfit = f"it is no causal LM or not whole; {remedy}"
    backbone = pretrained.load_network(AutoModelForCausalLM, folder, what, broken, unfit, config=config, dtype="auto")
    return backbone.eval()


def _text_encoder(folder: Path) -> OwnTokens:
    from transformers import AutoTokenizer

    remedy = "a fast one is needed; save the model again together with its tokenizer"
    with pretrained.loading("the text tokenizer", folder, remedy):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not tokenizer.is_fast:
            raise ValueError("it has no tokenizer.json, and none can be made of what is there")
        return OwnTokens.of(tokenizer)


def _tokenizer(path: str | Path | None, part: str, kind: type[Tokenizer]) -> tuple[Settings, Any]:
    """A tokenizer of that kind, and what the poet that it is from makes by default."""
    if path is None and not (poet_folder.BUNDLED / CONTENTS).exists():
        option = f"--{part.replace('_', '-')}"
        raise CheckpointError(
            f"no model ships with this installation of videopoet, and none of its parts; a {part.replace('_', ' ')} is "
            f"needed; name one with {option}",
            code="checkpoint_missing",
        )
    folder = poet_folder.BUNDLED if path is None else Path(path)
    if path is not None and not folder.is_dir():
        folder = pretrained.from_hub(str(path))
    if (folder / CONTENTS).exists():
        contents = poet_folder.read_contents(folder)
        return contents.settings, registry.component("tokenizers", getattr(contents, part)).load(folder / part)
    values = checkpoint.read_json(folder / "config.json")
    for name in registry.names("tokenizers"):
        component: Any = registry.component("tokenizers", name)
        if issubclass(component, kind) and component.is_described_by(values):
            return Settings(), component.load(folder)
    published = " or ".join(_published(kind))
    raise CheckpointError(
        f"'{path}' is no {part.replace('_', ' ')}: its config.json fits none; give a folder that `videopoet train` "
        f"wrote, a poet's, or a published {published}",
        code="checkpoint_mismatch",
    )


def _published(kind: type[Tokenizer]) -> list[str]:
    """The names of the published tokenizers of a kind."""
    components = {name: registry.component("tokenizers", name) for name in registry.names("tokenizers")}
    return [
        name
        for name, component in components.items()
        if issubclass(component, kind) and issubclass(component, Published)
    ]


def _use_levels(audio: AudioTokenizer, num_levels: int) -> None:
    if not isinstance(audio, PublishedAudioTokenizer):
        raise ConfigError(
            f"{num_levels} audio levels are asked for; this tokenizer has {audio.num_quantizers} and uses all of them, "
            "as only a published codec can use fewer; leave it out",
            code="tokenizer_unfit",
        )
    audio.use_levels(num_levels)
