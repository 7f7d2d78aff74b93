"""The BUILD files are what tools/build_files.py writes; modules import without a cycle."""

import graphlib
import importlib.util
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

SPEC = importlib.util.spec_from_file_location("build_files", ROOT / "tools" / "build_files.py")
build_files = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(build_files)


@pytest.mark.parametrize("path", build_files.build_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_build_file_lists_what_is_imported(path):
    wanted = build_files.build_files()[path]
    assert path.read_text("utf-8") == wanted, "run: python tools/build_files.py"


@pytest.mark.parametrize("path", build_files.build_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_build_file_has_each_name_once(path):
    names = re.findall(r'^    name = "(.+)",$', path.read_text("utf-8"), re.M)
    assert names and len(names) == len(set(names))


def test_modules_import_one_another_without_a_cycle():
    modules = build_files.MODULES
    graph = {
        module: build_files.imported_modules(path) - {module} for module, path in modules.items()
    }
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(modules)


def test_wheel_and_bazel_have_one_version():
    text = (ROOT / "kdmlc_tf" / "version.py").read_text("utf-8")
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.M)
    assert f'version = "{version}"' in (ROOT / "MODULE.bazel").read_text("utf-8")
