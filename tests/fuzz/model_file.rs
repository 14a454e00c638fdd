//! Files of models: configs, indexes, safetensors, GGUF, whole folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lancet::data::safetensors::{self, SafetensorsFile};
use lancet::gguf::Gguf;
use lancet::hub;
use lancet::model::decoder::Logits;
use lancet::model::family;
use lancet::model::language_model::{LanguageModel, LoadOptions};
use lancet::model::run::Hooks;
use lancet::model::source::Checkpoint;
use lancet::text::tokenizer::Tokenizer;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::Device;

use crate::campaign::{Input, Target, fuzz};
use crate::json::JsonMutator;
use crate::mutation::Mutator;
use crate::seed;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

const DTYPES: &[u8] =
    br#"{"a": {"dtype": "F64", "shape": [1, 2], "data_offsets": [0, 16]}, "__metadata__": {"F16": "BF16",
    "I64": "U8", "I32": "BOOL", "F8_E4M3": "F8_E5M2", "F4": "C64"}}"#;

/// Changes of a safetensors file: of any bytes, or of the description of its tensors, whose length is then right.
struct Tensors {
    files: Vec<Vec<u8>>,
    bytes: Mutator,
    descriptions: JsonMutator,
}

impl Tensors {
    fn new(files: Vec<Vec<u8>>) -> Self {
        let descriptions = files.iter().map(|file| file[8..data_start(file)].to_vec());
        let descriptions = descriptions.chain([DTYPES.to_vec()]).collect();
        let words = ["{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"];
        Self { bytes: Mutator::new(files.clone(), &words), descriptions: JsonMutator::new(descriptions), files }
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Vec<u8> {
        if random.gen_bool(0.3) {
            return if random.gen_bool(0.5) { self.bytes.input(random) } else { self.bytes.in_place(random) };
        }
        let file = &self.files[random.gen_range(0..self.files.len())];
        let description = self.descriptions.input(random);
        let length = u64::try_from(description.len()).unwrap().to_le_bytes();
        [&length[..], &description, &file[data_start(file)..]].concat()
    }
}

fn data_start(file: &[u8]) -> usize {
    8 + usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap()
}

/// Runs three tokens through what could be loaded.
fn load(path: &Path) {
    let options = LoadOptions { device: "cpu".into(), offline: true, ..LoadOptions::default() };
    let Ok(model) = LanguageModel::load(&path.display().to_string(), &options) else { return };
    if let Ok(tokens) = model.decoder.tokens(&[vec![1, 2, 3]]) {
        let _ = model.decoder.forward(&tokens, Logits::All, &mut Hooks::none());
    }
    let _ = model.encode("The dog", true).and_then(|ids| model.tokens(&ids));
}

struct Config(JsonMutator);

impl Target for Config {
    fn new() -> Self {
        let folders = ["tests/fixtures/config", "tests/fixtures/models"];
        Self(JsonMutator::new(folders.map(|folder| seed::contents(folder, "/config.json")).concat()))
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: CONFIG.into(), bytes: self.0.input(random) }
    }

    fn run(&mut self, input: &Input) {
        if let Ok(json) = serde_json::from_slice(&input.bytes) {
            let _ = family::parse(&json);
        }
    }
}

struct Index(JsonMutator);

