//! Devices: which exist, why there is no GPU, how much memory is free. A binary is linked with libtorch's CPU libraries
//! only. The first question about CUDA opens the CUDA library beside them, if there is one; so all of Lancet asks here,
//! never `tch::Cuda`.

use std::ffi::{CStr, c_char, c_int};
use std::sync::OnceLock;

use indicatif::HumanBytes;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::Device;

use crate::error::{Error, Result};
use crate::{libtorch, memory};

const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The state of CUDA, found by the first question about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cuda {
    /// This many devices can be used.
    Ready(usize),
    /// The libtorch that runs has no CUDA library.
    NoLibrary,
    /// There is a CUDA library, but the driver offers no device, for this reason.
    NoDevice(String),
    /// The CUDA library could not be opened, for this reason.
    Broken(String),
}

impl Cuda {
    /// Why there is no CUDA device, and the remedy as a hint; `None` if there is one.
    pub fn problem(&self) -> Option<Error> {
        let nvidia_smi = "`nvidia-smi` lists the devices that the driver sees";
        match self {
            Self::Ready(_) => None,
            Self::NoLibrary => Some(
                Error::new(format!("there is no CUDA: the libtorch in use has no `{CUDA_LIBRARY}`"))
                    .hint(libtorch::reason().gpu_hint()),
            ),
            Self::NoDevice(reason) => Some(Error::new(format!("there is no CUDA device: {reason}")).hint(nvidia_smi)),
            Self::Broken(reason) => Some(
                Error::new(format!("`{CUDA_LIBRARY}` could not be opened: {reason}"))
                    .hint(format!("the libtorch in use is incomplete; {}", libtorch::reason().gpu_hint())),
            ),
        }
    }
}

/// The state of CUDA. The first call opens libtorch's CUDA library where there is a device for it; later calls return
/// the same state.
pub fn cuda() -> &'static Cuda {
    static STATE: OnceLock<Cuda> = OnceLock::new();
    STATE.get_or_init(open_cuda)
}

/// Whether at least one CUDA device can be used.
pub fn cuda_available() -> bool {
    cuda_device_count() > 0
}

/// The number of CUDA devices that can be used.
pub fn cuda_device_count() -> usize {
    match cuda() {
        Cuda::Ready(count) => *count,
        _ => 0,
    }
}

/// The device that `name` stands for: `auto` (`cuda:0` if there is one, else `cpu`), `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// An unknown name, or a device that this machine lacks.
pub fn parse_device(name: &str) -> Result<Device> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => return Ok(if cuda_available() { Device::Cuda(0) } else { Device::Cpu }),
        "cuda" => 0,
        _ => name.strip_prefix("cuda:").and_then(|digits| digits.parse::<usize>().ok()).ok_or_else(|| {
            Error::new(format!("unknown device `{name}`")).hint("a device is `auto`, `cpu`, `cuda` or `cuda:N`")
        })?,
    };
    if let Some(problem) = cuda().problem() {
        return Err(problem.context(format!("device `{name}`")));
    }
    match cuda_device_count() {
        count if index < count => Ok(Device::Cuda(index)),
        1 => Err(Error::new(format!("device `{name}`: there is only `cuda:0`"))),
        count => Err(Error::new(format!("device `{name}`: there are only `cuda:0` to `cuda:{}`", count - 1))),
    }
}

/// The script's name of a device.
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".into(),
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".into(),
        Device::Vulkan => "vulkan".into(),
    }
}

/// What this process computes on: the models of the GPUs that the driver shows, or the processor's model.
pub fn processors() -> String {
    let named = |text: &str, label: &str| {
        let line = text.lines().find(|line| line.starts_with(label))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let gpus = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let models = gpus.filter_map(|gpu| named(&std::fs::read_to_string(gpu.path().join("information")).ok()?, "Model"));
    let models: std::collections::BTreeSet<String> = models.collect();
    if models.is_empty() {
        let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| named(&text, "model name"));
        return processor.unwrap_or_else(|| "an unknown processor".to_owned());
    }
    models.into_iter().collect::<Vec<_>>().join(", ")
}

/// The free memory of a device in bytes; `None` if the system does not report it.
pub fn free_memory(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => memory::memory().map(|memory| memory.free),
        Device::Cuda(index) if index < cuda_device_count() => {
            Runtime::find()?.free_memory(c_int::try_from(index).ok()?)
        }
        _ => None,
    }
}

/// Refuses work that does not fit in the free memory of `device`; `what` names the data. Refuses nothing if the system
/// does not report its free memory.
///
/// # Errors
/// More `bytes` than are free.
pub fn check_memory(what: &str, bytes: f64, device: Device) -> Result<()> {
    match free_memory(device) {
        Some(free) if bytes > free as f64 => Err(Error::new(format!(
            "the {what} would take {}, and {} are free",
            HumanBytes(bytes as u64),
            HumanBytes(free)
        ))),
        _ => Ok(()),
    }
}

