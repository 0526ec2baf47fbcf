"""Sizes, banned words, text hygiene and the folders' READMEs."""

import re

from source import CPP, Finding, line_of, without_raw_strings

FILE_LINES = 600
FUNCTION_LINES = 70
README_LINES = 60
COLUMNS = {".h": 100, ".cc": 100, ".inc": 180, ".proto": 120}  # .inc: one table row per line
TOP_LEVEL = {
    "CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "proto", "daemon", "client",
    "backends", "sync", "tests", "deploy",
}
TEXT = (".h", ".cc", ".inc", ".proto", ".py", ".sh", ".md", ".txt", ".json", ".toml", ".cmake",
        ".service", ".socket", ".conf", ".1", ".5", ".8")

# gRPC wants deadlines as times of its own clock; the runner and the client have no simulator.
# Whole programs have no event to wait for, nor does gRPC when it closes a descriptor.
SLEEPERS = ("tests/e2e/", "tests/bench/", "tests/fakes/eventually.h")
CLOCKS = ("daemon/runtime/", "daemon/rpc/", "backends/runner/", "client/", "tests/runtime/", "tests/e2e/", "tests/bench/")
READS_CLOCK = r"_clock::now\b|\bclock_gettime\s*\(|(?<![\w.>])time\s*\(\s*(nullptr|NULL|0)\s*\)"
# (pattern in code, paths it concerns, paths exempt, why)
BANNED = (
    (r"\b(sleep_for|sleep_until|usleep|nanosleep)\b|(?<![\w.>])sleep\s*\(", ("tests/",), SLEEPERS,
     "no sleeping below e2e: wait for an event"),
    (r"\bstd::this_thread::(sleep|yield)", ("",), SLEEPERS, "wait for an event"),
    (r"\bsteady_timer\b", ("daemon/", "backends/", "sync/"), CLOCKS, "time comes from runtime's Clock"),
    (READS_CLOCK, ("daemon/", "backends/", "sync/", "tests/core/", "tests/sim/"), CLOCKS, "time comes from runtime's Clock"),
    (r"\bsystem_clock::now\b", ("tests/",), CLOCKS + ("tests/core/", "tests/sim/", "tests/rpc/", "tests/client/"),
     "a wall clock may jump: steady_clock measures"),
    (r"(?<![\w.>])s?rand\s*\(|\brandom_device\b", ("",), ("daemon/runtime/random", "tests/e2e/"),
     "randomness comes from runtime's Random"),
    (r"\busing\s+namespace\s+std\s*;", ("",), (), "spell std:: out"),
    (r"(?<![\w.>])v?fork\s*\(", ("daemon/", "client/", "sync/", "backends/"), ("backends/runner/",),
     "a process that links gRPC never forks: posix_spawn"),
    (r"#\s*ifndef\s+\w+_H_?\b", ("",), (), "#pragma once is the rule"),
    (r"\bawaitable_operators\b", ("",), (), "races go through runtime/race.h"),
    (r"\babsl::(Mutex|MutexLock|ReaderMutexLock|WriterMutexLock|Notification|CondVar|BlockingCounter)\b",
     ("daemon/runtime/", "daemon/core/", "backends/", "sync/", "tests/runtime/", "tests/core/",
      "tests/engine/", "tests/runner/", "tests/contract/", "tests/sim/", "tests/fakes/"), (),
     "uninstrumented under TSan: runtime/mutex.h"),
    (r"\bthrow\b(?!\s*\()", ("daemon/", "client/", "sync/", "backends/"), (), "errors are values: absl::Status"),
)
MACHINE_PATH = re.compile(r"(?<![\w.{}$~])/(?:work|root|farm|home/(?!user\b|hermes\b|alice\b|me\b)\w+)/\w")
MARKER = re.compile(r"\b(TO" r"DO|FIX" r"ME|X{3}|HA" r"CK)\b")


def ending(path):
    dot = path.rfind(".")
    return path[dot:] if dot > path.rfind("/") else ""


def check_file_length(tree):
    for path in tree.files:
        if ending(path) in (".h", ".cc", ".inc", ".py", ".proto"):
            lines = (tree.text(path) or "").count("\n")
            if lines > FILE_LINES:
                yield Finding(path, 0, "length", f"{lines} lines, at most {FILE_LINES}")


