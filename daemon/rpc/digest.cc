#include "daemon/rpc/digest.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <openssl/evp.h>

#include <memory>
#include <string_view>

#include "daemon/runtime/check.h"

namespace hermes {
namespace {

// Feeds what is written to it to the hash, so that no second copy of a large request is made.
class HashOutput : public google::protobuf::io::CopyingOutputStream {
 public:
  HashOutput() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    CHECK(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }

  bool Write(const void* buffer, int size) override {
    return EVP_DigestUpdate(context_.get(), buffer, static_cast<size_t>(size)) == 1;
  }

  std::string Hex() {
    constexpr std::string_view kDigits = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    CHECK(EVP_DigestFinal_ex(context_.get(), digest, &size) == 1);
    std::string hex;
    for (unsigned int i = 0; i < size; ++i) {
      hex += kDigits[digest[i] >> 4];
      hex += kDigits[digest[i] & 15];
    }
    return hex;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string DigestOf(const google::protobuf::MessageLite& message) {
  HashOutput hash;
  {
    google::protobuf::io::CopyingOutputStreamAdaptor adaptor(&hash);
    google::protobuf::io::CodedOutputStream coded(&adaptor);
    coded.SetSerializationDeterministic(true);
    CHECK(message.SerializeToCodedStream(&coded));
  }
  return hash.Hex();
}

}  // namespace hermes