/// Opens the CUDA library beside the loaded CPU library, never one from elsewhere: two builds of libtorch in one
/// process corrupt each other. This has to come before libtorch itself is asked about CUDA, since it remembers its
/// answer.
fn open_cuda() -> Cuda {
    let beside = libtorch::library().and_then(|cpu| Some(cpu.parent()?.join(CUDA_LIBRARY)));
    let Some(library) = beside.filter(|path| path.exists()) else {
        return Cuda::NoLibrary;
    };
    // The driver is asked first: without a device, opening gigabytes of libraries would only cost time.
    if let Some(Err(reason)) = Runtime::find().map(|runtime| runtime.device_count()) {
        return Cuda::NoDevice(reason);
    }
    // SAFETY: the library's initialisers only register kernels with the libtorch that is already loaded.
    match unsafe { Library::open(Some(&library), RTLD_NOW | RTLD_GLOBAL) } {
        // It must stay open as long as the process lives.
        Ok(opened) => std::mem::forget(opened),
        Err(error) => return Cuda::Broken(error.to_string()),
    }
    // libtorch's count does not throw, so this plain call cannot panic.
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(0) | Err(_) => Cuda::NoDevice("libtorch counts none".into()),
        Ok(count) => Cuda::Ready(count),
    }
}

/// The part of the CUDA runtime that libtorch's C interface lacks. libtorch has loaded it.
struct Runtime(Library);

impl Runtime {
    /// The runtime, if the libtorch in use depends on one.
    fn find() -> Option<Self> {
        let process = Library::this();
        // SAFETY: only checks that the symbol is present.
        let present =
            unsafe { process.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(b"cudaGetDeviceCount") }.is_ok();
        present.then_some(Self(process))
    }

    /// The number of devices, at least 1, or the runtime's message on why there is none.
    fn device_count(&self) -> std::result::Result<c_int, String> {
        type DeviceCount = unsafe extern "C" fn(*mut c_int) -> c_int;
        type ErrorString = unsafe extern "C" fn(c_int) -> *const c_char;
        let mut count = 0;
        // SAFETY: the signatures are those of the CUDA runtime; the error string is a static C string.
        let (status, words) = unsafe {
            let device_count = self.0.get::<DeviceCount>(b"cudaGetDeviceCount").map_err(|error| error.to_string())?;
            let error_string = self.0.get::<ErrorString>(b"cudaGetErrorString").map_err(|error| error.to_string())?;
            let status = device_count(&mut count);
            (status, CStr::from_ptr(error_string(status)).to_string_lossy().into_owned())
        };
        // cudaErrorInsufficientDriver, which the runtime also returns if there is no driver at all.
        const INSUFFICIENT_DRIVER: c_int = 35;
        match (status, count) {
            (0, 1..) => Ok(count),
            (0, _) => Err("the driver offers none".into()),
            (INSUFFICIENT_DRIVER, _) => Err("the NVIDIA driver is missing or too old for this libtorch".into()),
            _ => Err(words),
        }
    }

    /// The free memory of one device in bytes.
    fn free_memory(&self, device: c_int) -> Option<u64> {
        type GetDevice = unsafe extern "C" fn(*mut c_int) -> c_int;
        type SetDevice = unsafe extern "C" fn(c_int) -> c_int;
        type MemoryInfo = unsafe extern "C" fn(*mut usize, *mut usize) -> c_int;
        let (mut before, mut free, mut total) = (0, 0, 0);
        // SAFETY: the signatures are those of the CUDA runtime; the current device is restored.
        let status = unsafe {
            let get_device = self.0.get::<GetDevice>(b"cudaGetDevice").ok()?;
            let set_device = self.0.get::<SetDevice>(b"cudaSetDevice").ok()?;
            let memory_info = self.0.get::<MemoryInfo>(b"cudaMemGetInfo").ok()?;
            if get_device(&mut before) != 0 || set_device(device) != 0 {
                return None;
            }
            let status = memory_info(&mut free, &mut total);
            set_device(before);
            status
        };
        (status == 0).then_some(free as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_choice_agrees_with_availability() {
        let expected = if cuda_available() { Device::Cuda(0) } else { Device::Cpu };
        assert_eq!(parse_device("auto").unwrap(), expected);
        assert_eq!(parse_device("cpu").unwrap(), Device::Cpu);
        assert_eq!(parse_device("cuda").is_ok(), cuda_available());
        assert_eq!(cuda().problem().is_none(), cuda_available());
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_with_its_name() {
        for name in ["gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "", "cuda:4096"] {
            let error = parse_device(name).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
    }

    #[test]
    fn each_reason_for_no_gpu_says_what_to_do() {
        for state in [Cuda::NoLibrary, Cuda::NoDevice("no driver".into()), Cuda::Broken("no libcublas".into())] {
            let problem = state.problem().expect("a problem");
            assert!(problem.hint_text().is_some(), "{problem}");
        }
        assert!(Cuda::Ready(1).problem().is_none());
    }

    #[test]
    fn more_than_the_free_memory_is_refused() {
        assert!(check_memory("numbers", 1.0, Device::Cpu).is_ok());
        let error = check_memory("numbers", 1e18, Device::Cpu).unwrap_err().to_string();
        assert!(error.starts_with("the numbers would take"), "{error}");
    }
}
