"""What raters are asked; the first question is the one that ratings and checks are about."""

from collections.abc import Sequence

from mpgen.errors import UserError

ANSWERS = ("left", "right", "tie", "both_bad")
QUESTIONS = {
    "overall": "Which video is better overall?",
    "consistency": "Where do people, things and places stay the same?",
    "quality": "Which is sharper and cleaner, up to its last second?",
    "motion": "Where does everything move as it should?",
}


def check_questions(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        UserError: an unknown name, one twice, or none.
    """
    for name in names:
        if name not in QUESTIONS:
            raise UserError(f"--questions: {name!r} is not a question, wanted some of {', '.join(QUESTIONS)}")
    if not names or len(set(names)) < len(names):
        raise UserError(f"--questions: {list(names)}, wanted one or more of {', '.join(QUESTIONS)}, each once")
    return tuple(names)
