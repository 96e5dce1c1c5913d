#!/usr/bin/env bash
# Installs what cmake/packages.txt lists and this machine lacks (Debian, Ubuntu); elsewhere says what seems to be missing.
#
#   bash cmake/setup.sh
#
# Does nothing, and prints nothing, where all is there. Becomes root by sudo where it must and can.
# RINGBOLT_SETUP=skip leaves everything to you (modules, Spack, conda): CMake then has the last word.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Lines "alternatives;probe;name elsewhere", without comments and padding.
package_lines() {
  sed -e 's/#.*//' -e 's/[[:space:]]*;[[:space:]]*/;/g' -e 's/[[:space:]]*$//' -e '/^$/d' "$here/packages.txt"
}

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# The first alternative of each line of which none is installed.
missing_packages() {
  local alternatives name found
  while IFS=';' read -r alternatives _ _; do
    found=no
    for name in ${alternatives//|/ }; do
      if is_installed "$name"; then found=yes; fi
    done
    if [ "$found" = no ]; then echo "${alternatives%%|*}"; fi
  done < <(package_lines)
}

has_header() {
  local prefix
  for prefix in ${CMAKE_PREFIX_PATH:+${CMAKE_PREFIX_PATH//[;:]/ }} ${CONDA_PREFIX:-}; do
    if [ -e "$prefix/include/$1" ]; then return 0; fi
  done
  echo "#include <$1>" | "${CXX:-g++}" -E -x c++ - >/dev/null 2>&1
}

# Names of what a machine without apt seems to lack.
missing_elsewhere() {
  local probe name kind what
  while IFS=';' read -r _ probe name; do
    read -r kind what <<<"$probe"
    case $kind in
      command) command -v "$what" >/dev/null || echo "  $name" ;;
      header) has_header "$what" || echo "  $name" ;;
    esac
  done < <(package_lines)
}

install_packages() {
  local log as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "Packages are missing (they need root to install): $*. Ask for: apt-get install $*" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  log=$(mktemp)
  echo "Installing $# packages: $*"
  if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 update >"$log" 2>&1 </dev/null &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 install -y \
      --no-install-recommends "$@" >>"$log" 2>&1 </dev/null; then
    rm -f "$log"
  else
    tail -n 20 "$log" >&2
    echo "The packages could not be installed (apt-get failed, see above and $log). Check the network and the sources." >&2
    return 1
  fi
}

if [ "${RINGBOLT_SETUP:-}" = skip ]; then exit 0; fi
if command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; then
  mapfile -t missing < <(missing_packages)
  if [ "${#missing[@]}" -gt 0 ]; then install_packages "${missing[@]}"; fi
else
  missing=$(missing_elsewhere)
  if [ -n "$missing" ]; then
    echo "Ringbolt needs these, which seem to be missing (this machine has no apt-get to install them with):"
    echo "$missing"
    echo "Install them or load their modules; CMAKE_PREFIX_PATH may name where they are."
  fi
fi
