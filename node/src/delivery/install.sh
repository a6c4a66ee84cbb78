#!/bin/sh
#
# Installs Tally for one person and enrols this computer for @PRODUCT@. Needs no rights but those of that person, and
# touches nothing outside of HOME (or XDG_DATA_HOME).
#
#   ./install.sh [--yes] [--no-enroll] [--service]
#
#   --yes        do not ask
#   --no-enroll  only copy the programs
#   --service    have the terminal run in the background, by the systemd of the person's session; else that is asked

set -eu
umask 077

product='@PRODUCT@'
application='@APPLICATION@'
app_server='@APP_SERVER@'

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    exit 1
}

yes=
enroll=1
service=
for word in "$@"; do
    case "$word" in
    --yes) yes=--yes ;;
    --no-enroll) enroll= ;;
    --service) service=1 ;;
    *) fail "what is $word? Only --yes, --no-enroll and --service are known" ;;
    esac
done

[ -n "${HOME:-}" ] || fail 'HOME is not set'
data="${XDG_DATA_HOME:-$HOME/.local/share}/tally"
bin="$HOME/.local/bin"
cd "$(dirname "$0")"

# First that nothing was lost or changed on the way, then that the app server has signed it.
sha256sum -c sha256sums >/dev/null || fail 'the files are not those of the manifest: fetch the archive again'
./tally app verify . || fail 'the manifest is not signed by the app server: fetch the archive again'

if [ -z "$yes" ]; then
    printf '\nThis will copy\n'
    printf '  tally            to %s: lends what this computer does not need, in a sandbox\n' "$bin"
    printf '  the application  to %s: a program of the vendor, which runs as you do\n' "$data/applications/$product"
    [ -z "$enroll" ] || printf 'and enrol this computer for %s at the app server %s.\n' "$product" "$app_server"
    printf 'Go on? [y/N] '
    answer=
    read -r answer || true
    case "$answer" in
    y | Y | yes) ;;
    *) fail 'nothing was changed' ;;
    esac
fi

mkdir -p "$bin" "$data/applications/$product"
# A program that runs cannot be written, but another one can take its name.
cp tally "$bin/tally.new"
chmod 700 "$bin/tally.new"
mv -f "$bin/tally.new" "$bin/tally"
if [ -n "$enroll" ]; then
    # The application is unpacked by tally enroll, which lets nothing out of its folder.
    # shellcheck disable=SC2086 # empty or one word
    "$bin/tally" --dir "$data" enroll invite --application "$application" $yes ||
        fail 'the programs are copied, but the computer is not enrolled'
else
    # As it was delivered.
    cp "$application" "$data/applications/$product/$application.new"
    mv -f "$data/applications/$product/$application.new" "$data/applications/$product/$application"
fi

case ":${PATH:-}:" in
*":$bin:"*) tally=tally ;;
*) tally="$bin/tally" ;;
esac
# Whoever said --yes alone was not asked about a service.
if [ -n "$enroll" ] && [ -z "$yes$service" ] && systemctl --user show --property=Version >/dev/null 2>&1; then
    printf '\nHave the terminal run in the background whenever you are logged in? [y/N] '
    answer=
    read -r answer || true
    case "$answer" in
    y | Y | yes) service=1 ;;
    esac
fi
if [ -n "$service" ] && "$bin/tally" --dir "$data" service install --now; then
    printf '\nThe terminal runs. How it is:\n  %s status\nTo take it back:\n  %s service remove\n' "$tally" "$tally"
else
    printf '\nStart the terminal with:\n  %s run --role terminal\n' "$tally"
fi