impl Target for Index {
    fn new() -> Self {
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        for (name, shard) in ["a", "b"].iter().zip(shards) {
            let tensors = BTreeMap::from([(
                (*name).to_owned(),
                lancet::tensor::Tensor::from(tch::Tensor::from_slice(&[1.0_f32])),
            )]);
            safetensors::write(Path::new(shard), &tensors, &BTreeMap::new()).unwrap();
        }
        let seed = format!(
            "{{\"metadata\": {{\"total_size\": 8}},\n\"weight_map\": {{\n\"a\": \"{}\",\n\"b\": \"{}\"\n}}}}\n",
            shards[0], shards[1]
        );
        Self(JsonMutator::new(vec![seed.into_bytes(), br#"{"a": ["../b", "/", "pytorch_model.bin"]}"#.to_vec()]))
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: INDEX.into(), bytes: self.0.input(random) }
    }

    fn run(&mut self, input: &Input) {
        fs::write(INDEX, &input.bytes).unwrap();
        if hub::shards(Path::new(INDEX)).is_ok() {
            let _ = Checkpoint::open(Path::new("."));
        }
    }
}

struct Safetensors(Tensors);

impl Target for Safetensors {
    fn new() -> Self {
        let small = ["config/qwen2/model.safetensors", "gguf/unpermute.safetensors", "tensors.safetensors"];
        Self(Tensors::new(seed::fixtures(&small)))
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: WEIGHTS.into(), bytes: self.0.input(random) }
    }

    fn run(&mut self, input: &Input) {
        fs::write(WEIGHTS, &input.bytes).unwrap();
        let path = Path::new(WEIGHTS);
        if let Ok(file) = SafetensorsFile::open(path) {
            for name in file.names() {
                let _ = file.load(&name, None, Device::Cpu);
            }
        }
        let _ = safetensors::read_metadata(path);
        let _ = safetensors::read(path);
    }
}

struct GgufFile(Mutator);

const GGUF: &str = "model.gguf";

impl Target for GgufFile {
    fn new() -> Self {
        let names = ["quantized", "sentencepiece", "split_qwen2", "split_gpt-2", "gemma_spaces_new", "phi3_long"];
        let files = names.map(|name| format!("gguf/{name}.gguf"));
        let words = [
            "GGUF",
            "general.architecture",
            "general.alignment",
            "llama",
            "gpt2",
            "qwen2",
            "gemma3",
            "tokenizer.ggml.model",
            "tokenizer.ggml.tokens",
            "tokenizer.ggml.merges",
            "tokenizer.ggml.scores",
            "tokenizer.ggml.token_type",
            "tokenizer.ggml.pre",
            "tokenizer.ggml.bos_token_id",
            "llama.block_count",
            "llama.rope.scaling.type",
            "split.count",
        ];
        Self(Mutator::new(seed::fixtures(&files.each_ref().map(String::as_str)), &words))
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        let bytes = if random.gen_bool(0.4) { self.0.input(random) } else { self.0.in_place(random) };
        Input { file: GGUF.into(), bytes }
    }

    fn run(&mut self, input: &Input) {
        fs::write(GGUF, &input.bytes).unwrap();
        let Ok(gguf) = Gguf::open(Path::new(GGUF)) else { return };
        for name in gguf.tensor_names() {
            let _ = gguf.load(name);
        }
        if let Ok(Some(tokenizer)) = Tokenizer::from_gguf(&gguf) {
            let _ = tokenizer.encode("The dog\u{e9} <s>12", true).and_then(|ids| tokenizer.tokens(&ids));
        }
        load(Path::new(GGUF));
    }
}

/// Checkpoints, of which one file is changed.
struct Folders(Vec<(String, JsonMutator, Tensors)>);

fn original(file: &str) -> Vec<u8> {
    seed::fixtures(&[&format!("config/{file}")]).remove(0)
}

impl Target for Folders {
    fn new() -> Self {
        let kind = |config: PathBuf| {
            let name = config.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
            let files = [CONFIG, WEIGHTS].map(|file| (format!("{name}/{file}"), original(&format!("{name}/{file}"))));
            let _ = fs::create_dir(&name);
            for (path, bytes) in &files {
                fs::write(path, bytes).unwrap();
            }
            let [config, weights] = files.map(|(_, bytes)| vec![bytes]);
            (name, JsonMutator::new(config), Tensors::new(weights))
        };
        Self(seed::files("tests/fixtures/config", "/config.json").into_iter().map(kind).collect())
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        let (name, config, weights) = &self.0[random.gen_range(0..self.0.len())];
        if random.gen_bool(0.5) {
            Input { file: format!("{name}/{CONFIG}"), bytes: config.input(random) }
        } else {
            Input { file: format!("{name}/{WEIGHTS}"), bytes: weights.input(random) }
        }
    }

    fn run(&mut self, input: &Input) {
        fs::write(&input.file, &input.bytes).unwrap();
        load(Path::new(&input.file).parent().unwrap());
        fs::write(&input.file, original(&input.file)).unwrap();
    }
}

#[test]
fn configs() {
    fuzz::<Config>("model_file::configs", 5_000);
}

#[test]
fn indexes() {
    fuzz::<Index>("model_file::indexes", 5_000);
}

#[test]
fn safetensors_files() {
    fuzz::<Safetensors>("model_file::safetensors_files", 5_000);
}

#[test]
fn gguf_files() {
    fuzz::<GgufFile>("model_file::gguf_files", 3_000);
}

#[test]
fn folders() {
    fuzz::<Folders>("model_file::folders", 2_000);
}
