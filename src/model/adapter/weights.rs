//! The tensors in `adapter_model.safetensors`, by the module that they change.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::config::Settings;
use crate::data::safetensors::SafetensorsFile;
use crate::error::{Error, Result};

/// What the names of all tensors begin with.
const PREFIX: &str = "base_model.model.";

/// What an adapter does to a model's tensors.
#[derive(Debug)]
pub struct Weights {
    /// Low-rank changes by module
    changes: BTreeMap<String, LowRank>,
    /// Tensors that take the place of the model's own, by name
    whole: BTreeMap<String, Tensor>,
    /// Rows that take the place of an embedding's own, and their ids, by module
    rows: BTreeMap<String, (Vec<i64>, Tensor)>,
    used: RefCell<BTreeSet<String>>,
}

/// A change of a linear map: scaling · B·A.
#[derive(Debug)]
struct LowRank {
    /// [rank, in]
    a: Tensor,
    /// [out, rank]
    b: Tensor,
    bias: Option<Tensor>,
    /// [out]; each output's weights get this length
    magnitude: Option<Tensor>,
    scaling: f64,
    /// An embedding's are stored [in, out]
    is_embedding: bool,
}

impl Weights {
    /// Reads the file.
    ///
    /// # Errors
    /// A file that is damaged, a tensor whose name or shape is not understood.
    pub fn read(path: &Path, settings: &Settings) -> Result<Self> {
        let file = SafetensorsFile::open(path)?;
        let mut found =
            Self { changes: BTreeMap::new(), whole: BTreeMap::new(), rows: BTreeMap::new(), used: RefCell::default() };
        let mut parts: BTreeMap<(String, &'static str), Tensor> = BTreeMap::new();
        for full in file.names() {
            let name = full.strip_prefix(PREFIX).ok_or_else(|| {
                Error::new(format!("the tensor `{full}` is not understood"))
                    .hint(format!("names begin with `{PREFIX}`"))
            })?;
            let tensor = file.load(&full, Some(Kind::Double), Device::Cpu)?;
            if !tensor.f_sum(Kind::Double)?.f_double_value(&[])?.is_finite() {
                return Err(Error::new(format!("the tensor `{full}` holds NaN or infinity")));
            }
            if let Some((module, part)) = PARTS.iter().find_map(|part| Some((name.strip_suffix(part)?, *part))) {
                parts.insert((module.to_owned(), part), tensor);
            } else {
                // What is around a module's own tensor in peft.
                let name = name.replace(".base_layer.", ".");
                if found.whole.contains_key(&name) {
                    return Err(Error::new(format!("the tensor `{name}` is there twice")));
                }
                found.whole.insert(name, tensor);
            }
        }
        let modules: BTreeSet<String> = parts.keys().map(|(module, _)| module.clone()).collect();
        for module in modules {
            let mut take =
                |names: &[&'static str]| names.iter().find_map(|name| parts.remove(&(module.clone(), *name)));
            if let Some(rows) = take(&[".token_adapter.trainable_tokens_delta"]) {
                found.rows.insert(module.clone(), (token_ids(&settings.token_indices, &module)?, rows));
            }
            let plain = (take(&[".lora_A.weight"]), take(&[".lora_B.weight"]));
            let embedding = (take(&[".lora_embedding_A"]), take(&[".lora_embedding_B"]));
            let bias = take(&[".lora_B.bias"]);
            let magnitude = take(&[".lora_magnitude_vector", ".lora_magnitude_vector.weight"]);
            let is_embedding = embedding.0.is_some();
            let (a, b) = match (plain, embedding) {
                ((Some(a), Some(b)), (None, None)) | ((None, None), (Some(a), Some(b))) => (a, b),
                ((None, None), (None, None)) if bias.is_none() && magnitude.is_none() => continue,
                _ => return Err(Error::new(format!("`{module}` has only one of the matrices A and B"))),
            };
            let ([rank, _], [_, other]) = (&a.size()[..], &b.size()[..]) else {
                return Err(Error::new(format!("`{module}`: A and B are no matrices")));
            };
            if rank != other {
                return Err(Error::new(format!("`{module}`: A has the shape {:?} and B {:?}", a.size(), b.size())));
            }
            if settings.has_magnitudes != magnitude.is_some() {
                return Err(Error::new(format!("`{module}`: `use_dora` does not fit the tensors")));
            }
            if found.rows.contains_key(&module) {
                return Err(Error::new(format!("`{module}` has both trained rows and matrices A and B")));
            }
            let scaling = settings.scaling(&module, *rank)?;
            found.changes.insert(module, LowRank { a, b, bias, magnitude, scaling, is_embedding });
        }
        Ok(found)
    }

    /// Whether a module's matrix changes by more than single rows.
    pub fn changes(&self, module: &str) -> bool {
        self.changes.contains_key(module) || self.whole.contains_key(&format!("{module}.weight"))
    }

    /// The name that this adapter has for a tensor that it changes, of which a checkpoint may leave out a part of `root`.
    pub fn full_name(&self, stored: &str, root: &str) -> Option<String> {
        let is_changed = |name: &String| {
            let module = module_of(name);
            self.changes.contains_key(module) || self.rows.contains_key(module) || self.whole.contains_key(name)
        };
        let starts = root.match_indices('.').map(|(dot, _)| &root[..=dot]).chain([""]);
        starts.map(|start| format!("{start}{stored}")).find(is_changed)
    }

    /// The tensor that takes the place of the one called `name`.
    pub fn replacement(&self, name: &str) -> Option<&Tensor> {
        let found = self.whole.get(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        Some(found)
    }

    /// What becomes of a tensor of the model; `is_transposed` says that matrices are stored [in, out].
    ///
    /// # Errors
    /// Shapes that do not fit.
    pub fn applied(&self, name: &str, tensor: Tensor, is_transposed: bool) -> Result<Tensor> {
        let module = module_of(name);
        if let Some(change) = self.changes.get(module) {
            if name.ends_with(".weight") {
                self.used.borrow_mut().insert(module.to_owned());
                return change
                    .applied(&tensor, is_transposed || change.is_embedding)
                    .map_err(|error| error.context(format!("`{module}`")));
            }
            if let Some(bias) = change.bias.as_ref().filter(|_| name.ends_with(".bias")) {
                self.used.borrow_mut().insert(format!("{module}.lora_B.bias"));
                fits(&tensor, &bias.size()).map_err(|error| error.context(format!("`{name}`")))?;
                return Ok(tensor.f_add(
                    &bias.f_mul_scalar(change.scaling)?.f_to_device(tensor.device())?.f_to_kind(tensor.kind())?,
                )?);
            }
        }
        if let Some((ids, rows)) = self.rows.get(module).filter(|_| name.ends_with(".weight")) {
            self.used.borrow_mut().insert(module.to_owned());
            let size = tensor.size();
            let (_, width) = tensor.size2()?;
            if rows.size() != [ids.len() as i64, width] || ids.iter().any(|id| !(0..size[0]).contains(id)) {
                return Err(Error::new(format!("`{module}`: rows of shape {:?} do not fit {size:?}", rows.size())));
            }
            let index = Tensor::f_from_slice(ids)?.f_to_device(tensor.device())?;
            let rows = rows.f_to_device(tensor.device())?.f_to_kind(tensor.kind())?;
            return Ok(tensor.f_index_copy(0, &index, &rows)?);
        }
        Ok(tensor)
    }

    /// Fails if a part of the adapter has changed nothing.
    ///
    /// # Errors
    /// The first such part.
    pub fn check_used(&self) -> Result<()> {
        let biases = self.changes.iter().filter(|(_, change)| change.bias.is_some());
        let biases: Vec<String> = biases.map(|(module, _)| format!("{module}.lora_B.bias")).collect();
        let used = self.used.borrow();
        let mut all = self.changes.keys().chain(self.rows.keys()).chain(self.whole.keys()).chain(&biases);
        match all.find(|name| !used.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(Error::new(format!("the adapter changes `{name}`, which this model does not have"))
                .hint("adapter and model do not belong together, or the model's layout is another one")),
        }
    }
}

/// The ends of the names of tensors that belong to a change of a module.
const PARTS: [&str; 8] = [
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_B.bias",
    ".lora_embedding_A",
    ".lora_embedding_B",
    ".lora_magnitude_vector",
    ".lora_magnitude_vector.weight",
    ".token_adapter.trainable_tokens_delta",
];

fn module_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(module, _)| module)
}

/// The trained rows of a module.
fn token_ids(indices: &Value, module: &str) -> Result<Vec<i64>> {
    let ids = match indices {
        Value::Object(modules) => modules
            .iter()
            .find(|(name, _)| module == *name || module.ends_with(&format!(".{name}")))
            .map(|(_, ids)| ids.clone()),
        ids => Some(ids.clone()),
    };
    let ids: Option<Vec<i64>> = ids.and_then(|ids| ids.as_array()?.iter().map(Value::as_i64).collect());
    ids.ok_or_else(|| Error::new(format!("`trainable_token_indices` has no ids for `{module}`")))
}

fn fits(tensor: &Tensor, size: &[i64]) -> Result<()> {
    match tensor.size() == size {
        true => Ok(()),
        false => Err(Error::new(format!("a change of shape {size:?} does not fit {:?}", tensor.size()))
            .hint("adapter and model do not belong together")),
    }
}

impl LowRank {
    fn applied(&self, stored: &Tensor, is_transposed: bool) -> Result<Tensor> {
        let to = |tensor: &Tensor| tensor.f_to_device(stored.device())?.f_to_kind(stored.kind());
        let mut change = to(&self.b)?.f_matmul(&to(&self.a)?)?.f_mul_scalar(self.scaling)?;
        if is_transposed {
            change = change.f_transpose(0, 1)?;
        }
        fits(stored, &change.size())?;
        let merged = stored.f_add(&change)?;
        let Some(magnitude) = &self.magnitude else { return Ok(merged) };
        let (inputs, output) = if is_transposed { (0, 1) } else { (1, 0) };
        fits(magnitude, &[merged.size()[output as usize]])?;
        let length = merged.f_norm_scalaropt_dim(2.0, [inputs].as_slice(), true)?;
        Ok(merged.f_mul(&to(magnitude)?.f_unsqueeze(inputs)?.f_div(&length)?)?)
    }
}
