#include "tools/findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "tools/units.h"
#include "transport/verbs/topology.h"

namespace membrain {

namespace {

constexpr std::uint64_t kFewFiles = 4096;
constexpr std::uint64_t kLittleSharedMemory = std::uint64_t{1} << 30;

class Findings {
 public:
  void ok(std::string id, std::string text) { add(std::move(id), Health::ok, std::move(text), ""); }
  Finding& warn(std::string id, std::string text, std::string cure) {
    return add(std::move(id), Health::warn, std::move(text), std::move(cure));
  }
  Finding& fail(std::string id, std::string text, std::string cure) {
    return add(std::move(id), Health::fail, std::move(text), std::move(cure));
  }
  std::vector<Finding> all;

 private:
  Finding& add(std::string id, Health health, std::string text, std::string cure) {
    return all.emplace_back(
        Finding{std::move(id), health, std::move(text), std::move(cure), false});
  }
};

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

bool has_hardware_rdma(const MachineFacts& facts) {
  return std::ranges::any_of(facts.hardware.devices,
                             [](const verbs::RdmaDevice& device) { return !device.software; });
}

// ---- UCX

void examine_ucx(const MachineFacts& facts, Findings& say) {
  if (!facts.ucx_reason.empty()) {
    say.fail("ucx", fmt::format("UCX {} cannot be used: {}", facts.ucx_version, facts.ucx_reason),
             facts.ucx_environment.empty()
                 ? "reinstall UCX (apt install --reinstall libucx0)"
                 : "unset the UCX_* variables of the next line, and try again");
  } else if (facts.ucx_transports.empty()) {
    say.ok("ucx", "UCX " + facts.ucx_version);
  } else {
    say.ok("ucx", fmt::format("UCX {} with {}", facts.ucx_version, joined(facts.ucx_transports)));
  }
  std::vector<std::string> set;
  bool restricts = false;
  for (const auto& [name, value] : facts.ucx_environment) {
    set.push_back(fmt::format("{}={}", name, value));
    restricts |= name == "UCX_TLS" || name == "UCX_NET_DEVICES";
  }
  if (set.empty()) return;
  if (restricts) {
    say.warn("ucx-environment", "set from outside: " + joined(set),
             "UCX_TLS and UCX_NET_DEVICES keep UCX from choosing: unset them unless that is meant");
  } else {
    say.ok("ucx-environment", "set from outside: " + joined(set));
  }
}

// ---- RDMA

std::string ports_of(const verbs::RdmaDevice& device) {
  std::vector<std::string> ports;
  for (const verbs::Port& port : device.ports) {
    const char* const link = port.link == verbs::Port::Link::infiniband ? "InfiniBand"
                             : port.link == verbs::Port::Link::ethernet ? "RoCE"
                                                                        : "?";
    ports.push_back(
        fmt::format("port {} {} {} {:g} Gb/s", port.number, port.state, link, port.gbps));
  }
  return joined(ports);
}

void examine_ports(const MachineFacts& facts, Findings& say) {
  if (facts.hardware.devices.empty()) {
    return say.ok("rdma", "no RDMA device: blocks go by shared memory and TCP");
  }
  std::size_t active = 0;
  for (const verbs::RdmaDevice& device : facts.hardware.devices) {
    const bool up = std::ranges::any_of(device.ports, &verbs::Port::active);
    active += up ? 1 : 0;
    const std::string text = fmt::format("{}{}: {}", device.name,
                                         device.software ? " (in software)" : "", ports_of(device));
    if (up) {
      say.ok("rdma-port", text);
    } else {
      say.warn("rdma-port", text,
               "check cable, switch port and `ip link`; on InfiniBand, that a subnet manager runs");
    }
  }
  if (active == 0) {
    say.fail("rdma", "no port of any RDMA device is active",
             "bring one up, or set UCX_TLS=tcp,self to do without")
        .serving = true;
  } else if (!facts.may_open_rdma) {
    say.fail("rdma", "there are RDMA devices, but this process may not open them",
             "give it /dev/infiniband (containers: --device=/dev/infiniband)")
        .serving = true;
  }
}

void examine_gpu_direct(const MachineFacts& facts, Findings& say) {
  if (facts.gpus.empty() || !has_hardware_rdma(facts)) return;
  const verbs::GpuDirect& direct = facts.hardware.gpu_direct;
  if (direct.possible() && !facts.ucx_gpu_direct) {
    say.warn("gpu-direct",
             fmt::format("network cards could reach GPU memory ({}), but not by this UCX: blocks "
                         "to other hosts go through pinned host memory",
                         direct.peermem ? "nvidia_peermem" : "dmabuf"),
             facts.ucx_cuda
                 ? "modprobe nvidia_peermem, so that /sys/kernel/mm/memory_peers/nv_mem is there"
                 : "a UCX that knows GPU memory (gpu-ucx)");
  } else if (direct.possible()) {
    say.ok("gpu-direct", fmt::format("network cards can reach GPU memory ({})",
                                     direct.peermem ? "nvidia_peermem" : "dmabuf"));
  } else {
    say.warn("gpu-direct", "network cards cannot reach GPU memory",
             "modprobe nvidia_peermem, or use NVIDIA's open kernel modules (dmabuf)");
  }
}

void examine_affinity(const MachineFacts& facts, Findings& say) {
  if (facts.hardware.gpus.empty() || facts.hardware.devices.empty()) return;
  for (const verbs::Affinity& one : verbs::affinities(facts.hardware)) {
    if (one.ports.empty()) {
      say.warn("affinity", fmt::format("GPU {}: no active port", one.gpu), "see the ports above");
    } else {
      say.ok("affinity",
             fmt::format("GPU {}: {} ({}); UCX_NET_DEVICES={}", one.gpu, one.ports.front(),
                         to_string(one.distance), one.net_devices()));
    }
  }
}

// ---- GPUs

/// How blocks get between this host's GPUs and elsewhere.
void examine_gpu_ways(const MachineFacts& facts, Findings& say) {
  if (!facts.ucx_cuda) {
    say.warn("gpu-ucx",
             fmt::format("UCX {} knows no GPU memory: blocks between GPUs and other processes go "
                         "through pinned host memory",
                         facts.ucx_version),
             "tools/build_ucx_cuda.sh, then build with -DMEMBRAIN_UCX_PREFIX (and no UCX_TLS "
             "without cuda)");
  } else {
    say.ok("gpu-ucx",
           fmt::format(
               "UCX knows GPU memory: blocks go straight between GPUs of this "
               "host{}",
               facts.ucx_gpu_direct ? ", and by RDMA" : "; by RDMA and TCP through pinned memory"));
  }
}

/// By which ways network cards might reach a GPU's memory.
std::string_view lending_of(const cuda::DeviceFacts& gpu) {
  if (gpu.dma_buf && gpu.gpu_direct_rdma) return "lends its memory by dmabuf and nvidia_peermem";
  if (gpu.dma_buf) return "lends its memory by dmabuf";
  return gpu.gpu_direct_rdma ? "lends its memory by nvidia_peermem" : "lends its memory to nobody";
}

void examine_gpus(const MachineFacts& facts, Findings& say) {
  if (facts.cuda_reason.empty() && facts.cuda_version != 0) {
    say.ok("cuda", fmt::format("NVIDIA's driver speaks CUDA {}.{}", facts.cuda_version / 1000,
                               facts.cuda_version % 1000 / 10));
  } else if (facts.cuda_status != cuda::kSuccess) {
    say.warn("cuda", fmt::format("NVIDIA's driver does not start: {}", facts.cuda_reason),
             std::string(cuda::cure_of(facts.cuda_status)));
  } else if (!facts.hardware.gpus.empty()) {
    say.warn("cuda",
             fmt::format("{} GPU(s) on the bus, but no driver to use them: {}",
                         facts.hardware.gpus.size(), facts.cuda_reason),
             "install NVIDIA's driver, 520 or later (containers: --gpus all)");
  } else {
    say.ok("cuda", "no GPU: blocks are kept in host memory");
  }
  for (const cuda::DeviceFacts& gpu : facts.gpus) {
    say.ok("gpu",
           fmt::format("{} at {}: {}, compute capability {}.{}; {}; blocks in arenas of "
                       "this host go through pinned memory, or straight (pin_arenas{})",
                       gpu.name, gpu.pci, format_size(gpu.memory_bytes), gpu.compute / 10,
                       gpu.compute % 10, lending_of(gpu),
                       gpu.read_only_registration ? "" : ", by the mapping for stores in place"));
  }
  if (facts.gpus.empty()) return;
  examine_gpu_ways(facts, say);
  if (facts.nccl_version != 0) {
    say.ok("nccl", fmt::format("NCCL {}.{}.{}: groups may bring blocks from GPU to GPU by it "
                               "(nccl_device)",
                               facts.nccl_version / 10000, facts.nccl_version / 100 % 100,
                               facts.nccl_version % 100));
  } else {
    say.ok("nccl", fmt::format("{}: groups bring blocks from member to member", facts.nccl_reason));
  }
}

// ---- memory and limits

void examine_memory(const MachineFacts& facts, Findings& say) {
  const bool limited = facts.locked_memory_bytes != kUnlimited;
  if (limited && !facts.hardware.devices.empty()) {
    say.warn(
           "locked-memory",
           fmt::format("only {} may be locked, and RDMA locks all that it reaches",
                       format_size(facts.locked_memory_bytes)),
           "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity; containers: --ulimit memlock=-1)")
        .serving = true;
  } else {
    say.ok("locked-memory", limited ? fmt::format("{} may be locked; without RDMA that is enough",
                                                  format_size(facts.locked_memory_bytes))
                                    : "any amount of memory may be locked");
  }
  if (!facts.shared_memory_bytes) {
    say.warn("shared-memory", "there is no /dev/shm, where nodes keep their blocks",
             "mount a tmpfs there, or give nodes another folder (--directory)")
        .serving = true;
  } else if (*facts.shared_memory_bytes < kLittleSharedMemory) {
    say.warn("shared-memory",
             fmt::format("/dev/shm has {} left, and nodes keep their blocks there",
                         format_size(*facts.shared_memory_bytes)),
             "mount -o remount,size=80% /dev/shm (containers: --shm-size)")
        .serving = true;
  } else {
    say.ok("shared-memory",
           fmt::format("/dev/shm has {} left", format_size(*facts.shared_memory_bytes)));
  }
  if (facts.open_files < kFewFiles) {
    say.warn("open-files",
             fmt::format("a process may open {} files; every peer takes a few", facts.open_files),
             "ulimit -n 65536 (systemd: LimitNOFILE=65536)")
        .serving = true;
  }
}

void examine_huge_pages(const MachineFacts& facts, Findings& say) {
  const bool shared = facts.shared_huge_pages == "advise" || facts.shared_huge_pages == "always" ||
                      facts.shared_huge_pages == "within_size" ||
                      facts.shared_huge_pages == "force";
  if (facts.huge_pages > 0) {
    say.ok("huge-pages", fmt::format("{} reserved", facts.huge_pages));
  } else if (shared) {
    say.ok("huge-pages", fmt::format("shared memory may have them ({})", facts.shared_huge_pages));
  } else {
    say.warn("huge-pages", "none for shared memory: registering and mapping arenas is slower",
             "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled");
  }
}

// ---- the kernel

void examine_processes(const MachineFacts& facts, Findings& say) {
  const int scope = facts.ptrace_scope.value_or(0);
  if (scope == 0 || (facts.may_trace && scope < 3)) {
    say.ok("ptrace", "processes of one user may read each other's memory (CMA)");
  } else {
    say.warn("ptrace",
             fmt::format("ptrace_scope is {}: shared memory copies twice instead of once", scope),
             "sysctl kernel.yama.ptrace_scope=0, or CAP_SYS_PTRACE");
  }
  if (facts.host_pids == false) {
    say.warn(
        "pid-namespace",
        "in a PID namespace of its own: processes outside are reached by TCP or mapped arenas",
        "share it with the other workers of this host (docker --pid=host, Kubernetes hostPID)");
  } else if (facts.host_pids == true) {
    say.ok("pid-namespace", "the host's own");
  }
}

void examine_kernel(const MachineFacts& facts, Findings& say) {
  constexpr std::array<std::string_view, 4> kFast = {
      "tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"};
  if (facts.clock_source.empty() || std::ranges::count(kFast, facts.clock_source) != 0) {
    say.ok("clock", facts.clock_source.empty() ? "source unknown" : facts.clock_source);
  } else {
    say.warn("clock",
             fmt::format("the clock is {}: every look at it is a system call", facts.clock_source),
             "boot with clocksource=tsc tsc=reliable if the processor's is sound");
  }
  if (facts.numa_nodes > 1 && facts.numa_balancing == true) {
    say.warn(
        "numa",
        fmt::format("{} NUMA nodes, and the kernel moves pages between them", facts.numa_nodes),
        "sysctl kernel.numa_balancing=0, and bind each worker to the node of its GPU");
  } else if (facts.numa_nodes > 0) {
    say.ok("numa", fmt::format("{} node{}", facts.numa_nodes, facts.numa_nodes == 1 ? "" : "s"));
  }
}

}  // namespace

std::string_view to_string(Health health) noexcept {
  switch (health) {
    case Health::ok:
      return "ok";
    case Health::warn:
      return "warn";
    case Health::fail:
      break;
  }
  return "fail";
}

std::vector<Finding> examine(const MachineFacts& facts) {
  Findings say;
  examine_ucx(facts, say);
  examine_gpus(facts, say);
  examine_ports(facts, say);
  examine_gpu_direct(facts, say);
  examine_affinity(facts, say);
  examine_memory(facts, say);
  examine_huge_pages(facts, say);
  examine_processes(facts, say);
  examine_kernel(facts, say);
  return std::move(say.all);
}

Health worst(const std::vector<Finding>& findings) noexcept {
  Health health = Health::ok;
  for (const Finding& finding : findings) health = std::max(health, finding.health);
  return health;
}

void warn_of_machine() {
  for (const Finding& finding : examine(observe_machine(false))) {
    if (!finding.serving || finding.health == Health::ok) continue;
    log(LogLevel::warn, "{}: {} (`membrain doctor` says more)", finding.text, finding.cure);
  }
}

}  // namespace membrain
