#include "backends/ssh/libssh2_auth.h"

#include <algorithm>

#include "backends/ssh/libssh2_wire.h"
#include "daemon/runtime/status.h"

namespace hermes {
namespace {

constexpr const char* kUsualFiles[] = {"/.ssh/id_ed25519", "/.ssh/id_ecdsa", "/.ssh/id_rsa"};
constexpr std::string_view kRsa = "ssh-rsa";
// sshd's words when MaxAuthTries is reached.
constexpr std::string_view kTooMany = "authentication failures";

absl::Status Refused(const std::string& why) { return Error(Reason::k_BACKEND_AUTH_FAILED, why); }

}  // namespace

std::vector<std::string> KeyFiles(const std::string& key_file, const std::string& home) {
  if (!key_file.empty()) return {key_file};
  std::vector<std::string> files;
  if (home.empty()) return files;
  for (const char* name : kUsualFiles) files.push_back(home + name);
  return files;
}

absl::StatusOr<std::vector<PrivateKey>> ReadKeys(const std::string& key_file,
                                                 const std::string& home) {
  std::vector<PrivateKey> keys;
  if (!key_file.empty()) {
    absl::StatusOr<PrivateKey> key = ReadKeyFile(key_file);
    if (absl::IsNotFound(key.status())) return Refused("there is no key file " + key_file);
    if (!key.ok()) return key.status();
    keys.push_back(*std::move(key));
    return keys;
  }
  for (const std::string& file : KeyFiles("", home)) {
    absl::StatusOr<PrivateKey> key = ReadKeyFile(file);
    if (key.ok()) keys.push_back(*std::move(key));
  }
  return keys;
}

Libssh2Auth::Libssh2Auth(Loop& loop, Clock& clock, Options options, Libssh2Link& link,
                         Libssh2Session& session)
    : clock_(clock),
      options_(std::move(options)),
      link_(link),
      session_(session),
      agent_(loop, clock, options_.agent_socket) {}

// RSA last: most servers refuse what old libraries make of it, and each refusal costs a try.
Task<absl::Status> Libssh2Auth::Run(std::vector<PrivateKey> keys, bool only_these) {
  std::vector<std::string> blobs;
  if (!only_these) blobs = co_await AgentKeys();
  Step step = Step::kRefused;
  for (bool rsa : {false, true}) {
    if (step == Step::kRefused) step = co_await OfferAgents(blobs, rsa);
    if (step == Step::kRefused) step = co_await OfferFiles(keys, rsa);
  }
  if (step == Step::kDone) co_return absl::OkStatus();
  const bool thrown_out = session_.Why().find(kTooMany) != std::string::npos;
  if (step == Step::kRefused || thrown_out) co_return Failure();
  co_return Error(Reason::k_BACKEND_UNREACHABLE, session_.Why());
}

Task<std::vector<std::string>> Libssh2Auth::AgentKeys() {
  if (options_.agent_socket.empty()) co_return std::vector<std::string>();
  const SteadyTime deadline = std::min(options_.deadline, clock_.Now() + kAgentListLimit);
  absl::StatusOr<std::vector<std::string>> blobs = co_await agent_.List(deadline);
  if (blobs.ok()) co_return *std::move(blobs);
  trouble_ = std::string(blobs.status().message());
  co_return std::vector<std::string>();
}

bool Libssh2Auth::MayOffer(const std::string& type, const std::string& blob,
                           const std::string& name) {
  if (!blob.empty() && std::find(blobs_.begin(), blobs_.end(), blob) != blobs_.end()) return false;
  if (offered_ == kMaxKeysOffered) {
    too_many_ = true;
    return false;
  }
  ++offered_;
  offered_rsa_ |= type == kRsa;
  blobs_.push_back(blob);
  tried_ += (tried_.empty() ? "" : ", ") + name;
  if (!type.empty()) tried_ += " (" + type + ")";
  return true;
}

Task<Libssh2Auth::Step> Libssh2Auth::OfferFiles(const std::vector<PrivateKey>& keys, bool rsa) {
  for (const PrivateKey& key : keys) {
    if (key.rsa() != rsa || !MayOffer(key.type, key.public_blob, key.path)) continue;
    const Step step = co_await FinishCall(
        link_, [this, &key] { return session_.LoginWithKey(options_.user, key.text); });
    if (step != Step::kRefused) co_return step;
  }
  co_return Step::kRefused;
}

Task<Libssh2Auth::Step> Libssh2Auth::OfferAgents(const std::vector<std::string>& blobs, bool rsa) {
  for (const std::string& blob : blobs) {
    const std::string type = KeyTypeOf(blob);
    if ((type == kRsa) != rsa || type.find("-cert-") != std::string::npos) continue;
    if (type.starts_with("sk-") || !MayOffer(type, blob, "the agent's " + KeyFingerprint(blob))) {
      continue;
    }
    const Step step = co_await OfferAgent(blob);
    if (step != Step::kRefused) co_return step;
  }
  co_return Step::kRefused;
}

// First the host says whether it would take the key, then the agent signs, then the call goes on.
Task<Libssh2Auth::Step> Libssh2Auth::OfferAgent(std::string blob) {
  Libssh2Session::Signing signing;
  signing.blob = blob;
  Step step = co_await FinishCall(link_, [this, &signing] {
    const Step one = session_.LoginWithSigner(options_.user, &signing);
    return one == Step::kAgain && !signing.to_sign.empty() ? Step::kDone : one;
  });
  if (step != Step::kDone || signing.to_sign.empty()) co_return step;
  absl::StatusOr<std::string> signature =
      co_await agent_.Sign(std::move(blob), signing.to_sign, options_.deadline);
  if (signature.ok()) {
    signing.signature = *std::move(signature);
  } else {
    trouble_ = std::string(signature.status().message());
    signing.given_up = true;
  }
  co_return co_await FinishCall(
      link_, [this, &signing] { return session_.LoginWithSigner(options_.user, &signing); });
}

absl::Status Libssh2Auth::Failure() const {
  std::string text = "the host does not let " + options_.user + " in";
  text += tried_.empty() ? ": there is no key to offer. Add one to an agent or give a key_file"
                         : " with any key that was offered: " + tried_;
  if (too_many_) text += " (more than " + std::to_string(kMaxKeysOffered) + ": give a key_file)";
  if (offered_rsa_ && Libssh2Session::SignsRsaWithSha1Only()) {
    text +=
        ". This libssh2 signs with RSA keys by SHA-1 only, which OpenSSH refuses since 8.8: "
        "use an ed25519 key or the openssh transport";
  }
  if (!trouble_.empty()) text += ". Note: " + trouble_;
  return Refused(text);
}

}  // namespace hermes
