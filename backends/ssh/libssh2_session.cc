#include "backends/ssh/libssh2_session.h"

#include <libssh2.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "backends/ssh/libssh2_wire.h"
#include "daemon/runtime/check.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr std::string_view kSessionType = "session";
constexpr std::string_view kPingType = "alive@hermesd";
constexpr std::string_view kExec = "exec";

LIBSSH2_SESSION* Of(void* session) { return static_cast<LIBSSH2_SESSION*>(session); }
LIBSSH2_CHANNEL* ChannelOf(void* channel) { return static_cast<LIBSSH2_CHANNEL*>(channel); }

// Names as RFC 4254 has them.
constexpr std::array<std::pair<std::string_view, int>, 13> kSignals = {{{"ABRT", SIGABRT},
                                                                        {"ALRM", SIGALRM},
                                                                        {"FPE", SIGFPE},
                                                                        {"HUP", SIGHUP},
                                                                        {"ILL", SIGILL},
                                                                        {"INT", SIGINT},
                                                                        {"KILL", SIGKILL},
                                                                        {"PIPE", SIGPIPE},
                                                                        {"QUIT", SIGQUIT},
                                                                        {"SEGV", SIGSEGV},
                                                                        {"TERM", SIGTERM},
                                                                        {"USR1", SIGUSR1},
                                                                        {"USR2", SIGUSR2}}};

}  // namespace

// Stands before each piece of memory that the library has from us: it loses some when a connection
// breaks in the middle of a key exchange.
struct alignas(std::max_align_t) Libssh2Session::Block {
  Block* before;
  Block* after;
  size_t size;
};

void Libssh2Session::Link(Block* block, size_t size) {
  *block = {nullptr, blocks_, size};
  if (blocks_ != nullptr) blocks_->before = block;
  blocks_ = block;
  heap_bytes_ += size;
}

void Libssh2Session::Unlink(Block* block) {
  (block->before != nullptr ? block->before->after : blocks_) = block->after;
  if (block->after != nullptr) block->after->before = block->before;
  heap_bytes_ -= block->size;
}

// The library's callbacks; the session's abstract is the Libssh2Session.
struct Libssh2Session::Calls {
  static Libssh2Session* Self(void** abstract) { return static_cast<Libssh2Session*>(*abstract); }

  static void* Alloc(size_t size, void** abstract) {
    Libssh2Session* self = Self(abstract);
    if (size > kMaxSessionHeap - self->heap_bytes_) return nullptr;
    auto* block = static_cast<Block*>(std::malloc(sizeof(Block) + size));
    if (block == nullptr) return nullptr;
    self->Link(block, size);
    return block + 1;
  }
  static void Free(void* memory, void** abstract) {
    if (memory == nullptr) return;
    Block* block = static_cast<Block*>(memory) - 1;
    Self(abstract)->Unlink(block);
    std::free(block);
  }
  static void* Realloc(void* memory, size_t size, void** abstract) {
    void* moved = Alloc(size, abstract);
    if (moved == nullptr || memory == nullptr) return moved;
    std::memcpy(moved, memory, std::min(size, (static_cast<Block*>(memory) - 1)->size));
    Free(memory, abstract);
    return moved;
  }
  static ssize_t Receive(libssh2_socket_t, void* into, size_t size, int, void** abstract) {
    return Self(abstract)->link_->Receive(into, size);
  }
  static ssize_t Send(libssh2_socket_t, const void* data, size_t size, int, void** abstract) {
    Self(abstract)->link_->Send(data, size);
    return static_cast<ssize_t>(size);
  }
  static void Disconnected(LIBSSH2_SESSION*, int, const char* message, int size, const char*, int,
                           void** abstract) {
    if (message == nullptr || size <= 0) return;
    Self(abstract)->goodbye_ = PrintableWords(std::string_view(message, static_cast<size_t>(size)));
  }
  static int Sign(LIBSSH2_SESSION* session, unsigned char** signature, size_t* size,
                  const unsigned char* data, size_t data_size, void** context) {
    auto* signing = static_cast<Signing*>(*context);
    if (signing->given_up) return LIBSSH2_ERROR_AGENT_PROTOCOL;
    if (signing->signature.empty()) {
      signing->to_sign.assign(reinterpret_cast<const char*>(data), data_size);
      return LIBSSH2_ERROR_EAGAIN;
    }
    *size = signing->signature.size();
    *signature =
        static_cast<unsigned char*>(Alloc(*size, libssh2_session_abstract(session)));  // it frees
    if (*signature == nullptr) return LIBSSH2_ERROR_ALLOC;
    std::memcpy(*signature, signing->signature.data(), *size);
    return 0;
  }
};

