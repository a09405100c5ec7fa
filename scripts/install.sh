#!/bin/sh
# install.sh PREFIX [DESTDIR]: puts what `make build` has made below DESTDIR/PREFIX, with what it needs at run time and no
# more: lib/tslirp, links in bin, manual pages, completions. Nothing is downloaded. With -u in front it takes all of that
# away again.
set -eu
cd "$(dirname "$0")/.."

programs='tslirp slirp4netns slirpnetstack pasta pesto'
remove=
[ "${1-}" != -u ] || { remove=yes; shift; }
prefix=${1:?PREFIX is missing} root=${2-}
case $prefix in /*) ;; *) echo "install: PREFIX has to begin with /: $prefix" >&2; exit 2 ;; esac
target=$root$prefix

# A package from a time before this one may have had other files.
rm -rf "$target/lib/tslirp"
for name in $programs; do
  rm -f "$target/bin/$name" "$target/share/man/man1/$name.1" "$target/share/zsh/site-functions/_$name" \
    "$target/share/bash-completion/completions/$name" "$target/share/fish/vendor_completions.d/$name.fish"
done
[ -z "$remove" ] || exit 0

if ! [ -e dist/bundle/tslirp.cjs ] || ! [ -e dist/share/man/man1/tslirp.1 ]; then
  echo "install: not built: make build" >&2
  exit 1
fi
umask 022
mkdir -p "$target/lib/tslirp/dist" "$target/bin" "$target/share"
cp -R bin docs package.json LICENSE README.md CHANGELOG.md "$target/lib/tslirp"
cp -R dist/bundle dist/src "$target/lib/tslirp/dist"
cp -R dist/share/. "$target/share"
# The packages that ours needs, and those that they need; the first line that npm says is this directory.
npm ls --omit=dev --all --parseable 2>/dev/null | while read -r path; do
  package=${path#"$PWD"/}
  [ "$package" != "$path" ] || continue
  mkdir -p "$target/lib/tslirp/${package%/*}"
  cp -R "$package" "$target/lib/tslirp/${package%/*}"
done
if ! [ -e "$target/lib/tslirp/node_modules/koffi" ]; then
  echo "install: npm does not say where the packages are: npm ls --omit=dev --all" >&2
  exit 1
fi
for name in $programs; do ln -s "../lib/tslirp/bin/$name" "$target/bin/$name"; done
