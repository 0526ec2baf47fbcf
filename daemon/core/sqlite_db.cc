#include "daemon/core/sqlite_db.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "daemon/runtime/status.h"

namespace hermes {
namespace {

// Our own lock file keeps a second daemon away; this is for a curious person with a shell.
constexpr int kBusyTimeoutMs = 5000;

// A checkpoint (pages from the WAL into the file) waits for the disk and holds up the commit that
// it falls on: every 4000 pages of 4 KiB that is one commit in some thousand, and a WAL of 16 MiB.
constexpr char kPragmas[] =
    "PRAGMA journal_mode=WAL;"
    "PRAGMA synchronous=NORMAL;"
    "PRAGMA wal_autocheckpoint=4000;"
    "PRAGMA temp_store=MEMORY;";

// The database is private before SQLite writes a byte; its WAL takes the same mode.
absl::Status MakePrivate(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return ErrnoStatus(errno, path);
  const int failed = fchmod(fd, 0600) == 0 ? 0 : errno;
  close(fd);
  return failed == 0 ? absl::OkStatus() : ErrnoStatus(failed, path);
}

// A disk that takes no more writes, for whichever reason: quota and file size limits come as I/O
// errors of writing, not as SQLITE_FULL.
bool DiskFull(int code) {
  return (code & 0xff) == SQLITE_FULL || code == SQLITE_IOERR_WRITE ||
         code == SQLITE_IOERR_SHMSIZE || code == SQLITE_IOERR_FSYNC;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteDb>> SqliteDb::Open(const std::string& path) {
  RETURN_IF_ERROR(MakePrivate(path));
  sqlite3* raw = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<SqliteDb> db(new SqliteDb(raw, path));
  if (code != SQLITE_OK) return db->Failure(code, "open");
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, kBusyTimeoutMs);
  RETURN_IF_ERROR(db->Exec(kPragmas));
  return db;
}

SqliteDb::~SqliteDb() { sqlite3_close(db_); }

absl::Status SqliteDb::Failure(int code, std::string_view doing) const {
  Reason reason = Reason::k_BUG;
  if (DiskFull(code)) {
    reason = Reason::k_DISK_FULL;
  } else if (int kind = code & 0xff; kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB ||
                                     kind == SQLITE_IOERR || kind == SQLITE_CANTOPEN) {
    reason = Reason::k_STORE_CORRUPT;
  }
  return Error(reason, path_ + ": " + std::string(doing) + ": " + sqlite3_errmsg(db_) + " (" +
                           std::to_string(code) + ")");
}

absl::Status SqliteDb::Exec(const std::string& sql) {
  const int code = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Failure(code, sql.substr(0, sql.find('(')));
}

void SqliteDb::Rollback() {
  // SQLite has rolled back by itself after some errors; then this would be one more.
  if (sqlite3_get_autocommit(db_) == 0) Exec("ROLLBACK").IgnoreError();
}

int64_t SqliteDb::ChangedRows() const { return sqlite3_changes64(db_); }

SqliteStatement::~SqliteStatement() { sqlite3_finalize(statement_); }

void SqliteStatement::Reset() {
  code_ = SQLITE_OK;
  if (statement_ == nullptr) {
    code_ = sqlite3_prepare_v3(db_.db_, sql_.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &statement_,
                               nullptr);
    return;
  }
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

absl::StatusOr<bool> SqliteStatement::Next() {
  if (statement_ == nullptr && code_ == SQLITE_OK) Reset();
  if (code_ == SQLITE_OK) code_ = sqlite3_step(statement_);
  if (code_ == SQLITE_ROW) {
    code_ = SQLITE_OK;
    return true;
  }
  const int code = code_;
  if (code == SQLITE_DONE) {
    sqlite3_reset(statement_);
    code_ = SQLITE_OK;
    return false;
  }
  absl::Status failure = db_.Failure(code, sql_.substr(0, sql_.find('(')));
  sqlite3_reset(statement_);
  return failure;
}

absl::Status SqliteStatement::Run() { return Next().status(); }

void SqliteStatement::BindOne(int index, int64_t value) {
  if (code_ == SQLITE_OK) code_ = sqlite3_bind_int64(statement_, index, value);
}

void SqliteStatement::BindOne(int index, std::string_view text) {
  const char* data = text.data() == nullptr ? "" : text.data();
  if (code_ == SQLITE_OK) {
    code_ = sqlite3_bind_text64(statement_, index, data, text.size(), SQLITE_STATIC, SQLITE_UTF8);
  }
}

void SqliteStatement::BindOne(int index, const SqlBlob& blob) {
  const char* data = blob.bytes.data() == nullptr ? "" : blob.bytes.data();
  if (code_ == SQLITE_OK) {
    code_ = sqlite3_bind_blob64(statement_, index, data, blob.bytes.size(), SQLITE_STATIC);
  }
}

void SqliteStatement::BindOne(int index, const std::optional<int64_t>& value) {
  if (value.has_value()) BindOne(index, *value);
}

void SqliteStatement::BindOne(int index, const std::optional<SqlBlob>& value) {
  if (value.has_value()) BindOne(index, *value);
}

int64_t SqliteStatement::Int(int column) const { return sqlite3_column_int64(statement_, column); }

std::string SqliteStatement::Text(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), size);
}

}  // namespace hermes
