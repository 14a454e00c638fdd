//! The weights of a model in memory, as a source for another.

use std::collections::{BTreeMap, BTreeSet};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::model::source::{WeightSource, check_shape};

/// Weights by the names of the family's checkpoints. What is loaded as it is shares its memory.
pub struct Held(pub BTreeMap<String, Tensor>);

impl Held {
    fn get(&self, name: &str) -> Result<&Tensor> {
        self.0.get(name).ok_or_else(|| Error::new(format!("the model has no tensor `{name}`")))
    }
}

impl WeightSource for Held {
    fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
        let tensor = self.get(name)?;
        check_shape(name, &tensor.size(), shape)?;
        Ok(tensor.f_to_device_(device, kind, false, false)?)
    }

    fn stored(&self, name: &str) -> Result<Tensor> {
        Ok(self.get(name)?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?)
    }

    fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        self.0.keys().filter(|name| !used.contains(*name)).cloned().collect()
    }
}
