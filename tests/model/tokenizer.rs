//! Tokenizers and chat templates against the tokenizers library, SentencePiece and transformers (see
//! `fixtures/make_gguf_fixtures.py`).

use std::path::{Path, PathBuf};

use crate::support;
use lancet::gguf::Gguf;
use lancet::model::language_model::{LanguageModel, LoadOptions};
use lancet::text::chat::{Message, Options, render};
use lancet::text::tokenizer::Tokenizer;
use serde_json::{Map, Value, json as value};

fn fixture(name: &str) -> PathBuf {
    support::fixture(&format!("gguf/{name}"))
}

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(fixture(name)).unwrap()).unwrap()
}

fn from_gguf(path: &Path) -> Tokenizer {
    Tokenizer::from_gguf(&Gguf::open(path).unwrap()).unwrap().unwrap()
}

fn from_directory(name: &str) -> Tokenizer {
    Tokenizer::from_directory(&fixture(name)).unwrap().unwrap()
}

/// The model that set-up adds to the cache.
fn smollm2() -> PathBuf {
    let cache = ["LANCET_CACHE", "XDG_CACHE_HOME", "HOME"].into_iter().find_map(|variable| {
        let folder = PathBuf::from(std::env::var_os(variable).filter(|folder| !folder.is_empty())?);
        Some(match variable {
            "LANCET_CACHE" => folder,
            "XDG_CACHE_HOME" => folder.join("lancet"),
            _ => folder.join(".cache/lancet"),
        })
    });
    let path = cache.expect("a cache folder").join("models/smollm2-135m-instruct.gguf");
    assert!(path.exists(), "{} is missing: `make setup` puts it there", path.display());
    path
}

/// Every text has the expected ids, which decode to the text.
fn check(tokenizer: &Tokenizer, cases: &Value, add_special: bool) {
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 10);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let expected: Vec<i64> = serde_json::from_value(case["ids"].clone()).unwrap();
        let ids = tokenizer.encode(text, add_special).unwrap();
        assert_eq!(ids, expected, "{text:?}: {:?}", tokenizer.tokens(&ids));
        if !add_special {
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        }
    }
}

fn failure<T>(result: lancet::error::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn byte_level_ids_agree() {
    let expected = json("tokens.json");
    for tokenizer in [from_directory("tiny_llama"), from_gguf(&fixture("tiny_llama.gguf"))] {
        check(&tokenizer, &expected["byte_level"], false);
        check(&tokenizer, &expected["byte_level_special"], true);
        assert_eq!(tokenizer.vocab_size(), 320);
    }
}

#[test]
fn ways_to_split_words_agree() {
    let expected = &json("tokens.json")["splittings"];
    for (name, composes) in [("gpt-2", false), ("qwen2", true), ("smollm", false)] {
        let tokenizer = from_gguf(&fixture(&format!("split_{name}.gguf")));
        for case in expected[name].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let ids = tokenizer.encode(text, true).unwrap();
            assert_eq!(serde_json::json!(ids), case["ids"], "{name} {text:?}: {:?}", tokenizer.tokens(&ids));
            let expected = if composes { text.replace("e\u{301}", "é") } else { text.to_owned() };
            assert_eq!(tokenizer.decode(&ids).unwrap(), expected, "{name}");
        }
    }
    // The three differ.
    assert_ne!(expected["gpt-2"], expected["qwen2"]);
    assert_ne!(expected["gpt-2"], expected["smollm"]);
}

#[test]
fn unknown_kinds_of_vocabulary_are_refused() {
    let bytes = std::fs::read(fixture("split_smollm.gguf")).unwrap();
    for (known, unknown) in [(&b"smollm"[..], &b"smolln"[..]), (b"gpt2", b"bert")] {
        let at = bytes.windows(known.len()).position(|window| window == known).unwrap();
        let mut changed = bytes.clone();
        changed[at..at + known.len()].copy_from_slice(unknown);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), changed).unwrap();
        let message = failure(Tokenizer::from_gguf(&Gguf::open(file.path()).unwrap()));
        assert!(message.contains(&format!("`{}`", String::from_utf8_lossy(unknown))), "{message}");
    }
    assert!(Tokenizer::from_gguf(&Gguf::open(&fixture("quantized.gguf")).unwrap()).unwrap().is_none());
}

