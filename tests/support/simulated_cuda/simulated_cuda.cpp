// A stand-in for libtorch's CUDA library, for tests on machines without a GPU: two devices whose memory is ordinary
// memory and whose kernels are the CPU's. As on CUDA, operands on different devices are an error, and memory can run
// out: SIMULATED_CUDA_BYTES sets the size of each device. Nothing here is asynchronous or fast.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace simulated {

using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;

constexpr DeviceIndex DEVICES = 2;
thread_local DeviceIndex current = 0;

// ---- Memory: each device counts what is stored on it.

std::array<std::atomic<size_t>, DEVICES> used{};

size_t device_bytes() {
  static const size_t bytes = [] {
    const char* text = std::getenv("SIMULATED_CUDA_BYTES");
    return text ? std::strtoull(text, nullptr, 10) : size_t{8} << 30;
  }();
  return bytes;
}

void reserve(DeviceIndex device, size_t bytes) {
  if (used[device].fetch_add(bytes) + bytes <= device_bytes()) return;
  used[device].fetch_sub(bytes);
  TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", bytes, " bytes on cuda:",
                   static_cast<int>(device), ".");
}

// What a pointer to simulated memory keeps alive.
struct Held {
  c10::DataPtr data;
  DeviceIndex device;
  size_t bytes;
  ~Held() { used[device].fetch_sub(bytes); }
};

// The same memory, counted and labelled as a device's.
c10::DataPtr on_device(c10::DataPtr data, DeviceIndex device, size_t bytes) {
  reserve(device, bytes);
  void* address = data.get();
  auto* held = new Held{std::move(data), device, bytes};
  return {address, held, [](void* held) { delete static_cast<Held*>(held); }, Device(DeviceType::CUDA, device)};
}

struct DeviceAllocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    return on_device(c10::GetCPUAllocator()->allocate(bytes), current, bytes);
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { std::memcpy(to, from, bytes); }
};

DeviceAllocator allocator;
REGISTER_ALLOCATOR(DeviceType::CUDA, &allocator)

// ---- What libtorch asks of a kind of device.

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device getDevice() const override { return {DeviceType::CUDA, current}; }
  void setDevice(Device device) const override {
    TORCH_CHECK(device.index() < DEVICES, "CUDA error: invalid device ordinal");
    uncheckedSetDevice(device);
  }
  void uncheckedSetDevice(Device device) const noexcept override {
    if (device.has_index()) current = device.index();
  }
  Device exchangeDevice(Device device) const override {
    const Device before = getDevice();
    setDevice(device);
    return before;
  }
  DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  c10::Stream getStream(Device device) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream getNewStream(Device device, int) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override { return stream; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  // Gradients that cross devices wait for events; here all is done at once.
  void record(void**, const c10::Stream&, DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeEvent(void*) const override {}
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex current_device() const override { return current; }
  DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(DeviceIndex device) const override { current = device; }
  DeviceIndex deviceCount() const override { return DEVICES; }
  int getNumGPUs() const override { return DEVICES; }
  void deviceSynchronize(DeviceIndex) const override {}
  c10::Allocator* getCUDADeviceAllocator() const override { return &allocator; }
  at::Generator getNewGenerator(DeviceIndex) const override { return at::detail::createCPUGenerator(); }
  const at::Generator& getDefaultGenerator(DeviceIndex device) const override {
    static const std::array<at::Generator, DEVICES> generators = {at::detail::createCPUGenerator(),
                                                                  at::detail::createCPUGenerator()};
    return generators[device < 0 ? current : device];
  }
};

// ---- Tensors under the label of the CPU, and back.

Tensor with_geometry_of(const Tensor& tensor, c10::Storage storage, c10::DispatchKeySet keys) {
  auto labelled = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, tensor.dtype());
  labelled.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  if (tensor.is_conj()) labelled._set_conj(true);
  return labelled;
}

