//! The script type `tensor`: registers its functions, operators, properties and indexers.

mod arithmetic;
mod autograd;
pub mod convert;
mod create;
mod index;
mod linalg;
mod nested;
mod order;
mod probability;
mod property;
mod reduce;
mod shape;

use std::any::TypeId;

use rhai::{Dynamic, Engine, Module};

use crate::bind::handle::Handle;
use crate::interrupt;
use crate::tensor::Tensor;

pub use nested::{from_nested, to_nested};

impl Handle for Tensor {
    const NAME: &'static str = "tensor";
    const HAS_ITEMS: bool = true;

    fn instead_of_setting() -> &'static str {
        "elements are set by position, as in `t[0, -1] = 1.0`; `t.reshape(..)` and `t.to(..)` give other tensors"
    }

    fn describe(&self) -> String {
        self.headline()
    }

    fn show(&self) -> String {
        self.summary()
    }

    fn debug(&self) -> String {
        self.summary()
    }
}

/// Registers everything about tensors.
pub fn register(engine: &mut Engine) {
    create::register(engine);
    autograd::register(engine);
    property::register(engine);
    index::register(engine);
    arithmetic::register(engine);
    reduce::register(engine);
    order::register(engine);
    shape::register(engine);
    linalg::register(engine);
    probability::register(engine);
    let mut module = Module::new();
    module.set_iter_result(TypeId::of::<Tensor>(), |value| Box::new(Rows::of(value)));
    engine.register_global_module(module.into());
}

/// The parts of a tensor along its first dimension, for `for` loops.
struct Rows {
    tensor: Option<Tensor>,
    next: i64,
}

impl Rows {
    fn of(value: Dynamic) -> Self {
        Self { tensor: value.try_cast(), next: 0 }
    }
}

impl Iterator for Rows {
    type Item = rhai::plugin::RhaiResult;

    fn next(&mut self) -> Option<Self::Item> {
        let tensor = self.tensor.as_ref()?;
        let count = match tensor.size_of(0) {
            Ok(count) => count,
            Err(error) => {
                self.tensor = None;
                return Some(Err(error.into()));
            }
        };
        if self.next >= count {
            return None;
        }
        let row = interrupt::check().and_then(|()| tensor.select(0, self.next));
        self.next += 1;
        Some(row.map(Dynamic::from).map_err(Into::into))
    }
}
