import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from videopoet.errors import CheckpointError, TaskError
from videopoet.text_encoders.own_tokens import LONGEST_PROMPT, OwnTokens


@pytest.fixture(scope="module")
def encoder():
    return OwnTokens.from_words("a red ball bounces on the grass , pan left".split())


def test_known_words_come_back(encoder):
    text = "a red ball bounces on the grass, pan left"
    ids = encoder.encode(text)
    assert len(set(ids)) == len(ids) == 10
    assert encoder.decode(ids) == text
    assert encoder.unknown_words(text) == []


def test_case_and_space_do_not_matter(encoder):
    assert encoder.encode("  A Red\tBALL ,pan\nleft ") == encoder.encode("a red ball, pan left")


def test_unknown_words_are_named_as_they_were_written(encoder):
    assert encoder.unknown_words("a Paper ball, a glass ball, a Paper ball") == ["Paper", "glass"]


def test_an_encoder_comes_back_from_its_folder(encoder, tmp_path):
    encoder.save(tmp_path)
    again = OwnTokens.load(tmp_path)
    assert again.size == encoder.size
    assert again.encode("a red paper ball") == encoder.encode("a red paper ball")


@pytest.mark.parametrize(
    "token", ["<bov_o>", "<eot_i>", "</s>", "<unk>", "<task:video>", "<res:64x64>", "<source:toybox>"]
)
def test_a_special_token_is_no_prompt(encoder, token):
    with pytest.raises(TaskError, match="special tokens") as caught:
        encoder.encode(f"a ball {token} red")
    assert caught.value.code == "prompt_special_token"


@pytest.mark.parametrize("prompt", ["1 < 2 > 0", "a <3 ball", "x < y", "<>", "😀 وَرْد e\u0301 " * 3])
def test_other_text_is_taken_as_text(encoder, prompt):
    ids = encoder.encode(prompt)
    assert all(0 <= index < encoder.size for index in ids)


def test_the_longest_prompt_is_taken_and_a_longer_one_refused(encoder):
    assert len(encoder.encode("ball " * LONGEST_PROMPT)) == LONGEST_PROMPT
    with pytest.raises(TaskError, match=f"{LONGEST_PROMPT + 1} tokens") as caught:
        encoder.encode("ball " * (LONGEST_PROMPT + 1))
    assert caught.value.code == "prompt_too_long"


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        OwnTokens.load(tmp_path)
    assert caught.value.code == "checkpoint_corrupt"


def test_plain_transformers_reads_what_is_saved_in_the_same_way(encoder, tmp_path):
    encoder.save(tmp_path)
    for theirs in (AutoTokenizer.from_pretrained(tmp_path), PreTrainedTokenizerFast.from_pretrained(tmp_path)):
        assert len(theirs) == encoder.size
        text = "A red ball, pan left, of paper"
        assert theirs(text, add_special_tokens=False)["input_ids"] == encoder.encode(text)
        assert theirs.unk_token_id == encoder.unknown == 0


def test_a_tokenizer_of_pieces_is_read_as_transformers_reads_it(tmp_path):
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["[[end]]"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    pieces.train_from_iterator(["a red ball bounces on the grass"] * 3, trainer)
    pieces.enable_truncation(3)
    pieces.enable_padding(length=20)
    theirs = PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="[[end]]", pad_token="[[end]]")
    theirs.chat_template = "{{ messages }}"
    encoder = OwnTokens.of(theirs)
    text = "a red ball, bounces ünder the grass"
    assert encoder.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
    assert encoder.decode(encoder.encode(text)) == text
    assert encoder.known_words() is None
    with pytest.raises(TaskError, match=r"\[\[end\]\]"):
        encoder.encode("a ball [[end]]")
    encoder.save(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert (again.eos_token, again.chat_template) == ("[[end]]", "{{ messages }}")


def test_more_words_come_after_those_that_are_known(encoder):
    wider = encoder.with_words(["Zebra", "café", "red"])
    assert wider.encode("a red ball") == encoder.encode("a red ball")
    assert wider.encode("a zebra, CAFÉ")[1::2] == [encoder.size + 1, encoder.size]
    assert wider.decode(wider.encode("a Zebra, café")) == "a zebra, café"
    assert wider.unknown_words("a zebra yak") == ["yak"]
    assert encoder.with_words(["red", "Ball"]) is encoder
