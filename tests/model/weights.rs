//! Editing, rewriting and saving weights: against TransformerLens, and against the law that a rewritten model computes the
//! same.

use std::collections::BTreeMap;

use lancet::model::config::NormPlacement;
use lancet::model::decoder::Decoder;
use lancet::model::language_model::LanguageModel;
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::support::checksum::assert_checksum;
use crate::support::{
    TINY, assert_contains, eval, eval_tensor, failure, fixture, load, logits, max_difference, run_script,
    script_failure, session, some_tokens, tiny_path,
};

type Rewrite = fn(&Decoder) -> lancet::error::Result<Decoder>;

fn exact(name: &str) -> LanguageModel {
    load(&tiny_path(name).display().to_string(), Kind::Double)
}

fn probabilities(model: &LanguageModel, tokens: &Tensor) -> Tensor {
    logits(model, tokens).log_softmax(-1, Kind::Double)
}

#[test]
fn rewritten_weights_compute_the_same() {
    let rewrites: [(&str, Rewrite); 4] = [
        ("fold_ln", Decoder::fold_norms),
        ("center_unembed", Decoder::center_unembedding),
        ("center_writing_weights", Decoder::center_writing),
        ("fold_value_biases", Decoder::fold_value_biases),
    ];
    let mut refused = Vec::new();
    for name in TINY {
        let model = exact(name);
        let tokens = some_tokens(&model, 2, 7);
        let wanted = probabilities(&model, &tokens);
        for (what, rewrite) in &rewrites {
            match rewrite(&model.decoder) {
                Ok(decoder) => {
                    let rewritten = model.with_decoder(decoder);
                    let difference = max_difference(&probabilities(&rewritten, &tokens), &wanted);
                    assert!(difference < 1e-10, "{name} {what}: {difference:e}");
                }
                Err(_) => refused.push((*name, *what)),
            }
        }
        let config = model.config();
        let is_refused = |what| refused.contains(&(*name, what));
        assert_eq!(is_refused("center_unembed"), config.logit_soft_cap.is_some(), "{name}");
        let centres = config.norm.is_centred() && config.norm_placement == NormPlacement::Pre;
        assert_eq!(is_refused("center_writing_weights"), !centres, "{name}");
        assert_eq!(is_refused("fold_value_biases"), config.attention_sinks, "{name}");
        assert!(!is_refused("fold_ln"), "{name}");
    }
}

#[test]
fn rewritten_weights_are_transformer_lenss() {
    let text = std::fs::read_to_string(fixture("processed_weights.json")).unwrap();
    let expected: BTreeMap<String, BTreeMap<String, Value>> = serde_json::from_str(&text).unwrap();
    for (name, weights) in &expected {
        let mut session = session();
        let centre = if name.starts_with("gpt") { ".center_writing_weights()" } else { "" };
        run_script(
            &mut session,
            &format!(
                "let model = load_model({:?}, #{{ device: device, dtype: \"f64\" }}).fold_ln(){centre}\
                 .center_unembed().fold_value_biases();",
                tiny_path(name).display().to_string()
            ),
        );
        let mut compared = 0;
        for (weight, value) in weights {
            let shape: Vec<i64> = serde_json::from_value(value[0].clone()).unwrap();
            // TransformerLens gives every model every bias.
            if value[2].as_f64() == Some(0.0) && weight.starts_with("b_") && weight != "b_V" {
                continue;
            }
            let ours = eval_tensor(&mut session, &format!("model.{weight}"));
            assert_eq!(ours.size(), shape, "{name} {weight}");
            assert_checksum(&format!("{name} {weight}"), &ours, &value.as_array().unwrap()[1..]);
            compared += 1;
        }
        assert!(compared >= 8, "{name}: only {compared}");
    }
}

#[test]
fn every_weight_can_be_read_and_given_back() {
    for name in TINY {
        let model = exact(name);
        let parameters = || model.decoder.parameters().unwrap();
        let same = model.with_decoder(model.decoder.with_parameters(parameters().into_iter().collect()).unwrap());
        let tokens = some_tokens(&model, 2, 7);
        assert!(max_difference(&logits(&same, &tokens), &logits(&model, &tokens)) < 1e-12, "{name}");
        // Each weight matters: none of the names is for show.
        for (weight, value) in parameters() {
            let ramp = Tensor::arange(value.numel() as i64, (Kind::Double, value.device()))
                .remainder(7.0)
                .reshape(value.size());
            let other = BTreeMap::from([(weight.clone(), value * 1.5 + ramp)]);
            let edited = model.with_decoder(model.decoder.with_parameters(other).unwrap());
            assert!(max_difference(&logits(&edited, &tokens), &logits(&model, &tokens)) > 0.0, "{name} {weight}");
            assert_ne!(edited.fingerprint().unwrap(), model.fingerprint().unwrap(), "{name} {weight}");
        }
    }
}

