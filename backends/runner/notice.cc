#include "backends/runner/notice.h"

#include <algorithm>

namespace hermes::runner {

frames::TreeReport NothingLeft() {
  frames::TreeReport report;
  report.verified = 1;
  return report;
}

Tree Pack(const frames::TreeReport& report) {
  Tree tree{};
  tree.signalled = report.signalled;
  tree.survivors = report.survivors;
  tree.verified = report.verified;
  tree.pid_count = static_cast<uint8_t>(std::min(report.pids.size(), std::size(tree.pids)));
  for (size_t i = 0; i < tree.pid_count; ++i) tree.pids[i] = report.pids[i];
  return tree;
}

frames::TreeReport Unpack(const Tree& tree) {
  frames::TreeReport report{.signalled = tree.signalled,
                            .survivors = tree.survivors,
                            .verified = tree.verified,
                            .pids = {}};
  for (size_t i = 0; i < tree.pid_count && i < std::size(tree.pids); ++i)
    report.pids.push_back(tree.pids[i]);
  return report;
}

}  // namespace hermes::runner
