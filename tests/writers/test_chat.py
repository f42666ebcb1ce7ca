"""Chat models as writers: one behind a real HTTP address, one of Hugging Face on this machine."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from videopoet import write_storyboard
from videopoet.errors import CheckpointError, ConfigError, TaskError
from videopoet.writers.base import ChatWriter
from videopoet.writers.endpoint import Endpoint

GOOD = {"title": "To the Sea", "scenes": [{"prompt": "a red ball", "camera": None}, {"prompt": "a blue star"}]}
KNOWN = ["a", "red", "blue", "ball", "star"]


def unknown(prompt):
    return [word for word in prompt.split() if word not in KNOWN]


class Scripted(ChatWriter):
    """Gives answers that are set down before, and remembers what it was asked."""

    def __init__(self, *answers, **how):
        super().__init__(**how)
        self.answers, self.asked = list(answers), []

    @property
    def name(self):
        return "scripted"

    def answer(self, messages):
        self.asked.append([dict(message) for message in messages])
        said = self.answers.pop(0)
        return said if isinstance(said, str) else json.dumps(said)


def test_an_answer_becomes_a_storyboard():
    board = write_storyboard("a ball at sea", Scripted(GOOD), scenes=2, seed=3)
    assert board.title == "To the Sea" and board.writer == "scripted" and board.idea == "a ball at sea"
    assert [scene.prompt for scene in board.scenes] == ["a red ball", "a blue star"]
    assert all(scene.seed is not None for scene in board.scenes)


@pytest.mark.parametrize(
    "wrapped",
    ["Here it is:\n```json\n{}\n```\nEnjoy!", "<think>maybe {{x}}?</think>{}", "{}"],
)
def test_words_around_the_json_are_passed_over(wrapped):
    writer = Scripted(wrapped.replace("{}", json.dumps(GOOD)))
    assert write_storyboard("a ball", writer, scenes=2).title == "To the Sea"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("I would rather not.", "no readable JSON"),
        ({"scenes": GOOD["scenes"]}, "title"),
        ({"title": "x", "scenes": GOOD["scenes"][:1]}, "1 scenes, and 2 are wanted"),
        ({"title": "x", "scenes": [{"prompt": ""}] * 2}, "scenes.0.prompt"),
        ({"title": "x", "scenes": [{"prompt": "z" * 41}] * 2}, "a word of more than 40"),
        ({"title": "x", "scenes": [{"prompt": "a ball", "camera": "spin"}] * 2}, "'spin'"),
        ({"title": "x", "scenes": [{"prompt": "a ball"}, {"prompt": "a castle"}]}, "does not know: castle"),
    ],
)
def test_a_bad_answer_is_repaired_once_with_what_was_wrong(bad, said):
    writer = Scripted(bad, GOOD, unknown_words=unknown)
    assert write_storyboard("a ball", writer, scenes=2).title == "To the Sea"
    again = writer.asked[1]
    assert [message["role"] for message in again] == ["system", "user", "assistant", "user"]
    assert said in again[-1]["content"]
    with pytest.raises(TaskError, match="gave no storyboard in two answers") as caught:
        write_storyboard("a ball", Scripted(bad, bad, GOOD, unknown_words=unknown), scenes=2)
    assert caught.value.code == "writer_invalid" and said in str(caught.value)


def test_the_writer_is_told_which_words_there_are():
    writer = Scripted(GOOD, vocabulary=KNOWN)
    write_storyboard("a ball", writer, scenes=2)
    assert "a red blue ball star" in writer.asked[0][0]["content"]


# Behind an address


@pytest.fixture
def server():
    """A server of chat completions whose answers a test sets; it keeps what it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.requests.append((self.path, dict(self.headers), body))
            status, headers, text = found.answers.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST

        def log_message(self, *_):
            pass

    found = HTTPServer(("127.0.0.1", 0), Handler)
    found.requests, found.answers = [], []
    found.url = f"http://127.0.0.1:{found.server_port}/v1"
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def completion(said):
    text = said if isinstance(said, str) else json.dumps(said)
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def test_an_endpoint_is_asked_as_chat_completions_are(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-key")
    server.answers = [completion("no"), completion(GOOD)]
    writer = Endpoint(server.url + "/", "qwen", key_variable="MY_KEY")
    board = write_storyboard("a ball", writer, scenes=2)
    assert board.title == "To the Sea" and board.writer == f"qwen at 127.0.0.1:{server.server_port}"
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions" and body["model"] == "qwen"
    assert headers["Authorization"] == "Bearer secret-key"
    assert len(server.requests[1][2]["messages"]) == 4


def test_without_a_key_none_is_sent(server, monkeypatch):
    monkeypatch.delenv("VIDEOPOET_WRITER_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "of-someone-else")
    server.answers = [completion(GOOD)]
    write_storyboard("a ball", Endpoint(server.url, "qwen"), scenes=2)
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((401, {}, b""), "writer_refused", "answered 401 .* put a key that it accepts into VIDEOPOET_WRITER_KEY"),
        ((404, {}, b""), "writer_refused", "answered 404 .* often ends in /v1"),
        ((500, {}, b"boom"), "writer_refused", "answered 500"),
        ((302, {"Location": "http://127.0.0.1:1/elsewhere"}, b""), "writer_refused", "answered 302"),
        ((200, {}, b"<html>"), "writer_protocol", "not as chat completions do"),
        ((200, {}, b'{"choices": []}'), "writer_protocol", "not as chat completions do"),
        ((200, {}, b" " * (2**20 + 2)), "writer_protocol", "not as chat completions do"),
    ],
)
def test_an_endpoint_that_does_not_serve_is_a_sentence(server, monkeypatch, answer, code, said):
    monkeypatch.setenv("VIDEOPOET_WRITER_KEY", "secret-key")
    server.answers = [answer]
    with pytest.raises(TaskError, match=said) as caught:
        write_storyboard("a ball", Endpoint(server.url, "qwen"), scenes=2)
    assert caught.value.code == code and "secret-key" not in str(caught.value)
    assert len(server.requests) == 1


