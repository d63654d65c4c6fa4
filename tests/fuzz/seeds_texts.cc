// Seeds of what people and other programs write.
#include <string>

#include "tests/fuzz/seeds.h"

namespace membrain::fuzz {
namespace {

constexpr const char* kRequest = R"({"timestamp": 1, "input_length": 1025, "output_length": 3, )"
                                 R"("hash_ids": [1, 2, 18446744073709551615]})"
                                 "\n";
constexpr const char* kConfig = R"(log-level = "debug"
[server]
need = "x"
[node]
address = "0.0.0.0:9201"
size = "4GiB"
verify = false
count = 65536
server = "one:9201,two:9201"
)";

void seed_json(Seeds& seeds) {
  seeds.put("trace_lines", "one", kRequest);
  seeds.put("trace_lines", "some", std::string(kRequest) + "\n" + kRequest);
  seeds.put("trace_lines", "real_number",
            R"({"timestamp": 1.5, "input_length": 1, "output_length": 0, "hash_ids": []})");
  seeds.put("trace_lines", "nested", R"({"timestamp": [[[]]], "input_length": {"a": "\u0000"}})");
  seeds.put("engine_wire", "task", R"({"index": 1, "input_length": 2, "hash_ids": [3, 4]})");
  seeds.put("engine_wire", "report", R"({"index": 1, "blocks_looked_up": 2, "blocks_hit": 3,
"prefix_blocks": 4, "tokens_saved": 5, "bytes_fetched": 6, "wrong_bytes": 0, "blocks_stored": 7,
"blocks_duplicate": 8, "bytes_stored": 9, "lookup_ns": 10, "fetch_ns": 11, "store_ns": 12,
"misses": [1, 2, 3, 4, 5], "not_stored": {"full": 1}, "lanes": {"mapped": 2}})");
  seeds.put("torture_lines", "fetch", R"({"op": "fetch", "call": 1, "ret": 2, "space": 3, "era": 4,
"next_era": 0, "match": 5, "pinned": 1, "outcome": "ok", "blocks": [6, 18446744073709551615],
"items": "+?", "bytes": 7, "wrong_bytes": 0})");
  seeds.put("torture_lines", "real_number", R"({"op": "fetch", "call": 1, "ret": 2, "space": 3,
"era": 4, "next_era": 0, "match": 5, "pinned": 1, "outcome": "ok", "blocks": [6, 1e30],
"items": "+?", "bytes": 8, "wrong_bytes": 1})");
  seeds.put("torture_lines", "clear", R"({"op": "clear", "call": -1, "ret": 2, "space": 3, "era": 4,
"next_era": 5, "match": 0, "pinned": 0, "outcome": "timed_out", "blocks": [], "items": "",
"bytes": 0, "wrong_bytes": 0})");
}

void seed_configuration(Seeds& seeds) {
  seeds.put("config_file", "usual", kConfig);
  seeds.put("config_file", "types", "a = 1.5\nb = 1979-05-27T07:32:00Z\nc = [1, {d = 0x1f}]\n");
  seeds.put("config_file", "strings", "\"a b\" = '''x\ny'''\nc.d = \"\\u00e9\\n\"\n[[e]]\n");
  seeds.put("command_line", "server",
            std::string("server\n--need=1\n--hidden\nx\n\nNEED=1\n\n") + kConfig);
  seeds.put("command_line", "node",
            "node\n--size=4GiB\n--server\na:1,b:2\n-v\n\nSECRET=s\nTIMEOUT=3s\n\n");
  seeds.put("command_line", "help", "--help\n\n");
  seeds.put("command_line", "version", "--version\n\n");
  seeds.put("command_line", "options",
            "node\n-t\nx\n--speed\nmax\n--timeout\n3s\n--no-verify\n--count\n7\n\n");
  seeds.put("command_line", "lists",
            "node\n--list\na\n--list\nb,c\n--address\n[::1]:2\n--json\n\n");
  const char* const texts[] = {"4GiB", "1.5 MiB", "65536",  "250ms",    "1h",
                               "max",  "2.5x",    "host:1", "[::1]:80", "a:1,b:2,[::]:3",
                               "yes",  "off",     "2e9 GB", "debug",    "0123456789abcdef"};
  for (int i = 0; const char* const text : texts) seeds.put("texts", std::to_string(i++), text);
}

