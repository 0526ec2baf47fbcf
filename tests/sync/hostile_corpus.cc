#include "tests/sync/hostile_corpus.h"

#include <cstdint>
#include <string_view>

#include "tests/sync/tar_bytes.h"

namespace hermes::sync {
namespace {

using tar::Block;
using tar::End;
using tar::File;
using tar::Long;
using tar::Pax;
using tar::Repeat;

constexpr std::string_view kFirst = "first member";
constexpr std::string_view kLast = "last member";

std::string LongName() { return "deep/" + std::string(120, 'n') + "/leaf"; }

std::string First() { return File("first", kFirst); }
std::string Last() { return File("last", kLast); }

class Corpus {
 public:
  std::vector<HostileCase> Build() {
    Honest();
    Escapes();
    NamesElsewhere();
    Links();
    HardLinks();
    Specials();
    Unrequested();
    Numbers();
    Bombs();
    Damage();
    return std::move(cases_);
  }

 private:
  // `middle` between two honest members.
  HostileCase& Add(std::string name, Verdict verdict, std::string_view middle,
                   std::map<std::string, std::string> also = {}) {
    HostileCase added{.name = std::move(name),
                      .bytes = First() + std::string(middle) + Last() + End(),
                      .verdict = verdict};
    if (verdict == Verdict::kClean || verdict == Verdict::kOdd) {
      added.staged = std::move(also);
      added.staged["first"] = kFirst;
      added.staged["last"] = kLast;
    }
    cases_.push_back(std::move(added));
    return cases_.back();
  }
  void Raw(std::string name, Verdict verdict, std::string bytes) {
    cases_.push_back({.name = std::move(name), .bytes = std::move(bytes), .verdict = verdict});
  }

  void Honest() {
    Add("honest", Verdict::kClean, File("a", "content"), {{"a", "content"}});
    Add("honest, executable", Verdict::kClean, File({.name = "a", .mode = "0000755"}, "#!"),
        {{"a", "#!"}});
    Add("honest, empty file", Verdict::kClean, File("a", ""), {{"a", ""}});
    Add("honest, missing member", Verdict::kClean, "");
    Add("honest, prefix", Verdict::kClean, File({.name = "x", .prefix = "lnk"}, "p"),
        {{"lnk/x", "p"}});
    Add("honest, GNU long name", Verdict::kClean,
        Long(LongName()) + File({.name = LongName(), .magic = tar::kGnu}, "l"),
        {{LongName(), "l"}});
    Add("honest, pax long name", Verdict::kClean,
        Pax({{"path", LongName()}, {"mtime", "1.5"}}) + File(LongName(), "l"), {{LongName(), "l"}});
    Add("honest, pax global comment", Verdict::kClean, Pax({{"comment", "0123abcd"}}, 'g'));
    Add("honest, fields after the end", Verdict::kClean, "").bytes += std::string(8192, '\0');
    Add("honest, pax size as in the header", Verdict::kClean,
        Pax({{"size", "2"}}) + File("a", "ok"), {{"a", "ok"}});
    Raw("honest, no members", Verdict::kClean, End());
  }

  void Escapes() {
    const std::string far = Repeat("../", 40) + "x";
    for (const std::string& name :
         {std::string("/abs/x"), std::string("../x"), std::string("ok/../../x"), far,
          std::string("ok/.."), std::string(".."), std::string("."), std::string("./a"),
          std::string("a/"), std::string("a//b"), std::string("//a"), std::string(""),
          std::string("../newdir/../dest/x"), std::string("/proc/self/cwd/../x"),
          std::string("/proc/self/root/etc/x"), std::string("lnk/../../x"),
          std::string(".hermesd-stage/0")}) {
      Add("name " + name, Verdict::kLie, File(name, "evil"));
      Add("directory " + name, Verdict::kLie,
          Block({.name = name == "a/" ? "b/../c/" : name, .type = '5', .mode = "0000000"}));
    }
    for (std::string_view name :
         {"esc\x1b[2J", "osc\x1b]0;x\x07", "cr\rlf\n", "c1\x9b", "\xe2\x80\xae"}) {
      Add("terminal bytes in a name", Verdict::kLie, File(name, "evil"));
    }
  }

