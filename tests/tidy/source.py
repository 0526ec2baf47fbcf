"""What the rules look at: the tree's files, and C++ text without comments and strings."""

import functools
import os
import re
from typing import NamedTuple

CPP = (".h", ".cc", ".inc")
PRUNED = {".git", "build", "__pycache__"}


class Finding(NamedTuple):
    path: str
    line: int  # 0: the file as a whole
    rule: str
    message: str

    def __str__(self):
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: [{self.rule}] {self.message}"


class Tree:
    """All files below `root` but build output, as relative paths with '/'."""

    def __init__(self, root):
        self.root = root
        self.files = sorted(self._walk())
        self._file_set = set(self.files)

    def _walk(self):
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if name not in PRUNED]
            for name in names:
                yield os.path.relpath(os.path.join(folder, name), self.root)

    def has(self, path):
        return path in self._file_set

    def cpp(self):
        return [path for path in self.files if path.endswith(CPP)]

    @functools.lru_cache(maxsize=None)
    def text(self, path):
        """The file as text; None if it is not UTF-8 (a corpus, an image)."""
        try:
            with open(os.path.join(self.root, path), encoding="utf-8", newline="") as file:
                return file.read()
        except (UnicodeDecodeError, FileNotFoundError):
            return None

    @functools.lru_cache(maxsize=None)
    def code(self, path):
        return blank(self.text(path) or "")

    @functools.lru_cache(maxsize=None)
    def includes(self, path):
        """[(line, name, is_quoted)] of every #include."""
        found = []
        for number, line in enumerate((self.text(path) or "").split("\n"), 1):
            match = re.match(r'\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', line)
            if match:
                found.append((number, match.group(1) or match.group(2), match.group(1) is not None))
        return found


# In this order: whichever starts first wins, as in the language.
_LEXEME = re.compile(
    r'R"(?P<delimiter>[^\s()\\]{0,16})\((?:.|\n)*?\)(?P=delimiter)"'
    r'|//(?:[^\n\\]|\\.|\\\n)*'
    r'|/\*(?:.|\n)*?\*/'
    r'|"(?:[^"\\\n]|\\.|\\\n)*"'
    r"|(?<![0-9A-Fa-f])'(?:[^'\\\n]|\\.)+'")


def blank(text):
    """The text with comments and literals turned to blanks; lines stay where they are."""
    return _LEXEME.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def without_raw_strings(text):
    """The text with the content of raw strings gone: they hold what a test needs, tabs included."""
    def keep(match):
        whole = match.group()
        return 'R"' + "\n" * whole.count("\n") + '"' if whole.startswith('R"') else whole
    return _LEXEME.sub(keep, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1
