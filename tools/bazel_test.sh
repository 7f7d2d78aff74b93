#!/usr/bin/env bash
# Builds every target and runs every test with Debian's Bazel 4.2.3, without internet.
# Once: apt-get install bazel-bootstrap
# Usage: tools/bazel_test.sh BIN [TARGET...]
#   BIN: the bin folder of an environment with the package's requirements (.venv/bin)
#   TARGET: Bazel targets; default: all (//...)
set -euo pipefail

if (($# == 0)) || [[ ! -x $1/python3 ]]; then
  echo "Usage: tools/bazel_test.sh BIN [TARGET...], BIN being an environment's bin folder." >&2
  exit 2
fi
if ! command -v bazel >/dev/null; then
  echo "Bazel is missing: apt-get install bazel-bootstrap" >&2
  exit 2
fi
bin=$(cd "$1" && pwd)
shift
(($#)) || set -- //...
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Debian ships these two sets of rules apart from Bazel; unpacking them needs no installation.
rules=$PWD/.bazel/rules
for package in bazel-rules-java bazel-rules-proto; do
  if [[ ! -e $rules/.$package ]]; then
    mkdir -p "$rules"
    (cd "$rules" && apt-get download -q "$package" && dpkg -x "$package"_*.deb . && touch ".$package")
  fi
done

repositories=()
for name in rules_python rules_cc remote_coverage_tools; do
  repositories+=("--override_repository=$name=$PWD/tools/bazel_offline/$name")
done
for name in java proto; do
  repositories+=("--override_repository=rules_$name=$rules/usr/share/bazel/rules/$name")
done

# Outside the repository: Bazel refuses an output folder that `//...` would walk into.
output=${XDG_CACHE_HOME:-$HOME/.cache}/kdmlc_tf/bazel
status=0
bazel --output_user_root="$output" test "${repositories[@]}" \
  --symlink_prefix=/ --test_output=errors --local_test_jobs=2 \
  --action_env=PATH="$bin:$PATH" --test_env=PATH="$bin:$PATH" "$@" || status=$?
bazel --output_user_root="$output" shutdown
exit "$status"
