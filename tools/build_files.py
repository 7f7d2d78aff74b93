"""Writes the BUILD files of the package and its tests: python tools/build_files.py.

Each module is a py_library, each test a kdmlc_test, with exactly the dependencies that it imports.
tests/build_test.py fails where the files are not what this would write.
"""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kdmlc_tf"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TESTS = {
    path.relative_to(ROOT / "tests").with_suffix("").as_posix(): path
    for path in sorted((ROOT / "tests").rglob("*_test.py"))
}
PROGRAMS = {  # of each folder, by the name behind "kdmlc-": its file
    PACKAGE: {"evaluate": "evaluate", "export": "export", "train": "train"},
    PACKAGE / "audit": {"audit": "__main__"},
}
# These read the whole repository, which Bazel does not show to a test: pytest alone runs them.
OUTSIDE_BAZEL = {
    *("build_test", "readme_test", "results_test"),
    *("tools/benchmark_test", "tools/measure_audit_test", "tools/stablehlo_test"),
}
DATA = {
    "cli_test": ["//:flags"],
    "data/clothing1m/flags_test": ["//:flags"],
    "distribution_test": ["replicas.py"],
    "multi_worker_test": ["worker.py"],
    "tools/check_clothing1m_test": ["//tools:check_clothing1m.py"],
    "tools/choices_test": [
        *("//:flags", "//tools:choices.py", "//tools:leads.py", "//tools:measured.py"),
        "//tools:reproduce.py",
    ],
    "tools/leads_test": ["//tools:leads.py", "//tools:measured.py"],
    "tools/measure_labels_test": [
        *("//:flags", "//tools:leads.py", "//tools:measure_labels.py"),
        *("//tools:measured.py", "//tools:reproduce.py"),
    ],
    "tools/measure_unseen_test": [
        *("//:flags", "//tools:leads.py", "//tools:measure_labels.py"),
        *("//tools:measure_unseen.py", "//tools:measured.py", "//tools:reproduce.py"),
    ],
    "tools/measured_test": ["//tools:measured.py"],
    "tools/noise_matrices_test": ["//tools:noise_matrices.py"],
    "tools/plot_track_test": [
        *("//tools:leads.py", "//tools:measured.py"),
        *("//tools:plot_track.py", "//tools:reproduce.py"),
    ],
    "tools/reproduce_test": [
        *("//:flags", "//tools:leads.py", "//tools:measured.py"),
        *("//tools:noise_matrices.py", "//tools:reproduce.py"),
    ],
    "tools/serve_client_test": ["//tools:serve_client.py"],
    "tools/shared_teacher_test": ["//tools:measured.py", "//tools:shared_teacher.py"],
    "tools/tensorboard_screenshot_test": ["//tools:tensorboard_screenshot.py"],
}


def label(module):
    """Bazel's name of a module: //folder:file, and //folder:folder for an __init__.

    An __init__ beside a module of its folder's name keeps its own.
    """
    path = MODULES[module].relative_to(ROOT)
    beside = MODULES[module].with_name(f"{path.parent.name}.py").exists()
    name = path.parent.name if path.name == "__init__.py" and not beside else path.stem
    return f"//{path.parent.as_posix()}:{name}"


def imported_modules(path):
    """The package's modules that a file imports, or names where that means using them.

    An __init__ looks public names up late, by a string that is nothing but a module's name; a test
    also starts modules in processes of their own, named anywhere in a string.
    """
    late = r"^kdmlc_tf(?:\.\w+)+$" if path.name == "__init__.py" else None
    named = late if PACKAGE in path.parents else r"\bkdmlc_tf(?:\.\w+)*"
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in MODULES else node.module)
        elif named and isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(re.findall(named, node.value))
    return names & set(MODULES)


def build_files():
    """The text of every BUILD file that is written here: {path: text}."""
    files = {}
    for folder in sorted({path.parent for path in MODULES.values()}):
        files[folder / "BUILD"] = _package_build(folder)
    files[ROOT / "tests" / "BUILD"] = _tests_build()
    return files


def _package_build(folder):
    """BUILD of one folder of the package: a library a module, the programs as binaries."""
    programs = PROGRAMS.get(folder, {})
    kinds = '"py_binary", "py_library"' if programs else '"py_library"'
    rules = [
        f'load("@rules_python//python:defs.bzl", {kinds})',
        'package(default_visibility = ["//visibility:public"])',
    ]
    here = [module for module, path in MODULES.items() if path.parent == folder]
    for module in sorted(here, key=lambda module: (MODULES[module].stem != "__init__", module)):
        path = MODULES[module]
        deps = _labels(imported_modules(path) - {module}, folder)
        page = path.with_suffix(".html")  # what a module reads that lies beside it
        data = [page.name] if page.exists() else []
        rules.append(_rule("py_library", _name(module), srcs=[path.name], data=data, deps=deps))
    for name, file in programs.items():
        rules.append(
            _rule("py_binary", f"kdmlc-{name}", srcs=[f"{file}.py"], main=f"{file}.py",
                  deps=[f":{file}"])
        )  # fmt: skip
    return "\n\n".join(rules) + "\n"


def _tests_build():
    """BUILD of the tests: the fixtures as a library, and a test a file."""
    fixtures = [imported_modules(path) for path in (ROOT / "tests").rglob("conftest.py")]
    rules = [
        'load("@rules_python//python:defs.bzl", "py_library")\n'
        'load("//tools:kdmlc_test.bzl", "kdmlc_test")',
        _rule("py_library", "conftest", testonly=True, srcs='glob(["**/conftest.py"])',
              deps=_labels(set().union(*fixtures))),
    ]  # fmt: skip
    for name, path in TESTS.items():
        if name not in OUTSIDE_BAZEL:
            data = DATA.get(name, [])
            tools = [ROOT / "tools" / item[8:] for item in data if item.startswith("//tools:")]
            deps = _labels(set().union(*map(imported_modules, [path, *tools])))
            rules.append(_rule("kdmlc_test", name, data=data, deps=deps))
    return "\n\n".join(rules) + "\n"


def _name(module):
    return label(module).partition(":")[2]


def _labels(modules, folder=None):
    """Sorted labels; those of `folder` without its name, and first, as buildifier wants them."""
    here = f"//{folder.relative_to(ROOT).as_posix()}:" if folder else None
    labels = [label(module) for module in modules]
    labels = [
        f":{name[len(here) :]}" if here and name.startswith(here) else name for name in labels
    ]
    return sorted(labels, key=lambda name: (not name.startswith(":"), name.replace(":", "!")))


def _rule(kind, name, **attributes):
    """A rule as text; a longer list has a line an item, an empty one is left out."""
    lines = [f"{kind}(", f'    name = "{name}",']
    for key, value in attributes.items():
        if isinstance(value, bool) or (isinstance(value, str) and value.startswith("glob(")):
            lines.append(f"    {key} = {value},")
        elif isinstance(value, str):
            lines.append(f'    {key} = "{value}",')
        elif len(value) == 1:
            lines.append(f'    {key} = ["{value[0]}"],')
        elif value:
            lines += [f"    {key} = [", *(f'        "{item}",' for item in value), "    ],"]
    return "\n".join([*lines, ")"])


if __name__ == "__main__":
    for build_path, text in build_files().items():
        build_path.write_text(text, "utf-8")