#[test]
fn sentencepiece_ids_agree() {
    let expected = &json("tokens.json")["sentencepiece"];
    check(&from_gguf(&fixture("sentencepiece.gguf")), &expected["prefix"], false);
    check(&from_directory("sentencepiece"), &expected["prefix"], false);
    check(&from_gguf(&fixture("sentencepiece_no_prefix.gguf")), &expected["no_prefix"], false);
}

#[test]
fn sentencepiece_texts_begin_with_the_first_special_token() {
    let tokenizer = from_gguf(&fixture("sentencepiece.gguf"));
    let plain = tokenizer.encode("The dog", false).unwrap();
    assert_eq!(tokenizer.encode("The dog", true).unwrap(), [&[1], &plain[..]].concat());
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.unk()), (Some(1), Some(2), Some(0)));
    assert_eq!(tokenizer.decode(&[1, plain[0]]).unwrap(), "<s> The");
    assert_eq!(tokenizer.encode("The</s>", false).unwrap(), [plain[0], 2]);
}

#[test]
fn smollm2_ids_agree() {
    let tokenizer = from_gguf(&smollm2());
    check(&tokenizer, &json("tokens.json")["smollm2"], false);
    assert_eq!(tokenizer.vocab_size(), 49_152);
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.pad(), tokenizer.unk()),
        (Some(1), Some(2), Some(2), Some(0))
    );
    assert_eq!(tokenizer.eos_ids(), [2]);
    // The file asks for no special token at the beginning.
    assert_eq!(tokenizer.encode("Hi", true).unwrap(), tokenizer.encode("Hi", false).unwrap());
}

#[test]
fn each_token_reads_with_its_space() {
    for tokenizer in [from_gguf(&smollm2()), from_gguf(&fixture("sentencepiece_no_prefix.gguf"))] {
        let ids = tokenizer.encode("The dog  and the fox", false).unwrap();
        assert_eq!(tokenizer.tokens(&ids).unwrap().concat(), "The dog  and the fox");
    }
    let tokenizer = from_gguf(&smollm2());
    let ids = tokenizer.encode("a big🙂<|im_end|>", false).unwrap();
    let tokens = tokenizer.tokens(&ids).unwrap();
    assert_eq!(tokens[..2], ["a", " big"]);
    assert_eq!(tokens.last().map(String::as_str), Some("<|im_end|>"));
    // The bytes of a split character.
    assert!(tokens[2..tokens.len() - 1].iter().any(|token| token.contains('\u{FFFD}')), "{tokens:?}");
    // The decoder drops the first space of a text; a token by itself keeps its own.
    let tokenizer = from_gguf(&fixture("sentencepiece.gguf"));
    let ids = tokenizer.encode("The dog  and", false).unwrap();
    assert_eq!(tokenizer.tokens(&ids).unwrap().concat(), " The dog  and");
}

#[test]
fn ids_that_no_token_has_are_errors() {
    let tokenizer = from_directory("tiny_llama");
    for id in [320, -1, i64::MAX, i64::MIN] {
        let message = failure(tokenizer.decode(&[0, id]));
        assert!(message.contains(&format!("`{id}`")) && message.contains("320"), "{message}");
        assert!(tokenizer.tokens(&[id]).is_err());
    }
    assert_eq!(tokenizer.decode(&[]).unwrap(), "");
}

#[test]
fn special_tokens_come_from_the_files_beside_the_tokenizer() {
    let tokenizer = from_directory("tiny_llama");
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.pad(), tokenizer.unk()),
        (Some(317), Some(318), Some(319), None)
    );
    assert_eq!(tokenizer.eos_ids(), [318, 319]);
    assert_eq!(tokenizer.token_to_id("<|eot_id|>"), Some(319));
    let template = tokenizer.chat_template().unwrap();
    assert!(template.contains("add_generation_prompt"), "the one called default, not {template}");
    // A GGUF file names one end token; the end of a turn is recognized by its name.
    let embedded = from_gguf(&fixture("tiny_llama.gguf"));
    assert_eq!(embedded.eos_ids(), [318, 319]);
    assert_eq!(embedded.chat_template(), Some(template));
}