  void NamesElsewhere() {
    Add("pax path elsewhere", Verdict::kLie, Pax({{"path", "../x"}}) + File("a", "evil"));
    Add("pax path to another wanted", Verdict::kLie, Pax({{"path", "b"}}) + File("a", "evil"));
    Add("pax path twice", Verdict::kLie, Pax({{"path", "a"}, {"path", "b"}}) + File("a", "evil"));
    Add("pax header twice", Verdict::kLie,
        Pax({{"path", "a"}}) + Pax({{"path", "b"}}) + File("a", "evil"));
    Add("pax path and long name", Verdict::kLie, Pax({{"path", "a"}}) + Long("b") + File("a", "e"));
    Add("long name and pax path", Verdict::kLie, Long("b") + Pax({{"path", "a"}}) + File("a", "e"));
    Add("long name twice", Verdict::kLie, Long("a") + Long("b") + File("a", "evil"));
    Add("long name elsewhere", Verdict::kLie, Long("../x") + File("a", "evil"));
    Add("global pax path", Verdict::kLie, Pax({{"path", "b"}}, 'g') + File("a", "evil"));
    Add("global pax size", Verdict::kLie, Pax({{"size", "1"}}, 'g') + File("a", "evil"));
    Add("global sparse", Verdict::kLie, Pax({{"GNU.sparse.name", "b"}}, 'g') + File("a", "evil"));
    Add("NUL in pax path", Verdict::kLie,
        Pax({{"path", std::string("a\0b", 3)}}) + File("a", "evil"));
    Add("NUL in a long name", Verdict::kLie, Long(std::string_view("a\0b", 3)) + File("a", "evil"));
    Add("sparse name elsewhere", Verdict::kLie,
        Pax({{"GNU.sparse.major", "1"}, {"GNU.sparse.name", "../x"}}) + File("a", "evil"));
    Add("prefix elsewhere", Verdict::kLie, File({.name = "x", .prefix = "../out"}, "evil"));
    Add("prefix absolute", Verdict::kLie, File({.name = "x", .prefix = "/etc"}, "evil"));
    Add("prefix under GNU magic", Verdict::kClean,
        File({.name = "a", .prefix = "../out", .magic = tar::kGnu}, "fine"), {{"a", "fine"}});
    Add("empty pax path", Verdict::kLie, Pax({{"path", ""}}) + File("a", "evil"));
    Add("empty long name", Verdict::kLie, Long("") + File("a", "evil"));
  }

  void Links() {
    const std::string out = Block({.name = "lnk", .type = '2', .link = "../outside"});
    Add("symlink", Verdict::kOdd, out);
    Add("symlink, absolute", Verdict::kOdd,
        Block({.name = "a", .type = '2', .link = "/etc/passwd"}));
    Add("symlink, then a file through it that was asked for", Verdict::kOdd,
        out + File("lnk/x", "below"), {{"lnk/x", "below"}});
    Add("symlink, then a file through it", Verdict::kLie, out + File("lnk/evil", "evil"));
    Add("symlink with a slash", Verdict::kLie,
        Block({.name = "lnk/", .type = '2', .link = "../outside"}));
    Add("symlink, then a regular file of its name", Verdict::kLie, out + File("lnk", "evil"));
    Add("symlink through a symlink", Verdict::kLie,
        out + Block({.name = "lnk/l2", .type = '2', .link = ".."}) + File("lnk/l2/x", "evil"));
    Add("directory turned into a symlink", Verdict::kLie,
        Block({.name = "lnk/", .type = '5', .mode = "0000755"}) + out + File("lnk/evil", "evil"));
    Add("symlink with a target beyond the longest path", Verdict::kOdd,
        Long(Repeat("a/../", 3000) + "../outside", 'K') +
            Block({.name = "a", .type = '2', .link = "a/../"}));
    Add("symlink with two long targets", Verdict::kLie,
        Long("x", 'K') + Long("y", 'K') + Block({.name = "a", .type = '2'}));
    Add("symlink to proc", Verdict::kOdd,
        Block({.name = "a", .type = '2', .link = "/proc/self/root"}));
    Add("symlink with payload", Verdict::kLie,
        File({.name = "a", .type = '2', .link = "/etc"}, "payload"));
    Add("symlink nobody asked for", Verdict::kLie,
        Block({.name = "zzz", .type = '2', .link = "a"}));
  }

