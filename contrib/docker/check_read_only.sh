#!/usr/bin/env bash
# Runs the server as the image does, without a container engine: in a mount namespace of its own whose whole file system is
# read-only but /tmp (empty) and the data folder, as user 10001 without capabilities. Needs root.
#
#   contrib/docker/check_read_only.sh build/release/torusml MODELS    # a folder of NAME.tms and NAME.tmc
#
# Prints what the server says, whether it answers, and that it could not have written elsewhere.
set -euo pipefail
program=$(realpath "$1") models=$(realpath "$2")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -m 0755 "$folder/image"
install -m 0755 "$program" "$folder/image/torusml"
cp -r "$models" "$folder/image/models"
chmod -R a+rX "$folder" && install -d -m 0700 -o 10001 -g 10001 "$folder/data"

unshare --mount --propagation private bash -euo pipefail -s "$folder" <<'INSIDE'
folder=$1
mkdir -p /run/torusml-check && mount -t tmpfs tmpfs /run/torusml-check
mkdir /run/torusml-check/image /run/torusml-check/data
mount --bind "$folder/image" /run/torusml-check/image
mount --bind "$folder/data" /run/torusml-check/data
# All mounts read-only, then a fresh /tmp and the data folder.
while read -r _ _ _ _ at _; do mount -o remount,bind,ro "$at" 2>/dev/null || true; done </proc/self/mountinfo
mount -o remount,bind,rw /run/torusml-check/data
mount -t tmpfs -o mode=1777 tmpfs /tmp
cd /run/torusml-check
unprivileged=(setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set -all --inh-caps -all)
"${unprivileged[@]}" sh -c 'touch /run/torusml-check/image/x /var/tmp/x "$HOME/x" 2>/dev/null; ls /run/torusml-check/image/x 2>/dev/null' |
  grep . && { echo "the file system can be written"; exit 1; }
env -i "${unprivileged[@]}" ./image/torusml serve --model image/models --data data/registry --listen 127.0.0.1:0 \
    >/tmp/said 2>/tmp/log &
server=$!
for _ in $(seq 100); do grep -q '^listening on ' /tmp/said && break || sleep 0.1; done
cat /tmp/said /tmp/log
url=$(sed -n 's/^listening on \([^ ,]*\).*/\1/p' /tmp/said)
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs)' "/proc/$server/status"
name=$(basename "$(ls image/models/*.tmc | head -n 1)" .tmc)
python3 - "$url" "$name" <<'PYTHON'
import sys
import urllib.request

for path in ("/v2/health/ready", f"/v2/models/{sys.argv[2]}"):
    print(path, urllib.request.urlopen(sys.argv[1] + path).status)
PYTHON
[ -z "${PREDICT:-}" ] || bash -c "$PREDICT" predict "$url" "$name"
kill "$server" && wait "$server"
echo "stopped with status 0"
INSIDE
