"""Runs pytest on the files given: the `main` of every test target under Bazel."""

import os
import sys

import pytest


def main():
    """Exits with pytest's status, after writing the XML report that Bazel asks for."""
    arguments = ["--config-file=pyproject.toml", "--rootdir=.", "-p", "no:cacheprovider"]
    if report := os.environ.get("XML_OUTPUT_FILE"):
        arguments.append(f"--junitxml={report}")
    if name := os.environ.get("TESTBRIDGE_TEST_ONLY"):  # bazel test --test_filter=NAME
        arguments.append(f"-k={name}")
    sys.exit(pytest.main(arguments + sys.argv[1:]))


if __name__ == "__main__":
    main()
