// A daemon that cannot start says why, and by its code whether to try again is of use.

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "tests/e2e/daemon_process.h"
#include "tests/fakes/temp_dir.h"
#include "tests/hosts/processes.h"

namespace hermes {
namespace {

constexpr int kExitConfig = 78;

TEST(StartTest, AFolderTooLongForASocketIsAWrongConfiguration) {
  const TempDir temp;
  const std::string dir = temp.path() + "/" + std::string(100, 'x');
  const Ran ran = RunProgram({.argv = {BinDir() + "/hermesd", "--dev", "--dir", dir}});
  EXPECT_EQ(ran.status, kExitConfig);
  EXPECT_NE(ran.err.find("socket must be at most 107 bytes"), std::string::npos) << ran.err;
  EXPECT_FALSE(std::filesystem::exists(dir)) << "something was made before it was checked";
}

}  // namespace
}  // namespace hermes
