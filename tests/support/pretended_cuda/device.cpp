// A CUDA device that torch's CPU build takes for real: tensors on it lie in host memory, every operation on them is
// computed by the CPU's kernel, and an operation that mixes the two devices fails as on a GPU. Autograd, autocast and
// the dispatcher are torch's own, with CUDA's keys. Random numbers come from a generator of the device's own, and memory
// is counted, with a limit.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/SparseCsrTensorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/_sparse_csr_tensor_unsafe.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/FakeGuardImpl.h>
#include <torch/library.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>

namespace {

const c10::Device kDevice(c10::DeviceType::CUDA, 0);

// --- memory: an allocator that counts, and that has no more than it is told

constexpr size_t kHeader = 64; // keeps what follows aligned
std::atomic<int64_t> allocated{0}, peak{0}, limit{int64_t{80} << 30};

void release(void* data) {
  if (data == nullptr) return;
  char* block = static_cast<char*>(data) - kHeader;
  allocated -= *reinterpret_cast<size_t*>(block);
  std::free(block);
}

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &release, kDevice};
    TORCH_CHECK_WITH(OutOfMemoryError, allocated + int64_t(bytes) <= limit, "CUDA out of memory. Tried to allocate ",
                     bytes, " bytes. The pretended GPU has ", limit.load(), " bytes, ", allocated.load(), " in use.");
    char* block = static_cast<char*>(std::aligned_alloc(kHeader, (bytes + 2 * kHeader - 1) / kHeader * kHeader));
    TORCH_CHECK(block != nullptr, "no host memory is left for the pretended GPU");
    *reinterpret_cast<size_t*>(block) = bytes;
    int64_t now = allocated += bytes, most = peak;
    while (now > most && !peak.compare_exchange_weak(most, now)) {}
    std::memset(block + kHeader, 0xff, bytes); // a GPU's memory is not zeroed: what is read unwritten is NaN
    return {block + kHeader, block + kHeader, &release, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t count) const override { std::memcpy(to, from, count); }
};

Memory memory;

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                   c10::dtype_or_default(type), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                           c10::dtype_or_default(type));
}

// --- copies, the one way from device to device

// the same memory as a tensor of the CPU
at::Tensor on_host(const at::Tensor& tensor) {
  if (!tensor.is_cuda()) return tensor;
  auto options = at::TensorOptions().dtype(tensor.scalar_type()).device(c10::kCPU);
  at::Tensor view = at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), options);
  if (tensor.is_conj()) view = view.conj();
  if (tensor.is_neg()) view = view._neg_view();
  return view;
}

at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  TORCH_CHECK(self.is_cuda() || !non_blocking, "a copy to the host that does not wait: what it leaves there cannot be ",
              "read before the device is synchronised");
  if (self.numel() > 0) on_host(self).copy_(on_host(source));
  return self;
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  to.resize_(self.sizes());
  at::Tensor target = to;
  return copy_(target, self, false);
}

// --- random numbers

std::mutex drawing;

at::Generator& generator() {
  static at::Generator made = at::detail::createCPUGenerator(0);
  return made;
}

// The CPU's kernels draw from the CPU's default generator: for one operation it is the device's.
struct OwnNumbers {
  std::lock_guard<std::mutex> alone{drawing};
  at::Generator host = at::detail::getDefaultCPUGenerator();
  at::Tensor saved;
  OwnNumbers() : saved(host.get_state()) { host.set_state(generator().get_state()); }
  ~OwnNumbers() {
    generator().set_state(host.get_state());
    host.set_state(saved);
  }
};

// --- sparse matrices in CSR, of which a product with a dense one is all that is used

at::Tensor sparse_product(const at::Tensor& sparse, const at::Tensor& dense) {
  TORCH_CHECK(sparse.is_cuda() && dense.is_cuda(), "mm: Expected all tensors to be on the same device, but found at ",
              "least two devices, cuda:0 and cpu!");
  auto* parts = static_cast<at::SparseCsrTensorImpl*>(sparse.unsafeGetTensorImpl());
  at::Tensor host = at::_sparse_csr_tensor_unsafe(parts->compressed_indices().cpu(), parts->plain_indices().cpu(),
                                                  parts->values().cpu(), sparse.sizes());
  return at::mm(host, dense.cpu()).to(kDevice);
}

