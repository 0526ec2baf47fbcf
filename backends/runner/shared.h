#pragma once

// A counted reference to one immutable value, for one thread.

#include <utility>

namespace hermes::runner {

template <typename T>
class Shared {
 public:
  Shared() = default;
  explicit Shared(T value) : box_(new Box{std::move(value), 1}) {}
  Shared(const Shared& other) : box_(other.box_) {
    if (box_ != nullptr) ++box_->owners;
  }
  Shared& operator=(Shared other) {
    std::swap(box_, other.box_);
    return *this;
  }
  ~Shared() {
    if (box_ != nullptr && --box_->owners == 0) delete box_;
  }

  explicit operator bool() const { return box_ != nullptr; }
  const T& operator*() const { return box_->value; }
  const T* operator->() const { return &box_->value; }

 private:
  struct Box {
    const T value;
    int owners;
  };
  Box* box_ = nullptr;
};

}  // namespace hermes::runner