#[test]
fn files_beside_the_tokenizer_may_be_missing_and_a_template_file_wins() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Tokenizer::from_directory(folder.path()).unwrap().is_none());
    let copy = |name: &str| std::fs::copy(fixture("tiny_llama").join(name), folder.path().join(name)).unwrap();
    copy("tokenizer.json");
    let tokenizer = Tokenizer::from_directory(folder.path()).unwrap().unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos_ids(), tokenizer.chat_template()), (None, &[][..], None));
    copy("tokenizer_config.json");
    std::fs::write(folder.path().join("chat_template.jinja"), "{{ 1 }}").unwrap();
    let tokenizer = Tokenizer::from_directory(folder.path()).unwrap().unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.chat_template()), (Some(317), Some("{{ 1 }}")));
}

#[test]
fn limits_of_the_training_run_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = json("tiny_llama/tokenizer.json");
    file["truncation"] =
        serde_json::json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    file["padding"] = serde_json::json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let tokenizer = Tokenizer::from_directory(folder.path()).unwrap().unwrap();
    check(&tokenizer, &json("tokens.json")["byte_level"], false);
}

#[test]
fn a_decoder_that_cuts_too_much_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = json("tiny_llama/tokenizer.json");
    file["decoder"] = serde_json::json!({"type": "Strip", "content": "a", "start": 0, "stop": 2});
    std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
    let tokenizer = Tokenizer::from_directory(folder.path()).unwrap().unwrap();
    let id = tokenizer.token_to_id("a").unwrap();
    for message in [failure(tokenizer.decode(&[id])), failure(tokenizer.tokens(&[id]))] {
        assert!(message.starts_with("the tokenizer failed: "), "{message}");
    }
}

#[test]
fn broken_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    for text in ["", "{", "[]", "{\"model\": {}}"] {
        write("tokenizer.json", text);
        let message = failure(Tokenizer::from_directory(folder.path()));
        assert!(message.contains("tokenizer.json"), "{message}");
    }
    // Merges whose result is longer than every token make the library panic.
    let mut file = json("tiny_llama/tokenizer.json");
    let longest = file["model"]["vocab"].as_object().unwrap().keys().max_by_key(|token| token.len()).unwrap().clone();
    file["model"]["merges"] = serde_json::json!([[longest, longest]]);
    write("tokenizer.json", &file.to_string());
    let message = failure(Tokenizer::from_directory(folder.path()));
    assert!(message.contains("tokenizer.json"), "{message}");
    write("tokenizer.json", &json("tiny_llama/tokenizer.json").to_string());
    write("generation_config.json", "{");
    let message = failure(Tokenizer::from_directory(folder.path()));
    assert!(message.contains("generation_config.json"), "{message}");
}

