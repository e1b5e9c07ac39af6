#!/bin/sh
# Makes what a new installation needs in FOLDER: passwords, a certificate authority, and
# certificates that it has signed. What is there already is kept, so it may run at every start.
#
#   make_secrets.sh FOLDER [HOST ...]
#
#   FOLDER/ca/             ca.crt, for everybody who connects
#   FOLDER/authority/      ca.key, for this script only
#   FOLDER/elasticsearch/  elastic.password, http.crt, http.key
#   FOLDER/kibana/         kibana.yml with Kibana's password and keys
#   FOLDER/imgsearch/      imgsearch.password, page.token, jupyter.token
#
# Files can be read by their owner only; as root it gives them to the users of the images.
set -eu
umask 077

folder=${1:?usage: make_secrets.sh FOLDER [HOST ...]}
shift
days=3650
elastic_user=1000:0 # of the images of Elasticsearch and Kibana
imgsearch_user=10001:10001

mkdir -p "$folder/ca" "$folder/authority" "$folder/elasticsearch" "$folder/kibana" \
    "$folder/imgsearch"

random() { # 32 hexadecimal digits
    openssl rand -hex 16
}

once() { # once FILE COMMAND ...: writes what the command prints, all of it or nothing
    target=$1
    shift
    [ -s "$target" ] && return 0
    "$@" >"$target.new"
    mv "$target.new" "$target"
}

kibana_configuration() {
    cat <<YAML
server.host: 0.0.0.0
server.name: kibana
elasticsearch.hosts: ["https://elasticsearch:9200"]
elasticsearch.username: kibana_system
elasticsearch.password: "$(random)"
elasticsearch.ssl.certificateAuthorities: ["/run/imgsearch/ca/ca.crt"]
xpack.security.encryptionKey: "$(random)"
xpack.encryptedSavedObjects.encryptionKey: "$(random)"
xpack.reporting.encryptionKey: "$(random)"
telemetry.optIn: false
YAML
}

authority() {
    [ -s "$folder/ca/ca.crt" ] && return 0
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 \
        -days "$days" -batch \
        -subj "/CN=imgsearch_es authority" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout "$folder/authority/ca.key" -out "$folder/ca/ca.crt.new" 2>/dev/null
    mv "$folder/ca/ca.crt.new" "$folder/ca/ca.crt"
}

certificate() { # of Elasticsearch, for localhost and the hosts named
    place=$folder/elasticsearch
    [ -s "$place/http.crt" ] && return 0
    names="DNS:elasticsearch,DNS:localhost,IP:127.0.0.1"
    for host in "$@"; do
        names="$names,DNS:$host"
    done
    printf '%s\n' "subjectAltName=$names" "basicConstraints=CA:FALSE" \
        "keyUsage=critical,digitalSignature" \
        "extendedKeyUsage=serverAuth,clientAuth" >"$place/http.ext"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -batch \
        -subj "/CN=elasticsearch" \
        -keyout "$place/http.key" -out "$place/http.csr" 2>/dev/null
    openssl x509 -req -sha256 -days "$days" -in "$place/http.csr" -extfile "$place/http.ext" \
        -CA "$folder/ca/ca.crt" -CAkey "$folder/authority/ca.key" -CAcreateserial \
        -CAserial "$folder/authority/ca.srl" -out "$place/http.crt.new" 2>/dev/null
    mv "$place/http.crt.new" "$place/http.crt"
    rm "$place/http.csr" "$place/http.ext"
}

authority
certificate "$@"
once "$folder/elasticsearch/elastic.password" random
once "$folder/kibana/kibana.yml" kibana_configuration
for name in imgsearch.password page.token jupyter.token; do
    once "$folder/imgsearch/$name" random
done

chmod 0755 "$folder/ca"
chmod 0644 "$folder/ca/ca.crt"
if [ "$(id -u)" = 0 ]; then
    chown -R "$elastic_user" "$folder/elasticsearch" "$folder/kibana"
    chown -R "$imgsearch_user" "$folder/imgsearch"
fi
