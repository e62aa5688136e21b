#!/bin/bash
# deb_check.sh BUILD [SUITE] - the Debian packages in a fresh system: made by cpack, looked at by lintian, installed into a
# folder of debootstrap's, where the program classifies a picture and example/classify.c is compiled; removed, they leave
# nothing. Needs root, debootstrap, lintian and this machine's own package mirror. Exit code 0: all of it held.
set -eu
cd "$(dirname "$0")/.."
build=${1:?} suite=${2:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
work=$(mktemp -d)
root=$work/root
trap 'umount "$root/proc" 2>/dev/null || true; rm -rf "$work"' EXIT
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
files() { inside find / -xdev -not -path '/proc/*' -not -path '/tmp/*' -not -path '/var/*' -not -path '/etc/ld.so.cache' | sort; }

(cd "$build" && cpack -G DEB -B "$work/packages" >"$work/cpack.log") || { cat "$work/cpack.log"; exit 1; }
ls -l "$work/packages"/*.deb
# The address of who builds is theirs to give (-DUP_PACKAGE_CONTACT); all else must be right.
lintian --fail-on error --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog,root-in-contact "$work/packages"/*.deb

debootstrap --variant=minbase "$suite" "$root" >"$work/debootstrap.log" || { tail -5 "$work/debootstrap.log"; exit 1; }
mount -t proc proc "$root/proc" 2>/dev/null || true
inside apt-get -q update >/dev/null
needs=$(for package in "$work/packages"/*.deb; do dpkg-deb -f "$package" Depends | tr ',' '\n'; done |
    sed -E 's/\|.*//; s/\(.*//; s/ //g' | grep -v uniperceiver | sort -u | tr '\n' ' ')
inside apt-get -qy --no-install-recommends install gcc libc6-dev pkg-config $needs >"$work/needs.log" 2>&1 ||
    { tail -20 "$work/needs.log"; exit 1; }
files >"$work/before"

cp "$work/packages"/*.deb golden/image/jpeg_420.jpg example/classify.c "$root/tmp/"
inside sh -c 'dpkg -i /tmp/*.deb' >"$work/dpkg.log" || { cat "$work/dpkg.log"; exit 1; }
inside uniperceiver --version
inside sh -c 'cd /tmp && uniperceiver init --preset tiny --seed 1 --out tiny.safetensors &&
    uniperceiver classify --model tiny.safetensors --image jpeg_420.jpg --labels cat,dog &&
    cc -std=c11 -Wall -Werror classify.c $(pkg-config --cflags --libs uniperceiver) -o classify &&
    ./classify tiny.safetensors jpeg_420.jpg cat dog'

inside sh -c 'dpkg --purge $(dpkg-query -f "\${Package}\n" -W "*uniperceiver*")' >"$work/dpkg.log" || { cat "$work/dpkg.log"; exit 1; }
files >"$work/after"
diff "$work/before" "$work/after" || { echo "deb_check.sh: FAILED: the packages leave something"; exit 1; }
echo "deb_check.sh: passed on $suite: lintian without errors, installed, classified, compiled, removed without a trace"
