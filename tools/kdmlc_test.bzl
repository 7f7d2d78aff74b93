"""The rule for this repository's tests."""

load("@rules_python//python:defs.bzl", "py_test")

def kdmlc_test(name, deps = [], data = [], size = "medium"):
    """Runs pytest on one test file.

    Args:
      name: path of the file below this package, without ".py".
      deps: the modules that the file imports or starts.
      data: the repository's files that it reads.
      size: Bazel's size of a test, which sets its time limit.
    """
    py_test(
        name = name,
        size = size,
        srcs = [
            name + ".py",
            "//tools:pytest_main.py",
        ],
        main = "//tools:pytest_main.py",
        args = [native.package_name() + "/" + name + ".py"],
        data = data + ["//:pyproject.toml"],
        deps = deps + ["//tests:conftest"],
    )
