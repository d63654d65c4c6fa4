#include "tools/machine_facts.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "transport/nccl/library.h"
#include "transport/ucx/ucx_context.h"
#include "transport/verbs/sysfs.h"

namespace membrain {

namespace {

namespace fs = std::filesystem;
using verbs::entries_of;
using verbs::read_attribute;
using verbs::read_number;

std::uint64_t limit_of(int which) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource>(which), &limit) != 0) return kUnlimited;
  return limit.rlim_cur == RLIM_INFINITY ? kUnlimited : limit.rlim_cur;
}

/// "always within_size [advise] never" -> "advise".
std::string chosen_in(const std::string& text) {
  const std::size_t open = text.find('[');
  const std::size_t close = text.find(']', open);
  return close == std::string::npos ? text : text.substr(open + 1, close - open - 1);
}

/// What follows "NAME:" in a file like /proc/self/status.
std::string field_of(const fs::path& file, std::string_view name) {
  const std::string text = read_attribute(file).value_or("");
  const std::size_t at = text.find(std::string(name) + ":");
  if (at == std::string::npos) return {};
  const std::size_t begin = text.find_first_not_of(" \t", at + name.size() + 1);
  return begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
}

bool may_trace(const fs::path& procfs) {
  const std::string effective = field_of(procfs / "self/status", "CapEff");
  std::uint64_t capabilities = 0;
  std::from_chars(effective.data(), effective.data() + effective.size(), capabilities, 16);
  return (capabilities >> CAP_SYS_PTRACE & 1) != 0;
}

/// The host's own PID namespace has had this number since Linux 3.8 (PROC_PID_INIT_INO).
std::optional<bool> in_host_pids(const fs::path& procfs) {
  std::error_code error;
  const std::string name = fs::read_symlink(procfs / "self/ns/pid", error).string();
  if (error) return std::nullopt;
  return name == "pid:[4026531836]";
}

std::optional<std::uint64_t> free_shared_memory() {
  struct statvfs room {};
  if (::statvfs("/dev/shm", &room) != 0) return std::nullopt;
  return room.f_bavail * room.f_frsize;
}

bool may_open_rdma() {
  for (const std::string& name : entries_of("/dev/infiniband")) {
    const fs::path device = fs::path("/dev/infiniband") / name;
    if (name.starts_with("uverbs") && ::access(device.c_str(), R_OK | W_OK) == 0) return true;
  }
  return false;
}

std::map<std::string, std::string> ucx_variables() {
  std::map<std::string, std::string> variables;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string_view entry(*at);
    const std::size_t equals = entry.find('=');
    if (entry.starts_with("UCX_") && equals != std::string_view::npos) {
      variables.emplace(entry.substr(0, equals), entry.substr(equals + 1));
    }
  }
  return variables;
}

void observe_kernel(MachineFacts& facts, const fs::path& sysfs, const fs::path& procfs) {
  utsname name{};
  if (::uname(&name) == 0) facts.kernel = name.release;
  facts.clock_source =
      read_attribute(sysfs / "devices/system/clocksource/clocksource0/current_clocksource")
          .value_or("");
  const std::vector<std::string> nodes = entries_of(sysfs / "devices/system/node");
  const auto count = std::ranges::count_if(nodes, [](const std::string& entry) {
    return entry.starts_with("node") && verbs::number_in(entry.substr(4)).has_value();
  });
  if (count > 0) facts.numa_nodes = static_cast<int>(count);
  const std::int64_t balancing = read_number(procfs / "sys/kernel/numa_balancing", -1);
  if (balancing >= 0) facts.numa_balancing = balancing != 0;
  facts.huge_pages = read_number(procfs / "sys/vm/nr_hugepages", -1);
  facts.shared_huge_pages = chosen_in(
      read_attribute(sysfs / "kernel/mm/transparent_hugepage/shmem_enabled").value_or(""));
  const std::int64_t scope = read_number(procfs / "sys/kernel/yama/ptrace_scope", -1);
  if (scope >= 0) facts.ptrace_scope = static_cast<int>(scope);
  facts.may_trace = may_trace(procfs);
  facts.host_pids = in_host_pids(procfs);
}

void observe_cuda(MachineFacts& facts) {
  const auto driver = cuda::Driver::load();
  if (!driver) {
    facts.cuda_reason = driver.error().context;
    if (!cuda::no_gpu(driver.error())) facts.cuda_status = driver.error().native;
    return;
  }
  facts.cuda_version = (*driver)->version();
  for (int i = 0; i < (*driver)->device_count(); ++i) {
    if (const auto gpu = cuda::describe(**driver, i)) facts.gpus.push_back(*gpu);
  }
  const auto nccl = nccl::Library::load();
  if (nccl) facts.nccl_version = (*nccl)->version();
  if (!nccl) facts.nccl_reason = nccl.error().context;
}

void observe_ucx(MachineFacts& facts) {
  UcxContextConfig config;
  config.loopback_only = false;
  const auto context = UcxContext::create(config);
  if (context) {
    facts.ucx_transports = (*context)->transports();
    facts.ucx_cuda = (*context)->devices().cuda;
    facts.ucx_gpu_direct = (*context)->devices().nics;
  } else {
    facts.ucx_reason = context.error().context;
  }
}

}  // namespace

MachineFacts observe_machine(bool libraries, const fs::path& sysfs, const fs::path& procfs) {
  MachineFacts facts;
  observe_kernel(facts, sysfs, procfs);
  facts.locked_memory_bytes = limit_of(RLIMIT_MEMLOCK);
  facts.open_files = limit_of(RLIMIT_NOFILE);
  facts.shared_memory_bytes = free_shared_memory();
  facts.hardware = verbs::take_inventory(sysfs, procfs);
  facts.may_open_rdma = may_open_rdma();
  facts.ucx_version = UcxContext::version();
  facts.ucx_environment = ucx_variables();
  if (!libraries) return facts;
  observe_cuda(facts);
  observe_ucx(facts);
  return facts;
}

}  // namespace membrain