def test_an_endpoint_that_is_not_there_is_a_sentence(server):
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(TaskError, match="cannot be reached .*; start it") as caught:
        write_storyboard("a ball", Endpoint(url, "qwen"), scenes=2)
    assert caught.value.code == "writer_unreachable"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8000", "ftp://host/v1", "http://", "http://a:b@host"])
def test_an_address_of_another_kind_is_refused(url):
    with pytest.raises(ConfigError, match="http:// or https://"):
        Endpoint(url, "qwen")


# On this machine


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    """A tiny chat model of random weights, on disk."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny-chat"
    table = {word: index for index, word in enumerate(["<unk>", "<end>", *KNOWN, "{", "}"])}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>")
    fast.chat_template = "{% for one in messages %}{{ one['role'] }}: {{ one['content'] }}\n{% endfor %}"
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(table), **sizes)).save_pretrained(folder)
    return folder


def test_a_local_chat_model_writes(chat_model, monkeypatch):
    import torch

    from videopoet.writers import chat_model as module

    monkeypatch.setattr(module, "MOST_TOKENS", 8)
    writer = module.ChatModel(chat_model, device="cpu")
    said = writer.answer([{"role": "user", "content": "a red ball"}])
    assert set(said.split()) <= {*KNOWN, "{", "}"}
    assert said == writer.answer([{"role": "user", "content": "a red ball"}])
    with pytest.raises(TaskError, match="the writer tiny-chat gave no storyboard in two answers"):
        write_storyboard("a ball", writer, scenes=2)
    asked = []

    def generate(input_ids, **_):
        asked.append(input_ids)
        return torch.cat([input_ids, torch.tensor([[2, 3, 5]])], dim=1)

    monkeypatch.setattr(writer._model, "generate", generate)
    assert writer.answer([{"role": "user", "content": "a"}]) == "a red ball"


def test_a_folder_that_is_no_chat_model_is_refused(chat_model, tmp_path):
    from videopoet.writers.chat_model import ChatModel

    with pytest.raises(CheckpointError, match="cannot be loaded"):
        ChatModel(tmp_path)
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(chat_model, bare)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="no chat template"):
        ChatModel(bare)
