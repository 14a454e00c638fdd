//! Where weights come from: safetensors files, a GGUF file, or a random generator. All speak Hugging Face's names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use tch::{Device, Kind, Tensor};

use super::config::{Config, NormKind};
use super::naming::is_buffer;
use crate::error::{Error, Result};
use crate::gguf::{self, Gguf};
use crate::hub;
use crate::tensor::raw::Arithmetic;

/// A place to take weights from.
pub trait WeightSource {
    /// Whether there is a tensor of that name.
    fn contains(&self, name: &str) -> bool;

    /// The tensor, on `device` as `kind`.
    ///
    /// # Errors
    /// It is missing, or has another shape than `shape`.
    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor>;

    /// The stored tensors that are none of `used`: what nothing asked for.
    fn unused(&self, used: &BTreeSet<String>) -> Vec<String>;
}

fn check_shape(name: &str, found: &[i64], expected: &[i64]) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(format!("tensor `{name}` has shape {found:?}, but the config calls for {expected:?}"))
        .hint("config and weights do not belong together"))
}

/// One or several safetensors files, memory-mapped: a tensor is read when it is asked for and goes straight to its device.
#[derive(Debug)]
pub struct Safetensors {
    files: Vec<MappedFile>,
    /// File and place of every tensor
    index: BTreeMap<String, usize>,
}

#[derive(Debug)]
struct MappedFile {
    path: PathBuf,
    map: Mmap,
    metadata: Metadata,
    data_start: usize,
}

impl MappedFile {
    fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|error| Error::io(path, &error))?;
        // SAFETY: the map is only read; a file that another process shortens meanwhile is outside what can be guarded.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::io(path, &error))?;
        let broken = |why: String| {
            Error::new(format!("`{}` is not a whole safetensors file: {why}", path.display()))
                .hint("the download or copy may have been cut off; fetch it again")
        };
        let (header, metadata) =
            safetensors::SafeTensors::read_metadata(&map).map_err(|error| broken(error.to_string()))?;
        let data_start = header + 8;
        let needed = data_start + metadata.data_len();
        if needed != map.len() {
            return Err(broken(format!("it should have {needed} bytes and has {}", map.len())));
        }
        Ok(Self { path: path.to_owned(), map, metadata, data_start })
    }
}

impl Safetensors {
    /// Opens the weights of a checkpoint folder: `model.safetensors`, or the shards its index names.
    ///
    /// # Errors
    /// No safetensors there, a missing shard, a file that is cut off or damaged; each names the file.
    pub fn open(directory: &Path) -> Result<Self> {
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
            return Err(match other {
                Some(name) => error.hint(format!(
                    "it has {name}: load it with transformers and `save_pretrained(path, safe_serialization=True)`"
                )),
                None => error.hint("give the folder that holds config.json and model.safetensors"),
            });
        };
        let files = paths.iter().map(|path| MappedFile::open(path)).collect::<Result<Vec<_>>>()?;
        let mut index = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            for name in file.metadata.offset_keys() {
                index.insert(name, number);
            }
        }
        Ok(Self { files, index })
    }
}

impl WeightSource for Safetensors {
    fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
        let file = self.index.get(name).and_then(|number| self.files.get(*number));
        let Some(file) = file else {
            return Err(Error::new(format!("tensor `{name}` is missing from the checkpoint")));
        };
        file.load(name, shape, kind, device).map_err(|error| error.context(format!("`{}`", file.path.display())))
    }

    fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        self.index.keys().filter(|name| !used.contains(*name) && !is_buffer(name)).cloned().collect()
    }
}

impl MappedFile {
    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
        let missing = || Error::new(format!("tensor `{name}` is missing"));
        let info = self.metadata.info(name).ok_or_else(missing)?;
        let found: Vec<i64> = info.shape.iter().map(|size| *size as i64).collect();
        check_shape(name, &found, shape)?;
        let stored = match info.dtype {
            Dtype::F64 => Kind::Double,
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => {
                return Err(Error::new(format!("tensor `{name}` is stored as {other:?}, which is not supported"))
                    .hint("supported: F64, F32, F16, BF16"));
            }
        };
        let (start, end) = info.data_offsets;
        let bytes = self
            .map
            .get(self.data_start + start..self.data_start + end)
            .ok_or_else(|| Error::new(format!("tensor `{name}` lies outside the file")))?;
        let strides = contiguous_strides(shape);
        let aligned = bytes.as_ptr().align_offset(std::mem::align_of::<f64>()) == 0;
        if bytes.is_empty() || !aligned {
            let copy = Tensor::f_from_data_size(bytes, shape, stored)?;
            return Ok(copy.f_to_device_(device, kind, false, false)?);
        }
        // SAFETY: the bytes are in bounds, aligned and as many as shape and type call for (safetensors checked it), and the
        // borrowed tensor does not outlive this function: what is returned is a copy.
        let borrowed = unsafe { Tensor::f_from_blob(bytes.as_ptr(), shape, &strides, stored, Device::Cpu) }?;
        Ok(borrowed.f_to_device_(device, kind, false, true)?)
    }
}

