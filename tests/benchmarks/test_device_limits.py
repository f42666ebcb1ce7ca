import json
import sys

import torch


def test_a_device_is_measured_with_what_it_is_held_against(benchmark, monkeypatch, capsys):
    limits = benchmark("device_limits")
    arguments = [
        "device_limits",
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--rows",
        "2",
        "--steps",
        "2",
        "--repeats",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(limits, "bytes_a_second", lambda device, dtype: 1e9)
    monkeypatch.setattr(limits, "flops_a_second", lambda device, dtype: 1e12)
    limits.main()
    training, decoding = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert training["share"] == round(training["teraflops"], 3) > 0
    assert decoding["share"] == decoding["gigabytes_per_second"] > 0 and decoding["passes"] == 48


def test_a_pass_reads_all_layers_the_codes_rows_and_what_is_kept(benchmark):
    limits = benchmark("device_limits")
    model, vocabulary, rows = limits.make("tiny", torch.device("cpu"), 2)
    layers = sum(weight.numel() for weight in model.backbone.model.layers.parameters())
    head = vocabulary.config.visual_codes * model.head_weight.shape[1]
    span = rows[0].spans["video_out"]
    assert (span.stop - span.start, model.num_layers) == (48, 2)
    kept = 2 * 2 * model.key_width * (span.start + 24)
    assert limits.bytes_of_a_pass(model, vocabulary, rows[0]) == 4 * (layers + head + kept)
    assert not torch.equal(rows[0].tokens, rows[1].tokens)
    assert int(limits.planned(rows[0]).to_generate.sum()) == 48 and not rows[0].to_generate.any()