def opens_scope(head):
    """A namespace or a type: `head` is what stands before its brace."""
    if re.search(r"\b(namespace|class|struct|union|enum|extern)\b[^()]*$", head):
        return True
    head = re.sub(r"^\s*((public|private|protected)\s*:\s*)*(template\s*<[^{]*>\s*)?", "", head)
    return re.match(r"(class|struct|union)\b", head) and not re.search(r"\)\s*(const|noexcept)?\s*$", head)


def is_function(head):
    """Not a table: `kTable = new Map({`."""
    return "(" in head and ("operator" in head or "=" not in head[:head.index("(")])


def functions(code):
    """(first line, last line) of each outermost function body; braces of types and namespaces are looked into."""
    code = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", lambda m: re.sub(r"[^\n]", " ", m.group()), code,
                  flags=re.MULTILINE)
    depth = 0  # inside a function or an initialiser
    head = 0   # where the current declaration starts
    start = None
    for match in re.finditer(r"[{};]", code):
        position = match.start()
        if match.group() == "{":
            text = code[head:position]
            if depth or not opens_scope(text):
                if depth == 0 and is_function(text):
                    start = head + len(text) - len(text.lstrip())
                depth += 1
        elif match.group() == "}" and depth:
            depth -= 1
            if depth == 0 and start is not None:
                yield line_of(code, start), line_of(code, position)
                start = None
        if depth == 0:
            head = position + 1


def check_function_length(tree):
    for path in tree.cpp():
        for first, last in functions(tree.code(path)):
            if last - first + 1 > FUNCTION_LINES:
                yield Finding(path, first, "length",
                              f"a function of {last - first + 1} lines, at most {FUNCTION_LINES}")


def check_banned(tree):
    for path in tree.cpp():
        for pattern, places, exempt, why in BANNED:
            if not path.startswith(places) or (exempt and path.startswith(exempt)):
                continue
            for match in re.finditer(pattern, tree.code(path)):
                line = line_of(tree.code(path), match.start())
                yield Finding(path, line, "banned", f"{match.group().strip()}: {why}")


def check_pragma_once(tree):
    for path in tree.files:
        if path.endswith(".h") and not re.search(r"^#pragma once$", tree.text(path) or "", re.MULTILINE):
            yield Finding(path, 0, "header", "no #pragma once")


def check_text(tree):
    for path in tree.files:
        text = tree.text(path)
        script = text is not None and text.startswith("#!")
        if path.startswith("tests/fuzz/corpus/") or text is None or not (ending(path) in TEXT or script):
            continue
        if text and not text.endswith("\n"):
            yield Finding(path, text.count("\n") + 1, "text", "no newline at the end")
        most = COLUMNS.get(ending(path))
        if path.endswith(CPP):
            text = without_raw_strings(text)
        for number, line in enumerate(text.split("\n"), 1):
            if "\t" in line:
                yield Finding(path, number, "text", "a tab")
            if line != line.rstrip():
                yield Finding(path, number, "text", "blanks at the end of the line")
            if most and len(line) > most:
                yield Finding(path, number, "text", f"{len(line)} columns, at most {most}")
            if MARKER.search(line):
                yield Finding(path, number, "text", "an open point: do it or drop it")
            if MACHINE_PATH.search(line):
                yield Finding(path, number, "text", "a path of a development machine")


def check_folders(tree):
    folders = set()
    for path in tree.files:
        parts = path.split("/")
        if not parts[0].startswith(".") and parts[0] not in TOP_LEVEL:
            yield Finding(path, 0, "folder", f"{parts[0]} is no part of the top level")
        if len(parts) > 1 and not parts[0].startswith("."):
            folders.add(parts[0])
            if parts[0] in ("daemon", "backends") and len(parts) > 2:
                folders.add("/".join(parts[:2]))
    if not tree.has("README.md"):
        yield Finding("README.md", 0, "folder", "missing")
    for folder in sorted(folders):
        readme = f"{folder}/README.md"
        if not tree.has(readme):
            yield Finding(readme, 0, "folder", "missing: every folder says what lives in it")
        elif (tree.text(readme) or "").count("\n") > README_LINES:
            yield Finding(readme, 0, "folder", f"more than a page ({README_LINES} lines)")


RULES = (check_file_length, check_function_length, check_banned, check_pragma_once, check_text,
         check_folders)
