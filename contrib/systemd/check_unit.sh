#!/usr/bin/env bash
# Boots a Debian 12 with systemd in a container, installs the unit as docs/server.md says, and uses it from outside. Takes root,
# mmdebstrap, systemd-nspawn, a program built on Debian 12, a model (compiled with --precision exact), its inputs, and port 8443:
#
#   contrib/systemd/check_unit.sh build/release/torusml net.tml x.npy
#
# Predictions on encrypted data are compared with those in the clear: by new keys; after a restart, by prepared keys that the
# server maps; and by a job during which the server is killed.
set -euo pipefail
program=$(realpath "$1") model=$(realpath "$2") inputs=$(realpath "$3")
contrib=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
# What the image installs, too.
libraries=$(sed -e ':join' -e '/\\$/{N;s/\\\n *//;b join}' "$contrib/docker/Dockerfile" |
    sed -n 's/^RUN .*--no-install-recommends \([^&]*\)&&.*/\1/p' | tail -n 1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --include="systemd dbus $libraries" bookworm root
"$program" export "$model" --client net.tmc --server net.tms
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=torusml \
    -addext subjectAltName=IP:127.0.0.1 -keyout private-key.pem -out certificate.pem 2>/dev/null
install -m 0755 "$program" root/usr/bin/torusml
install -D -m 0644 net.tms net.tmc -t root/var/lib/torusml-models
install -D -m 0600 certificate.pem private-key.pem -t root/etc/torusml
install -m 0644 "$contrib/systemd/torusml.service" root/etc/systemd/system/

# Works without a systemd here. The network is this machine's; the variable leaves /proc as the unit finds it on a machine.
SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes systemd-nspawn --quiet --boot --directory root --register=no --keep-unit \
    --console=pipe </dev/null >console.txt 2>&1 &
nspawn=$!
trap 'kill "$nspawn" 2>/dev/null && wait "$nspawn" || true; rm -rf "$work"' EXIT
until systemd=$(pgrep -P "$nspawn" -x systemd); do
  kill -0 "$nspawn" 2>/dev/null || { cat console.txt; exit 1; }
  sleep 0.1
done
inside() { nsenter --target "$systemd" --all --wd=/ "$@"; }
timeout 60 bash -c "until nsenter --target $systemd --all --wd=/ systemctl is-system-running --wait 2>/dev/null; do sleep 0.2; done"

wait_for_port() {
  timeout 30 bash -c 'until : 2>/dev/null <>/dev/tcp/127.0.0.1/8443; do sleep 0.1; done' ||
    { inside journalctl --no-pager -u torusml; exit 1; }
}
predict() {
  "$program" predict --url https://127.0.0.1:8443 --name net --token file:token --ca-file certificate.pem \
      --secret client.key --input "$inputs" -o encrypted.npy "$@"
  cmp encrypted.npy clear.npy
}
"$program" predict "$model" --input "$inputs" -o clear.npy
(umask 077 && inside systemd-run --quiet --pipe \
    -p DynamicUser=yes -p User=torusml -p StateDirectory=torusml -p StateDirectoryMode=0700 \
    torusml token add --data /var/lib/torusml --tenant alice >token)
inside systemctl enable --now torusml
wait_for_port
predict

inside systemctl restart torusml
wait_for_port
predict
inside grep -c '/prepared/' "/proc/$(inside systemctl show -P MainPID torusml)/maps"

predict --async &
prediction=$!
until inside journalctl -u torusml -o cat | grep '"route":"GET /v2/jobs/{id}"' >/dev/null; do sleep 0.1; done
inside systemctl kill --signal=KILL torusml
wait "$prediction"
[ "$(inside systemctl show -P NRestarts torusml)" = 1 ]

inside systemctl --no-pager status torusml
inside grep -E '^(Uid|CapBnd|NoNewPrivs|Seccomp)' "/proc/$(inside systemctl show -P MainPID torusml)/status"
inside systemctl stop torusml
inside systemctl show -p Result -p ExecMainStatus torusml | tee result.txt
[ "$(xargs <result.txt)" = "Result=success ExecMainStatus=0" ]
echo "encrypted and clear results are equal; the server stopped with status 0"