#[test]
fn saved_models_are_loaded_as_they_were() {
    for name in TINY {
        let model = exact(name);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("saved");
        model.save(&path).unwrap();
        let again = load(&path.display().to_string(), Kind::Double);
        assert_eq!(again.config(), model.config(), "{name}");
        assert_eq!(again.fingerprint().unwrap(), model.fingerprint().unwrap(), "{name}");
        assert_contains(&failure(model.save(&path)), &["exists already", "new folder"]);
    }
}

#[test]
fn an_edited_gguf_model_can_be_saved() {
    let folder = tempfile::tempdir().unwrap();
    let model = load(&fixture("gguf/tiny_llama.gguf").display().to_string(), Kind::Float);
    let zeros = model.decoder.blocks[0].mlp.as_ref().expect("an MLP").down.weight.transpose(0, 1).zeros_like();
    let changed = BTreeMap::from([("blocks.0.mlp.W_out".to_owned(), zeros)]);
    let edited = model.with_decoder(model.decoder.with_parameters(changed).unwrap());
    let path = folder.path().join("saved");
    edited.save(&path).unwrap();
    let again = load(&path.display().to_string(), Kind::Float);
    let tokens = some_tokens(&model, 2, 5);
    assert_eq!(max_difference(&logits(&again, &tokens), &logits(&edited, &tokens)), 0.0);
    assert!(max_difference(&logits(&again, &tokens), &logits(&model, &tokens)) > 0.0);
    let (ours, theirs) = (again.tokenizer().unwrap(), model.tokenizer().unwrap());
    for text in ["The dog", " é\n\n 12 <s> </s>", "日本語 🙂"] {
        for add_special in [false, true] {
            assert_eq!(ours.encode(text, add_special).unwrap(), theirs.encode(text, add_special).unwrap(), "{text}");
        }
    }
    let special = |tokenizer: &lancet::text::tokenizer::Tokenizer| {
        (tokenizer.bos(), tokenizer.eos(), tokenizer.pad(), tokenizer.unk(), tokenizer.eos_ids().to_vec())
    };
    assert_eq!(special(ours), special(theirs));
    assert_eq!(ours.chat_template(), theirs.chat_template());
}

#[test]
fn scripts_edit_a_copy_and_are_told_when_they_write_into_a_model() {
    let mut session = session();
    let path = tiny_path("llama2").display().to_string();
    run_script(
        &mut session,
        &format!("let model = load_model({path:?}, #{{ device: device }}); let tokens = [3, 1, 4];"),
    );
    // A head without output weights is a head whose mixed values are zero.
    run_script(
        &mut session,
        "let W_O = model.blocks[1].attn.W_O; W_O[2] = 0.0; \
         let edited = model.with_weights(#{ \"blocks.1.attn.W_O\": W_O }); \
         let hooked = model.run_with_hooks(tokens, [zero(\"z.1\", \"all\", #{ head: 2 })]); \
         assert(allclose(edited.forward(tokens), hooked, #{ atol: 1e-6 })); \
         assert(!allclose(model.forward(tokens), hooked, #{ atol: 1e-6 })); \
         assert(equal(edited.W_O[1], W_O)); assert(edited.hash != model.hash); assert(\"edited\" in edited.name);",
    );
    assert_eq!(eval(&mut session, "model.blocks[0].attn.keys()").to_string(), r#"["W_Q", "W_K", "W_V", "W_O"]"#);
    for vain in [
        "model.blocks[0].attn.W_Q = zeros([4, 32, 8])",
        "model.blocks[0].attn.W_Q[0] = 0.0",
        "model.blocks[0].mlp.W_in *= 0.0",
        "model.blocks[0] = 1",
        "model.W_E[0] = 0.0",
        "model.W_U[:, 0] = 0.0",
        "model.ln_final.w = zeros([32])",
        "model.cfg.n_ctx = 5",
        "model.W_E = zeros([2, 2])",
    ] {
        assert_contains(&script_failure(&mut session, vain), &["cannot be set", "with_weights"]);
    }
    let cached = "let run = model.run_with_cache(tokens); run.cache[\"z.0\"][0] = 0.0";
    assert_contains(&script_failure(&mut session, cached), &["cannot be set"]);
    let mut fails = |script: &str, parts: &[&str]| assert_contains(&script_failure(&mut session, script), parts);
    fails("model.with_weights(#{ W_Q: zeros([2]) })", &["no weight `W_Q`", "state_dict"]);
    fails("model.with_weights(#{ W_E: zeros([2]) })", &["embed.W_E", "[97, 32]", "[2]"]);
    fails("model.with_weights(#{ W_E: 1.0 })", &["`W_E` must be a tensor"]);
    fails("model.with_weights(#{ \"ln_final.w\": ones([32]).to(\"i64\") })", &["holds floats, not i64"]);
    fails("model.blocks[0].attn.b_Q", &["`blocks.0.attn` has no weight `b_Q`", "W_Q, W_K"]);
    fails("model.b_Q", &["no weight `blocks.0.attn.b_Q`"]);
    fails("model.center_writing_weights()", &["would change the logits", "LayerNorm"]);
    fails("model.fold_ln().with_weights(#{ b_U: zeros([97]) }).save(\"/no/such\")", &["a bias of the unembedding"]);
}