  void HardLinks() {
    auto link = [](std::string_view target) {
      return Block({.name = "a", .type = '1', .link = target});
    };
    Add("hard link to an earlier member", Verdict::kClean, link("first"), {{"a", "first member"}});
    Add("hard link chain", Verdict::kClean,
        link("first") + Block({.name = "b", .type = '1', .link = "a"}),
        {{"a", "first member"}, {"b", "first member"}});
    Add("hard link outside", Verdict::kOdd, link("../outside/secret"));
    Add("hard link absolute", Verdict::kOdd, link("/etc/passwd"));
    Add("hard link to itself", Verdict::kOdd, link("a"));
    Add("hard link to a later member", Verdict::kOdd, link("last"));
    Add("hard link to a symlink", Verdict::kOdd,
        Block({.name = "lnk", .type = '2', .link = "/etc/passwd"}) + link("lnk"));
    Add("hard link through a symlink", Verdict::kOdd,
        Block({.name = "lnk", .type = '2', .link = "/etc"}) + link("lnk/passwd"));
    Add("hard link with payload", Verdict::kLie,
        File({.name = "a", .type = '1', .link = "first"}, "payload"));
    Add("hard link with payload in pax", Verdict::kLie,
        Pax({{"size", "7"}}) + File({.name = "a", .type = '1', .link = "first"}, "payload"));
    Add("hard link nobody asked for", Verdict::kLie,
        Block({.name = "zzz", .type = '1', .link = "first"}));
  }

  void Specials() {
    Add("fifo", Verdict::kOdd, Block({.name = "a", .type = '6'}));
    Add("character device", Verdict::kOdd, Block({.name = "a", .type = '3'}));
    Add("block device", Verdict::kOdd, Block({.name = "a", .type = '4'}));
    Add("device with payload", Verdict::kLie, File({.name = "a", .type = '3'}, "payload"));
    Add("directory", Verdict::kOdd, Block({.name = "a/", .type = '5', .mode = "0000755"}));
    Add("directory with what is in it", Verdict::kOdd,
        Block({.name = "a/", .type = '5'}) + File("a/x", "1") +
            Block({.name = "a/d/", .type = '5'}) + File("a/d/y", "2"));
    Add("directory with payload", Verdict::kLie, File({.name = "a/", .type = '5'}, "payload"));
    Add("mount root as a directory", Verdict::kLie,
        Block({.name = "./", .type = '5', .mode = "0000000"}));
    Add("setuid", Verdict::kOdd, File({.name = "a", .mode = "0006755"}, "su"), {{"a", "su"}});
    Add("sticky", Verdict::kOdd, File({.name = "a", .mode = "0001644"}, "st"), {{"a", "st"}});
    Add("capability, ACL and flags", Verdict::kClean,
        Pax({{"SCHILY.xattr.security.capability", std::string("\1\0\0\2", 4)},
             {"SCHILY.acl.access", "user::rwx"},
             {"SCHILY.fflags", "immutable"}}) +
            File("a", "cap"),
        {{"a", "cap"}});
    for (char type : {'7', 'A', 'D', 'M', 'V', 'N', 'X', '\xff'}) {
      const bool plain = type == '7';
      Add(std::string("type ") + type, plain ? Verdict::kClean : Verdict::kOdd,
          File({.name = "a", .type = type}, "body"),
          plain ? std::map<std::string, std::string>{{"a", "body"}}
                : std::map<std::string, std::string>{});
    }
  }

  void Unrequested() {
    Add("nobody asked", Verdict::kLie, File("authorized_keys", "evil"));
    Add("nobody asked, below a wanted file", Verdict::kLie, File("first/x", "evil"));
    Add("nobody asked, a part more", Verdict::kLie, File("firstx", "evil"));
    Add("twice", Verdict::kLie, File("a", "one") + File("a", "two"));
    Add("first twice", Verdict::kLie, File("first", "evil"));
    Add("fifo, then a file of its name", Verdict::kLie,
        Block({.name = "a", .type = '6'}) + File("a", "evil"));
  }

