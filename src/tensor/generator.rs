//! Generators of random numbers with a seed of their own, beside the session's.

use std::ffi::c_void;

use tch::Tensor;

use crate::error::Result;

/// An `at::Tensor`, which is a pointer. The room behind it makes the compiler return it as C++ returns an object: in
/// memory that the caller gives.
#[repr(C)]
struct Returned(*mut c_void, [*mut c_void; 3]);

// libtorch's own functions, which torch-sys leaves out.
unsafe extern "C-unwind" {
    /// `const at::Generator& at::detail::getDefaultCPUGenerator()`
    #[link_name = "_ZN2at6detail22getDefaultCPUGeneratorEv"]
    fn default_generator() -> *const c_void;
    /// `at::Tensor at::Generator::get_state() const`
    #[link_name = "_ZNK2at9Generator9get_stateEv"]
    fn get_state(generator: *const c_void) -> Returned;
    /// `void at::Generator::set_state(const at::Tensor&)`
    #[link_name = "_ZN2at9Generator9set_stateERKNS_6TensorE"]
    fn set_state(generator: *const c_void, state: *const c_void);
}

/// A generator that starts from a seed. Drawing from it leaves the session's generator as it was.
///
/// It draws on the CPU, as PyTorch does after `torch.manual_seed`, so that the numbers are the same on every device.
#[derive(Debug)]
pub struct Generator(Tensor);

impl Generator {
    /// A generator that starts from `seed`.
    pub fn new(seed: i64) -> Self {
        let _session = Session(state());
        tch::manual_seed(seed);
        Self(state())
    }

    /// What `work` draws from this generator.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn draw<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let _session = Session(state());
        set(&self.0);
        let drawn = work();
        self.0 = state();
        drawn
    }
}

/// The state of the session's generator, which is put back in the end.
struct Session(Tensor);

impl Drop for Session {
    fn drop(&mut self) {
        set(&self.0);
    }
}

/// The state of libtorch's generator for the CPU.
fn state() -> Tensor {
    let mut state = Tensor::new();
    // SAFETY: the signatures are libtorch's, and the generator lives as long as the process. What is returned owns its
    // storage; it goes into an object of its type and size that owns nothing, which frees it later.
    unsafe {
        let returned = get_state(default_generator());
        state.as_mut_ptr().cast::<*mut c_void>().write(returned.0);
    }
    state
}

fn set(state: &Tensor) {
    // SAFETY: the signatures are libtorch's, and `state` is what it gave.
    unsafe { set_state(default_generator(), state.as_ptr().cast()) };
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn three() -> Vec<f64> {
        Vec::try_from(Tensor::rand([3], (Kind::Double, Device::Cpu))).expect("numbers")
    }

    /// libtorch's generator is one for the process, so all that draws is in this one test.
    #[test]
    fn a_seed_leaves_the_sessions_numbers_alone() {
        tch::manual_seed(1);
        let (first, second) = (three(), three());
        tch::manual_seed(7);
        let (seeded, next) = (three(), three());
        tch::manual_seed(1);
        let mut generator = Generator::new(7);
        assert_eq!(generator.draw(|| Ok(three())).ok(), Some(seeded));
        assert_eq!(three(), first);
        let failed: Result<()> = generator.draw(|| Err(crate::error::Error::new("no")));
        assert!(failed.is_err());
        assert_eq!(generator.draw(|| Ok(three())).ok(), Some(next));
        assert_eq!(three(), second);
        assert!(std::panic::catch_unwind(|| Generator::new(3).draw(|| -> Result<()> { panic!("no") })).is_err());
    }
}
