"""Rules that need a configured build: every header compiles alone, every source is part of a target."""

import concurrent.futures
import hashlib
import json
import os
import shlex
import subprocess

from source import Finding

CACHE = "tidy-headers.json"  # in the build folder: digests of headers that compiled


def load_commands(tree, build):
    """folder of the tree -> compiler arguments of one of its sources."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = json.load(file)
    flags = {}
    for entry in entries:
        source = os.path.relpath(os.path.join(entry["directory"], entry["file"]), tree.root)
        if source.startswith("..") or source.startswith("build/"):
            continue
        # Of several programs in a folder, the one that may include most.
        found = strip(entry)
        flags[os.path.dirname(source)] = max(flags.get(os.path.dirname(source), ()), found, key=len)
    return flags


def strip(entry):
    words = shlex.split(entry["command"])
    while words and not os.path.basename(words[0]).startswith(("clang", "g++", "c++")):
        words.pop(0)  # a launcher
    kept, skip = [], False
    for word in words:
        if skip or word == "-c" or word == entry["file"] or word.startswith(("-g", "-O", "-fsanitize")):
            skip = False
        elif word in ("-o", "-MF", "-MT", "-MQ", "-Xclang"):  # the last: what comes with a precompiled header
            skip = True
        elif word not in ("-MD", "-MMD"):
            kept.append(word)
    return tuple(kept)


def flags_for(path, flags):
    folder = os.path.dirname(path)
    while True:
        if folder in flags:
            return flags[folder]
        below = sorted(name for name in flags if name.startswith(folder + "/" if folder else ""))
        if below:
            return flags[below[0]]
        folder = os.path.dirname(folder)


def digest(tree, path, flags):
    """Of the header, of all it includes from the tree, and of how it is compiled."""
    seen, todo = set(), [path]
    while todo:
        name = todo.pop()
        if name in seen or not tree.has(name):
            continue
        seen.add(name)
        todo += [included for _, included, _ in tree.includes(name)]
    hasher = hashlib.sha256(repr(flags).encode())
    for name in sorted(seen):
        hasher.update(f"{name}\0{tree.text(name)}\0".encode())
    return hasher.hexdigest()


def compile_alone(tree, path, flags):
    """Twice, so that a missing guard shows as well. The compiler's complaint, or None."""
    unit = f'#include "{path}"\n#include "{path}"\n'
    done = subprocess.run([*flags, "-I", tree.root, "-fsyntax-only", "-x", "c++", "-"], input=unit,
                          capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.split("\n") if "error:" in line]
    return (errors or [done.stderr.strip()])[0]


def has_own_source(tree, path, ninja):
    """Its .cc includes it first: the build has shown that it compiles alone, but for what a precompiled header brings;
    that part is includes.check_names."""
    own = path.removesuffix(".h") + ".cc"
    return own in ninja and [name for _, name, _ in tree.includes(own)][:1] == [path]


def read_ninja(build):
    with open(os.path.join(build, "build.ninja"), encoding="utf-8") as file:
        return file.read()


def check_headers(tree, build, jobs):
    commands = load_commands(tree, build)
    ninja = read_ninja(build)
    cache_path = os.path.join(build, CACHE)
    try:
        with open(cache_path, encoding="utf-8") as file:
            known = set(json.load(file))
    except (FileNotFoundError, ValueError):
        known = set()
    headers = [path for path in tree.files if path.endswith(".h") and not has_own_source(tree, path, ninja)]
    work = {path: digest(tree, path, flags_for(path, commands)) for path in headers}
    good = {value for value in work.values() if value in known}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        pending = {pool.submit(compile_alone, tree, path, flags_for(path, commands)): path
                   for path, value in work.items() if value not in good}
        for future in concurrent.futures.as_completed(pending):
            path = pending[future]
            complaint = future.result()
            if complaint:
                yield Finding(path, 0, "header", f"does not compile alone: {complaint}")
            else:
                good.add(work[path])
    with open(cache_path, "w", encoding="utf-8") as file:
        json.dump(sorted(good), file)


def check_dead_sources(tree, build):
    ninja = read_ninja(build)
    for path in tree.files:
        if path.endswith(".cc") and path not in ninja:
            yield Finding(path, 0, "dead", "no target compiles this file")