fn contiguous_strides(shape: &[i64]) -> Vec<i64> {
    let mut strides: Vec<i64> = shape
        .iter()
        .rev()
        .scan(1, |stride, size| {
            let this = *stride;
            *stride *= size;
            Some(this)
        })
        .collect();
    strides.reverse();
    strides
}

/// The GGUF tensor that holds the divisors of Llama 3's rotary frequencies.
pub const ROTARY_DIVISORS: &str = "rope_freqs.weight";

/// A GGUF file, its tensors renamed and rearranged to what Hugging Face's checkpoint of the same model has.
pub struct GgufSource<'a> {
    gguf: &'a Gguf,
    architecture: String,
    conversion: gguf::Conversion,
    config: &'a Config,
}

impl<'a> GgufSource<'a> {
    /// The weights in `gguf`, which `config` describes.
    pub fn new(gguf: &'a Gguf, config: &'a Config) -> Result<Self> {
        let architecture = gguf.architecture()?.to_owned();
        let conversion = gguf::conversion(&architecture);
        Ok(Self { gguf, architecture, conversion, config })
    }

    /// Undoes what the converter did to the tensor that Hugging Face calls `name`.
    fn restore(&self, name: &str, tensor: Tensor) -> Result<Tensor> {
        let config = self.config;
        if self.conversion.rotary_permuted && name.contains(".q_proj.") {
            return gguf::unpermute_rotary(&tensor, config.n_heads);
        }
        if self.conversion.rotary_permuted && name.contains(".k_proj.") {
            return gguf::unpermute_rotary(&tensor, config.n_kv_heads);
        }
        if self.conversion.norm_plus_one && name.ends_with("norm.weight") {
            return tensor.minus(1.0);
        }
        if self.conversion.linear_layout && tensor.dim() == 2 && name.contains(".c_") {
            return Ok(tensor.f_transpose(0, 1)?);
        }
        if self.conversion.qkv_split && name.contains(".query_key_value.") {
            let mut by_part = vec![3, config.n_heads, config.d_head];
            by_part.extend(tensor.size().get(1));
            return Ok(tensor.f_view(by_part.as_slice())?.f_transpose(0, 1)?.f_reshape(tensor.size())?);
        }
        Ok(tensor)
    }

    fn stored_name(&self, name: &str) -> Option<String> {
        gguf::tensor_name(&self.architecture, name).filter(|stored| self.gguf.contains(stored))
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

    fn unused(&self, used: &BTreeSet<String>) -> Vec<String> {
        let read: BTreeSet<String> = used.iter().filter_map(|name| self.stored_name(name)).collect();
        let names = self.gguf.tensor_names().iter();
        // The divisors of the rotary frequencies go into the config, not into a weight.
        names.filter(|name| !read.contains(*name) && *name != ROTARY_DIVISORS).cloned().collect()
    }
}

/// Weights drawn at random as Hugging Face initialises a model: normal for matrices, norms that do nothing, zero biases.
#[derive(Debug)]
pub struct RandomWeights {
    deviation: f64,
    norm: NormKind,
}

impl RandomWeights {
    /// Seeds the generator. Equal seeds give equal weights on one kind of device.
    pub fn new(config: &Config, seed: i64) -> Self {
        tch::manual_seed(seed);
        Self { deviation: config.initializer_range, norm: config.norm }
    }
}

impl WeightSource for RandomWeights {
    fn contains(&self, _name: &str) -> bool {
        true
    }

    fn load(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> Result<Tensor> {
        if name.ends_with(".bias") {
            return Ok(Tensor::f_zeros(shape, (kind, device))?);
        }
        if shape.len() == 1 {
            return Ok(match self.norm {
                NormKind::RmsPlusOne => Tensor::f_zeros(shape, (kind, device))?,
                NormKind::Rms | NormKind::Layer => Tensor::f_ones(shape, (kind, device))?,
            });
        }
        let mut tensor = Tensor::f_empty(shape, (Kind::Float, device))?;
        let _ = tensor.f_normal_(0.0, self.deviation)?;
        Ok(tensor.f_to_kind(kind)?)
    }

    fn unused(&self, _used: &BTreeSet<String>) -> Vec<String> {
        Vec::new()
    }
}
