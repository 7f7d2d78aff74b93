"""The BUILD files list every module and test, with exactly the dependencies that it imports."""

import ast
import graphlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kdmlc_tf"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# Starts nothing of the package, but reads the whole tree: run by pytest alone.
OUTSIDE_BAZEL = {"build_test"}


def label(module):
    """Bazel's name of a module: //folder:file, and //folder:folder for an __init__."""
    path = MODULES[module].relative_to(ROOT)
    name = path.parent.name if path.name == "__init__.py" else path.stem
    return f"//{path.parent.as_posix()}:{name}"


def imported_modules(path):
    """The package's modules that a file imports, or names where that means using them.

    An __init__ looks public names up late, by a string that is nothing but a module's name; a test
    also starts modules in processes of their own, named anywhere in a string.
    """
    late = r"^kdmlc_tf(?:\.\w+)+$" if path.name == "__init__.py" else None
    named = late if PACKAGE in path.parents else r"\bkdmlc_tf(?:\.\w+)*"
    tree = ast.parse(path.read_text("utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively; import from kdmlc_tf."
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in MODULES else node.module)
        elif named and isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(re.findall(named, node.value))
    return names & set(MODULES)


def literal(node):
    """An attribute's value; None for what only Bazel can evaluate, such as a glob."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def rules(path):
    """The rules of a BUILD file: {target's name: (kind, attributes)}."""
    found = {}
    for node in ast.parse(path.read_text("utf-8")).body:
        call = node.value
        if call.func.id not in ("py_library", "py_binary", "kdmlc_test"):
            continue
        attributes = {word.arg: literal(word.value) for word in call.keywords}
        assert attributes["name"] not in found, f"{path} has {attributes['name']} twice"
        found[attributes["name"]] = (call.func.id, attributes)
    return found


def dependencies(folder, attributes):
    """A rule's `deps` as full labels."""
    return [
        f"//{folder}{dep}" if dep.startswith(":") else dep for dep in attributes.get("deps", [])
    ]


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_library_with_the_dependencies_it_imports(module):
    path = MODULES[module]
    folder, name = label(module).removeprefix("//").split(":")
    library = rules(path.parent / "BUILD").get(name)
    wanted = sorted(label(other) for other in imported_modules(path) - {module})
    assert library, f"{folder}/BUILD lacks py_library {name} of {path.name} with deps {wanted}"
    kind, attributes = library
    assert kind == "py_library"
    assert attributes["srcs"] == [path.name]
    assert sorted(dependencies(folder, attributes)) == wanted


TESTS = {
    path.relative_to(ROOT / "tests").with_suffix("").as_posix(): path
    for path in sorted((ROOT / "tests").rglob("*_test.py"))
}


@pytest.mark.parametrize("name", sorted(set(TESTS) - OUTSIDE_BAZEL))
def test_test_has_a_rule_with_the_dependencies_it_imports_or_starts(name):
    modules = imported_modules(TESTS[name])
    wanted = sorted(label(module) for module in modules)
    rule = rules(ROOT / "tests" / "BUILD").get(name)
    assert rule, f"tests/BUILD lacks kdmlc_test {name} with deps {wanted}"
    assert sorted(dependencies("tests", rule[1])) == wanted


def test_fixtures_have_a_library_with_the_dependencies_they_import():
    fixtures = (ROOT / "tests").rglob("conftest.py")
    wanted = {label(module) for path in fixtures for module in imported_modules(path)}
    _, attributes = rules(ROOT / "tests" / "BUILD")["conftest"]
    assert sorted(dependencies("tests", attributes)) == sorted(wanted)


def test_every_rule_has_its_file():
    assert set(rules(ROOT / "tests" / "BUILD")) == set(TESTS) - OUTSIDE_BAZEL | {"conftest"}
    labels = {label(module) for module in MODULES}
    for build in PACKAGE.rglob("BUILD"):
        folder = build.parent.relative_to(ROOT).as_posix()
        for name, (kind, attributes) in rules(build).items():
            if kind == "py_library":
                assert f"//{folder}:{name}" in labels
            else:
                assert (build.parent / attributes["main"]).exists()


def test_modules_import_one_another_without_a_cycle():
    graph = {module: imported_modules(path) - {module} for module, path in MODULES.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


def test_wheel_and_bazel_have_one_version():
    (version,) = re.findall(r'^__version__ = "(.+)"$', (PACKAGE / "__init__.py").read_text(), re.M)
    assert f'version = "{version}"' in (ROOT / "MODULE.bazel").read_text()