// --- every other operation

// Where a GPU takes a tensor of the CPU beside its own: the places in an index.
const std::set<std::string> kTakesHostIndices{"aten::index", "aten::index_put_", "aten::_index_put_impl_",
                                              "aten::_unsafe_index", "aten::_unsafe_index_put"};

void check_devices(const c10::OperatorHandle& op, const torch::jit::Stack& arguments) {
  std::vector<at::Tensor> found;
  for (const auto& value : arguments) {
    if (value.isTensor()) found.push_back(value.toTensor());
    if (value.isTensorList()) for (const at::Tensor& each : value.toTensorList()) found.push_back(each);
    if (value.isOptionalTensorList())
      for (const auto& each : value.toOptionalTensorList())
        if (std::optional<at::Tensor> there = each; there.has_value()) found.push_back(*there);
    TORCH_CHECK(!value.isGenerator() || value.toGenerator().device().is_cuda(), op.schema().name(),
                ": Expected a 'cuda' device type for generator but found 'cpu'");
  }
  const bool indexes = kTakesHostIndices.count(op.schema().name()) && !found.empty() && found[0].is_cuda();
  for (const at::Tensor& each : found) {
    const bool index = indexes && (each.scalar_type() == at::kLong || each.scalar_type() == at::kBool);
    TORCH_CHECK(!each.defined() || each.is_cuda() || each.dim() == 0 || index, op.schema().name(),
                ": Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!");
  }
}

void compute(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  check_devices(op, torch::jit::last(stack, op.schema().arguments().size()).vec());
  if (op.hasTag(at::Tag::nondeterministic_seeded)) {
    OwnNumbers own;
    at::native::cpu_fallback(op, stack);
  } else {
    at::native::cpu_fallback(op, stack);
  }
}

int64_t attention_choice(const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                         double, bool, std::optional<double>, bool) {
  return 0; // the kernels of matrix products: a GPU's fused ones are not here
}

} // namespace

namespace at {
struct CUDAHooks : CUDAHooksInterface { // torch looks for this name
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  DeviceIndex current_device() const override { return 0; }
  int getNumGPUs() const override { return 1; }
  void deviceSynchronize(DeviceIndex) const override {}
};
REGISTER_CUDA_HOOKS(CUDAHooks)
} // namespace at

namespace c10::impl {
C10_REGISTER_GUARD_IMPL(CUDA, FakeGuardImpl<DeviceType::CUDA>);
}

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("copy_", &copy_);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("as_strided", &at::native::as_strided_tensorimpl);
  m.impl("view", &at::native::view);
  m.impl("view.dtype", &at::native::view_dtype);
  m.impl("_reshape_alias", &at::native::_reshape_alias);
  m.impl("resize_", &at::native::resize_);
  m.impl("set_.source_Tensor", &at::native::set_tensor_);
  m.impl("set_.source_Storage", static_cast<at::Tensor& (*)(at::Tensor&, at::Storage)>(&at::native::set_));
  m.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
  m.impl("_fused_sdp_choice", &attention_choice);
}

TORCH_LIBRARY_IMPL(aten, SparseCsrCUDA, m) { m.impl("mm", &sparse_product); }

TORCH_LIBRARY(pretended_cuda, m) {
  m.def("memory", []() -> std::vector<int64_t> { return {allocated, peak, limit}; });
  m.def("reset_peak", []() { peak = allocated.load(); });
  m.def("set_limit", [](int64_t bytes) { limit = bytes; });
  m.def("random_state", []() { return generator().get_state(); });
  m.def("set_random_state", [](const at::Tensor& state) { generator().set_state(state); });
  m.def("seed", [](int64_t seed) { generator().set_current_seed(seed); });
}
