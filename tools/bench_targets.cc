// Where each row of `membrain bench` comes from, and its target.
#include <chrono>
#include <utility>
#include <vector>

#include "tools/bench_rows.h"

namespace membrain {
namespace {

using std::chrono::seconds;
using enum BenchRule;

constexpr double kGiga = 1e-9;
constexpr double kMega = 1e-6;

BenchQuantity bandwidth(std::string_view row) {
  return {row, "bytes_per_second", kGiga};
}

BenchGroup tcp_megabyte() {
  BenchGroup group{"transfer_bench", "1 MiB over tcp", seconds(16), {}};
  BenchExtra vs_get{"raw UCX GET, its own settings", bandwidth("fetch/tcp/1048576"),
                    "raw_get_default/tcp/1048576", ratio_at_least, 2};
  group.rows.push_back({"fetch_tcp_1MiB_w4",
                        "GB/s",
                        bandwidth("fetch/tcp/1048576"),
                        {"raw/tcp/1048576"},
                        ratio_at_least,
                        0.95,
                        {vs_get}});
  group.rows.push_back({"fetch_tcp_1MiB_w4_verified",
                        "GB/s",
                        bandwidth("fetch_verified/tcp/1048576"),
                        {"raw/tcp/1048576"},
                        ratio_at_least,
                        0.9});
  return group;
}

BenchGroup tcp_batch() {
  return {"transfer_bench",
          "16 blocks of 64 KiB over tcp",
          seconds(8),
          {{"fetch_tcp_64KiB_b16",
            "GB/s",
            bandwidth("fetch/tcp/65536/b16"),
            {"raw/tcp/65536/b16"},
            ratio_at_least,
            0.9}}};
}

BenchGroup round_trip() {
  return {"transfer_bench",
          "4 KiB there and back over tcp",
          seconds(8),
          {{"roundtrip_tcp_4KiB",
            "us",
            {"roundtrip/tcp/4096", "time_us"},
            {"raw_pingpong/tcp/4096"},
            ratio_at_most,
            1.5}}};
}

BenchGroup tcp_checksum() {
  return {"transfer_bench",
          "checksums of 256 KiB over tcp",
          seconds(8),
          {{"checksum_cost_tcp_256KiB",
            "share",
            bandwidth("fetch_verified/tcp/262144"),
            {"fetch/tcp/262144"},
            value_at_most,
            0.1,
            {},
            true}}};
}

BenchGroup mapped() {
  BenchGroup group{"transfer_bench", "the mapped path", seconds(14), {}};
  group.rows.push_back({"fetch_mapped_1MiB",
                        "GB/s",
                        bandwidth("fetch_mapped/1048576"),
                        {"memcpy/1048576"},
                        ratio_at_least,
                        0.9});
  group.rows.push_back({"fetch_mapped_1MiB_verified",
                        "GB/s",
                        bandwidth("fetch_mapped_verified/1048576"),
                        {"fetch_mapped/1048576"},
                        ratio_at_least,
                        0.6});
  group.rows.push_back({"checksum_cost_mapped_1MiB",
                        "share",
                        bandwidth("fetch_mapped_verified/1048576"),
                        {"fetch_mapped/1048576"},
                        value_at_most,
                        0.4,
                        {},
                        true});
  group.rows.push_back(
      {"fetch_view_b16", "us", {"fetch_view/b16", "p50_us"}, {}, value_at_most, 2});
  return group;
}

BenchGroup end_to_end() {
  return {"store_bench",
          "lookup, fetch and release of 16 x 1 MiB",
          seconds(30),
          {{"get_end_to_end_1MiB_b16",
            "GB/s",
            bandwidth("get/tcp/1048576/b16/c1"),
            {"fetch/tcp/1048576/b16/c1"},
            ratio_at_least,
            0.95}}};
}

BenchGroup catalog() {
  BenchGroup group{"metadata_bench", "the catalog with 10^7 blocks", seconds(45), {}};
  group.rows.push_back({"catalog_keys",
                        "M keys/s",
                        {"find_batch/10000000", "keys_per_second", kMega},
                        {},
                        value_at_least,
                        15});
  BenchExtra resident{"resident", {"find_batch/10000000", "resident_bytes_per_entry"}};
  group.rows.push_back({"catalog_bytes_per_entry",
                        "bytes",
                        {"find_batch/10000000", "bytes_per_entry"},
                        {},
                        value_at_most,
                        128,
                        {resident}});
  group.rows.push_back({"cost_growth_entries",
                        "ns/key",
                        {"shard_lookup/10000000", "cpu_ns_per_key"},
                        {"shard_lookup/10000"},
                        ratio_at_most,
                        2});
  return group;
}

BenchGroup lookups() {
  BenchGroup group{"metadata_bench", "lookups over tcp", seconds(25), {}};
  BenchExtra slowest{"99 of 100", {"lookup_512/tcp", "p99_us"}, {}, value_at_most, 400};
  group.rows.push_back(
      {"lookup_512", "us", {"lookup_512/tcp", "p50_us"}, {}, value_at_most, 150, {slowest}});
  group.rows.push_back({"lookup_pipelined",
                        "M keys/s",
                        {"lookup_pipelined/tcp", "keys_per_server_cpu_second", kMega},
                        {},
                        value_at_least,
                        5});
  group.rows.push_back({"cost_growth_clients",
                        "ns/key",
                        {"lookup_clients/64", "cpu_ns_per_key"},
                        {"lookup_clients/1"},
                        ratio_at_most,
                        2});
  return group;
}

BenchGroup redis() {
  BenchGroup group{"peer_bench", "Redis at the same work", seconds(50), {}};
  const auto over_tcp = [](std::string_view name, BenchQuantity fetch, BenchQuantity get,
                           BenchQuantity socket, std::vector<std::string_view> controls) {
    // The socket is what the kernel carries with no protocol at all: the limit of both sides.
    const std::string_view first = controls[0];
    return BenchRowSpec{name,
                        "GB/s",
                        fetch,
                        std::move(controls),
                        ratio_at_least,
                        2,
                        {{"with lookups", get, first}, {"a plain socket alone", socket, first}}};
  };
  group.rows.push_back(over_tcp("redis_fetch_64KiB", bandwidth("membrain_fetch/tcp/65536"),
                                bandwidth("membrain_get/tcp/65536"), bandwidth("socket/65536"),
                                {"redis_get/65536", "redis_mget/65536"}));
  group.rows.push_back(over_tcp("redis_fetch_1MiB", bandwidth("membrain_fetch/tcp/1048576"),
                                bandwidth("membrain_get/tcp/1048576"), bandwidth("socket/1048576"),
                                {"redis_get/1048576", "redis_mget/1048576"}));
  group.rows.push_back({"redis_fetch_mapped_1MiB",
                        "GB/s",
                        bandwidth("membrain_fetch/mapped/1048576"),
                        {"redis_get/1048576", "redis_mget/1048576"},
                        ratio_at_least,
                        3});
  group.rows.push_back({"redis_exists",
                        "M keys/s",
                        {"membrain_contains/512", "items_per_second", kMega},
                        {"redis_exists/512"},
                        ratio_at_least,
                        2});
  return group;
}

}  // namespace

const std::vector<BenchGroup>& bench_groups() {
  static const std::vector<BenchGroup> groups{tcp_megabyte(), tcp_batch(), round_trip(),
                                              end_to_end(),   mapped(),    tcp_checksum(),
                                              catalog(),      lookups(),   redis()};
  return groups;
}

}  // namespace membrain
