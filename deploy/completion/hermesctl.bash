# bash completion for hermesctl. Names of sessions, commands and syncs are asked from the daemon, briefly.

_hermesctl_names() {
  local kind=$1
  shift
  if [ "$kind" = sessions ]; then
    hermesctl --patience 0s "$@" session ls 2>/dev/null | awk 'NR > 1 { print $1 }'
  elif [ "$kind" = syncs ]; then
    local name
    for name in $(_hermesctl_names sessions "$@"); do
      hermesctl --patience 0s "$@" syncs "$name" 2>/dev/null | awk 'NR > 1 { print $1 }'
    done
  else
    hermesctl --patience 0s "$@" ps 2>/dev/null | awk 'NR > 1 { print $1 }'
  fi
}

_hermesctl_options() {
  case "$1" in
    'session create') echo '--backend --cwd --env --label --ttl --lease --runner --host --user --port --key --host-key
      --transport --ssh-config --ssh-option --request-id --mount --mount-profile --hermes-home --credential
      --on-sync-error --sync-interval --sudo-password-stdin --no-wait' ;;
    'session ls' | 'session watch') echo '--state --backend --label' ;;
    'session update') echo '--label --ttl --sudo-password-stdin --forget-sudo-password' ;;
    'session rm' | cleanup) echo '--discard --grace' ;;
    exec) echo '--argv --file --timeout --kill-grace --cwd --env --secret-env --label --merge --request-id
      --interactive --state --on-disconnect --output-limit --overflow --no-sync --tty --detach' ;;
    start) echo '--argv --file --timeout --kill-grace --cwd --env --secret-env --label --merge --request-id
      --interactive --state --output-limit --overflow --no-sync' ;;
    attach) echo '--from-stdout --from-stderr --interactive --tty' ;;
    logs) echo '--follow --stderr --head --tail --grep --since-offset' ;;
    ps) echo '--state --label' ;;
    kill) echo '--signal --scope --grace' ;;
    wait) echo '--timeout' ;;
    sync) echo '--force' ;;
    sync-back) echo '--dry-run --approve-deletes --salvage' ;;
  esac
}

# shellcheck disable=SC2046  # lists of words on purpose
_hermesctl() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
  local i command='' socket=()
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "${COMP_WORDS[i]}" in
      --) return ;;
      --socket) socket=(--socket "${COMP_WORDS[++i]}") ;;
      -o | --output | --patience) ((i++)) ;;
      -*) ;;
      *)
        if [ -z "$command" ]; then
          command=${COMP_WORDS[i]}
        elif [ "$command" = session ]; then
          command="session ${COMP_WORDS[i]}"
        fi
        ;;
    esac
  done
  case "$previous" in
    --socket | --cwd | -f | --file | --key | -F | --ssh-config | --mount | --hermes-home)
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      return
      ;;
    -o | --output) set -- table json jsonl ;;
    --runner) set -- auto never require ;;
    --mount-profile) set -- hermes hermes,secrets=include ;;
    --on-sync-error) set -- fail run-stale ;;
    --backend) set -- local ssh ;;
    --transport) set -- auto openssh libssh2 ;;
    --host-key) set -- strict accept-new ;;
    --on-disconnect) set -- detach cancel cancel-after-grace ;;
    --overflow) set -- drop block kill ;;
    --scope) set -- tree leader foreground ;;
    --signal) set -- TERM KILL INT HUP QUIT USR1 USR2 STOP CONT ;;
    --secret-env) set -- $(compgen -e) ;;
    *)
      if [[ $word == -* ]]; then
        set -- --help --socket --output --patience $([ -n "$command" ] || echo --version) \
          $(_hermesctl_options "$command")
      else
        case "$command" in
          '') set -- session exec start attach logs ps kill wait sync sync-back undo syncs shell cleanup info \
            capabilities drain ;;
          session) set -- create ls show rm watch update renew ;;
          exec | start | ps | shell | cleanup | sync | sync-back | syncs | session\ show | session\ rm | session\ update | \
            session\ renew)
            set -- $(_hermesctl_names sessions "${socket[@]}")
            ;;
          attach | logs | kill | wait) set -- $(_hermesctl_names commands "${socket[@]}") ;;
          undo) set -- $(_hermesctl_names syncs "${socket[@]}") ;;
          *) set -- ;;
        esac
      fi
      ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$*" -- "$word")
}

complete -F _hermesctl hermesctl
