#!/usr/bin/env bash
# Builds the image's file system without a container engine, and runs the server in it as the Dockerfile's head says. Takes
# root, mmdebstrap, a program built on the image's Debian, a model (compiled with --precision exact), its inputs, and port 8443:
#
#   contrib/docker/check_image.sh build/release/torusml net.tml x.npy
#
# Debian's smallest system, the last stage's RUN, ENTRYPOINT and CMD as the Dockerfile has them, and the program. The server is
# process 1 of its own mount and process namespace, whose root is read-only but for /tmp and /data: user 10001, without
# capabilities. From outside, a prediction on encrypted data is compared with the one in the clear.
set -euo pipefail
program=$(realpath "$1") model=$(realpath "$2") inputs=$(realpath "$3")
dockerfile=$(realpath "$(dirname "${BASH_SOURCE[0]}")")/Dockerfile
stage=$(sed -e ':join' -e '/\\$/{N;s/\\\n *//;b join}' "$dockerfile" |
    awk '/^FROM / {text = ""} {text = text $0 "\n"} END {printf "%s", text}')
run=$(sed -n 's/^RUN //p' <<<"$stage")
serve=($(sed -n -E 's/^(ENTRYPOINT|CMD) //p' <<<"$stage" | tr -d '[],"'))

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
RUN=$run mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=usr-is-merged \
    --customize-hook='chroot "$1" sh -euc "$RUN"' bookworm image >apt.txt 2>&1 || { cat apt.txt; exit 1; }
install -m 0755 "$program" "image/${serve[0]}"
mkdir image/models image/tls
echo "the image takes $(du -sh image | cut -f 1)"

# What comes from outside. The volume /data begins as a copy of the image's folder.
mkdir models && "$program" export "$model" --client models/net.tmc --server models/net.tms
cp -a image/data data
mkdir tls
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=torusml \
    -addext subjectAltName=IP:127.0.0.1 -keyout tls/private-key.pem -out tls/certificate.pem 2>/dev/null
chmod 0400 tls/private-key.pem
chown -R 10001:10001 tls

# What an engine does for `run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges -v ...`.
container=(unshare --mount --pid --ipc --fork --kill-child bash -euc '
  mount --bind -o ro image image
  mount -t proc proc image/proc
  mount -t tmpfs -o mode=1777 tmpfs image/tmp
  mount --bind -o ro models image/models
  mount --bind -o ro tls image/tls
  mount --bind data image/data
  cd image && pivot_root . . && umount -l .
  exec env -i setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
' container)

"${container[@]}" ldd "${serve[0]}" | tee libraries.txt
if grep 'not found' libraries.txt; then exit 1; fi
writable=$("${container[@]}" find / -path /proc -prune -o '(' -type d -o -type f ')' -writable -print 2>/dev/null) || true
[ "$(sort <<<"$writable" | xargs)" = "/data /tmp" ] || { echo "can be written: $writable"; exit 1; }
(umask 077 && "${container[@]}" "${serve[0]}" token add --data /data/registry --tenant alice >token)

"${container[@]}" "${serve[@]}" >server.txt 2>server.log &
container_id=$!
trap 'kill -KILL "$container_id" 2>/dev/null || true; rm -rf "$work"' EXIT
until grep -q '^listening on ' server.txt; do
  kill -0 "$container_id" 2>/dev/null || { cat server.log; exit 1; }
  sleep 0.1
done
server=$(pgrep -P "$container_id")
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|NSpid)' "/proc/$server/status"

"$program" predict --url https://127.0.0.1:8443 --name net --token file:token --ca-file tls/certificate.pem \
    --secret client.key --input "$inputs" -o encrypted.npy
"$program" predict "$model" --input "$inputs" -o clear.npy
cmp encrypted.npy clear.npy
kill "$server"
wait "$container_id"
echo "encrypted and clear results are equal; the server stopped with status 0"
