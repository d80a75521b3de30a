"""Which plugins a search finds, and how well they fit: words alone, so no operator of FTS5 can be smuggled in.

Two things would make a frequent word among a million plugins slow, and are avoided. FTS5 reads all that begins with a
word before it gives the first row (up to three letters have an index of their own); so the last word counts as a
beginning only as long as the word as it stands does not fill the list. And `bm25` counts a word in the whole index for
each question; so what fits is told by the names, tags and slugs of the rows that are looked at.
"""

import json
import re
import unicodedata
from typing import Any, Final

# More words narrow nothing that a person meant.
SEARCH_WORDS_MAX: Final = 16
WORD_CHARACTERS_MAX: Final = 64
# As long as the longest entry of `prefix` where the table of texts is declared.
_INDEXED_BEGINNING_CHARACTERS: Final = 3

# Where an entry of `within` is looked for.
_COLUMNS: Final = {"source": "username", "tag": "tags"}
_ASCII_WORD: Final = re.compile("[A-Za-z0-9]+")

_FOUND: Final = "plugin_texts MATCH :words"
# The words as they stand where that fills the list, else the last one as a beginning too.
_FOUND_AS_TYPED_FIRST: Final = """
    plugin_texts MATCH CASE WHEN :looked_at > (
        SELECT count(*) FROM (SELECT 1 FROM plugin_texts WHERE plugin_texts MATCH :as_typed LIMIT :looked_at)
    ) THEN :words ELSE :as_typed END
"""
# The lower the better. Each word counts where the name has it, less as a tag, least in the slug; then the shorter name.
RELEVANCE: Final = """
    length(p.name_key) / 1000.0 - (
        SELECT total(4 * (instr(p.name_key, word.value) > 0)
            + 2 * EXISTS (SELECT 1 FROM plugin_tags AS t WHERE t.tag = word.value AND t.plugin = p.id)
            + (instr(p.plugin_id, word.value) > 0))
        FROM json_each(:each_word) AS word)
"""


def condition_of(text: str, *, source: str | None = None, tag: str | None = None) -> tuple[str, dict[str, Any]] | None:
    """Return the condition for the rows of `plugin_texts` that have the words of a text, and what it and `RELEVANCE`
    take as parameters beside `:looked_at`, how many rows are looked at. None: there are no words.

    `source`, `tag`: what else the rows have to be of. Rows that cannot be are left out, as far as the texts tell.
    """
    words = _words(text)
    if not words:
        return None
    within = _within(source=None if source is None else source.partition("@")[0], tag=tag)
    parameters = {
        "words": match_expression(text) + within,
        "as_typed": _all_of(words) + within,
        "each_word": json.dumps([word.casefold() for word in words]),
    }
    quick = len(words[-1]) <= _INDEXED_BEGINNING_CHARACTERS
    return _FOUND if quick else _FOUND_AS_TYPED_FIRST, parameters


def _within(**narrowing: str | None) -> str:
    """The rest of a query for those rows alone: else the newest that have the words could all be others.

    Beyond ASCII, FTS5 has its own idea of what a word is; such a text narrows nothing here.
    """
    texts = {name: text for name, text in narrowing.items() if text is not None and text.isascii()}
    phrases = {name: " ".join(_ASCII_WORD.findall(text)) for name, text in texts.items()}
    return "".join(f' AND {_COLUMNS[name]} : "{phrase}"' for name, phrase in phrases.items() if phrase)


def match_expression(text: str) -> str:
    """Return the FTS5 query for what was typed: all its words, the last one also as a beginning.

    A single letter is no beginning. Empty: no words.
    """
    words = _words(text)
    if not words or (len(words[-1]) == 1 and words[-1].isascii()):
        return _all_of(words)  # half of all words begin with it: that narrows nothing, and takes long
    return f"{_all_of(words)}*"


def _words(text: str) -> list[str]:
    characters = (c if unicodedata.category(c)[0] in "LNM" else " " for c in text)
    return [word[:WORD_CHARACTERS_MAX] for word in "".join(characters).split()][:SEARCH_WORDS_MAX]


def _all_of(words: list[str]) -> str:
    # Letters and digits only, in quotes: a word such as AND or NEAR is a word.
    return " ".join(f'"{word}"' for word in words)