  void Numbers() {
    auto size = [](std::string_view field) { return Block({.name = "a", .size_field = field}); };
    Add("size negative", Verdict::kLie, size(std::string(12, '\xff')));
    Add("size negative, short", Verdict::kLie, size(std::string("\xc0\0\0\0\0\0\0\0\0\0\0\1", 12)));
    Add("size 2^62", Verdict::kLie, size(std::string("\x80\0\0\0\x40\0\0\0\0\0\0\0", 12)));
    Add("size 2^63", Verdict::kLie, size(std::string("\x80\0\0\0\x80\0\0\0\0\0\0\0", 12)));
    Add("size over 64 bits", Verdict::kLie, size(std::string("\x80\1\0\0\0\0\0\0\0\0\0\0", 12)));
    Add("size no number", Verdict::kLie, size("zzz"));
    Add("size with a sign", Verdict::kLie, size("-0000000005"));
    Add("size eights", Verdict::kLie, size("00000000008"));
    Add("size in two parts", Verdict::kLie, size("00000 00005"));
    Add("size in base 256", Verdict::kClean,
        Block({.name = "a", .size_field = std::string_view("\x80\0\0\0\0\0\0\0\0\0\0\2", 12)}) +
            tar::Padded("ok"),
        {{"a", "ok"}});
    Add("mode no number", Verdict::kLie, File({.name = "a", .mode = "rwxr-xr"}, "evil"));
    Add("pax size smaller", Verdict::kLie, Pax({{"size", "3"}}) + File("a", "content"));
    Add("pax size bigger", Verdict::kLie, Pax({{"size", "600"}}) + File("a", "content"));
    Add("pax size negative", Verdict::kLie, Pax({{"size", "-1"}}) + File("a", "content"));
    Add("pax size huge", Verdict::kLie,
        Pax({{"size", "99999999999999999999999"}}) + File("a", "content"));
    Add("pax size twice", Verdict::kLie,
        Pax({{"size", "7"}, {"size", "7"}}) + File("a", "content"));
    for (std::string_view body : {"5 a=b\n", "7 path=a\n", "99 path=a\n", "0 path=a\n", "path=a\n",
                                  "9 path a\n", "-9 path=a\n", "99999999999999999999 path=a\n",
                                  "6 =ab\n", "8 path=a\n", " 10 path=a\n", "\n"}) {
      Add("pax record " + std::string(body), Verdict::kLie, tar::PaxRaw(body) + File("a", "evil"));
    }
  }

