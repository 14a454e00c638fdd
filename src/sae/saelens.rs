//! Reads and writes the `cfg.json` of SAELens. A field that is not known here could change a number, so it is refused.

use serde_json::{Map, Value, json};
use tch::Kind;

use super::config::{Architecture, Config, Normalization, TopK};
use super::fields::{MODEL, TRAINING};
use crate::error::{Error, Result, unknown};
use crate::tensor::kind_name;

/// The first version of SAELens whose files keep what concerns the model under `metadata`.
const VERSION: &str = "6.0.0";

/// The fields of a file that nothing has asked for yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn read<T>(&mut self, name: &str, wanted: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let value = self.take(name);
        value
            .map(|value| read(&value).ok_or_else(|| Error::new(format!("`{name}` must be {wanted}, not {value}"))))
            .transpose()
    }

    fn string(&mut self, name: &str) -> Result<Option<String>> {
        self.read(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    fn integer(&mut self, name: &str) -> Result<Option<i64>> {
        self.read(name, "an integer", Value::as_i64)
    }

    fn boolean(&mut self, name: &str) -> Result<Option<bool>> {
        self.read(name, "true or false", Value::as_bool)
    }

    fn object(&mut self, name: &str) -> Result<Map<String, Value>> {
        Ok(self.read(name, "an object", |value| value.as_object().cloned())?.unwrap_or_default())
    }

    /// The field under its present name or an older one.
    fn either<T>(
        &mut self,
        names: [&str; 2],
        read: impl Fn(&mut Self, &str) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let [one, other] = names.map(|name| read(self, name));
        match (one?, other?) {
            (Some(_), Some(_)) => Err(Error::new(format!("it has both `{}` and `{}`", names[0], names[1]))),
            (one, other) => Ok(one.or(other)),
        }
    }
}

/// What a `cfg.json` says.
#[derive(Debug)]
pub struct File {
    /// What the SAE computes, and where
    pub config: Config,
    /// The dtype in which it computes
    pub kind: Option<String>,
    /// `d_in`, `d_sae` and `d_out`, where they are given
    pub sizes: [Option<i64>; 3],
    /// Whether inputs were scaled in training to the mean length √d_in, by a factor that the file does not have
    pub is_scaled: bool,
    /// Whether its weights have a factor for each latent
    pub is_finetuned: bool,
}

/// Reads the contents of a `cfg.json`; of the fields that are not known, those in `ignored` may be there.
///
/// # Errors
/// A field that is not known, or has a value that is not.
pub fn read(fields: Map<String, Value>, ignored: &[String]) -> Result<File> {
    let mut fields = Fields(fields);
    let mut metadata = Fields(fields.object("metadata")?);
    for name in MODEL {
        if let Some(value) = fields.take(name) {
            metadata.0.entry(*name).or_insert(value);
        }
    }
    let is_old = !is_new(&metadata.0)?;
    let mut place = |names: [&str; 2]| match metadata.string(names[0])? {
        Some(name) => Ok(Some(name)),
        None => fields.either(names, Fields::string),
    };
    let hook_name = place(["hook_name", "hook_point"])?;
    let hook_name_out = place(["hook_name_out", "hook_point_out"])?;
    let hook_head_index = match metadata.integer("hook_head_index")? {
        Some(head) => Some(head),
        None => fields.either(["hook_head_index", "hook_point_head_index"], Fields::integer)?,
    };
    if metadata.take("hook_head_index_out").is_some() {
        return Err(Error::new("`hook_head_index_out`: a transcoder to a single head is not supported"));
    }
    let architecture = architecture(&mut fields, is_old)?;
    let (normalization, is_scaled) = normalization(&mut fields, is_old)?;
    let is_z = hook_name.as_ref().is_some_and(|name| name.contains("hook_z"));
    let joins_heads = match fields.string("reshape_activations")?.as_deref() {
        Some("none") => false,
        Some("hook_z") => true,
        Some(other) => return Err(unknown("reshape_activations", other, &["none", "hook_z"])),
        None => is_old && is_z,
    };
    let apply_b_dec_to_input = fields.boolean("apply_b_dec_to_input")?.unwrap_or(!architecture.is_transcoder);
    let kind = fields.string("dtype")?.map(|name| name.trim_start_matches("torch.").to_owned());
    let sizes = [fields.integer("d_in")?, fields.integer("d_sae")?, fields.integer("d_out")?];
    let is_finetuned = fields.boolean("finetuning_scaling_factor")?.unwrap_or(false);
    for name in ignored {
        fields.0.remove(name).ok_or_else(|| Error::new(format!("it has no field `{name}` to ignore")))?;
    }
    if let Some(name) = fields.0.keys().find(|name| !TRAINING.contains(&name.as_str())) {
        return Err(Error::new(format!("the field `{name}` is not known, and could change what the SAE computes"))
            .hint(format!("if it does not, ignore it: load_sae(folder, #{{ ignore: [\"{name}\"] }})")));
    }
    let metadata = metadata.0;
    let config = Config {
        architecture,
        apply_b_dec_to_input,
        normalization,
        joins_heads,
        hook_name,
        hook_name_out,
        hook_head_index,
        metadata,
    };
    Ok(File { config, kind, sizes, is_scaled, is_finetuned })
}

/// Whether a file has the present form, by the version of SAELens that it names.
fn is_new(metadata: &Map<String, Value>) -> Result<bool> {
    let Some(version) = metadata.get("sae_lens_version").filter(|version| !version.is_null()) else { return Ok(false) };
    let first = version.as_str().and_then(|version| version.split('.').next());
    match first.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) => Ok(major >= 6),
        None => Err(Error::new(format!("`sae_lens_version` cannot be {version}"))),
    }
}

