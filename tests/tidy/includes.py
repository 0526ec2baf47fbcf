"""Who may include whom: the arrows of the house, and one includer per C library."""

import re

from source import Finding, line_of

# layer -> what it may include of the tree besides itself. The longest matching prefix of a path is its layer.
BELOW_CORE = ("daemon/runtime/", "sync/", "backends/backend.h", "backends/ssh_spec.h", "backends/engine/")
ARROWS = {
    "daemon/runtime/": (),
    "sync/": ("daemon/runtime/",),
    "backends/": ("daemon/runtime/", "sync/"),
    "backends/backend.h": ("daemon/runtime/", "sync/", "backends/ssh_spec.h"),
    "backends/engine/": ("daemon/runtime/", "sync/", "backends/backend.h"),
    # The runner links nothing of the daemon; these are written for both sides.
    "backends/runner/": (
        "backends/engine/frames.h",
        "backends/engine/script.h",
        "backends/engine/shell_state.h",
        "sync/name_rules.h",
    ),
    "daemon/core/": BELOW_CORE,
    "daemon/rpc/": BELOW_CORE + ("daemon/core/", "hermes/v1/"),
    "daemon/": BELOW_CORE + ("daemon/", "backends/", "hermes/v1/"),  # main wires everything
    "client/": ("hermes/v1/",),
}
# A kind of place knows the engines and, for those over HTTP, the one HTTP client; never another kind.
PLACE = ("daemon/runtime/", "sync/", "backends/backend.h", "backends/ssh_spec.h", "backends/engine/", "backends/http/")
OURS = ("daemon/", "sync/", "backends/", "client/", "tests/", "deploy/", "proto/", "hermes/")

# header pattern -> (folders or files that may include it, how many files may). gRPC is for the edges only: core's
# tests run under TSan, Debian's gRPC does not. Tests may open a library to check what ours did with it.
LIBRARIES = {
    r"sqlite3\.h": (("daemon/core/",), 1),
    r"spdlog/.*": (("daemon/runtime/log.cc",), 1),
    r"toml\+\+/.*|toml\.hpp": (("daemon/config.cc", "daemon/core/config.cc"), 1),
    r"nlohmann/.*": (("client/", "daemon/", "backends/"), 3),
    r"libssh2.*": (("backends/ssh/",), 1),
    r"curl/.*": (("backends/http/",), 1),
    r"archive(_entry)?\.h": (("sync/",), 1),
    r"(grpc|grpcpp)/.*": (("daemon/rpc/", "daemon/main.cc", "client/", "backends/modal/"), None),
    r"hermes/v1/.*\.grpc\.pb\.h": (("daemon/rpc/", "daemon/main.cc", "client/"), None),
}
GRPC_TESTS = ("tests/rpc/", "tests/client/", "tests/e2e/", "tests/bench/")


# What a precompiled header hides the lack of: what of it a header may name -> one of the headers that it then
# includes, itself or through one of ours.
NAMES = {
    r"std::(any_of|all_of|none_of|sort|find_if|lower_bound|upper_bound|ranges::\w+)\b": "algorithm",
    r"std::array\b": "array",
    r"std::atomic\w*\b": "atomic",
    r"std::chrono\b": "chrono",
    r"std::deque\b": "deque",
    r"std::filesystem\b": "filesystem",
    r"std::[io]?fstream\b": "fstream",
    r"std::function\b": "functional",
    r"std::(multi)?map\b": "map",
    r"std::((unique|shared|weak)_ptr|make_(unique|shared)|enable_shared_from_this)\b": "memory",
    r"std::(optional|nullopt)\b": "optional",
    r"std::(multi)?set\b": "set",
    r"std::span\b": "span",
    r"std::(string|to_string)\b": "string",
    r"std::string_view\b": "string_view",
    r"std::j?thread\b": "thread",
    r"std::(variant|visit|monostate|get_if|holds_alternative)\b": "variant",
    r"std::vector\b": "vector",
    r"absl::AnyInvocable\b": "absl/functional/any_invocable.h",
    r"absl::StatusOr\b": "absl/status/statusor.h",
    r"absl::Status\b": "absl/status/status.h|absl/status/statusor.h",
    r"asio::\w": "asio/.*|asio.hpp",
}


def layer_of(path):
    for prefix in sorted(ARROWS, key=len, reverse=True):
        if path.startswith(prefix):
            return prefix
    return None


def allowed_for(path):
    layer = layer_of(path)
    if layer == "backends/" and path.count("/") > 1:
        own = "/".join(path.split("/")[:2]) + "/"
        return (own,) + PLACE
    return (layer,) + ARROWS[layer]


def check_arrows(tree):
    for path in tree.cpp():
        if layer_of(path) is None:
            continue
        allowed = allowed_for(path)
        for line, name, _ in tree.includes(path):
            if name.startswith(OURS) and not name.startswith(allowed):
                yield Finding(path, line, "arrow", f"{name} is not below this layer")


def check_spelling(tree):
    for path in tree.cpp():
        here = path.rsplit("/", 1)[0] + "/"
        for line, name, quoted in tree.includes(path):
            if ".." in name.split("/"):
                yield Finding(path, line, "include", f"{name}: includes are relative to the root")
            elif quoted and not tree.has(name) and tree.has(here + name):
                yield Finding(path, line, "include", f"write {here}{name}: relative to the root")
            elif not quoted and tree.has(name):
                yield Finding(path, line, "include", f"<{name}> is ours: use quotes")


def check_libraries(tree):
    for pattern, (places, most) in LIBRARIES.items():
        users = []
        grpc = "grpc" in pattern
        for path in tree.cpp():
            for line, name, _ in tree.includes(path):
                if not re.fullmatch(pattern, name):
                    continue
                if path.startswith("tests/"):
                    if grpc and not path.startswith(GRPC_TESTS):
                        yield Finding(path, line, "library", f"{name}: gRPC in tests only above core")
                elif not path.startswith(places):
                    yield Finding(path, line, "library", f"{name} belongs to {', '.join(places)}")
                elif path not in users:
                    users.append(path)
        if most is not None and len(users) > most:
            for path in users:
                message = f"{len(users)} files include {pattern}, {most} may: {', '.join(users)}"
                yield Finding(path, 0, "library", message)


def reached(tree, path):
    """Every name that `path` includes, itself or through a header of the tree."""
    seen, todo = set(), [path]
    while todo:
        for _, name, _ in tree.includes(todo.pop()):
            if name not in seen:
                seen.add(name)
                if tree.has(name):
                    todo.append(name)
    return seen


def check_names(tree):
    """The compiler does not see these gaps while there is a precompiled header."""
    for path in tree.cpp():
        if not path.endswith(".h"):
            continue
        code, names = tree.code(path), reached(tree, path)
        for used, header in NAMES.items():
            match = re.search(r"(?<![\w:])" + used, code)
            if match and not any(re.fullmatch(header, name) for name in names):
                message = f"{match.group()} without <{header.split('|')[0]}>: does not compile alone"
                yield Finding(path, line_of(code, match.start()), "header", message)


def check_dead_headers(tree):
    used = {name for path in tree.cpp() for _, name, _ in tree.includes(path)}
    for path in tree.cpp():
        if not path.endswith(".cc") and path not in used:
            yield Finding(path, 0, "dead", "nobody includes this file")


RULES = (check_arrows, check_spelling, check_libraries, check_names, check_dead_headers)
