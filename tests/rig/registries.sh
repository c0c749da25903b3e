#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Starts Debian's docker-registry three times in the lab it runs in, as transient units:
#
#   registry.test:5000   HTTP
#   registry.test:5001   HTTPS with a certificate of an authority made here
#   registry.test:5002   the same, for user 'ann' with password 'secret' only
#
# The authority's certificate is /etc/registries/ca.crt. Nothing trusts it yet: that is what tests
# configure.
set -euo pipefail

dir=/etc/registries
mkdir -p "$dir/private"
grep -q registry.test /etc/hosts || echo '127.0.0.1 registry.test' >>/etc/hosts

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
    -subj '/CN=wharf test authority' -addext keyUsage=critical,keyCertSign \
    -keyout "$dir/private/ca.key" -out "$dir/ca.crt" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=registry.test' \
    -keyout "$dir/private/server.key" -out "$dir/private/server.csr" 2>/dev/null
openssl x509 -req -in "$dir/private/server.csr" -CA "$dir/ca.crt" -CAkey "$dir/private/ca.key" -days 30 \
    -extfile <(echo 'subjectAltName=DNS:registry.test
basicConstraints=critical,CA:FALSE
extendedKeyUsage=serverAuth') -out "$dir/private/server.crt" 2>/dev/null
htpasswd -Bbn ann secret >"$dir/htpasswd"

# Starts the registry on port $1 with the further lines of configuration on standard input.
start() {
    local port=$1
    {
        cat <<END
version: 0.1
log: { level: warn, accesslog: { disabled: true } }
storage:
  filesystem: { rootdirectory: /var/lib/registries/$port }
  delete: { enabled: true }
http:
  addr: 127.0.0.1:$port
END
        cat
    } >"$dir/$port.yml"
    systemd-run --quiet --unit "registry-$port" docker-registry serve "$dir/$port.yml"
}

tls="  tls: { certificate: $dir/private/server.crt, key: $dir/private/server.key }"
start 5000 </dev/null
start 5001 <<<"$tls"
start 5002 <<<"$tls
auth:
  htpasswd: { realm: test, path: $dir/htpasswd }"

for port in 5000 5001 5002; do
    for _ in $(seq 100); do
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            continue 2
        fi
        sleep 0.1
    done
    echo "registries.sh: nothing listens on port $port after ten seconds" >&2
    exit 1
done
