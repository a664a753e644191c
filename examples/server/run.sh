#!/usr/bin/env bash
# A server and its clients on this machine: compiles the checkerboard network, serves it with TLS and a token, and
# predicts by the command and from Python. After ./dev build:
#
#   examples/server/run.sh [FOLDER]     # FOLDER keeps what is made; a temporary one without it
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
torusml=${TORUSML_COMMAND:-$root/build/release/torusml}
python=${PYTHON:-$root/.venv/bin/python}
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
cd "$folder"

# Who has the network: two halves.
"$python" - "$root/tests/models" <<'PYTHON'
import sys

import numpy as np

data = np.load(f"{sys.argv[1]}/checkerboard_qat_seed0.npz")
np.save("calibration.npy", data["calibration"].astype(np.float32))
np.save("x.npy", data["points"][:2].astype(np.float32))
PYTHON
"$torusml" compile "$root/tests/models/checkerboard_qat_seed0.onnx" --qat --calibration calibration.npy -o net.tml >/dev/null
mkdir -p models
"$torusml" export net.tml --client models/net.tmc --server models/net.tms

# The server: a certificate for this machine, a token, and the program.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=torusml \
    -addext subjectAltName=IP:127.0.0.1 -keyout private-key.pem -out certificate.pem 2>/dev/null
chmod 600 private-key.pem
(umask 077 && "$torusml" token add --data registry --tenant alice >token)
"$torusml" serve --model models --data registry --listen 127.0.0.1:0 \
    --certificate certificate.pem --private-key private-key.pem >server.txt 2>server.log &
server=$!
trap 'kill "$server"; wait "$server" || true' EXIT
until grep -q '^listening on ' server.txt; do
  kill -0 "$server" || { cat server.log; exit 1; }
  sleep 0.1
done
url=$(sed -n 's/^listening on \([^ ,]*\).*/\1/p' server.txt)

# A client by the command: keys are made and uploaded the first time, and not again.
for _ in first second; do
  "$torusml" predict --url "$url" --name net --token file:token --ca-file certificate.pem \
      --secret client.key --input x.npy -o y.npy
done
"$torusml" predict net.tml --input x.npy -o clear.npy >/dev/null

# And one in Python, with the same keys.
"$python" - "$url" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np

import torusml

token = Path("token").read_text().strip()
client = torusml.Client(sys.argv[1], model="net", token=token, ca_file="certificate.pem", keys="client.key")
job = client.submit(np.load("x.npy"))
print("job", *job.ids, "of", job.progress[1], "lookups")
y = job.result()
print("encrypted:", y.argmax(1), " clear:", np.load("clear.npy").argmax(1))
print("bytes of keys sent this time:", client.transfer["key_bytes"])
PYTHON
