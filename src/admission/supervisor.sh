config=$1 wal=$2 limit=$3
shift 3
child= stop= code=0 pause=1
trap 'stop=1; [ -z "$child" ] || kill "$child" 2>/dev/null' TERM INT
say() { echo "promsidecar: $1" >&2; }
run() {
  "$@" &
  child=$!
  [ -z "$stop" ] || kill "$child" 2>/dev/null
  while wait "$child" 2>/dev/null; status=$?; kill -0 "$child" 2>/dev/null; do :; done
  child=
  return "$status"
}
agent() {
  [ "$limit" = 0 ] || { ulimit -s 1024; ulimit -d "$limit"; }
  exec "$@"
}
wipe() (
  cd -P "$wal/" && [ "$PWD" != / ] && rm -rf ./* ./.[!.]* ./..?*
)
while [ -z "$stop" ]; do
  [ -e "$config" ] || say "waiting for $config"
  until [ -e "$config" ] || [ -n "$stop" ]; do run sleep 1; done
  wipe
  due=`date +%s`
  due=`expr "$due" + 60`
  [ -z "$stop" ] || break
  run agent "$@"
  code=$?
  [ -z "$stop" ] || break
  [ -e "$config" ] && ! [ "`date +%s`" -ge "$due" ] || pause=1
  say "agent exited with code $code, next start in ${pause}s"
  run sleep "$pause"
  [ "$pause" -lt 32 ] && pause=`expr "$pause" + "$pause"` || pause=60
done
exit "$code"
