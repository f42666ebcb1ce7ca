"""What a token adds to its row of the language model's table: its bits, and its place in the clip."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from videopoet.config import BaseConfig
from videopoet.errors import ConfigError


class Config(BaseConfig):
    """Sizes of the tables; a clip beyond them is refused."""

    width: int = Field(ge=1)
    """Width of the language model."""
    video_places: tuple[int, int, int] = (16, 64, 64)
    """The most latent frames, rows and columns."""
    audio_places: tuple[int, int] = (4, 512)
    """The most levels and audio frames."""
    num_bits: int = Field(default=0, ge=0)
    """Bits of a visual code that enter by a linear map, so that codes alike in bits start alike; 0 leaves them out."""
    first_visual: int = Field(default=0, ge=0)
    """Id of the visual code 0."""
    num_features: int = Field(default=0, ge=0)
    """Width of the features of a frozen text encoder, of which a linear map makes embeddings; 0 where there is none."""
    first_prompt: int = Field(default=0, ge=0)
    """Id of the encoder's id 0."""


class TokenEmbedding(nn.Module):
    """Embeddings of what a token's id does not say. Order of modalities: text, special, video, audio, prompt."""

    VIDEO, AUDIO, PROMPT = 2, 3, 4

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.video_embedding = nn.ModuleList(nn.Embedding(size, config.width) for size in config.video_places)
        self.audio_embedding = nn.ModuleList(nn.Embedding(size, config.width) for size in config.audio_places)
        self.bits_embedding = nn.Linear(config.num_bits, config.width, bias=False) if config.num_bits else None
        self.features_embedding = (
            nn.Linear(config.num_features, config.width, bias=False) if config.num_features else None
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)
        if self.features_embedding is not None:
            nn.init.normal_(self.features_embedding.weight, std=0.02 / config.num_features**0.5)

    @torch.no_grad()
    def match(self, spread: float, generator: torch.Generator) -> None:
        """Draw the tables anew, so that places together, and bits together, are as large as a row of standard deviation
        `spread`: beside a trained table neither may drown or be drowned."""
        for tables in (self.video_embedding, self.audio_embedding):
            for parameter in tables.parameters():
                nn.init.normal_(parameter, std=spread / len(tables) ** 0.5, generator=generator)
        if self.bits_embedding is not None:
            std = spread / self.config.num_bits**0.5
            nn.init.normal_(self.bits_embedding.weight, std=std, generator=generator)
        if self.features_embedding is not None:
            std = spread / self.config.num_features**0.5
            nn.init.normal_(self.features_embedding.weight, std=std, generator=generator)

    @torch.no_grad()
    def widened(self, num_bits: int, first_prompt: int) -> TokenEmbedding:
        """One for codes of more bits, of which the new ones say nothing yet."""
        bits = self.config.num_bits and num_bits
        with torch.random.fork_rng(devices=[]):
            wider = TokenEmbedding(self.config.model_copy(update={"num_bits": bits, "first_prompt": first_prompt}))
        weights = self.state_dict()
        if self.bits_embedding is not None:
            weights["bits_embedding.weight"] = F.pad(self.bits_embedding.weight, (0, num_bits - self.config.num_bits))
        wider.load_state_dict(weights)
        dtype = next(self.parameters()).dtype
        return wider if dtype == torch.float32 else wider.to(dtype)

    def move_up(self, count: int) -> None:
        """Follow ids of media, and of a text encoder, that have moved up by so many."""
        moved = {name: getattr(self.config, name) + count for name in ("first_visual", "first_prompt")}
        self.config = self.config.model_copy(update=moved)

    def forward(self, tokens: Tensor, modality: Tensor, places: Tensor) -> Tensor:
        """Sum what is known of each position.

        Args:
            tokens: (B, L) ids.
            modality: (B, L) index of the modality.
            places: (B, L, 3) time, row, column of a video token; level, frame of an audio token.

        Returns:
            (B, L, D), zero for text and special tokens.
        """
        return self.of_places(modality, places) + self.of_bits(tokens, modality)

    def of_places(self, modality: Tensor, places: Tensor) -> Tensor:
        """What is known before a token is chosen: where it stands."""
        video, audio = modality == self.VIDEO, modality == self.AUDIO
        return _places(self.video_embedding, places, video) + _places(self.audio_embedding, places, audio)

    def of_bits(self, tokens: Tensor, modality: Tensor) -> Tensor | float:
        """What the bits of a visual token say; 0.0 where bits are left out."""
        if self.bits_embedding is None:
            return 0.0
        signs = self.signs((tokens - self.config.first_visual).clamp_min(0)).to(self.bits_embedding.weight.dtype)
        return self.bits_embedding(signs) * (modality == self.VIDEO).unsqueeze(-1)

    def signs(self, codes: Tensor) -> Tensor:
        """The bits of visual codes (...) as -1 and 1, (..., num_bits)."""
        bits = (codes.unsqueeze(-1) >> torch.arange(self.config.num_bits, device=codes.device)) & 1
        return 2 * bits - 1

    def of_features(self, features: Tensor) -> Tensor:
        """Embeddings, (..., D), of a text encoder's features, (..., F): what stands in a row for a prompt (3.1)."""
        assert self.features_embedding is not None, "this model reads no features"
        # Encoders differ in how large their features are; an embedding is to be as large as a row of the table.
        features = F.rms_norm(features.float(), features.shape[-1:])
        return self.features_embedding(features.to(self.features_embedding.weight.dtype))

    def check(self, video_grid: tuple[int, int, int]) -> None:
        """Refuse a clip that the tables have no places for.

        Raises:
            ConfigError: More latent frames, rows or columns than there are places.
        """
        _check("clip", ("latent frames", "rows", "columns"), video_grid, self.config.video_places, "smaller")

    def check_sound(self, audio_grid: tuple[int, int]) -> None:
        """Refuse a sound that the tables have no places for.

        Raises:
            ConfigError: More levels or audio frames than there are places.
        """
        _check("sound", ("levels", "frames"), audio_grid, self.config.audio_places, "shorter")


def _places(tables: nn.ModuleList, places: Tensor, of_this_modality: Tensor) -> Tensor:
    total = sum(table(places[..., axis].clamp_min(0) * of_this_modality) for axis, table in enumerate(tables))
    return total * of_this_modality.unsqueeze(-1)  # pyright: ignore[reportReturnType, reportOperatorIssue]


def _check(what: str, names: tuple[str, ...], grid: tuple[int, ...], places: tuple[int, ...], remedy: str) -> None:
    for name, size, most in zip(names, grid, places, strict=True):
        if size > most:
            raise ConfigError(
                f"the {what} has {size} {name} of codes, this model has places for {most}; ask for a {remedy} clip",
                code="size_invalid",
            )
