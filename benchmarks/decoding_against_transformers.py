"""How long the tokens of guided clips take, beside `generate` of `transformers` on the same weights in one process.

`transformers` is given what it needs to make the same clips: embeddings that know their place, the prefix already read
in both directions (which is timed too), logits of other modalities cut off. Guidance is its own
`UnbatchedClassifierFreeGuidanceLogitsProcessor`. `same_tokens` compares what both take without noise, so that nobody is
timed on other work. Everyone takes turns; figures are medians over the turns. Seconds of the processor are reported
beside those of the clock, since they say more on a machine that others use too. `seconds_first`, of all clips without
noise, is what is paid once before the turns: compiling, above all.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from decoding_speed import CountedPasses
from held_out import add_model, toy_box
from report import report
from torch import Tensor
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, StaticCache
from transformers.generation.logits_process import UnbatchedClassifierFreeGuidanceLogitsProcessor

from videopoet import VideoPoet, runtime
from videopoet.generation.decoders.autoregressive import Autoregressive
from videopoet.generation.decoders.base import Decoder
from videopoet.generation.decoders.row_parallel import RowParallel
from videopoet.generation.decoders.speculative import Speculative
from videopoet.generation.request import Request
from videopoet.generation.sampling import Sampling
from videopoet.generation.window import Window
from videopoet.models.language_model import LanguageModel
from videopoet.sequence.layout import UNKNOWN, Batch, Row, batch_rows
from videopoet.sequence.tasks import find_task

OURS: dict[str, Callable[[], Decoder]] = {
    "autoregressive": Autoregressive,
    "speculative": Speculative,
    "row_parallel": RowParallel,
}
THEIRS = {"dynamic": (False, False), "static": (True, False), "static-compiled": (True, True)}
"""Whether the cache is static, and whether the model is compiled."""
Run = Callable[[Sampling], Tensor]
"""Makes the tokens of all clips, (R, N)."""


class Within(LogitsProcessor):
    """Leaves the ids in [start, stop) alone."""

    def __init__(self, start: int, stop: int):
        self.start, self.stop = start, stop

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        scores[:, : self.start] = float("-inf")
        scores[:, self.stop :] = float("-inf")
        return scores


class Side:
    """The rows with the prompt, or those without, as `transformers` takes them."""

    def __init__(self, model: LanguageModel, rows: Sequence[Row], pad: int):
        self.model = model
        self.batch: Batch = batch_rows([*rows], pad)
        unknown = (self.batch.tokens[0] == UNKNOWN).nonzero().flatten()
        self.start, self.num_new = int(unknown[0]), len(unknown)
        self.range = self.batch.ranges[0, self.start].tolist()
        self.placed = model.embedding.of_places(self.batch.modality, self.batch.places)
        # Nothing but padding is hidden from the output, which `transformers` says with a 2-D mask.
        columns = torch.arange(self.start)
        self.attention_mask = (columns >= self.batch.padding[:, None]).long()

    def embed(self, tokens: Tensor, start: int) -> Tensor:
        """Input embeddings of tokens that stand at `start` and after it."""
        places = slice(start, start + tokens.shape[1])
        return self.model.embed_tokens(tokens, self.batch.modality[:, places]) + self.placed[:, places]

    def read_prefix(self, static: bool) -> Any:
        """A cache of all known positions but the last."""
        config, length = self.model.backbone.config, self.start - 1
        most = self.start + self.num_new
        cache = StaticCache(config=config, max_cache_len=most) if static else DynamicCache(config=config)
        mask = self.batch.attention_mask()[:, :, :length, : most if static else length]
        self.model.backbone.base_model(
            inputs_embeds=self.embed(self.batch.tokens[:, :length], 0),
            attention_mask=mask,
            position_ids=self.batch.positions[:, :length],
            past_key_values=cache,
            use_cache=True,
        )
        return cache


def by_transformers(
    model: LanguageModel,
    rows: Sequence[Row],
    against: Sequence[Row],
    pad: int,
    static: bool,
    compiled: bool,
    passes: CountedPasses,
) -> Run:
    """`generate` of the model's own class, whose embeddings are ours."""
    sides = [Side(model, rows, pad), Side(model, against, pad)]
    backbone = model.backbone
    plain = backbone.forward

    def of(side: Side) -> Callable[..., Any]:
        def forward(
            input_ids: Tensor, past_key_values: Any, attention_mask: Any = None, position_ids: Any = None, **others: Any
        ) -> Any:
            passes.number += 1
            seen = int(past_key_values.get_seq_length())
            if position_ids is None:  # the guidance of `transformers` leaves it out; its rows have no padding
                position_ids = (torch.arange(input_ids.shape[1]) + seen)[None]
            others.pop("cache_position", None)
            return inner(
                inputs_embeds=side.embed(input_ids, seen),
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=past_key_values,
                **others,
            )

        return forward

    inner = torch.compile(plain) if compiled else plain

    @torch.no_grad()
    def run(sampling: Sampling) -> Tensor:
        given, compared = sides
        caches = [side.read_prefix(static) for side in sides]
        last = compared.batch.tokens[:, compared.start - 1 : compared.start]
        guidance = UnbatchedClassifierFreeGuidanceLogitsProcessor(
            sampling.guidance_scale,
            of(compared),
            unconditional_ids=last,  # pyright: ignore[reportArgumentType]
            unconditional_attention_mask=compared.attention_mask,  # pyright: ignore[reportArgumentType]
        )
        guidance.unconditional_context["past_key_values"] = caches[1]
        choice = {"temperature": sampling.temperature, "top_k": 0} if sampling.temperature else {}
        backbone.forward = of(given)
        try:
            made = backbone.generate(
                given.batch.tokens[:, : given.start],
                attention_mask=given.attention_mask,
                past_key_values=caches[0],
                max_new_tokens=given.num_new,
                min_new_tokens=given.num_new,
                do_sample=bool(sampling.temperature),
                logits_processor=LogitsProcessorList([guidance, Within(*given.range)]),
                disable_compile=True,
                **choice,
            )
        finally:
            del backbone.forward
        return made[:, given.start :]

    return run