Tensor on_cuda_storage(const Tensor& tensor, c10::Storage storage) {
  using c10::DispatchKey;
  return with_geometry_of(tensor, std::move(storage),
                          c10::DispatchKeySet({DispatchKey::CUDA, DispatchKey::ADInplaceOrView, DispatchKey::AutogradCUDA}));
}

// The tensor as one of the CPU, on the same memory.
Tensor as_cpu(const Tensor& tensor) {
  using c10::DispatchKey;
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  c10::DataPtr data(tensor.storage().mutable_data(), new Tensor(tensor),
                    [](void* owner) { delete static_cast<Tensor*>(owner); }, Device(DeviceType::CPU));
  c10::Storage storage(c10::Storage::use_byte_size_t(), tensor.storage().nbytes(), std::move(data),
                       c10::GetCPUAllocator(), true);
  return with_geometry_of(tensor, std::move(storage),
                          c10::DispatchKeySet({DispatchKey::CPU, DispatchKey::ADInplaceOrView, DispatchKey::AutogradCPU}));
}

// A result of the CPU's kernel as a tensor of `device`.
Tensor as_cuda(const Tensor& tensor, Device device) {
  const auto& storage = tensor.storage();
  c10::DataPtr owner(storage.mutable_data(), new Tensor(tensor),
                     [](void* owner) { delete static_cast<Tensor*>(owner); }, Device(DeviceType::CPU));
  c10::Storage labelled(c10::Storage::use_byte_size_t(), storage.nbytes(),
                        on_device(std::move(owner), device.index(), storage.nbytes()), &allocator, true);
  return on_cuda_storage(tensor, std::move(labelled));
}

bool same_memory(const Tensor& one, const Tensor& other) {
  return one.storage().data() == other.storage().data();
}

// ---- Every operator that has no kernel below: the CPU's kernel between two changes of label.

// Which operators take indices from the CPU, as CUDA's do.
bool takes_indices_of_cpu(const std::string& name) {
  return name == "aten::index" || name == "aten::index_put_" || name == "aten::_index_put_impl_";
}

class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack& stack) : op(op), stack(stack) {}

  void run() {
    const size_t count = op.schema().arguments().size();
    std::vector<c10::IValue> arguments(stack.end() - count, stack.end());
    torch::jit::drop(stack, count);
    find_device(arguments);
    torch::jit::Stack inner;
    for (const auto& argument : arguments) inner.push_back(map(argument, [&](const Tensor& each) { return enter(each); }));
    {
      at::AutoDispatchBelowADInplaceOrView below;
      op.callBoxed(&inner);
    }
    for (const auto& [original, alias] : entered) update(original, alias);
    for (const auto& result : inner) stack.push_back(map(result, [&](const Tensor& each) { return leave(each); }));
  }

 private:
  const c10::OperatorHandle& op;
  torch::jit::Stack& stack;
  Device device{DeviceType::CUDA, current};
  std::vector<std::pair<Tensor, Tensor>> entered;

  // The value with every tensor in it replaced, and every device by the CPU.
  template <typename Change>
  static c10::IValue map(const c10::IValue& value, Change change) {
    if (value.isTensor()) return change(value.toTensor());
    if (value.isTensorList()) {
      c10::List<Tensor> changed;
      for (const Tensor& each : value.toTensorVector()) changed.push_back(change(each));
      return changed;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> changed;
      for (const auto& each : value.toOptionalTensorVector()) {
        changed.push_back(each ? std::optional<Tensor>(change(*each)) : std::nullopt);
      }
      return changed;
    }
    if (value.isDevice()) return Device(DeviceType::CPU);
    return value;
  }

  // The device of the operands, or the one asked for; operands on several are refused.
  void find_device(const std::vector<c10::IValue>& arguments) {
    std::optional<Device> found;
    bool any_on_cpu = false;
    const auto see = [&](const Tensor& tensor) {
      if (!tensor.defined()) return;
      if (!tensor.is_cuda()) {
        any_on_cpu |= tensor.dim() != 0;
        return;
      }
      if (found && *found != tensor.device()) refuse(*found, tensor.device().str());
      found = tensor.device();
    };
    for (const auto& argument : arguments) {
      if (argument.isTensor()) see(argument.toTensor());
      if (argument.isTensorList()) {
        for (const Tensor& each : argument.toTensorVector()) see(each);
      }
      if (argument.isOptionalTensorList()) {
        for (const auto& each : argument.toOptionalTensorVector()) {
          if (each && (each->is_cuda() || !takes_indices_of_cpu(op.schema().name()))) see(*each);
        }
      }
      if (argument.isDevice() && argument.toDevice().is_cuda() && argument.toDevice().has_index() && !found) {
        device = argument.toDevice();
      }
    }
    if (found) device = *found;
    if (any_on_cpu) refuse(device, "cpu");
  }

  [[noreturn]] void refuse(Device one, const std::string& other) const {
    TORCH_CHECK(false, "Expected all tensors to be on the same device, but found at least two devices, ", one, " and ",
                other, "! (", op.schema().name(), ")");
  }

  Tensor enter(const Tensor& tensor) {
    if (!tensor.defined() || !tensor.is_cuda()) return tensor;
    entered.emplace_back(tensor, as_cpu(tensor));
    return entered.back().second;
  }

  // Follows an operand that the kernel resized or moved to other memory.
  void update(const Tensor& original, const Tensor& alias) const {
    auto* changed = original.unsafeGetTensorImpl();
    if (!same_memory(original, alias)) changed->set_storage_keep_dtype(as_cuda(alias, device).storage());
    if (!alias.sizes().equals(original.sizes()) || !alias.strides().equals(original.strides()) ||
        alias.storage_offset() != original.storage_offset()) {
      changed->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
    }
  }

  // An operand that was returned stays itself, a view of one keeps its memory, anything else is new.
  Tensor leave(const Tensor& tensor) const {
    if (!tensor.defined()) return tensor;
    for (const auto& [original, alias] : entered) {
      if (alias.is_same(tensor)) return original;
    }
    for (const auto& [original, alias] : entered) {
      if (tensor.storage().nbytes() != 0 && same_memory(alias, tensor)) return on_cuda_storage(tensor, original.storage());
    }
    return as_cuda(tensor, device);
  }
};

