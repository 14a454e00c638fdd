//! The sources of weights: safetensors files, a GGUF file or a random generator, all by Hugging Face's names.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use tch::{Device, Kind, Tensor};

use super::config::{Config, NormKind, RopeScaling};
use super::family::gguf::{
    Architecture, LONG_FACTORS, ROTARY_DIVISORS, SHORT_FACTORS, architecture, tensor_name, unpermute_rotary,
};
use super::mxfp4;
use crate::data::safetensors::SafetensorsFile;
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::hub::{self, adapter};
use crate::tensor::generator::Generator;
use crate::tensor::raw::Arithmetic;

/// A source of weights.
pub trait WeightSource {
    /// Whether there is a tensor of that name.
    fn contains(&self, name: &str) -> bool;

    /// The tensor, on `device` as `kind`.
    ///
    /// # Errors
    /// It is missing, or has another shape than `shape`.
    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor>;

    /// A stored tensor in its own shape, on the CPU in float64.
    ///
    /// # Errors
    /// A missing tensor, or one of a type that cannot be read.
    fn stored(&self, name: &str) -> Result<Tensor>;

    /// The names of the stored tensors that are not in `used`.
    fn unused(&self, used: &BTreeSet<String>) -> Vec<String>;
}

/// Fails unless a tensor has the shape that the config requires.
///
/// # Errors
/// Another shape.
pub(super) fn check_shape(name: &str, found: &[i64], expected: &[i64]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(format!("tensor `{name}` has shape {found:?}, but the config requires {expected:?}"))
        .hint("config and weights do not belong together"))
}

/// The file of TransformerLens's own models.
const PICKLE: &str = "model_final.pth";

/// The safetensors files of a checkpoint, one or several.
#[derive(Debug)]
pub struct Checkpoint {
    files: Vec<SafetensorsFile>,
    /// File of every tensor
    index: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Opens the weights of a checkpoint folder: `model.safetensors`, or the shards its index names.
    ///
    /// # Errors
    /// No safetensors there, a missing shard, a file that is cut off or damaged; each names the file.
    pub fn open(directory: &Path) -> Result<Self> {
        if directory.join(adapter::WEIGHTS).is_file() {
            return Err(Error::new(format!("`{}` has an adapter, {}", directory.display(), adapter::WEIGHTS)).hint(
                "move it to a folder of its own and load the model with the option `adapter`, or merge it into the \
                 weights with peft's `merge_and_unload`",
            ));
        }
        let index = directory.join("model.safetensors.index.json");
        let single = directory.join("model.safetensors");
        let paths: Vec<PathBuf> = if single.is_file() {
            vec![single]
        } else if index.is_file() {
            hub::shards(&index)?.into_iter().map(|shard| directory.join(shard)).collect()
        } else {
            let error = Error::new(format!("`{}` has no model.safetensors", directory.display()));
            let other = ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"]
                .into_iter()
                .find(|name| directory.join(name).exists());
            if directory.join(PICKLE).exists() {
                return Err(error.hint(format!("it has {PICKLE}, {}", hub::pickle_hint(PICKLE))));
            }
            return Err(match other {
                Some(name) => {
                    error.hint(format!("it has {name}: load it with transformers and `save_pretrained(path)`"))
                }
                None => error.hint("give the folder that holds config.json and model.safetensors"),
            });
        };
        let files = paths.iter().map(|path| SafetensorsFile::open(path)).collect::<Result<Vec<_>>>()?;
        let mut index = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            for name in file.names() {
                if let Some(other) = index.insert(name.clone(), number) {
                    return Err(Error::new(format!(
                        "tensor `{name}` is in both `{}` and `{}`",
                        files[other].path().display(),
                        file.path().display()
                    ))
                    .hint("a checkpoint has each tensor once"));
                }
            }
        }
        Ok(Self { files, index })
    }
}

impl Checkpoint {
    /// The names of all stored tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.index.keys()
    }

    /// A part of a tensor in MXFP4, as it is stored.
    fn part(&self, name: &str, part: &str) -> Option<Result<Tensor>> {
        let name = format!("{name}{part}");
        let file = &self.files[*self.index.get(&name)?];
        Some(file.load(&name, None, Device::Cpu))
    }
}

impl WeightSource for Checkpoint {
    fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
        let Some(number) = self.index.get(name) else {
            return match mxfp4::PARTS.map(|part| self.part(name, part)) {
                [Some(blocks), Some(scales)] => {
                    let in_name = |error: Error| error.context(format!("tensor `{name}`"));
                    let tensor = mxfp4::dequantise(&blocks?, &scales?, kind, device).map_err(in_name)?;
                    check_shape(name, &tensor.size(), shape)?;
                    Ok(tensor)
                }
                _ => Err(Error::new(format!("tensor `{name}` is missing from the checkpoint"))),
            };
        };
        let file = &self.files[*number];
        load_stored(file, name, shape, kind, device)
            .map_err(|error| error.context(format!("`{}`", file.path().display())))
    }

    fn stored(&self, name: &str) -> Result<Tensor> {
        let file = &self.files[self.index[name]];
        file.load(name, Some(Kind::Double), Device::Cpu)
            .map_err(|error| error.context(format!("`{}`", file.path().display())))
    }

    fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        let is_part = |name: &str| {
            let whole = mxfp4::PARTS.iter().find_map(|part| name.strip_suffix(part));
            whole.is_some_and(|whole| used.contains(whole) && !self.contains(whole))
        };
        self.index.keys().filter(|name| !used.contains(*name) && !is_part(name)).cloned().collect()
    }
}

