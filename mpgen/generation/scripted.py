"""The conditioning of sections under a prompt that changes, also by texts that nobody knows at the beginning."""

from collections.abc import Callable, Sequence

from mpgen.conditioning import Conditioning
from mpgen.generation.prompts import LivePrompts, Prompts


class Scripted(Sequence):
    """The conditioning of sections whose texts may be said when their turn comes.

    Args:
        prompts: the texts; those that are known are encoded now, together with what else is.
        num_sections: how many.
        begins: when each does, in seconds.
        encode: a text.
    """

    def __init__(
        self,
        prompts: Prompts | LivePrompts,
        num_sections: int,
        begins: Callable[[int], float],
        encode: Callable[[str], Conditioning],
    ):
        self.prompts, self.num_sections, self.begins, self.encode = prompts, num_sections, begins, encode
        self.known = {text: encode(text) for text in dict.fromkeys(prompts.texts)}
        self.latest: tuple[str, Conditioning] | None = None  # of those that were not known, so that memory is constant

    def __len__(self) -> int:
        return self.num_sections

    def __getitem__(self, number: int) -> Conditioning:
        text = self.prompts.at(self.begins(number))
        if text in self.known:
            return self.known[text]
        if self.latest is None or self.latest[0] != text:
            self.latest = (text, self.encode(text))
        return self.latest[1]
