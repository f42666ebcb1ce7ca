import pytest
import yaml
from pydantic import Field

from videopoet.config import BaseConfig, override
from videopoet.errors import ConfigError


class Inner(BaseConfig):
    rate: float = Field(default=1e-3, gt=0)
    """How fast it moves,
    a step."""
    sizes: tuple[int, ...] = (1, 2)


class Outer(BaseConfig):
    inner: Inner = Inner()
    """What is within."""
    name: str = "one"
    others: tuple[Inner, ...] = ()


def test_dotted_assignments_change_what_they_name():
    changed = override(Outer(), ["inner.rate=3e-4", "inner.sizes=[4, 5]", "name=two"])
    assert changed == Outer(inner=Inner(rate=3e-4, sizes=(4, 5)), name="two")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("inner.rat=1", "rate"),
        ("outer=1", "unknown config key"),
        ("name.deep=1", "nothing below it"),
        ("inner.rate=-1", "greater than 0"),
        ("inner.rate=fast", "fast"),
        ("name", "key=value"),
    ],
)
def test_an_assignment_that_does_not_fit_names_what_does(assignment, message):
    with pytest.raises(ConfigError, match=message) as error:
        override(Outer(), [assignment])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("assignment", ["inner.rate=-1", "inner.rate=fast"])
def test_an_error_names_the_whole_path_of_its_key(assignment):
    with pytest.raises(ConfigError, match="^config key 'inner.rate' is "):
        override(Outer(), [assignment])
    with pytest.raises(ConfigError, match="^unknown config key 'inner.rat'; the keys are rate;"):
        Outer.from_dict({"inner": {"rat": 1}})


def test_a_config_explains_itself_and_is_read_back():
    config = Outer(name="two: # words\non lines", others=(Inner(), Inner(rate=1e-5)))
    lines = config.explained().splitlines()
    assert lines[:3] == [
        "inner:  # What is within.",
        "  rate: 0.001  # How fast it moves, a step.",
        "  sizes: [1, 2]",
    ]
    assert Outer.from_dict(yaml.safe_load(config.explained())) == config


def test_configs_are_closed_and_frozen():
    with pytest.raises(ConfigError, match="unknown config key 'nme'"):
        Outer(nme="x")
    with pytest.raises(ConfigError):
        Inner(rate=float("nan"))
    with pytest.raises(Exception, match="frozen"):
        Outer().name = "two"


def test_a_config_survives_json():
    config = Outer(inner=Inner(sizes=(3,)))
    assert Outer.from_dict(config.to_dict()) == config
