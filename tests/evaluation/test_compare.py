import json
import math
import re
import shutil
import subprocess

import pytest
import torch

from videopoet import cli
from videopoet.errors import ConfigError, DataError
from videopoet.evaluation import compare
from videopoet.media.files import probe

PROMPTS = ["a red ball", "a blue star", "a ball bounces", 'a star\'s "ball" & more']


@pytest.fixture(scope="module")
def poets(make_poet):
    first, second = make_poet(name="mighty-model"), make_poet(name="tiny-model")
    with torch.no_grad():
        second.parts.language_model.head_weight.mul_(-1)
    return first, second


@pytest.fixture(scope="module")
def study(poets, tmp_path_factory):
    place = tmp_path_factory.mktemp("study") / "new"
    assert compare.study(*poets, PROMPTS, place, seed=3) == place / "index.html"
    return place


@pytest.fixture(scope="module")
def key(study):
    return json.loads((study / "key.json").read_text())


@pytest.fixture
def vote(key, tmp_path):
    """Writes a rater's file; answers are said of the models, and turned into sides by the key."""

    def write(rater, answers, /, **changes):
        sides = {"first": lambda pair: key["first_is"][pair], "none": lambda pair: "none"}
        sides["second"] = lambda pair: {"left": "right", "right": "left"}[key["first_is"][pair]]
        given = {
            pair: {question: sides[answer](pair) for question in compare.QUESTIONS}
            for pair, answer in zip(key["first_is"], answers, strict=True)
            if answer
        }
        path = tmp_path / f"votes-{rater}.json"
        path.write_text(json.dumps({"study": key["study"], "rater": rater, "answers": given} | changes))
        return path

    return write


def test_the_page_and_its_files_do_not_say_which_model_is_which(study, key):
    page = (study / "index.html").read_text()
    assert "mighty" not in page and "tiny-model" not in page and key["model_sha256"][0] not in page
    for clip in (study / "clips").iterdir():
        assert not probe(clip).metadata
    assert set(key["first_is"].values()) <= {"left", "right"}


def test_the_page_is_whole_and_asks_five_questions_about_every_prompt(study):
    page = (study / "index.html").read_text()
    values = json.loads(re.search(r"const study = (\{.*\});", page)[1].replace("<\\/", "</"))
    assert [pair["prompt"] for pair in values["pairs"]] == PROMPTS
    assert list(values["questions"]) == ["text_fidelity", "motion_interest", "quality", "realism", "consistency"]
    assert all((study / pair[side]).is_file() for pair in values["pairs"] for side in ("left", "right"))
    assert "http" not in page and page.count("</script>") == 1


def test_no_prompt_can_end_the_script_of_the_page():
    page = compare.page({"id": "x", "questions": {}, "pairs": [{"prompt": "a </script><b>"}]})
    assert page.count("</script>") == 1


BROWSER = """
const boxes = {};
const box = () => ({ listeners: {}, children: [], value: "", textContent: "",
  addEventListener(name, call) { this.listeners[name] = call; },
  append(...more) { this.children.push(...more); }, replaceChildren() { this.children = []; }, click() {} });
globalThis.document = { getElementById: (id) => (boxes[id] ||= box()), createElement: box };
globalThis.addEventListener = () => {};
globalThis.confirm = () => true;
globalThis.localStorage = { getItem: (key) => store[key] ?? null, setItem(key, value) {
  if (store.full) throw new Error("full");
  store[key] = value;
} };
const answer = (value) => boxes.questions.children.forEach((field) => {
  const input = field.children.slice(1).map((label) => label.children[0]).find((one) => one.value === value);
  input.listeners.change();
});
const said = (id) => document.getElementById(id).textContent;
const press = (id) => boxes[id].listeners.click();
const chosen = () => boxes.questions.children.flatMap((field) =>
  field.children.slice(1).map((label) => label.children[0]).filter((one) => one.checked).map((one) => one.value));
"""
"""As much of a browser as the page's script needs."""