bool Libssh2Session::SignsRsaWithSha1Only() { return libssh2_version(0x010b00) == nullptr; }

Libssh2Session::Libssh2Session(std::shared_ptr<Libssh2Link> link) : link_(std::move(link)) {
  static const int started = libssh2_init(0);  // once per process, here only
  CHECK(started == 0);
  session_ = libssh2_session_init_ex(&Calls::Alloc, &Calls::Free, &Calls::Realloc, this);
  CHECK(session_ != nullptr);
  libssh2_session_set_blocking(Of(session_), 0);
  auto set = [this](int type, auto* call) {
    libssh2_session_callback_set(Of(session_), type, reinterpret_cast<void*>(call));
  };
  set(LIBSSH2_CALLBACK_RECV, &Calls::Receive);
  set(LIBSSH2_CALLBACK_SEND, &Calls::Send);
  set(LIBSSH2_CALLBACK_DISCONNECT, &Calls::Disconnected);
}

// On a dead link every call fails at once instead of asking to be called again; the calls that may
// be half done are made once more, so that they let go of what they hold.
Libssh2Session::~Libssh2Session() {
  link_->Kill(Error(Reason::k_BACKEND_UNREACHABLE, "the connection was closed"));
  if (shaking_) libssh2_session_handshake(Of(session_), 0);
  libssh2_keepalive_config(Of(session_), 0, 2);
  int ignored = 0;
  libssh2_keepalive_send(Of(session_), &ignored);  // ends a key exchange under way
  libssh2_session_free(Of(session_));
  while (blocks_ != nullptr) {
    Block* block = blocks_;
    Unlink(block);
    std::free(block);
  }
}

Libssh2Session::Step Libssh2Session::StepOf(int code) {
  if (code == LIBSSH2_ERROR_EAGAIN) return link_->error().ok() ? Step::kAgain : Step::kBroken;
  if (code >= 0) return Step::kDone;
  const bool refused = code == LIBSSH2_ERROR_CHANNEL_FAILURE ||
                       code == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED ||
                       code == LIBSSH2_ERROR_AUTHENTICATION_FAILED ||
                       code == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED || code == LIBSSH2_ERROR_FILE;
  return refused && link_->error().ok() && goodbye_.empty() ? Step::kRefused : Step::kBroken;
}

std::vector<std::string> Libssh2Session::SupportedHostKeys() {
  const char** names = nullptr;
  int count = libssh2_session_supported_algs(Of(session_), LIBSSH2_METHOD_HOSTKEY, &names);
  if (count <= 0) return {};
  std::vector<std::string> types(names, names + count);
  libssh2_free(Of(session_), names);
  return types;
}

void Libssh2Session::PreferHostKeys(const std::vector<std::string>& types) {
  std::string list;
  for (const std::string& type : types) list += (list.empty() ? "" : ",") + type;
  if (!list.empty()) {
    libssh2_session_method_pref(Of(session_), LIBSSH2_METHOD_HOSTKEY, list.c_str());
  }
}

Libssh2Session::Step Libssh2Session::Handshake() {
  shaking_ = true;
  Step step = StepOf(libssh2_session_handshake(Of(session_), link_->fd()));
  if (step != Step::kAgain) shaking_ = false;
  return step == Step::kRefused ? Step::kBroken : step;
}

std::string Libssh2Session::HostKey() {
  size_t size = 0;
  int type = 0;
  const char* key = libssh2_session_hostkey(Of(session_), &size, &type);
  return key == nullptr ? "" : std::string(key, size);
}

std::string Libssh2Session::Banner() {
  const char* banner = libssh2_session_banner_get(Of(session_));
  return banner == nullptr ? "" : PrintableWords(banner);
}

Libssh2Session::Step Libssh2Session::LoginWithKey(const std::string& user,
                                                  const std::string& private_key) {
  return StepOf(libssh2_userauth_publickey_frommemory(Of(session_), user.c_str(), user.size(),
                                                      nullptr, 0, private_key.c_str(),
                                                      private_key.size(), nullptr));
}

Libssh2Session::Step Libssh2Session::LoginWithSigner(const std::string& user, Signing* signing) {
  void* context = signing;
  return StepOf(libssh2_userauth_publickey(
      Of(session_), user.c_str(), reinterpret_cast<const unsigned char*>(signing->blob.data()),
      signing->blob.size(), &Calls::Sign, &context));
}

