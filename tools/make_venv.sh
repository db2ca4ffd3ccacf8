#!/bin/sh
# Make a virtual environment, also on a Debian whose python3 came without its venv package.
set -eu
python=$1
folder=$2
if "$python" -m venv "$folder" 2>/dev/null; then
    exit 0
fi
rm -rf "$folder"
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "python3-venv is missing: installing it" >&2
    apt-get update -qq
    apt-get install -y -qq python3-venv >/dev/null
    exec "$python" -m venv "$folder"
fi
echo "cannot make a virtual environment with $python; on Debian: apt install python3-venv" >&2
exit 1
