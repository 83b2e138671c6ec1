"""A machine's console made fit for a terminal: another's bytes must not move the cursor or change its settings."""

import codecs
import re
from typing import Final

ESCAPE: Final = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[@-Z\\\\^_])")
UNFINISHED: Final = re.compile("\x1b(?:\\[[0-?]*[ -/]*|\\][^\x07\x1b]*\x1b?)?$")
UNFINISHED_CHARACTERS_MAX: Final = 256  # of an escape sequence whose end has not come
KEPT: Final = "\n\t"


class ConsoleText:
    """Piece by piece: escape sequences and control characters are left out, what is no UTF-8 is shown as U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def clean(self, piece: bytes) -> bytes:
        """What may be shown of a piece and of what was held back before."""
        text = self._held + self._decoder.decode(piece)
        unfinished = UNFINISHED.search(text)
        is_held = unfinished is not None and len(text) - unfinished.start() <= UNFINISHED_CHARACTERS_MAX
        cut = unfinished.start() if unfinished is not None and is_held else len(text)
        text, self._held = text[:cut], text[cut:]
        shown = ESCAPE.sub("", text)
        return "".join(char for char in shown if char in KEPT or char.isprintable()).encode()
