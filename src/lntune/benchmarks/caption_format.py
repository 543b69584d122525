"""Whether an answer is a caption in form: what was asked for, whatever it says about the picture.

The paper prints "-" where "the model cannot follow the required output format on captioning tasks" (Table 1) and does
not say how that is told. Here it is told by the share of a model's answers that are captions in form, so that it needs
no eyes and comes out the same every time (docs/decisions.md).
"""

from collections.abc import Collection

_YES_NO = frozenset({"yes", "no"})


def is_caption(answer: str, least_words: int, most_words: int) -> bool:
    """Whether the answer is one line of ``least_words`` to ``most_words`` words that are not all yes or no.

    White space at its ends does not count. A word is what white space parts and has a letter or a digit in it; one at
    least must have a letter.
    """
    text = answer.strip()
    words = [word for word in text.split() if any(map(str.isalnum, word))]
    if len(text.splitlines()) != 1 or not least_words <= len(words) <= most_words:
        return False
    said = {"".join(filter(str.isalnum, word)).lower() for word in words}
    return any(map(str.isalpha, text)) and not said <= _YES_NO


def share_of_captions(answers: Collection[str], least_words: int, most_words: int) -> float:
    """The share of the answers, from 0 to 1, that are captions in form."""
    return sum(is_caption(answer, least_words, most_words) for answer in answers) / len(answers)
