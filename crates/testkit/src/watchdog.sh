# Runs a server in a directory of its own and outlives the process that asked for it, to clean up after it.
#
# $1      the directory; removed at the end
# $2…     the server and its arguments
# stdin   "start" starts the server again after it ended; "end", or the end of input, ends everything. Input ends also
#         when the process at its other end is killed, which is what this script is for.
# stdout  "pid N" when a server was started, "exit N" when it ended
#
# Ctrl-C reaches neither this (it ignores it and has a process group of its own) nor the server.
trap '' INT TERM HUP
dir=${1:?}
shift

run() {
  "$@" </dev/null >>"$dir/output" 2>&1 &
  echo "$!" >"$dir/pid"
  echo "pid $!"
  wait "$!"
  code=$?
  # Forgotten before anybody else can be given its number.
  echo 0 >"$dir/pid"
  echo "exit $code"
}

start() {
  : >"$dir/pid"
  run "$@" &
}

start "$@"
while read -r verb; do
  case $verb in
    start) start "$@" ;;
    *) break ;;
  esac
done

# A server may be on its way still; its number is there within a moment.
tries=0
until read -r pid <"$dir/pid" || [ "$tries" -ge 20000 ]; do
  tries=$((tries + 1))
done
case ${pid:-none} in
  none) ;;
  0) wait ;;
  *) kill -9 "$pid" && wait ;;
esac
rm -rf "$dir"
# Whatever is left of this group: a server whose number was lost with the directory, a child of it that was saving.
kill -9 "-$$"