Libssh2Session::Step Libssh2Session::Open(bool ping, Channel* channel) {
  const std::string_view type = ping ? kPingType : kSessionType;
  *channel = libssh2_channel_open_ex(Of(session_), type.data(), static_cast<unsigned>(type.size()),
                                     kFirstWindow, LIBSSH2_CHANNEL_PACKET_DEFAULT, nullptr, 0);
  if (*channel != nullptr) return Step::kDone;
  int code = libssh2_session_last_errno(Of(session_));
  return StepOf(code == 0 ? LIBSSH2_ERROR_PROTO : code);
}

Libssh2Session::Step Libssh2Session::Exec(Channel channel, const std::string& command) {
  return StepOf(libssh2_channel_process_startup(ChannelOf(channel), kExec.data(),
                                                static_cast<unsigned>(kExec.size()), command.data(),
                                                static_cast<unsigned>(command.size())));
}

Libssh2Session::Step Libssh2Session::Widen(Channel channel, size_t bytes) {
  unsigned int ignored = 0;
  return StepOf(libssh2_channel_receive_window_adjust2(ChannelOf(channel), bytes, 1, &ignored));
}

Libssh2Session::Step Libssh2Session::SendEof(Channel channel) {
  return StepOf(libssh2_channel_send_eof(ChannelOf(channel)));
}

Libssh2Session::Step Libssh2Session::Close(Channel channel) {
  return StepOf(libssh2_channel_close(ChannelOf(channel)));
}

void Libssh2Session::Free(Channel channel) { libssh2_channel_free(ChannelOf(channel)); }

Libssh2Session::Read Libssh2Session::ReadSome(Channel channel, bool of_stderr,
                                              std::span<char> into) {
  const size_t window = libssh2_channel_window_read_ex(ChannelOf(channel), nullptr, nullptr);
  const size_t room = window > kFirstWindow ? window - kFirstWindow : 0;
  const ssize_t got =
      libssh2_channel_read_ex(ChannelOf(channel), of_stderr ? SSH_EXTENDED_DATA_STDERR : 0,
                              into.data(), std::min(room, into.size()));
  if (got > 0) return {Step::kDone, static_cast<size_t>(got)};
  Step step = got == 0 ? Step::kAgain : StepOf(static_cast<int>(got));
  return {step == Step::kRefused ? Step::kBroken : step, 0};
}

Libssh2Session::Read Libssh2Session::WriteSome(Channel channel, std::string_view data) {
  const ssize_t wrote = libssh2_channel_write_ex(ChannelOf(channel), 0, data.data(), data.size());
  if (wrote > 0) return {Step::kDone, static_cast<size_t>(wrote)};
  Step step = wrote == 0 ? Step::kAgain : StepOf(static_cast<int>(wrote));
  return {step == Step::kRefused ? Step::kBroken : step, 0};
}

size_t Libssh2Session::SendWindow(Channel channel) {
  return libssh2_channel_window_write_ex(ChannelOf(channel), nullptr);
}

bool Libssh2Session::AtEof(Channel channel) { return libssh2_channel_eof(ChannelOf(channel)) == 1; }

// An error code says that the host has not even sent its end of file.
bool Libssh2Session::ClosedByHost(Channel channel) {
  return link_->error().ok() && libssh2_channel_wait_closed(ChannelOf(channel)) == 0;
}

std::optional<Stream::End> Libssh2Session::ProgramEnd(Channel channel) {
  char* name = nullptr;
  size_t size = 0;
  libssh2_channel_get_exit_signal(ChannelOf(channel), &name, &size, nullptr, nullptr, nullptr,
                                  nullptr);
  if (name != nullptr) {
    const std::string signal(name, size);
    libssh2_free(Of(session_), name);
    for (const auto& [known, number] : kSignals)
      if (signal == known) return Stream::End{true, number};
    return std::nullopt;
  }
  const int status = libssh2_channel_get_exit_status(ChannelOf(channel));
  if (status == 0) return std::nullopt;
  return Stream::End{false, status};
}

void Libssh2Session::Disconnect() {
  libssh2_session_disconnect_ex(Of(session_), SSH_DISCONNECT_BY_APPLICATION, "", "");
}

std::string Libssh2Session::Why() {
  if (!goodbye_.empty()) return "the host ended the connection: " + goodbye_;
  if (!link_->error().ok()) return std::string(link_->error().message());
  char* text = nullptr;
  int size = 0;
  libssh2_session_last_error(Of(session_), &text, &size, 0);
  return text == nullptr ? "" : PrintableWords(std::string_view(text, static_cast<size_t>(size)));
}

}  // namespace hermes
