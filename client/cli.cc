#include "client/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <string_view>

#include "client/error.h"
#include "client/outcome.h"
#include "client/parse.h"
#include "client/terminal.h"

namespace hermes::client {
namespace {

constexpr char kGlobalFooter[] =
    "\nGlobal options (--socket, -o table|json|jsonl, --patience): see hermesctl --help";

// What the parser fills, alive as long as CLI11's objects.
struct Wiring {
  CommandLine line;
  std::string format = "table";
  Text patience;
  std::vector<std::string> words;  // after "--"
  bool has_words = false;
  bool takes_words = false;
};

CLI::App* Sub(CLI::App& parent, const std::string& name, const std::string& what,
              const std::string& examples) {
  CLI::App* sub = parent.add_subcommand(name, what);
  sub->fallthrough();
  sub->footer("Examples:\n" + examples + kGlobalFooter);
  return sub;
}

// Makes `sub` run `function` with its own copy-to-be of Args, filled by the options added to it.
template <class Args>
std::shared_ptr<Args> Bind(CLI::App* sub, Wiring& wiring, int (*function)(Context&, const Args&)) {
  auto args = std::make_shared<Args>();
  sub->callback([&wiring, args, function] {
    wiring.line.run = [args, function](Context& context) { return function(context, *args); };
  });
  return args;
}

// One value per mention: without this CLI11 lets a list option swallow the words behind it.
void AddList(CLI::App* sub, const std::string& name, std::vector<std::string>& list,
             const std::string& what, const std::string& type = "KEY=VALUE") {
  sub->add_option(name, list, what + " (repeatable)")->type_name(type)->allow_extra_args(false);
}

void AddText(CLI::App* sub, const std::string& name, Text& text, const std::string& what,
             const std::string& type = "TEXT") {
  sub->add_option(name, text, what)->type_name(type);
}

void AddOffset(CLI::App* sub, const std::string& name, uint64_t& offset, const std::string& what) {
  sub->add_option(name, offset, what)->check(CLI::NonNegativeNumber)->type_name("N");
}

void AddSessionCreate(CLI::App& parent, Wiring& wiring) {
  CLI::App* sub =
      Sub(parent, "create", "Open a session and print its name",
          "  hermesctl session create box\n"
          "  hermesctl session create box --cwd ~/src --env LANG=C --ttl 1h --label team=a\n"
          "  hermesctl session create far --backend ssh --host build.example.org --user me\n"
          "  hermesctl session create box --backend ssh --host build --mount ./src:~/src");
  auto args = Bind(sub, wiring, SessionCreate);
  sub->add_option("name", args->name, "Name; left out: one is made up")->type_name("NAME");
  sub->add_option("--backend", args->backend, "Kind of place")->capture_default_str();
  AddText(sub, "--cwd", args->cwd, "First working directory: absolute or ~/...", "DIR");
  AddList(sub, "--env", args->env, "Add an exported variable");
  AddList(sub, "--label", args->labels, "Add a label");
  AddText(sub, "--ttl", args->ttl, "Close after this long without a command or reader", "DURATION");
  AddText(sub, "--lease", args->lease, "Close after this long unless renewed", "DURATION");
  AddText(sub, "--runner", args->runner, "Engine: auto, never (plain) or require", "POLICY");
  AddText(sub, "--request-id", args->request_id, "Repeat a call safely", "UUID");
  sub->add_flag("--sudo-password-stdin", args->sudo_password_stdin,
                "Read the sudo password from the first line of stdin");
  sub->add_flag("--no-wait", args->no_wait, "Return while the session is still OPENING");
  AddText(sub, "--host", args->host, "ssh: name, address or Host of ssh_config", "HOST");
  AddText(sub, "--user", args->user, "ssh: account over there", "USER");
  sub->add_option("--port", args->port, "ssh: port")
      ->check(CLI::Range(1, 65535))
      ->type_name("PORT");
  AddText(sub, "--key", args->key, "ssh: private key file, on the daemon's host", "FILE");
  AddText(sub, "--host-key", args->host_key, "ssh: strict, accept-new or SHA256:...", "POLICY");
  AddText(sub, "--transport", args->transport, "ssh: auto, openssh or libssh2", "WAY");
  AddText(sub, "-F,--ssh-config", args->config_file, "ssh: another ssh_config", "FILE");
  AddList(sub, "--ssh-option", args->ssh_options, "ssh: an option of ssh_config");
  AddList(sub, "--mount", args->mounts,
          "Keep HOST and REMOTE in step: HOST:REMOTE[:push|pull|two-way"
          "[,conflict=remote|host|both|abort][,deletes=guarded|never|report][,secrets=include]]",
          "MOUNT");
  AddText(sub, "--mount-profile", args->mount_profile,
          "More mounts: hermes[,secrets=include] (skills and cache two-way, credentials push only)",
          "PROFILE");
  AddText(sub, "--hermes-home", args->hermes_home, "hermes: the agent's home on this host", "DIR");
  AddList(sub, "--credential", args->credentials, "hermes: a file below that home", "FILE");
  AddText(sub, "--on-sync-error", args->on_sync_error,
          "When files cannot be sent before a command: fail or run-stale", "POLICY");
  AddText(sub, "--sync-interval", args->sync_interval,
          "At least so long between two syncs that nobody forces", "DURATION");
}

void AddFilters(CLI::App* sub, SessionListArgs& args) {
  AddText(sub, "--state", args.state, "Only sessions in this state", "STATE");
  AddText(sub, "--backend", args.backend, "Only sessions of this backend");
  AddList(sub, "--label", args.labels, "Only sessions with this label");
}

void AddSessionUpdate(CLI::App& parent, Wiring& wiring) {
  CLI::App* sub = Sub(parent, "update", "Change a session's labels, idle ttl or sudo password",
                      "  hermesctl session update box --label team=b --ttl 2h\n"
                      "  hermesctl session update box --sudo-password-stdin");
  auto args = Bind(sub, wiring, SessionUpdate);
  sub->add_option("name", args->session, "Session")->required()->type_name("NAME");
  AddList(sub, "--label", args->labels, "New labels, in place of all old ones");
  AddText(sub, "--ttl", args->ttl, "New idle ttl, or none", "DURATION");
  sub->add_flag("--sudo-password-stdin", args->sudo_password_stdin,
                "Read the sudo password from the first line of stdin");
  sub->add_flag("--forget-sudo-password", args->forget_sudo_password, "Forget the sudo password");
}

// A sub-command whose only argument is one name.
CLI::App* AddNamed(CLI::App& parent, Wiring& wiring, const std::string& name,
                   const std::string& what, const std::string& examples,
                   int (*function)(Context&, const std::string&)) {
  CLI::App* sub = Sub(parent, name, what, examples);
  auto args = Bind<std::string>(sub, wiring, function);
  sub->add_option("name", *args, "Session")->required()->type_name("NAME");
  return sub;
}

void AddCleanup(CLI::App& parent, Wiring& wiring, const std::string& name) {
  CLI::App* sub = Sub(parent, name,
                      "End sessions: kill their commands, bring changes back, release their places",
                      "  hermesctl cleanup box\n  hermesctl cleanup box --discard --grace 5s");
  auto args = Bind(sub, wiring, Cleanup);
  sub->add_option("name", args->sessions, "Sessions")->required()->type_name("NAME");
  sub->add_flag("--discard", args->discard, "Give up changes that are not saved on the host");
  AddText(sub, "--grace", args->grace, "Time between TERM and KILL (default 2s)", "DURATION");
}

void AddSessionRenew(CLI::App& parent, Wiring& wiring) {
  CLI::App* sub = Sub(parent, "renew", "Move the end of a session's lease, never nearer",
                      "  hermesctl session renew box 30m");
  auto session = std::make_shared<std::string>();
  auto extend = std::make_shared<std::string>();
  sub->add_option("name", *session, "Session")->required()->type_name("NAME");
  sub->add_option("extend", *extend, "From now on")->required()->type_name("DURATION");
  sub->callback([&wiring, session, extend] {
    wiring.line.run = [=](Context& context) { return SessionRenew(context, *session, *extend); };
  });
}

void AddSession(CLI::App& app, Wiring& wiring) {
  CLI::App* session = app.add_subcommand("session", "Create, list, show, change and end sessions");
  session->require_subcommand(1)->fallthrough();
  AddSessionCreate(*session, wiring);
  CLI::App* list = Sub(*session, "ls", "List sessions",
                       "  hermesctl session ls\n  hermesctl session ls --state READY -o json");
  AddFilters(list, *Bind(list, wiring, SessionList));
  AddNamed(*session, wiring, "show", "Show one session", "  hermesctl session show box",
           SessionShow);
  AddCleanup(*session, wiring, "rm");
  CLI::App* watch = Sub(*session, "watch", "Print every change of sessions until interrupted",
                        "  hermesctl session watch\n  hermesctl session watch -o jsonl");
  AddFilters(watch, *Bind(watch, wiring, SessionWatch));
  AddSessionUpdate(*session, wiring);
  AddSessionRenew(*session, wiring);
}

void AddExecOptions(CLI::App* sub, ExecArgs& args) {
  sub->add_option("name", args.session, "Session")->required()->type_name("NAME");
  sub->add_flag("--argv", args.argv,
                "The words after -- are a program and its arguments, no shell");
  AddText(sub, "-f,--file", args.file, "The script is in this file; - is stdin", "FILE");
  AddText(sub, "--timeout", args.timeout, "Kill the command's whole tree after this long",
          "DURATION");
  AddText(sub, "--kill-grace", args.kill_grace, "Time between TERM and KILL (default 2s)",
          "DURATION");
  AddText(sub, "--cwd", args.cwd, "Working directory of this command only", "DIR");
  AddList(sub, "--env", args.env, "Variable of this command only");
  AddList(sub, "--secret-env", args.secret_env, "As --env, value from our environment, never shown",
          "NAME");
  AddList(sub, "--label", args.labels, "Add a label");
  sub->add_flag("--merge", args.merge, "stderr into stdout, in true order");
  AddText(sub, "--request-id", args.request_id, "Same id, same command: start at most once",
          "UUID");
  sub->add_flag("-i,--interactive", args.interactive, "Give our stdin to the command");
  AddText(sub, "--state", args.state, "Session state: commit, read-only or isolated", "MODE");
  AddText(sub, "--output-limit", args.output_limit, "Kept per stream, half head, half tail",
          "SIZE");
  AddText(sub, "--overflow", args.overflow, "At that limit: drop, block or kill", "POLICY");
  sub->add_flag("--no-sync", args.no_sync, "Do not bring changed files into the sandbox first");
}

// As Bind, for what takes the words after "--".
std::shared_ptr<ExecArgs> BindExec(CLI::App* sub, Wiring& wiring) {
  auto args = std::make_shared<ExecArgs>();
  sub->callback([&wiring, args] {
    wiring.takes_words = true;
    args->words = wiring.words;
    wiring.line.run = [args](Context& context) { return Exec(context, *args); };
  });
  AddExecOptions(sub, *args);
  return args;
}

void AddExec(CLI::App& app, Wiring& wiring) {
  CLI::App* sub = Sub(app, "exec",
                      "Run a command, stream its output, exit with its code\n"
                      "Form: hermesctl exec [OPTIONS] NAME -- SCRIPT...",
                      "  hermesctl exec box -- 'make && ls -l | wc -l'\n"
                      "  hermesctl exec box --timeout 5s --env A=1 -- ./test.sh\n"
                      "  hermesctl exec box --argv -- printf '%s\\n' 'a b'\n"
                      "  hermesctl exec box -f script.sh\n"
                      "  tar c . | hermesctl exec box -i -- tar x\n"
                      "  hermesctl exec box -o json -- uname -a");
  auto args = BindExec(sub, wiring);
  sub->add_flag("-t,--tty", args->tty, "Run on a terminal; ours becomes raw");
  AddText(
      sub, "--on-disconnect", args->on_disconnect,
      "When we go away: detach, cancel or cancel-after-grace (default: detach with --request-id, "
      "else cancel-after-grace)",
      "POLICY");
  sub->add_flag("-d,--detach", args->detach, "Print the command's name and leave it running");
  CLI::App* start = Sub(app, "start",
                        "Start a command in the background and print its name\n"
                        "Form: hermesctl start [OPTIONS] NAME -- SCRIPT...",
                        "  c=$(hermesctl start box -- 'sleep 60; echo done')\n"
                        "  hermesctl wait \"$c\"");
  BindExec(start, wiring)->detach = true;
}

void AddAttach(CLI::App& app, Wiring& wiring) {
  CLI::App* sub = Sub(app, "attach", "Follow a command to its end, from any offset",
                      "  hermesctl attach box/c1\n"
                      "  hermesctl attach box/c1 --from-stdout 4096 --from-stderr 0");
  auto args = Bind(sub, wiring, Attach);
  sub->add_option("name", args->command, "Command")->required()->type_name("NAME/COMMAND");
  AddOffset(sub, "--from-stdout", args->from_stdout, "First byte of stdout wanted");
  AddOffset(sub, "--from-stderr", args->from_stderr, "First byte of stderr wanted");
  sub->add_flag("-i,--interactive", args->interactive, "Give our stdin to the command");
  sub->add_flag("-t,--tty", args->tty, "The command runs on a terminal; ours becomes raw");
}

void AddLogs(CLI::App& app, Wiring& wiring) {
  CLI::App* sub = Sub(app, "logs", "Print what is kept of a command's stdout (or stderr)",
                      "  hermesctl logs box/c1\n  hermesctl logs box/c1 -f --tail 4k\n"
                      "  hermesctl logs box/c1 --stderr --grep '^error'");
  auto args = Bind(sub, wiring, Logs);
  sub->add_option("name", args->command, "Command")->required()->type_name("NAME/COMMAND");
  sub->add_flag("-f,--follow", args->follow, "Go on until the command ends");
  sub->add_flag("--stderr", args->stderr_stream, "The stderr stream instead of stdout");
  AddText(sub, "--head", args->head, "Only the first bytes", "SIZE");
  AddText(sub, "--tail", args->tail, "Only the last bytes", "SIZE");
  AddText(sub, "--grep", args->grep, "Only lines that match", "RE2");
  AddOffset(sub, "--since-offset", args->since_offset, "First byte wanted");
}

void AddSyncs(CLI::App& app, Wiring& wiring) {
  CLI::App* push = Sub(app, "sync", "Send what changed on the host into a session's sandbox",
                       "  hermesctl sync box\n  hermesctl sync box --force -o json");
  auto push_args = Bind(push, wiring, Sync);
  push->add_option("name", push_args->session, "Session")->required()->type_name("NAME");
  push->add_flag("--force", push_args->force, "Look at every file, whatever was noticed");
  CLI::App* pull = Sub(app, "sync-back", "Bring what changed in the sandbox back to the host",
                       "  hermesctl sync-back box --dry-run\n  hermesctl sync-back box");
  auto pull_args = Bind(pull, wiring, SyncBack);
  pull->add_option("name", pull_args->session, "Session")->required()->type_name("NAME");
  pull->add_flag("--dry-run", pull_args->dry_run, "Only show what would be done");
  pull->add_flag("--approve-deletes", pull_args->approve_deletes,
                 "Also the deletions that the guard holds back");
  pull->add_flag("--salvage", pull_args->salvage, "Of a sandbox that lied, take what is in order");
  AddNamed(app, wiring, "undo", "Take a sync-back back: the host's files are what they were",
           "  hermesctl undo box/s1", Undo)
      ->get_option("name")
      ->description("Sync")
      ->type_name("NAME/SYNC");
  AddNamed(app, wiring, "syncs", "List the syncs of a session, or show one with its files",
           "  hermesctl syncs box -o json\n  hermesctl syncs box/s1", Syncs);
}

void AddPs(CLI::App& app, Wiring& wiring) {
  CLI::App* sub = Sub(app, "ps", "List commands, of one session or of all",
                      "  hermesctl ps\n  hermesctl ps box --state RUNNING -o json");
  auto args = Bind(sub, wiring, Ps);
  sub->add_option("name", args->session, "Session")->type_name("NAME");
  AddText(sub, "--state", args->state, "Only commands in this state", "STATE");
  AddList(sub, "--label", args->labels, "Only commands with this label");
}

void AddKill(CLI::App& app, Wiring& wiring) {
  CLI::App* sub = Sub(app, "kill", "End commands with all their processes, or send a signal",
                      "  hermesctl kill box/c1\n  hermesctl kill box/c1 --signal HUP");
  auto args = Bind(sub, wiring, Kill);
  sub->add_option("name", args->commands, "Commands")->required()->type_name("NAME/COMMAND");
  AddText(sub, "--signal", args->signal,
          "Send this one and return at once; left out: TERM, grace, KILL, verified gone", "SIGNAL");
  AddText(sub, "--scope", args->scope, "With --signal: tree, leader or foreground", "SCOPE");
  AddText(sub, "--grace", args->grace, "Time between TERM and KILL", "DURATION");
}

void AddWait(CLI::App& app, Wiring& wiring) {
  CLI::App* sub = Sub(app, "wait", "Wait for a command and exit with its code",
                      "  hermesctl wait box/c1\n  hermesctl wait box/c1 --timeout 10s || echo $?");
  auto command = std::make_shared<std::string>();
  auto timeout = std::make_shared<Text>();
  sub->add_option("name", *command, "Command")->required()->type_name("NAME/COMMAND");
  AddText(sub, "--timeout", *timeout, "Wait at most this long, then exit 124", "DURATION");
  sub->callback([&wiring, command, timeout] {
    wiring.line.run = [=](Context& context) { return Wait(context, *command, *timeout); };
  });
}

void AddPlain(CLI::App& app, Wiring& wiring, const std::string& name, const std::string& what,
              int (*function)(Context&)) {
  CLI::App* sub = Sub(app, name, what, "  hermesctl " + name);
  sub->callback([&wiring, function] { wiring.line.run = function; });
}

void AddAll(CLI::App& app, Wiring& wiring) {
  app.require_subcommand(1);
  app.add_option("--socket", wiring.line.socket, "The daemon's Unix socket")
      ->envname("HERMESD_SOCKET")
      ->type_name("PATH");
  app.add_option("-o,--output", wiring.format, "Form of the data on stdout")
      ->check(CLI::IsMember({"table", "json", "jsonl"}))
      ->capture_default_str();
  AddText(&app, "--patience", wiring.patience, "How long to try again once contact is lost (60s)",
          "DURATION");
  AddSession(app, wiring);
  AddExec(app, wiring);
  AddAttach(app, wiring);
  AddLogs(app, wiring);
  AddPs(app, wiring);
  AddKill(app, wiring);
  AddWait(app, wiring);
  AddSyncs(app, wiring);
  AddNamed(app, wiring, "shell", "An interactive shell in a session", "  hermesctl shell box",
           Shell);
  AddCleanup(app, wiring, "cleanup");
  AddPlain(app, wiring, "info", "Show the daemon's version, load and limits", Info);
  AddPlain(app, wiring, "capabilities", "Show what each backend can do", Capabilities);
  AddPlain(app, wiring, "drain", "Ask the daemon to stop taking work and exit; commands go on",
           Drain);
  app.footer(
      "Examples:\n"
      "  hermesctl session create box\n"
      "  hermesctl exec box -- 'cd /tmp; export A=1'\n"
      "  hermesctl exec box -- 'pwd; echo $A'\n"
      "  hermesctl cleanup box\n\n"
      "Exit codes: the command's own; 124 timeout, 125 a failure of hermesctl or hermesd,\n"
      "126/127 could not be started, 130 interrupted, 128+n ended by signal n;\n"
      "of sync-back and undo 1: done, but something is left to decide.\n"
      "The socket: --socket, $HERMESD_SOCKET, $XDG_RUNTIME_DIR/hermesd/hermes.sock,\n"
      "/run/hermesd/hermes.sock.");
}

int Refuse(const std::string& why) {
  Say(why);
  return kExitHermes;
}

}  // namespace

std::variant<CommandLine, int> ParseCommandLine(int argc, const char* const* argv,
                                                const std::string& version) {
  Wiring wiring;
  std::vector<std::string> options;
  for (int i = 1; i < argc; ++i) {
    if (!wiring.has_words && std::string_view(argv[i]) == "--") {
      wiring.has_words = true;
    } else {
      (wiring.has_words ? wiring.words : options).push_back(argv[i]);
    }
  }
  CLI::App app("Run commands in the sandboxes of a hermesd", "hermesctl");
  app.set_version_flag("--version", version);
  AddAll(app, wiring);
  try {
    std::reverse(options.begin(), options.end());  // CLI11 takes them from the back
    app.parse(options);
  } catch (const CLI::Success& success) {
    app.exit(success);  // help or version, to stdout
    return 0;
  } catch (const CLI::ExtrasError& error) {
    return Refuse(std::string(error.what()) + " (a command to run stands after --)");
  } catch (const CLI::ParseError& error) {
    return Refuse(std::string(error.what()) + " (see hermesctl --help)");
  }
  if (wiring.has_words && !wiring.takes_words) {
    return Refuse("only exec and start take words after --");
  }
  if (wiring.patience) {
    absl::StatusOr<google::protobuf::Duration> patience = ParseDuration(*wiring.patience);
    if (!patience.ok()) return Fail(patience.status());
    wiring.line.patience =
        std::chrono::milliseconds(patience->seconds() * 1000 + patience->nanos() / 1'000'000);
  }
  static const std::map<std::string, Format> kFormats = {
      {"table", Format::kTable}, {"json", Format::kJson}, {"jsonl", Format::kJsonLines}};
  wiring.line.format = kFormats.at(wiring.format);
  return wiring.line;
}

}  // namespace hermes::client