fn architecture(fields: &mut Fields, is_old: bool) -> Result<Architecture> {
    let name = fields.string("architecture")?;
    let activation = fields.either(["activation_fn", "activation_fn_str"], Fields::string)?;
    let mut arguments = fields.object("activation_fn_kwargs")?;
    let in_arguments = arguments.remove("k");
    if let Some(name) = arguments.keys().next() {
        return Err(Error::new(format!("`{name}` in `activation_fn_kwargs` is not known")).hint("only `k` is"));
    }
    let is_top_k = activation.as_deref() == Some("topk");
    let name = match name {
        // Before version 6, top-k was an activation function of the standard architecture.
        Some(name) if is_old && is_top_k && name == "standard" => "topk".to_owned(),
        Some(name) => name,
        None if is_old => if is_top_k { "topk" } else { "standard" }.to_owned(),
        None => return Err(Error::new("it has no `architecture`")),
    };
    if let Some(other) = activation.filter(|function| function != "relu" && !(name == "topk" && function == "topk")) {
        return Err(Error::new(format!("`activation_fn` cannot be {other} in the architecture `{name}`")));
    }
    let k = match (fields.take("k"), in_arguments) {
        (Some(one), Some(other)) if one != other => {
            return Err(Error::new(format!("`k` is {one}, and {other} in `activation_fn_kwargs`")));
        }
        (one, other) => one.or(other),
    };
    let by_decoder_norm = fields.boolean("rescale_acts_by_decoder_norm")?;
    let mut is_used = false;
    let architecture = Architecture::named(&name, || {
        is_used = true;
        let k = k.as_ref().ok_or_else(|| Error::new("a top-k SAE needs `k`"))?;
        let k = k.as_i64().ok_or_else(|| Error::new(format!("`k` must be an integer, not {k}")))?;
        Ok(TopK { k, by_decoder_norm: by_decoder_norm.unwrap_or(false) })
    })?;
    match (is_used, k, by_decoder_norm) {
        (false, Some(_), _) => Err(Error::new(format!("the architecture `{name}` has no `k`"))),
        (false, _, Some(true)) => {
            Err(Error::new(format!("the architecture `{name}` has no `rescale_acts_by_decoder_norm`")))
        }
        _ => Ok(architecture),
    }
}

/// The normalization, and whether it is by a factor that is not in the file.
fn normalization(fields: &mut Fields, is_old: bool) -> Result<(Normalization, bool)> {
    let name = match fields.take("normalize_activations") {
        None => return Ok((Normalization::None, false)),
        Some(Value::Bool(scaled)) if is_old => return Ok((Normalization::None, scaled)),
        Some(Value::String(name)) => name,
        Some(other) => return Err(Error::new(format!("`normalize_activations` cannot be {other}"))),
    };
    if name == "expected_average_only_in" {
        return Ok((Normalization::None, true));
    }
    match Normalization::NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, normalization)) => Ok((*normalization, false)),
        None => Err(unknown("normalize_activations", &name, &Normalization::NAMES.map(|(name, _)| name))),
    }
}

/// The contents of a `cfg.json` for SAELens 6.
///
/// # Errors
/// An architecture that SAELens does not have.
pub fn write(config: &Config, [d_in, d_sae, d_out]: [i64; 3], kind: Kind) -> Result<Value> {
    let architecture = config.architecture;
    if !architecture.is_known_to_saelens() {
        return Err(Error::new(format!("SAELens has no architecture `{}`", architecture.name()))
            .hint("save its weights with `save_safetensors`, and give them to `new_sae`"));
    }
    let mut metadata = config.metadata.clone();
    metadata.insert("sae_lens_version".into(), VERSION.into());
    metadata.insert("hook_name".into(), json!(config.hook_name));
    metadata.insert("hook_head_index".into(), json!(config.hook_head_index));
    let mut fields = Map::from_iter([
        ("architecture".to_owned(), architecture.name().into()),
        ("d_in".into(), d_in.into()),
        ("d_sae".into(), d_sae.into()),
        ("dtype".into(), dtype_name(kind).into()),
        ("device".into(), "cpu".into()),
        ("apply_b_dec_to_input".into(), config.apply_b_dec_to_input.into()),
        ("normalize_activations".into(), config.normalization.name().into()),
        ("reshape_activations".into(), if config.joins_heads { "hook_z" } else { "none" }.into()),
    ]);
    if let Some(TopK { k, by_decoder_norm }) = architecture.top_k() {
        fields.extend([("k".into(), k.into()), ("rescale_acts_by_decoder_norm".into(), by_decoder_norm.into())]);
    }
    if architecture.is_transcoder {
        fields.insert("d_out".into(), d_out.into());
        metadata.insert("hook_name_out".into(), json!(config.hook_name_out));
    }
    fields.insert("metadata".into(), metadata.into());
    Ok(fields.into())
}

/// PyTorch's name of a dtype.
fn dtype_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Float => "float32",
        Kind::Double => "float64",
        Kind::Half => "float16",
        Kind::BFloat16 => "bfloat16",
        other => kind_name(other),
    }
}