  void Bombs() {
    Add("file beyond its limit", Verdict::kOdd, File("a", std::string(kCorpusMaxFile + 1, 'x')))
        .small = false;
    Add("more bytes than allowed", Verdict::kLie,
        Block({.name = "a", .size = kCorpusMaxTotal + 1}));
    Add("zeros without end", Verdict::kLie, "").bytes += std::string(2 << 20, '\0');
    cases_.back().small = false;
    cases_.back().staged.clear();
    Add("more members than allowed", Verdict::kLie,
        Block({.name = "a/", .type = '5'}) + Repeat(File("a/x", ""), kCorpusMaxMembers + 1))
        .small = false;
    Add("long name of 8 GiB", Verdict::kLie,
        Block({.name = "././@LongLink", .size = 8ull << 30, .type = 'L'}));
    Add("long name beyond its limit", Verdict::kLie,
        Long(std::string(65 << 10, 'n')) + File("a", "evil"))
        .small = false;
    Add("nested long names", Verdict::kLie, Repeat(Long("a"), 5000)).small = false;
    Add("nested pax headers", Verdict::kLie, Repeat(Pax({{"mtime", "1"}}), 5000)).small = false;
    Add("global headers without end", Verdict::kLie, Repeat(Pax({{"comment", "x"}}, 'g'), 9000))
        .small = false;
    const tar::Pairs sparse = {{"GNU.sparse.major", "0"},
                               {"GNU.sparse.minor", "1"},
                               {"GNU.sparse.name", "a"},
                               {"GNU.sparse.map", "1099511627771,5"},
                               {"GNU.sparse.size", "1099511627776"}};
    Add("sparse of 1 TiB", Verdict::kOdd, Pax(sparse) + File("GNUSparseFile.0/a", "hello"));
    std::string map;
    for (int i = 0; i < 9000; ++i) map += std::to_string(i) + ",1,";
    Add("sparse map of many entries", Verdict::kOdd,
        Pax({{"GNU.sparse.name", "a"}, {"GNU.sparse.map", map}}) +
            File("GNUSparseFile.0/a", "hello"))
        .small = false;
    Add("sparse map in the body", Verdict::kOdd,
        Pax({{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.name", "a"}}) +
            File("GNUSparseFile.0/a", "1000000000\n0\n1\n"));
    std::string old_sparse = Block({.name = "a", .type = 'S', .magic = tar::kGnu});
    Add("sparse, old form", Verdict::kOdd, old_sparse);
    Add("sparse, old form, map without end", Verdict::kLie, MoreMap() + Repeat(MapBlock(), 9000))
        .small = false;
    Add("sparse, old form, map of two blocks", Verdict::kOdd,
        MoreMap() + MapBlock() + std::string(512, '\0'));
    Add("sparse, old form, more behind an empty entry", Verdict::kLie,
        MoreMap('\0') + std::string(512, '\0'));
    Add("sparse, old form, more behind an empty entry of a block", Verdict::kLie,
        MoreMap() + MapBlock('\0') + std::string(512, '\0'));
  }

  // An old GNU sparse header that says that more of its map follows.
  static std::string MoreMap(char digit = '1') {
    // The map and the flag lie where POSIX keeps its prefix.
    std::string prefix(155, '\0');
    for (size_t at = 386; at < 482; ++at) prefix[at - 345] = digit;
    prefix[482 - 345] = 1;
    return Block({.name = "a", .type = 'S', .prefix = prefix, .magic = tar::kGnu});
  }
  static std::string MapBlock(char digit = '1') {
    std::string block(512, '\0');
    for (size_t at = 0; at < 504; ++at) block[at] = digit;
    block[504] = 1;
    return block;
  }

  void Damage() {
    const std::string whole = First() + File("a", std::string(3000, 'x')) + Last();
    Raw("no end", Verdict::kFailed, whole);
    Raw("half an end", Verdict::kFailed, whole + std::string(512, '\0'));
    Raw("cut in a header", Verdict::kFailed, First() + File("a", "b").substr(0, 300));
    Raw("cut in content", Verdict::kFailed, whole.substr(0, 2000));
    Raw("cut behind an extended header", Verdict::kFailed, First() + Long("a"));
    Raw("end behind an extended header", Verdict::kLie, First() + Long("a") + End());
    Raw("nothing", Verdict::kFailed, "");
    Raw("banner", Verdict::kFailed, "Welcome to the place!\n" + whole + End());
    Raw("banner of a block", Verdict::kFailed, tar::Padded("Welcome!\n") + whole + End());
    Raw("error text", Verdict::kFailed, "sh: tar: not found\n");
    Raw("second archive", Verdict::kLie, whole + End() + File("b", "evil") + End());
    Raw("second archive in the same block factor", Verdict::kLie,
        whole + End() + std::string(8192, '\0') + File("b", "evil") + End());
    Raw("text behind the end", Verdict::kLie, whole + End() + "tar: warning\n");
    Raw("lone zero block", Verdict::kLie, First() + std::string(512, '\0') + Last() + End());
    Raw("wrong checksum", Verdict::kLie,
        First() + File({.name = "a", .wrong_checksum = true}, "evil") + Last() + End());
    Raw("wrong checksum at once", Verdict::kFailed,
        File({.name = "a", .wrong_checksum = true}, "evil") + Last() + End());
    Raw("wrong magic", Verdict::kLie,
        First() + File({.name = "a", .magic = "gArBaGeX"}, "evil") + Last() + End());
    Raw("compressed", Verdict::kFailed, "\x1f\x8b\x08" + std::string(600, 'z'));
  }

  std::vector<HostileCase> cases_;
};

}  // namespace

const std::vector<std::string>& CorpusNames() {
  static const auto* const kNames =
      new std::vector<std::string>{"first", "a", "b", "lnk", "lnk/x", LongName(), "last"};
  return *kNames;
}

const std::vector<HostileCase>& HostileCorpus() {
  static const auto* const kCases = new std::vector<HostileCase>(Corpus().Build());
  return *kCases;
}

}  // namespace hermes::sync