@pytest.fixture
def visit(study):
    """Opens the page with what an earlier visit kept, does as it is told, and gives what is seen and kept then."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node to run the page's script")
    script = re.search(r"<script>(.*)</script>", (study / "index.html").read_text(), re.DOTALL)[1]
    seen = "{ store, where: said('where'), note: said('note'), chosen: chosen(), rater: boxes.rater?.value }"

    def visit(store, actions=""):
        program = (
            f"const store = {json.dumps(store)};{BROWSER}{{{script}}}{actions};console.log(JSON.stringify({seen}))"
        )
        done = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return visit


def test_answers_are_there_again_when_the_page_is(visit, key):
    assert visit({})["note"] == ""
    wrote = "boxes.rater.value = 'ann'; boxes.rater.listeners.input()"
    first = visit({}, f"{wrote}; answer('left'); press('next'); answer('none'); press('next')")
    assert list(first["store"]) == [f"videopoet-study-{key['study']}"]
    assert first["where"] == "3 of 4, 2 answered"
    again = visit(first["store"])
    assert again["note"] == "Welcome back: 2 of 4 pairs are answered."
    assert again["where"] == "3 of 4, 2 answered" and again["rater"] == "ann" and again["chosen"] == []
    assert visit(first["store"], "press('back')")["chosen"] == ["none"] * 5


def test_another_rater_begins_anew_and_what_was_kept_of_something_else_is_passed_over(visit, key):
    place = f"videopoet-study-{key['study']}"
    kept = {place: json.dumps({"rater": 3, "answers": {"0000": {"quality": "both", "realism": "left"}, "9": {}}})}
    assert visit(kept)["chosen"] == ["left"]
    anew = visit(kept, "press('anew')")
    assert anew["chosen"] == [] and anew["where"] == "1 of 4, 0 answered"
    assert json.loads(anew["store"][place]) == {"rater": "", "answers": {}}
    assert visit({place: "{"})["where"] == "1 of 4, 0 answered"


def test_a_browser_that_keeps_nothing_is_said(visit):
    seen = visit({"full": True}, "answer('right')")
    assert "keeps nothing" in seen["note"] and seen["where"] == "1 of 4, 1 answered"


def test_the_page_keeps_answers_under_the_name_of_its_study(study, key):
    page = (study / "index.html").read_text()
    assert "const key = `videopoet-study-${study.id}`;" in page and f'"id": "{key["study"]}"' in page
    assert page.index("localStorage.getItem(key)") < page.index("\nrestore();\nshow();")


def test_sides_are_drawn_by_the_seed(poets, key):
    assert len({tuple(compare.sides(40, seed)) for seed in range(5)}) == 5
    assert compare.sides(4, 3) == [side == "left" for side in key["first_is"].values()]
    assert 8 < sum(compare.sides(40, 0)) < 32


def test_votes_are_counted_for_models_whatever_the_sides(key, study, vote):
    votes = [
        vote("ann", ["first", "first", "first", "none"]),
        vote("bob", ["first", "second", "first", "none"]),
        vote("cem", ["first", "first", "second", "none"]),
    ]
    for outcome in compare.tally(votes, study / "key.json").outcomes:
        assert (outcome.wins, outcome.ties, outcome.losses) == (7, 3, 2)
        assert outcome.win_share == pytest.approx(7 / 9) and outcome.interval[0] < 7 / 9 < outcome.interval[1]
        assert 0.2 < outcome.kappa < 0.6 and outcome.kappa < outcome.alpha < 0.7


def test_missing_votes_leave_kappa_out_and_keep_alpha(study, vote):
    votes = [vote("ann", ["first", "first", "second", "none"]), vote("bob", ["first", "first", "second", None])]
    for outcome in compare.tally(votes, study / "key.json").outcomes:
        assert outcome.kappa is None and outcome.alpha == pytest.approx(1) and outcome.ties == 1


def test_ties_alone_have_no_winner(study, vote):
    (outcome, *_) = compare.tally([vote("ann", ["none"] * 4)], study / "key.json").outcomes
    assert math.isnan(outcome.win_share) and outcome.interval == (0.0, 1.0) and outcome.to_dict()["win_share"] is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study": "another"}, "of study another"),
        ({"answers": {"0000": {"quality": "both"}}}, "quality both"),
        ({"answers": {"9999": {"quality": "left"}}}, "9999"),
        ({"answers": ["left"]}, "no answers"),
    ],
)
def test_votes_that_do_not_fit_are_refused(study, vote, changes, said):
    with pytest.raises(DataError, match=said):
        compare.tally([vote("ann", ["first"] * 4, **changes)], study / "key.json")


def test_a_rater_counts_once(study, vote):
    path = vote("ann", ["first"] * 4)
    with pytest.raises(DataError, match="'ann' has voted twice"):
        compare.tally([path, path], study / "key.json")


def test_files_that_are_missing_are_named(study, vote, tmp_path):
    with pytest.raises(DataError, match=r"the votes in '.*none\.json' cannot be read \(No such file .*\); raters save"):
        compare.tally([tmp_path / "none.json"], study / "key.json")
    with pytest.raises(DataError, match=r"the key in '.*' cannot be read \(Is a directory\); .* key\.json; check the"):
        compare.tally([vote("ann", ["first"] * 4)], study)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "\xff",
        "[1]",
        '{"study": "abc"}',
        '{"first_is": {"0000": "left"}}',
        '{"study": "abc", "first_is": {"0000": 3}}',
        '{"study": "abc", "first_is": {}}',
        '{"study": "abc", "first_is": {"0000": "left"}, "models": ["a"]}',
    ],
)
def test_a_broken_or_foreign_key_is_one_sentence(tmp_path, vote, text):
    (tmp_path / "key.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="broken or holds no key of a study; .* writes one .*; check") as caught:
        compare.tally([vote("ann", ["first"] * 4)], tmp_path / "key.json")
    assert caught.value.code == "key_invalid" and str(caught.value).count(";") == 2


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000], ids=["cut", "list", "deep"])
def test_broken_or_foreign_votes_are_one_sentence(study, tmp_path, text):
    (tmp_path / "votes.json").write_text(text)
    with pytest.raises(DataError, match="broken or holds no votes of a study; raters save them .*; check") as caught:
        compare.tally([tmp_path / "votes.json"], study / "key.json")
    assert caught.value.code == "votes_invalid"


def test_a_model_is_not_compared_with_itself_nor_into_a_full_folder(poets, study, tmp_path):
    with pytest.raises(ConfigError, match="the same"):
        compare.study(poets[0], poets[0], PROMPTS, tmp_path / "new")
    with pytest.raises(ConfigError, match="not a new folder"):
        compare.study(*poets, PROMPTS, study)
    assert not (tmp_path / "new").exists()


def test_the_same_weights_with_other_settings_are_two_models_and_the_tally_says_which(make_poet, tmp_path):
    usual, colder = make_poet(), make_poet(name="other", temperature=0.5)
    compare.study(usual, colder, PROMPTS[:1], tmp_path / "one")
    compare.study(usual, make_poet(temperature=0.6), PROMPTS[:1], tmp_path / "two")
    keys = [json.loads((tmp_path / name / "key.json").read_text()) for name in ("one", "two")]
    assert keys[0]["study"] != keys[1]["study"] and keys[0]["model_sha256"][0] == keys[0]["model_sha256"][1]
    first, second = compare.tally([], tmp_path / "one" / "key.json").models
    assert first.endswith(", temperature 1.0)") and second.endswith(", temperature 0.5)")
    with pytest.raises(ConfigError, match="same weights .* and settings; a study compares two"):
        compare.study(usual, make_poet(name="other"), PROMPTS[:1], tmp_path / "new")


@pytest.mark.parametrize(
    ("text", "said"), [("", "no prompt"), ("a ball\n\na ball\n", "twice"), (None, "cannot be read")]
)
def test_prompts_that_cannot_be_used_are_refused(tmp_path, text, said):
    path = tmp_path / "prompts.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=said):
        compare.read_prompts(path)


def test_the_command_counts_votes(study, vote, capsys):
    votes = [str(vote("ann", ["first"] * 4)), str(vote("bob", ["first", "first", "second", "none"]))]
    assert cli.run(["compare", "--tally", *votes, "--key", str(study / "key.json")]) == 0
    printed = capsys.readouterr().out
    assert "text fidelity" in printed and "85.7%" in printed
    assert "those of mighty-model (" in printed and "those of tiny-model (" in printed
    assert "2 raters, of 4 prompts each: ann (4), bob (4)" in printed
    assert cli.run(["compare", "--tally", *votes, "--key", str(study / "key.json"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["outcomes"][0]["wins"] == 6 and answer["raters"] == {"ann": 4, "bob": 4}
    assert [name.split()[0] for name in answer["models"]] == ["mighty-model", "tiny-model"]


def test_raters_count_with_what_they_answered_and_cannot_command_the_terminal(study, vote):
    votes = [vote("ann", ["first", None, None, "none"], rater="\x1b[2Jann"), vote("bob", [None] * 4)]
    counted = compare.tally(votes, study / "key.json")
    assert counted.raters == {"\x1b[2Jann": 2, "bob": 0} and counted.num_prompts == 4
    assert "\x1b" not in "".join(compare.lines(counted))


@pytest.mark.parametrize("arguments", [["compare"], ["compare", "a", "b"], ["compare", "--tally", "votes.json"]])
def test_an_incomplete_command_says_what_is_missing(capsys, arguments):
    assert cli.run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "compare" in line


def test_what_a_study_lacks_is_named(capsys):
    assert cli.run(["compare", "runs/a", "runs/b", "--prompts", "prompts.txt"]) == 2
    assert "2 models are given, without --output; two models" in capsys.readouterr().err
