// Contacts: first contact over TCP, and the line that stays open behind every connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "transport/fabric.h"
#include "transport/loop.h"
#include "transport/ucx/handshake.h"
#include "transport/ucx/socket.h"

namespace membrain {

class Contacts;

/// One TCP connection to another fabric. After first contact it carries nothing: it is there to
/// end, which the kernel tells at once when the other process dies or closes, while UCX on shared
/// memory finds out only by its keep-alive.
class Contact final : private FdHandler {
 public:
  Contact(Contacts& contacts, std::uint64_t id, Descriptor socket, Handshake handshake,
          TimePoint deadline);
  ~Contact();
  Contact(const Contact&) = delete;
  Contact& operator=(const Contact&) = delete;

  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] const Handshake& handshake() const noexcept { return handshake_; }

 private:
  friend class Contacts;
  void on_ready(std::uint32_t epoll_events) override;
  void start();
  void read();
  void advance();
  void write();
  void watch(std::uint32_t events);
  void end(const Error& why);

  Contacts& contacts_;
  std::uint64_t id_;
  Descriptor socket_;
  Handshake handshake_;
  TimePoint deadline_;
  Handshake::Stage told_ = Handshake::Stage::hello;  ///< what the owner has been told of
  bool connecting_ = false;
  bool ended_ = false;
  std::uint32_t watched_ = 0;
  std::vector<std::byte> output_;
};

/// Listens, answers and calls. Holds every contact of a fabric.
///
/// Threads  The loop's.
/// Bounds   kMaxHalfOpen contacts that have not agreed: for a newer one the oldest caller that has
///          proved nothing is dropped, and if there is none, the newer one is. kPatience for each
///          caller, kProvenPatience more for a proven one; none that would take one of the last
///          kSpareDescriptors.
class Contacts final : private FdHandler {
 public:
  static constexpr std::size_t kMaxHalfOpen = 256;
  /// Callers are turned away while so many descriptors are left. UCX takes its own in the same
  /// process, and when it lacks one for a caller it stops listening, for ever.
  static constexpr int kSpareDescriptors = 64;
  static constexpr Duration kPatience = std::chrono::seconds(2);
  /// With a caller that is proven and opens its endpoint: on RoCE the kernel may have to ask for
  /// the peer's hardware address first, which was seen to take 1.3 s inside UCX.
  static constexpr Duration kProvenPatience = std::chrono::seconds(10);

  /// Told what becomes of contacts; from a turn of the loop, or from `sweep`.
  class Owner {
   public:
    /// The caller of an answered contact is proven. False: no.
    virtual bool on_heard(const Contact& contact) = 0;
    /// Both ends have what they need. False: no.
    virtual bool on_agreed(const Contact& contact) = 0;
    /// It is over: failed, or ended by the other side. Not after `drop`.
    virtual void on_ended(const Contact& contact, const Error& why) = 0;

   protected:
    ~Owner() = default;
  };

  /// `make_card` gives every contact its own token.
  Contacts(Loop& loop, std::string secret, std::function<Card()> make_card, Owner& owner);
  ~Contacts();
  Contacts(const Contacts&) = delete;
  Contacts& operator=(const Contacts&) = delete;

  Result<Address> listen(const Address& address);
  /// Calls; the contact's id. `out_of_capacity` if too many contacts are under way.
  Result<std::uint64_t> call(const SocketAddress& address, TimePoint deadline);
  /// Ends a contact without a word to its owner. Unknown ids are ignored.
  void drop(std::uint64_t id) noexcept;
  /// Frees what has ended. Not from a handler: from Source::progress.
  void sweep() noexcept { ended_.clear(); }

 private:
  friend class Contact;
  void on_ready(std::uint32_t epoll_events) override;
  void turn_away();
  void answer(Descriptor socket);
  Contact& add(Descriptor socket, Handshake handshake, TimePoint deadline);
  [[nodiscard]] bool make_room();
  void retire(std::uint64_t id) noexcept;
  void expire();
  void set_alarm();

  Loop& loop_;
  std::string secret_;
  std::function<Card()> make_card_;
  Owner& owner_;
  Descriptor listener_;
  Descriptor reserve_;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, std::unique_ptr<Contact>> contacts_;
  std::vector<std::uint64_t> half_open_;  ///< oldest first
  std::vector<std::unique_ptr<Contact>> ended_;
  Timer alarm_;
};

}  // namespace membrain