void with_kernel_of_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) { Call(op, *stack).run(); }

// ---- What goes between devices.

Tensor& copy_(Tensor& self, const Tensor& source, bool) {
  at::AutoDispatchBelowADInplaceOrView below;
  as_cpu(self).copy_(as_cpu(source));
  return self;
}

c10::Scalar local_scalar(const Tensor& self) {
  at::AutoDispatchBelowADInplaceOrView below;
  return at::_local_scalar_dense(as_cpu(self));
}

// A GPU's softmax takes half precision and gives float32 in one step, which the CPU's does not.
Tensor softmax(const Tensor& self, int64_t dim, bool half_to_float) {
  at::AutoDispatchBelowADInplaceOrView below;
  const Tensor input = as_cpu(self);
  return as_cuda(at::_softmax(half_to_float ? input.to(at::kFloat) : input, dim, false), self.device());
}

}  // namespace simulated

namespace at {
using SimulatedHooks = simulated::Hooks;
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, SimulatedHooks)
}  // namespace at

TORCH_LIBRARY_IMPL(_, CUDA, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&simulated::with_kernel_of_cpu>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("copy_", simulated::copy_);
  library.impl("_local_scalar_dense", simulated::local_scalar);
  library.impl("_softmax", simulated::softmax);
}

// ---- The part of CUDA's runtime that Lancet asks.

extern "C" {
int cudaGetDeviceCount(int* count) {
  *count = simulated::DEVICES;
  return 0;
}
const char* cudaGetErrorString(int) { return "no error"; }
int cudaGetDevice(int* device) {
  *device = simulated::current;
  return 0;
}
int cudaSetDevice(int device) {
  simulated::current = static_cast<simulated::DeviceIndex>(device);
  return 0;
}
int cudaMemGetInfo(size_t* free, size_t* total) {
  *total = simulated::device_bytes();
  *free = *total - simulated::used[simulated::current];
  return 0;
}
}
