#pragma once

// A thin, typed wrapper of the SQLite C library, which only sqlite_db.cc includes: an open
// database, and prepared statements that are reset when their cursor ends. Not thread-safe: one
// thread at a time (the store's). Errors: DISK_FULL (the transaction may be gone: roll back),
// STORE_CORRUPT, BUG.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct sqlite3;
struct sqlite3_stmt;

namespace hermes {

class SqliteDb {
 public:
  // Opens or makes `path` (0600) in WAL mode. A file that is no database is STORE_CORRUPT.
  static absl::StatusOr<std::unique_ptr<SqliteDb>> Open(const std::string& path);
  ~SqliteDb();
  SqliteDb(const SqliteDb&) = delete;
  SqliteDb& operator=(const SqliteDb&) = delete;

  // One or more statements without results.
  absl::Status Exec(const std::string& sql);

  // No transaction is open afterwards, whatever was before.
  void Rollback();

  int64_t ChangedRows() const;  // by the last INSERT, UPDATE or DELETE

 private:
  friend class SqliteStatement;
  SqliteDb(sqlite3* db, std::string path) : db_(db), path_(std::move(path)) {}
  absl::Status Failure(int code, std::string_view doing) const;

  sqlite3* db_;
  const std::string path_;
};

// A value that is bytes, not text.
struct SqlBlob {
  std::string_view bytes;
};

// One prepared statement. Use: Bind in the order of the question marks, then Run, or Next until
// false. Bound text and blobs must live until then; std::nullopt is NULL. Bind starts afresh at any
// time; a cursor that is left early holds its read transaction until Reset.
class SqliteStatement {
 public:
  SqliteStatement(SqliteDb& db, std::string sql) : db_(db), sql_(std::move(sql)) {}
  ~SqliteStatement();
  SqliteStatement(const SqliteStatement&) = delete;
  SqliteStatement& operator=(const SqliteStatement&) = delete;

  template <typename... Values>
  SqliteStatement& Bind(const Values&... values) {
    Reset();
    [[maybe_unused]] int index = 0;
    (BindOne(++index, values), ...);
    return *this;
  }

  absl::Status Run();           // for statements without rows
  absl::StatusOr<bool> Next();  // true: a row is there
  void Reset();

  // Columns of the current row, from 0. NULL is 0 or empty.
  int64_t Int(int column) const;
  std::string Text(int column) const;  // text or blob

 private:
  void BindOne(int index, int64_t value);
  void BindOne(int index, std::string_view text);
  void BindOne(int index, const SqlBlob& blob);
  void BindOne(int index, const std::optional<int64_t>& value);
  void BindOne(int index, const std::optional<SqlBlob>& value);

  SqliteDb& db_;
  const std::string sql_;
  sqlite3_stmt* statement_ = nullptr;
  int code_ = 0;  // the first failure of Reset and Bind, told by Run and Next
};

}  // namespace hermes
