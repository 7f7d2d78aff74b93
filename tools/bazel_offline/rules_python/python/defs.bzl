"""The names of rules_python that this repository loads, as Bazel 4's own rules."""

py_binary = native.py_binary
py_library = native.py_library
py_test = native.py_test