void seed_cluster(Seeds& seeds) {
  seeds.put("cluster_values", "one", "1 0:0\nservers/a 7 a:9201\nshards/0/leader 7 a:9201\n");
  seeds.put("cluster_values", "two",
            "3 0:0 8000000000000000:1\nservers/a 7 a:9201\nservers/b 8 b:9201\n"
            "shards/0/leader 7 a:9201\nshards/1/leader 7 a:9201\nshards/1/wanted 0 b\n"
            "shards/1/ready 8 b\nshards/0/split 0 2\n");
  seeds.put("cluster_values", "many", "7 0:5 1:4 2:3 ffffffffffffffff:4294967295\nservers/a 1 a\n");
  seeds.put("cluster_values", "last_version", "4294967295 0:0\n");
  seeds.put("cluster_values", "nameless_server", "1 0:0\nservers/ 7 a:9201\n");
  constexpr const char* kStatus = R"({"counters": {}, "shards": [{"shard": 1, "epoch": 2,
"grace": false, "counters": {"blocks": 3}}, {"shard": 2, "epoch": 0}]})";
  seeds.put("http_answers", "json", kStatus);
  seeds.put("http_answers", "status",
            std::string("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n") + kStatus);
  seeds.put("http_answers", "not_found", "HTTP/1.1 404 Not Found\r\n\r\nno");
  seeds.put("http_answers", "two_hundred_elsewhere", "HTTP/1.1\r\nA: 200 \r\n\r\n");
}

void seed_network(Seeds& seeds) {
  seeds.put("admin_http", "health", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
  seeds.put("admin_http", "status", "GET /status?a=b%20c HTTP/1.0\r\n\r\n");
  seeds.put("admin_http", "range", "GET /status HTTP/1.1\r\nRange: bytes=0-1,5-\r\n\r\n");
  seeds.put("admin_http", "post",
            "POST /status HTTP/1.1\r\nContent-Length: 3\r\nContent-Type: "
            "application/x-www-form-urlencoded\r\n\r\na=b");
  seeds.put("admin_http", "chunked",
            "PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
  seeds.put("admin_http", "parts",
            "POST /x HTTP/1.1\r\nContent-Length: 70\r\nContent-Type: multipart/form-data; "
            "boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\nx\r\n--b--"
            "\r\n");
  seeds.put("admin_http", "long", "HEAD / HTTP/1.1\r\nA: " + std::string(3000, 'x') + "\r\n\r\n");
  using namespace std::string_view_literals;
  // Field 1 of every answer is its header: {cluster_id: 1, revision: 5}.
  constexpr std::string_view kHeader = "\x0a\x04\x08\x01\x18\x05"sv;
  const auto answer = [&](const char* name, char call, std::string_view rest) {
    seeds.put("etcd_replies", name,
              std::string(1, call) + std::string(kHeader) + std::string(rest));
  };
  answer("range", 0, "\x12\x0d\x0a\x03\x61/1\x10\x02\x18\x03\x2a\x01x\x20\x01"sv);
  answer("grant", 1, "\x10\x07\x18\x02"sv);
  answer("alive", 2, "\x10\x01\x18\x02"sv);
  answer("over", 2, "\x10\x01"sv);
  answer("revoke", 3, ""sv);
  answer("txn", 4, "\x10\x01\x1a\x02\x12\x00"sv);
  answer("watch", 5, "\x5a\x07\x12\x05\x0a\x03\x61/1"sv);
  answer("canceled", 5, "\x20\x01"sv);
}

}  // namespace

void seed_texts(Seeds& seeds) {
  seed_json(seeds);
  seed_configuration(seeds);
  seed_cluster(seeds);
  seed_network(seeds);
}

}  // namespace membrain::fuzz