fn load_stored(file: &SafetensorsFile, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
    let info = file.info(name).ok_or_else(|| Error::new(format!("tensor `{name}` is missing")))?;
    let found: Vec<i64> = info.shape.iter().map(|size| *size as i64).collect();
    check_shape(name, &found, shape)?;
    if !matches!(info.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        return Err(Error::new(format!("tensor `{name}` is stored as {}, which is not supported", info.dtype))
            .hint("supported: F64, F32, F16, BF16"));
    }
    file.load(name, Some(kind), device)
}

/// A GGUF file, its tensors renamed and rearranged as in Hugging Face's checkpoint of the same model.
pub struct GgufSource<'a> {
    gguf: &'a Gguf,
    architecture: &'static Architecture,
    config: &'a Config,
}

impl<'a> GgufSource<'a> {
    /// The weights in `gguf`, which `config` describes.
    ///
    /// # Errors
    /// An architecture that is not supported.
    pub fn new(gguf: &'a Gguf, config: &'a Config) -> Result<Self> {
        Ok(Self { gguf, architecture: architecture(gguf)?, config })
    }

    /// Undoes the converter's changes to a tensor; `name` is Hugging Face's.
    fn restore(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        let (config, conversion) = (self.config, self.architecture.conversion);
        if conversion.rotary_permuted && name.contains(".q_proj.") {
            return unpermute_rotary(&tensor, config.n_heads);
        }
        if conversion.rotary_permuted && name.contains(".k_proj.") {
            return unpermute_rotary(&tensor, config.n_kv_heads);
        }
        if conversion.norm_plus_one && name.ends_with("norm.weight") {
            return tensor.minus(1.0);
        }
        if conversion.linear_layout && tensor.dim() == 2 && name.contains(".c_") {
            return Ok(tensor.f_transpose(0, 1)?);
        }
        if conversion.qkv_split && name.contains(".query_key_value.") {
            let mut by_part = vec![3, config.n_heads, config.d_head];
            by_part.extend(tensor.size().get(1));
            return Ok(tensor.f_view(by_part.as_slice())?.f_transpose(0, 1)?.f_reshape(tensor.size())?);
        }
        Ok(tensor)
    }

    fn stored_name(&self, name: &str) -> Option<String> {
        tensor_name(self.architecture.name, name).filter(|stored| self.gguf.contains(stored))
    }
}

impl WeightSource for GgufSource<'_> {
    fn contains(&self, name: &str) -> bool {
        self.stored_name(name).is_some()
    }

    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
        let stored = self
            .stored_name(name)
            .ok_or_else(|| Error::new(format!("`{}`: tensor `{name}` is missing", self.gguf.path().display())))?;
        let tensor = self.restore(name, self.gguf.load(&stored)?)?;
        check_shape(&stored, &tensor.size(), shape)?;
        Ok(tensor.f_to_device_(device, kind, false, false)?.f_contiguous()?)
    }

    fn stored(&self, name: &str) -> Result<Tensor> {
        Ok(self.gguf.load(name)?.f_to_kind(Kind::Double)?)
    }

    fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        let read: BTreeSet<String> = used.iter().filter_map(|name| self.stored_name(name)).collect();
        // These belong to the config and are no weights.
        let has = |wanted: fn(&RopeScaling) -> bool| {
            self.config.layers.iter().filter_map(|layer| layer.rope.as_ref()).any(|rope| wanted(&rope.scaling))
        };
        let in_config = |name: &str| match name {
            ROTARY_DIVISORS => has(|scaling| matches!(scaling, RopeScaling::Divisors(_))),
            LONG_FACTORS | SHORT_FACTORS => has(|scaling| matches!(scaling, RopeScaling::LongRope { .. })),
            _ => false,
        };
        let names = self.gguf.tensor_names().iter();
        names.filter(|name| !read.contains(*name) && !in_config(name)).cloned().collect()
    }
}

/// Random weights as in Hugging Face's initialisation: normal for matrices, 1 (or its equivalent) for norms, zero for
/// biases.
#[derive(Debug)]
pub struct RandomWeights {
    deviation: f64,
    norm: NormKind,
    generator: RefCell<Generator>,
}

impl RandomWeights {
    /// Weights of a generator of their own. Equal seeds give equal weights on one kind of device.
    pub fn new(config: &Config, seed: i64) -> Self {
        let generator = RefCell::new(Generator::new(seed));
        Self { deviation: config.initializer_range, norm: config.norm, generator }
    }
}

impl WeightSource for RandomWeights {
    /// Nothing is stored.
    fn contains(&self, _name: &str) -> bool {
        false
    }

    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
        if name.ends_with("bias") {
            return Ok(Tensor::f_zeros(shape, (kind, device))?);
        }
        if shape.len() == 1 && !name.ends_with("sinks") || name.contains("_norm.") {
            return Ok(match self.norm {
                NormKind::RmsPlusOne => Tensor::f_zeros(shape, (kind, device))?,
                _ => Tensor::f_ones(shape, (kind, device))?,
            });
        }
        let mut tensor = Tensor::f_empty(shape, (Kind::Float, device))?;
        self.generator.borrow_mut().draw(|| Ok(tensor.f_normal_(0.0, self.deviation).map(drop)?))?;
        Ok(tensor.f_to_kind(kind)?)
    }

    fn stored(&self, name: &str) -> Result<Tensor> {
        Err(Error::new(format!("random weights store no tensor `{name}`")))
    }

    fn unused(&self, _used: &BTreeSet<String>) -> Vec<String> {
        Vec::new()
    }
}