/// A SentencePiece vocabulary with no merges, in a file of the architecture.
fn with_special_tokens(architecture: &str) -> Tokenizer {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let tokens = ["<unk>", "<s>", "<|end|>", "▁", "a", "<0x0A>"].map(text).concat();
    let types = [2, 3, 3, 1, 1, 6].map(i32::to_le_bytes).concat();
    let list = |kind: u32, items: Vec<u8>| [&kind.to_le_bytes()[..], &6_u64.to_le_bytes(), &items].concat();
    let entries = [
        ("general.architecture", 8_u32, text(architecture)),
        ("tokenizer.ggml.model", 8, text("llama")),
        ("tokenizer.ggml.tokens", 9, list(8, tokens)),
        ("tokenizer.ggml.token_type", 9, list(5, types)),
        ("tokenizer.ggml.scores", 9, list(6, vec![0; 24])),
        ("tokenizer.ggml.add_space_prefix", 7, vec![0]),
    ];
    let mut bytes = [&b"GGUF"[..], &3_u32.to_le_bytes(), &0_u64.to_le_bytes(), &6_u64.to_le_bytes()].concat();
    for (key, kind, value) in entries {
        bytes.extend([text(key), kind.to_le_bytes().to_vec(), value].concat());
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    from_gguf(file.path())
}

#[test]
fn special_tokens_of_phi_3_swallow_the_space_after_them() {
    // As microsoft/Phi-3-mini-4k-instruct's tokenizer.json has it (`rstrip`); GGUF files do not contain it.
    for (architecture, expected) in [("phi3", vec![2, 4, 1, 3, 4]), ("llama", vec![2, 5, 3, 4, 1, 3, 4])] {
        let tokenizer = with_special_tokens(architecture);
        assert_eq!(tokenizer.encode("<|end|>\n a<s> a", false).unwrap(), expected, "{architecture}");
    }
}

fn messages(value: &Value) -> Vec<Message> {
    value.as_array().unwrap().iter().map(|message| message.as_object().unwrap().clone()).collect()
}

#[test]
fn conversations_read_as_transformers_writes_them() {
    let cases = json("chat.json");
    assert_eq!(cases.as_array().unwrap().len(), 12);
    for case in cases.as_array().unwrap() {
        let name = &case["name"];
        let options = Options {
            special_tokens: messages(&value!([{ "bos_token": "<s>", "eos_token": "</s>" }])).remove(0),
            variables: case["variables"].as_object().unwrap().clone(),
            ..Options::default()
        };
        let rendered = render(case["template"].as_str().unwrap(), &messages(&case["messages"]), &options);
        match case["error"].as_str() {
            None => assert_eq!(rendered.unwrap(), case["expected"], "{name}"),
            Some(expected) => {
                let message = failure(rendered);
                assert!(message.contains(expected) && message.contains("line 3"), "{name}: {message}");
            }
        }
    }
}

#[test]
fn the_models_own_template_opens_an_answer() {
    let tokenizer = from_gguf(&smollm2());
    let template = tokenizer.chat_template().unwrap();
    assert_eq!(template, json("chat.json")[0]["template"]);
    let question = messages(&value!([{ "role": "user", "content": "Hi" }]));
    let open = Options { add_generation_prompt: true, ..Options::default() };
    let opened = render(template, &question, &open).unwrap();
    assert_eq!(
        opened.strip_suffix("<|im_start|>assistant\n"),
        Some(&*render(template, &question, &Options::default()).unwrap())
    );
}

#[test]
fn templates_know_the_day() {
    let rendered = render("{{ strftime_now('%Y-%m-%d %%') }}", &[], &Options::default()).unwrap();
    let days: Vec<i64> = rendered.trim_end_matches(" %").split('-').map(|part| part.parse().unwrap()).collect();
    assert!(rendered.ends_with(" %") && days.len() == 3, "{rendered}");
    assert!(days[0] >= 2025 && (1..=12).contains(&days[1]) && (1..=31).contains(&days[2]), "{rendered}");
    let message = failure(render("\n{{ strftime_now('%Q!') }}", &[], &Options::default()));
    assert!(message.contains("line 2") && message.contains("time format"), "{message}");
}

/// Kiritimati is 14 hours ahead of UTC, and never on its day and hour.
#[test]
fn templates_know_the_local_hour() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("tokenizer.json", &json("tiny_llama/tokenizer.json").to_string());
    write("chat_template.jinja", "{{ strftime_now('%H') }}");
    let config = value!({ "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 8, "vocab_size": 400 });
    write("config.json", &config.to_string());
    let code = format!(
        "print(load_model(\"{}\", #{{ init: \"random\" }}).apply_chat_template([#{{ role: \"user\", content: \"\" }}]));",
        folder.path().display()
    );
    let hour = |zone: &str| -> i64 {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lancet"));
        let output = command.args(["-e", &code]).env("TZ", zone).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        printed.trim().parse().unwrap_or_else(|_| panic!("{printed}{}", String::from_utf8_lossy(&output.stderr)))
    };
    // The two runs may lie on both sides of an hour's end.
    let ahead = (hour("Pacific/Kiritimati") - hour("UTC")).rem_euclid(24);
    assert!([13, 14, 15].contains(&ahead), "{ahead}");
}

/// As Gemma 3's token for images: the tokenizer has 320 tokens and the model 319 embeddings.
#[test]
fn added_tokens_may_lie_beyond_the_embeddings() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("tokenizer.json", json("tiny_llama/tokenizer.json").to_string());
    let config = value!({ "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 8, "vocab_size": 319 });
    write("config.json", config.to_string());
    let options = LoadOptions { random_seed: Some(0), ..LoadOptions::default() };
    let model = LanguageModel::load(&folder.path().display().to_string(), &options).unwrap();
    let ids = model.encode("Hi<|eot_id|>", false).unwrap();
    assert_eq!(ids.last(), Some(&319));
    let message = failure(model.decoder.tokens(&[ids]));
    assert!(message.contains("319") && message.contains("out of range"), "{message}");
}

#[test]
fn tokens_of_the_files_beside_the_tokenizer_count() {
    let own = json("tiny_llama/tokenizer.json");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: &Value| std::fs::write(folder.path().join(name), value.to_string()).unwrap();
    let read = || Tokenizer::from_directory(folder.path()).map(Option::unwrap);
    write("tokenizer.json", &own);
    let size = read().unwrap().vocab_size();
    let decoder =
        value!({ "added_tokens_decoder": { (size.to_string()): { "content": "<tool_call>", "special": true } } });
    for (name, file) in [("added_tokens.json", value!({ "<tool_call>": size })), ("tokenizer_config.json", decoder)] {
        write(name, &file);
        let tokenizer = read().unwrap();
        assert_eq!(tokenizer.token_to_id("<tool_call>"), Some(size as i64), "{name}");
        let around = |text: &str| tokenizer.encode(text, false).unwrap();
        assert_eq!(around("a<tool_call>b"), [around("a"), vec![size as i64], around("b")].concat(), "{name}");
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    write("added_tokens.json", &value!({ "<tool_call>": size + 1 }));
    let message = failure(read());
    assert!(message.contains("<tool_call>") && message.contains(&format!("the next id is {size}")), "{message}");
}

#[test]
fn broken_templates_are_errors_with_their_line() {
    for (template, line) in [
        ("\n{% if %}", 2),
        ("{{ messages", 1),
        ("\n\n{% for m in messages %}", 3),
        ("\n{{ nothing.at.all }}", 2),
        ("{{ 1 | nofilter }}", 1),
        ("\n\n{{ [1] | tojson(separators=1) }}", 3),
        ("{% include 'other' %}", 1),
    ] {
        let message = failure(render(template, &[], &Options { variables: Map::new(), ..Options::default() }));
        assert!(message.contains(&format!("line {line}")), "{template}: {message}");
    }
}
/// Gemma's runs of spaces, whether they are written as spaces or as SentencePiece's marks, and typed in either way.
#[test]
fn runs_of_spaces_are_tokens_however_a_file_spells_them() {
    for spelling in ["new", "old", "mixed"] {
        check(
            &from_gguf(&fixture(&format!("gemma_spaces_{spelling}.gguf"))),
            &json("tokens.json")["gemma_spaces"],
            false,
        );
    }
}

/// A file like `name` whose metadata key `key` has another name of the same length.
fn without_key(name: &str, key: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(fixture(name)).unwrap();
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
    bytes[at..at + key.len()].copy_from_slice(format!("quantize.{}", "x".repeat(key.len() - 9)).as_bytes());
    std::fs::write(folder.path().join("model.gguf"), bytes).unwrap();
    folder
}

/// Without `tokenizer.ggml.pre` the way to split words is not guessed; the hint's way out works.
#[test]
fn a_file_that_does_not_say_how_words_are_split_is_refused() {
    let load = |folder: &tempfile::TempDir| {
        let options = LoadOptions { device: "cpu".into(), ..LoadOptions::default() };
        LanguageModel::load(&folder.path().join("model.gguf").display().to_string(), &options)
    };
    let folder = without_key("tiny_llama.gguf", "tokenizer.ggml.pre");
    let message = support::failure(load(&folder));
    support::assert_contains(&message, &["`tokenizer.ggml.pre`", "put the model's `tokenizer.json` beside the file"]);
    std::fs::copy(fixture("tiny_llama/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    let (ours, own) = (load(&folder).unwrap(), from_gguf(&fixture("tiny_llama.gguf")));
    let text = "It's 1234567 o'clock, naïve café";
    assert_eq!(ours.encode(text, false).unwrap(), own.encode(text, false).unwrap());
}

#[test]
fn a_post_processor_that_names_an_unknown_token_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let piece = value!({ "SpecialToken": { "id": "[CLS]", "type_id": 0 } });
    let template = |special: Value| {
        value!({ "type": "TemplateProcessing", "single": [piece, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [], "special_tokens": special })
    };
    let cls = value!({ "[CLS]": { "id": "[CLS]", "ids": [0], "tokens": ["[CLS]"] } });
    let load = |processor: Value| {
        let model = value!({ "type": "WordLevel", "vocab": { "[CLS]": 0, "a": 1 }, "unk_token": "[CLS]" });
        let file = value!({ "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
            "post_processor": processor, "decoder": null, "model": model });
        std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        Tokenizer::from_directory(folder.path())
    };
    let whole = load(template(cls)).unwrap().unwrap();
    assert_eq!(whole.encode("a", true).unwrap(), [0, 1]);
    for processor in [template(value!({})), value!({ "type": "Sequence", "processors": [template(value!({}))] })] {
        let message = failure(load(processor));
        assert!(message.contains("tokenizer.json") && message.contains("`[CLS]`"), "{message}");
    }
}
