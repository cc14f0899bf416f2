import pytest

from mpgen.errors import UserError
from mpgen.generation.prompts import LivePrompts, Prompts, read_prompts


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'seconds,prompt\n0,a cat\n4.5,"a dog, barking"\n9,snow\n'),
        ("a.yaml", "0: a cat\n4.5: a dog, barking\n9: snow\n"),
    ],
)
def test_a_schedule_says_what_holds_at_any_time(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    prompts = read_prompts(tmp_path / name)
    assert prompts == Prompts((0.0, 4.5, 9.0), ("a cat", "a dog, barking", "snow"))
    assert [prompts.at(t) for t in (0.0, 4.4, 4.5, 8.9, 100.0)] == ["a cat", "a cat", *["a dog, barking"] * 2, "snow"]


def test_the_prompt_option_holds_until_the_schedule_begins(tmp_path):
    (tmp_path / "a.csv").write_text("seconds,prompt\n3,later\n")
    assert read_prompts(tmp_path / "a.csv", "first") == Prompts((0.0, 3.0), ("first", "later"))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.csv", "time,prompt\n0,x\n", "columns .*wanted seconds and prompt"),
        ("a.csv", "seconds,prompt\n", "no prompt"),
        ("a.csv", "seconds,prompt\n0,x\nsoon,y\n", "line 3: 'soon' is not a number"),
        ("a.csv", "seconds,prompt\n2,x\n", "begins at 2 s"),
        ("a.csv", "seconds,prompt\n0,x\n5,y\n5,z\n", "5 s .*after 5 s"),
        ("a.yaml", "- x\n", "wanted lines such as"),
        ("a.yaml", "", "no prompt"),
        ("a.yaml", "0: [\n", "cannot be read"),
    ],
)
def test_a_wrong_schedule_is_one_line(tmp_path, name, text, complaint):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=complaint) as error:
        read_prompts(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_schedule_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv does not exist"):
        read_prompts(tmp_path / "none.csv")


def test_what_is_said_holds_from_the_next_section_on_and_not_before():
    live = LivePrompts("a cat")
    assert [live.at(0.0), live.at(1.0)] == ["a cat", "a cat"]
    live.say("never seen")
    live.say("a dog")
    assert [live.at(2.0), live.at(2.0), live.at(1.0), live.at(3.0)] == ["a dog", "a dog", "a cat", "a dog"]
    live.say("snow")
    live.say("a dog")  # taken back in time
    assert live.at(4.0) == "a dog"
    assert live.plain() == {"seconds": [0.0, 2.0], "texts": ["a cat", "a dog"]}
