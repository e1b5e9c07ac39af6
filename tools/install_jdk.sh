#!/usr/bin/env bash
# Installs a complete JDK 21 on Debian 12, which has no package of one, for the Elasticsearch of
# the tests: the next release's package is unpacked into the cache folder, together with the C
# library that it was built for, so that nothing on the system is upgraded. Run as root.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive
. /etc/os-release
if [ "$VERSION_CODENAME" != bookworm ]; then
    echo "error: this is for Debian 12, and $PRETTY_NAME has packages of a JDK of its own." >&2
    exit 1
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends patchelf liblcms2-2 libjpeg62-turbo >/dev/null

cache=${IMGSEARCH_CACHE:-/var/cache/imgsearch_es}
root=$cache/.jdk-21
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache" "$work/lists/partial" "$work/cache/archives/partial"
rm -rf "$root"

# The mirror that apt already uses, and its keys.
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: bookworm" "Component: main" \
    "Identifier: Packages" | head -n 1)
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $mirror trixie main" >"$work/sources.list"
options=(-qq -oAPT::Sandbox::User=root -oDir::Etc::sourcelist="$work/sources.list"
    -oDir::Etc::sourceparts=- -oDir::State::Lists="$work/lists" -oDir::Cache="$work/cache")
apt-get "${options[@]}" update
(cd "$work" && apt-get "${options[@]}" download \
    libc6/trixie openjdk-21-jre-headless/trixie openjdk-21-jdk-headless/trixie)
for package in "$work"/*.deb; do dpkg -x "$package" "$root"; done

# Links to /etc lead to the unpacked /etc; both programs start with the unpacked C library.
find "$root" -type l -lname '/etc/java*' -printf '%p\t%l\n' |
    while IFS=$'\t' read -r link target; do ln -sfn "$root$target" "$link"; done
home=$(echo "$root"/usr/lib/jvm/java-21-openjdk-*)
libraries=$(dirname "$(find "$root/usr/lib" -name libm.so.6)")
for library in libm.so.6 libpthread.so.0 libdl.so.2 librt.so.1; do
    patchelf --add-needed "$library" "$home/bin/java"
done
for program in "$home/bin/java" "$home/lib/jspawnhelper"; do
    loader=$libraries/$(basename "$(patchelf --print-interpreter "$program")")
    patchelf --set-interpreter "$loader" "$program"
    patchelf --force-rpath --set-rpath "$home/lib:$libraries" "$program"
done
chmod 755 "$cache" "$root"
"$home/bin/java" -version 2>&1 | head -n 1
ln -sfn "$home" "$cache/jdk-21" # last: only a JDK that runs is found
