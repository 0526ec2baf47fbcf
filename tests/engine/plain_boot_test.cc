// The plain engine's boot lines under real shells: what arrives whole is run, of what was cut off
// on its way nothing is.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "backends/engine/plain_text.h"
#include "tests/fakes/temp_dir.h"

namespace hermes::plain {
namespace {

namespace fs = std::filesystem;

// A host whose `sh` is this program, with nothing else than what the boot lines need.
struct Host {
  const char* name;
  const char* shell;
  bool busybox;  // its dd and wc, too
};

class PlainBoot : public testing::TestWithParam<Host> {
 protected:
  void SetUp() override {
    const Host& host = GetParam();
    if (!fs::exists(host.shell)) GTEST_SKIP() << "there is no " << host.shell << " here";
    fs::create_directory(Bin());
    fs::create_symlink(host.shell, Bin() + "/sh");
    fs::create_symlink("/bin/bash", Bin() + "/bash");
    for (const char* tool : {"dd", "wc"}) {
      const std::string from = host.busybox ? host.shell : std::string("/usr/bin/") + tool;
      fs::create_symlink(fs::exists(from) ? from : std::string("/bin/") + tool, Bin() + "/" + tool);
    }
  }

  std::string Bin() const { return dir_.path() + "/bin"; }
  std::string Ran() const { return dir_.path() + "/r"; }
  std::string RanLast() const { return dir_.path() + "/l"; }

  // Every line of it leaves a trace, and some bytes are not characters of their own.
  static std::string Text() {
    return "h='a\u00e4\u20ac\U0001F600'\n:>>r # \u00df\n{ :>>r\n}\n:>>l";
  }

  // Hands the reader `bytes` and the end of its stdin. True: something of the text was run.
  bool Runs(shell::Kind kind, const std::string& bytes) const {
    std::ofstream(dir_.path() + "/input", std::ios::binary) << bytes;
    const std::string command = "cd " + dir_.path() + "; PATH=" + Bin() +
                                " LC_ALL=C.UTF-8; export PATH LC_ALL; " +
                                std::string(BootLine(kind)) + " <input >/dev/null 2>&1";
    (void)std::system(command.c_str());
    return fs::exists(Ran()) || fs::exists(RanLast());
  }

  TempDir dir_;
};

TEST_P(PlainBoot, OfATextThatIsCutNothingIsRun) {
  for (const shell::Kind kind : {shell::Kind::kSh, shell::Kind::kBash}) {
    const std::string framed = Framed(Text());
    for (size_t bytes = 0; bytes < framed.size(); ++bytes) {
      ASSERT_FALSE(Runs(kind, framed.substr(0, bytes))) << "after " << bytes << " bytes";
    }
    EXPECT_TRUE(Runs(kind, framed));
    EXPECT_TRUE(fs::exists(RanLast())) << "the last byte is missing";
    fs::remove(Ran());
    fs::remove(RanLast());
  }
}

INSTANTIATE_TEST_SUITE_P(Hosts, PlainBoot,
                         testing::Values(Host{"Dash", "/bin/dash", false},
                                         Host{"Busybox", "/bin/busybox", true},
                                         Host{"Bash", "/bin/bash", false}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace hermes::plain