def by_us(poet: VideoPoet, rows: Sequence[Row], against: Sequence[Row], decoder: Decoder) -> Run:
    """A decoder of ours."""
    parts = poet.parts

    def run(sampling: Sampling) -> Tensor:
        streams = [runtime.generator(number) for number in range(len(rows))]
        filled = decoder.decode(parts.language_model, parts.vocabulary, rows, against, sampling, streams)
        return torch.stack([made.tokens[row.to_generate] for made, row in zip(filled, rows, strict=True)])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add_model(parser)
    parser.add_argument("--task", choices=("text_to_video", "text_to_image"), default="text_to_video")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16], help="clips made together")
    parser.add_argument("--repeats", type=int, default=3, help="how often each, after a first that is compared")
    parser.add_argument("--ours", choices=list(OURS), nargs="*", default=list(OURS), help="our decoders")
    parser.add_argument("--theirs", choices=list(THEIRS), nargs="*", default=list(THEIRS), help="their caches")
    given = parser.parse_args()
    world, poet = toy_box("test"), VideoPoet.from_pretrained(given.model, device="cpu")
    parts, model = poet.parts, poet.parts.language_model
    window, passes, pad = Window(parts), CountedPasses(), parts.vocabulary.special("<pad>")
    task = find_task(given.task)
    for num_rows in given.rows:
        captions = [world.scene(number).caption for number in range(num_rows)]
        rows = [window.plan(task, {"text_in": torch.tensor(parts.text_encoder.encode(text))}) for text in captions]
        against = [window.plan(task, {}) for _ in rows]
        sampling = Request(task=task.name, prompt=captions[0]).completed(parts.settings).sampling
        everyone = {name: by_us(poet, rows, against, OURS[name]()) for name in given.ours}
        for name in given.theirs:
            peer = by_transformers(model, rows, against, pad, *THEIRS[name], passes)
            everyone[f"transformers generate, {name} cache"] = peer
        measure(everyone, sampling, given.repeats, passes, poet.parts.settings.name)


def measure(everyone: dict[str, Run], sampling: Sampling, repeats: int, passes: CountedPasses, name: str) -> None:
    """Let everyone take turns, and report."""
    greedy = replace(sampling, temperature=0.0)
    expected, same, first = None, {}, {}
    for who, run in dict(everyone).items():
        began = time.perf_counter()
        try:
            made = run(greedy)
        except Exception as error:  # whatever a compiler or `transformers` says of this machine
            reason = str(error).strip().splitlines()
            report("decoding_against_transformers", strategy=who, failed=reason[0] if reason else repr(error))
            del everyone[who]
            continue
        first[who] = time.perf_counter() - began
        expected = made if expected is None else expected
        same[who] = (made == expected).all(dim=1).float().mean().item()
    clock: dict[str, list[float]] = {who: [] for who in everyone}
    processor: dict[str, list[float]] = {who: [] for who in everyone}
    counted = {}
    num_rows = 0 if expected is None else len(expected)
    for _ in range(repeats):
        for who, run in everyone.items():
            passes.number = 0
            began, began_processor = time.perf_counter(), time.process_time()
            run(sampling)
            clock[who].append(time.perf_counter() - began)
            processor[who].append(time.process_time() - began_processor)
            counted[who] = passes.number
    for who in everyone:
        seconds, busy = statistics.median(clock[who]), statistics.median(processor[who])
        faster = {}
        for peer in everyone:
            if peer.startswith("transformers"):
                faster[peer] = round(statistics.median(processor[peer]) / busy, 2)
        report(
            "decoding_against_transformers",
            strategy=who,
            rows=num_rows,
            passes=counted[who],
            seconds_per_clip=round(seconds / num_rows, 3),
            processor_seconds_per_clip=round(busy / num_rows, 3),
            seconds_first=round(first[who], 1),
            processor_spread=round((max(processor[who]) - min(processor[who])) / num_rows, 3),
            times_less_processor_than=faster,
            same_tokens=round(same[who], 3),
            repeats=repeats,
            model=name,
            sampling=vars(sampling),
        )


if __name__ == "__main__":
    main()
