"""Train the network behind wFD, on clips of the toy box and their labels, and print how well it reads held-out ones.

Its scenes have seeds of their own, above all that models are trained on, so that no clip that a model saw or is asked
for is among them. One JSON line: per label the share of held-out clips whose likeliest value is true of a subject,
beside chance, the same with the answers to other clips. Without steps, weights are measured that there are.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from held_out import percent
from report import report
from torch import Tensor
from torch.nn import functional as F

from videopoet import checkpoint, runtime
from videopoet.data.toybox import Config, Scene, ToyBox
from videopoet.evaluation.world_network import FILE, LABELS, WorldNetwork

FIRST_SEED, FIRST_HELD_OUT = 2**50, 2**51
"""Of scenes to learn from, and of scenes to be tested on; training of models draws seeds below 2**48."""
BATCH, PEAK, WARM_UP, DECAY, LONGEST_GRADIENT = 16, 3e-3, 100, 0.02, 5.0


def labelled(first: int, count: int, size: int = BATCH) -> Iterator[tuple[Tensor, list[Scene]]]:
    """Clips, (B, 3, T, H, W), and their scenes; one in five batches has combinations that models are not trained on."""
    seen, held = (ToyBox(Config(split="validation", combinations=each)) for each in ("seen", "held_out"))
    for number, start in enumerate(range(first, first + count, size)):
        world = held if number % 5 == 4 else seen
        scenes = [world.scene(seed) for seed in range(start, min(start + size, first + count))]
        yield world.render(scenes, audio=False).video, scenes


def values(scene: Scene, label: str) -> list[str]:
    """What is true of a scene: of what subjects have, a value for each."""
    match label:
        case "scenery":
            return [scene.kind]
        case "camera":
            return [scene.camera]
        case "count":
            return [str(len(scene.subjects))]
    return [getattr(subject, label) for subject in scene.subjects]


def targets(scenes: Sequence[Scene], label: str) -> Tensor:
    """How true each value of a label is, (B, number of values): the share of subjects that have it."""
    found = torch.zeros(len(scenes), len(LABELS[label]))
    for row, scene in zip(found, scenes, strict=True):
        for value in (true := values(scene, label)):
            row[LABELS[label].index(value)] += 1 / len(true)
    return found


def train(network: WorldNetwork, steps: int) -> None:
    """Teach the network all labels at once by cross-entropy, under a rate that rises and then falls as a cosine."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK, weight_decay=DECAY, fused=True)
    with runtime.progress(steps, "steps") as advance:
        for step, (video, scenes) in enumerate(labelled(FIRST_SEED, steps * BATCH)):
            rate = min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = PEAK * rate
            with runtime.autocast("cpu"):
                logits = network(video.to(memory_format=torch.channels_last_3d))
            losses = [F.cross_entropy(logits[label].float(), targets(scenes, label)) for label in LABELS]
            loss = torch.stack(losses).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), LONGEST_GRADIENT)
            optimizer.step()
            advance(loss=loss.item())


@torch.no_grad()
def read(network: WorldNetwork, count: int) -> dict[str, dict[str, float | None]]:
    """Per label, the percentage of held-out clips that are read right, and that by chance."""
    right: dict[str, list[bool]] = {label: [] for label in LABELS}
    chance: dict[str, list[bool]] = {label: [] for label in LABELS}
    for video, scenes in labelled(FIRST_HELD_OUT, count):
        for label, logits in network(video).items():
            answers = [LABELS[label][index] for index in logits.argmax(dim=1).tolist()]
            true = [values(scene, label) for scene in scenes]
            right[label] += [answer in each for answer, each in zip(answers, true, strict=True)]
            chance[label] += [answer in each for answer, each in zip(answers, true[1:] + true[:1], strict=True)]
    return {label: {"right": percent(right[label]), "chance": percent(chance[label])} for label in LABELS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output", type=Path, metavar="FILE", help="the weights; without it, those that ship")
    parser.add_argument("--steps", type=int, default=1700, help=f"batches of {BATCH} clips; 0 only measures")
    parser.add_argument("--count", type=int, default=1000, help="held-out clips to read")
    given = parser.parse_args()
    if given.steps and given.output is None:
        parser.error("those that ship are frozen; name a file for new weights by --output, or measure by --steps 0")
    weights = given.output or FILE
    torch.manual_seed(0)
    network = WorldNetwork()
    torch.nn.utils.convert_conv3d_weight_memory_format(network, torch.channels_last_3d)
    if given.steps:
        train(network.train(), given.steps)
        state = network.state_dict()
        checkpoint.save_tensors(weights, {name: tensor.contiguous().half() for name, tensor in state.items()})
    # What is measured is what is on disk: half precision, computed with in full.
    checkpoint.load_weights(network, checkpoint.load_tensors(weights), weights)
    report(
        "world_network",
        percent=read(network.eval(), given.count),
        parameters=sum(each.numel() for each in network.parameters()),
        sha256=checkpoint.sha256(weights),
        steps=given.steps,
        clips=given.count,
    )


if __name__ == "__main__":
    main()
