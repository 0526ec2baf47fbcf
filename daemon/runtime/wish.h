#pragma once

// Wish: somebody's interest in what others work at for it, which it may lose. The one who wishes
// keeps it and withdraws it; those at work hold it, look at it after each await, and listen for
// the moment. A null WishPtr is a wish that is never withdrawn. Loop thread.

#include <functional>
#include <list>
#include <memory>
#include <utility>

namespace hermes {

class Wish {
 public:
  // Calls who listens, once. Idempotent.
  void Withdraw() {
    withdrawn_ = true;
    for (auto heard = std::exchange(ears_, {}); std::function<void()> * ear : heard) (*ear)();
  }
  bool withdrawn() const { return withdrawn_; }

  // Calls `heard` when the wish is withdrawn while this lives. `heard` destroys no other Ear.
  class Ear {
   public:
    Ear(std::shared_ptr<Wish> wish, std::function<void()> heard)
        : wish_(std::move(wish)), heard_(std::move(heard)) {
      if (wish_ != nullptr) wish_->ears_.push_back(&heard_);
    }
    ~Ear() {
      if (wish_ != nullptr) wish_->ears_.remove(&heard_);
    }
    Ear(const Ear&) = delete;
    Ear& operator=(const Ear&) = delete;

   private:
    const std::shared_ptr<Wish> wish_;
    std::function<void()> heard_;
  };

 private:
  bool withdrawn_ = false;
  std::list<std::function<void()>*> ears_;
};

using WishPtr = std::shared_ptr<Wish>;

inline bool IsWithdrawn(const WishPtr& wish) { return wish != nullptr && wish->withdrawn(); }

}  // namespace hermes
