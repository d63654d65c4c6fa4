// Door: how an object on one loop is reached from another.
#pragma once

#include <memory>
#include <utility>

#include "membrain/result.h"
#include "transport/loop.h"

namespace membrain {

/// Posts calls to an object that lives on a loop. When the object has shut its door, calls are
/// dropped: whoever still holds a copy may post for ever.
///
/// Threads  `post` and copies: any thread. `shut`: the object's own loop.
template <class T>
class Door {
 public:
  Door() = default;
  Door(Loop& loop, T& object) : loop_(&loop), open_(std::make_shared<T*>(&object)) {}

  /// Runs `call(object)` on the object's loop. `out_of_capacity` when its inbox is full,
  /// `unavailable` if this door leads nowhere.
  template <class Call>
  Result<> post(Call call) const {
    if (loop_ == nullptr) return fail(Errc::unavailable, "a door that leads nowhere");
    return loop_->inbox().post([open = open_, call = std::move(call)]() mutable {
      if (*open != nullptr) call(**open);
    });
  }
  void shut() const noexcept {
    if (open_ != nullptr) *open_ = nullptr;
  }

 private:
  Loop* loop_ = nullptr;
  std::shared_ptr<T*> open_;
};

}  // namespace membrain
