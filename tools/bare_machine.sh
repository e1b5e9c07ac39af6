#!/usr/bin/env bash
# Shows that a bare Debian 12 runs `make demo` and `make test`, as root and as an ordinary user.
#
#     tools/bare_machine.sh FOLDER root|user|nothing [ARGS]
#
# FOLDER keeps a minimal system by debootstrap. Each run starts from a copy of it, with the packages
# that the README asks for and this checkout's last commit. "user" has a browser, which root
# installed, and takes Elastic's archives from a local server: made here from the copies in the cache
# and a JDK of this machine (not that of install_jdk.sh, which runs only where it lies). "nothing" has
# neither, and must stop with the list. How pip, apt and Maven find their servers is taken from this
# machine. Run it as root, after `make test` here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${INSIDE:-}" ]; then # mounts and processes of its own, which end with it
    INSIDE=1 exec unshare --mount --pid --fork --kill-child bash "${BASH_SOURCE[0]}" "$@"
fi
folder=$1 who=$2 arguments=${3-}
base=$folder/base machine=$folder/$who archives=$folder/archives
mkdir -p "$folder"

if [ ! -e "$base/.whole" ]; then
    debootstrap --variant=minbase --include=ca-certificates,git,make,python3,python3-venv \
        bookworm "$base" "$(apt-get indextargets --format '$(REPO_URI)' \
        'Codename: bookworm' 'Component: main' 'Identifier: Packages' | head -n 1)" >/dev/null
    touch "$base/.whole"
fi
rm -rf "$machine"
cp -a "$base" "$machine"
mount --bind "$machine" "$machine" # Java wants every folder to lie on some mount point
mount --rbind /dev "$machine/dev"
mount --rbind /sys "$machine/sys"
mount -t proc proc "$machine/proc"
for path in /etc/resolv.conf /etc/pip.conf ~/.config/pip ~/.m2/settings.xml \
    /usr/local/share/ca-certificates; do
    if [ -e "$path" ]; then
        mkdir -p "$machine$(dirname "$path")"
        cp -rL "$path" "$machine$(dirname "$path")"
    fi
done
chroot "$machine" update-ca-certificates >/dev/null 2>&1

settings=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8)
while IFS= read -r -d '' setting; do settings+=("$setting"); done < <(
    env -0 | grep -zE '^(PIP|UV|SSL|REQUESTS|CURL)_|^(https?|no|all)_proxy=|^(HTTPS?|NO|ALL)_PROXY=')
inside() { # ACCOUNT COMMAND
    local home=/root
    [ "$1" = root ] || home=/home/$1
    time chroot --userspec="$1:$1" "$machine" "${settings[@]}" HOME="$home" sh -c "cd $home && $2"
}

make_archive() { # VERSION
    local node java
    node=$(python3 tools/elasticsearch_node.py fetch --version "$1")
    java=$(python3 -c 'import sys; sys.path.insert(0, "tools"); import elasticsearch_provision as p
print(p.find_java(p.DISTRIBUTIONS[sys.argv[1]].java))' "$1")
    local archive=$archives/${node##*/}-linux-$(uname -m).tar.gz
    if [ ! -e "$archive.sha512" ]; then
        mkdir -p "$archives"
        tar --dereference --exclude=src.zip -c --transform "s,^\./,${node##*/}/," -C "$node" . \
            --transform "s,^${java#/},${node##*/}/jdk," -C / "${java#/}" | gzip -1 >"$archive"
        (cd "$archives" && sha512sum "${archive##*/}" >"$archive.sha512")
    fi
}

account=root
if [ "$who" != root ]; then
    account=tester
    chroot "$machine" useradd --create-home tester
fi
if [ "$who" = user ]; then
    make_archive 9
    make_archive 8
    python3 -m http.server --bind 127.0.0.1 --directory "$archives" 8917 >/dev/null 2>&1 &
    settings+=(IMGSEARCH_ES_ARCHIVE=http://127.0.0.1:8917)
    inside root 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium libatomic1' >/dev/null
elif [ "$who" = nothing ]; then # and a network that takes connections and never answers
    python3 -c 'import socket, time; s = socket.create_server(("127.0.0.1", 8918)); time.sleep(600)' &
    settings+=(IMGSEARCH_ES_ARCHIVE=http://127.0.0.1:8918 https_proxy=http://127.0.0.1:8918)
fi
git bundle create -q "$machine/tmp/project.bundle" HEAD
inside "$account" 'git clone -q -c advice.detachedHead=false /tmp/project.bundle imgsearch_es'
[ "$who" = nothing ] || inside "$account" 'cd imgsearch_es && make demo'
inside "$account" "cd imgsearch_es && make test ARGS='$arguments'"
