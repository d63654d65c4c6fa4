#include "tests/cuda/fake_capture.h"

#include <atomic>
#include <utility>

#include "tests/cuda/fake_driver.h"

using namespace membrain::cuda;

namespace {

constexpr Status kCaptureUnsupported = 900;
constexpr Status kCaptureInvalidated = 901;

std::atomic<bool> capturing = false;
std::atomic<bool> spoiled = false;
thread_local CaptureMode thread_mode = CaptureMode::global;

}  // namespace

namespace membrain::cuda::fake {

void begin_capture() {
  spoiled = false;
  capturing = true;
}

bool end_capture() {
  capturing = false;
  return !spoiled;
}

Status capture_verdict() {
  if (!capturing || thread_mode != CaptureMode::global) return kSuccess;
  spoiled = true;
  return kCaptureUnsupported;
}

}  // namespace membrain::cuda::fake

extern "C" {

Status cuThreadExchangeStreamCaptureMode(CaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return kSuccess;
}

// ---- what engines capture with: nothing of the graph is kept

Status cuStreamBeginCapture_v2(RawStream, CaptureMode mode) {
  if (mode == CaptureMode::global) fake::begin_capture();
  return kSuccess;
}

Status cuStreamEndCapture(RawStream, void** graph) {
  *graph = nullptr;
  return fake::end_capture() ? kSuccess : kCaptureInvalidated;
}

Status cuGraphDestroy(void*) {
  return kSuccess;
}

}  // extern "C"
