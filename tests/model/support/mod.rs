//! Shared by the tests of models: loading, capturing, comparing, scripts.

pub mod checkpoint;
pub mod checksum;
#[path = "../../support/device.rs"]
mod device;
#[path = "../../support/fixture.rs"]
mod fixture;
#[path = "../../support/generator.rs"]
mod generator;
pub mod gguf;
#[path = "../../support/session.rs"]
mod session;
#[path = "../../support/simulated_gpu.rs"]
pub mod simulated_gpu;
#[path = "../../support/svg.rs"]
pub mod svg;
#[path = "../../support/text.rs"]
mod text;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Once;

use lancet::model::cache::ActivationCache;
use lancet::model::decoder::Logits;
use lancet::model::hook::{self, HookPoint};
use lancet::model::language_model::{LanguageModel, LoadOptions};
use lancet::model::run::{Action, Callback, Hooks};
use lancet::session::{ScriptError, Session};
use tch::{Device, Kind, Tensor};

pub use device::device;
use device::{is_split, placed};
pub use fixture::fixture;
pub use generator::generator;
pub use text::{assert_contains, failure};

/// The tiny models below tests/fixtures/models; those whose names begin with `toy` are made with TransformerLens.
pub const TINY: &[&str] = &[
    "cohere",
    "cohere2",
    "gemma",
    "gemma2",
    "gemma3",
    "gpt2",
    "gpt_neo",
    "gpt_neox",
    "gpt_neox_sequential",
    "gpt_oss",
    "gpt_oss_mxfp4",
    "gptj",
    "granite",
    "llama2",
    "llama3",
    "llama_bias",
    "mistral",
    "mixtral",
    "olmo",
    "olmo2",
    "olmo2_mha",
    "olmo3",
    "olmoe",
    "opt",
    "phi",
    "phi3",
    "phi3_longrope",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "smollm3",
    "stablelm",
    "stablelm_parallel",
    "toy_attn_only",
    "toy_gelu",
    "toy_plain",
    "toy_solu_ln",
];

/// Limits libtorch to one thread: tests run in parallel, and tiny models are too small for several threads.
pub fn one_thread() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tch::set_num_threads(1));
}

/// An interpreter for scripts, in which `device` is the tests' device.
pub fn session() -> Session {
    let mut session = session::session();
    session.set_variable("device", device().into());
    session
}

/// Options that put a model on the tests' device.
pub fn on_device() -> LoadOptions {
    LoadOptions { device: device(), split: is_split(), ..LoadOptions::default() }
}

/// Loads a model on the tests' device.
pub fn load(id: &str, kind: Kind) -> LanguageModel {
    one_thread();
    let options = LoadOptions { kind, ..on_device() };
    LanguageModel::load(id, &options).unwrap_or_else(|error| panic!("loading {id}: {error}"))
}

/// The folder of a tiny model.
pub fn tiny_path(name: &str) -> PathBuf {
    fixture(&format!("models/{name}"))
}

/// A tiny model in float32.
pub fn tiny(name: &str) -> LanguageModel {
    load(&tiny_path(name).display().to_string(), Kind::Float)
}

/// Pseudorandom token ids [batch, pos], always the same.
pub fn some_tokens(model: &LanguageModel, batch: i64, length: i64) -> Tensor {
    let count = Tensor::arange(batch * length, (Kind::Int64, Device::Cpu));
    (count * 37 + 11).remainder(model.config().d_vocab).reshape([batch, length])
}

/// A callback that replaces the value.
pub fn replace<'a>(mut change: impl FnMut(&Tensor) -> Tensor + 'a) -> Callback<'a> {
    Box::new(move |_: &HookPoint, value: &Tensor| Ok(Some(change(value))))
}

/// Hooks that apply `change` to the values at `points`.
pub fn changing<'a>(
    model: &LanguageModel,
    points: Vec<HookPoint>,
    change: impl FnMut(&Tensor) -> Tensor + 'a,
) -> Hooks<'a> {
    let mut hooks = Hooks::none();
    hooks.add(model.config(), points, "changing", Action::Call(replace(change)));
    hooks
}

/// All positions' logits of a run with `hooks`, which must all be called.
pub fn logits_with(model: &LanguageModel, tokens: &Tensor, mut hooks: Hooks) -> Tensor {
    let _guard = tch::no_grad_guard();
    let logits = model.decoder.forward(tokens, Logits::All, &mut hooks).expect("the run succeeds");
    hooks.finish().expect("every hook ran");
    logits
}

/// All positions' logits.
pub fn logits(model: &LanguageModel, tokens: &Tensor) -> Tensor {
    logits_with(model, tokens, Hooks::none())
}

/// The value of a script, which must succeed.
pub fn eval(session: &mut Session, text: &str) -> rhai::Dynamic {
    session.eval("test", &placed(text)).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// Runs a script, which must succeed.
pub fn run_script(session: &mut Session, text: &str) {
    let _ = eval(session, text);
}

/// The tensor that a script returns.
pub fn eval_tensor(session: &mut Session, text: &str) -> Tensor {
    eval(session, text).cast::<lancet::tensor::Tensor>().share()
}

/// The error and hint, in one line, of a script that must fail.
pub fn script_failure(session: &mut Session, text: &str) -> String {
    match session.eval("test", &placed(text)) {
        Ok(value) => panic!("{text}: no error but {value:?}"),
        Err(ScriptError::Failed(diagnostic)) => {
            format!("{} ({})", diagnostic.message, diagnostic.hint.unwrap_or_default())
        }
        Err(other) => panic!("{text}: {other:?}"),
    }
}

/// Logits of `tokens`, and the activations at every hook point.
pub fn capture_all(model: &LanguageModel, tokens: &Tensor) -> (Tensor, ActivationCache) {
    let _guard = tch::no_grad_guard();
    let mut hooks = Hooks::none();
    hooks.add(model.config(), hook::points(model.config()), "all", Action::Capture);
    let logits = model.decoder.forward(tokens, Logits::All, &mut hooks).expect("the run succeeds");
    (logits, hooks.finish().expect("every hook ran"))
}

/// The largest absolute difference; infinite where one is infinite and the other is not, or shapes differ.
pub fn max_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    if ours.size() != theirs.size() {
        eprintln!("shapes differ: {:?} and {:?}", ours.size(), theirs.size());
        return f64::INFINITY;
    }
    let [ours, theirs] = [ours, theirs].map(|tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double));
    let same_infinity = ours.isinf().logical_and(&ours.eq_tensor(&theirs));
    let difference = (&ours - &theirs).abs().masked_fill(&same_infinity, 0.0);
    difference.nan_to_num(f64::INFINITY, f64::INFINITY, f64::INFINITY).max().double_value(&[])
}

/// Reference tensors by name.
pub struct Expected(HashMap<String, Tensor>);

impl Expected {
    /// Reads a safetensors file.
    pub fn open(path: &Path) -> Self {
        let tensors = Tensor::read_safetensors(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(tensors.into_iter().collect())
    }

    /// A tensor that must be there.
    pub fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the reference has no `{name}`"))
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
