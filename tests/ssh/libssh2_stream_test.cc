// Programs over libssh2 on a real sshd: their bytes, their ends, many at once, and all that breaks.

#include <string>

#include "tests/ssh/libssh2_fixture.h"

namespace hermes {
namespace {

class Libssh2StreamTest : public Libssh2Test {};

TEST_F(Libssh2StreamTest, RunsAProgramAndTellsItsOutputAndEnd) {
  Start();
  auto connection = MustConnect(Target());
  Ended ended = Execute(*connection, "id -un; pwd; echo err >&2; exit 7");
  EXPECT_TRUE(ended.status.ok()) << ended.status;
  EXPECT_EQ(ended.out, account_->name() + "\n" + account_->home() + "\n");
  EXPECT_EQ(ended.err, "err\n");
  ASSERT_TRUE(ended.end.has_value());
  EXPECT_FALSE(ended.end->signalled);
  EXPECT_EQ(ended.end->value, 7);
}

TEST_F(Libssh2StreamTest, TellsASignalAndDoesNotInventAZero) {
  Start();
  auto connection = MustConnect(Target());
  Ended killed = Execute(*connection, "kill -TERM $$");
  ASSERT_TRUE(killed.end.has_value());
  EXPECT_TRUE(killed.end->signalled);
  EXPECT_EQ(killed.end->value, 15);
  // The library has the same 0 for "status 0" and for "no status".
  EXPECT_FALSE(Execute(*connection, "true").end.has_value());
}

}  // namespace
}  // namespace hermes
