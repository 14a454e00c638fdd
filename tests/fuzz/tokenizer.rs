//! Tokenizers, the files beside them, and chat templates.

use std::fs;
use std::path::Path;

use lancet::text::chat::{Message, Options, render};
use lancet::text::tokenizer::Tokenizer;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::campaign::{Input, Target, fuzz};
use crate::json::JsonMutator;
use crate::mutation::Mutator;
use crate::seed;

const TOKENIZER: &str = "tokenizer.json";

/// Parts that other tokenizers have.
const PARTS: &[u8] = br#"{"model": {"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "ab",
    "max_input_chars_per_word": 100, "vocab": {"<unk>": 0, "a": 1}}, "unigram": {"type": "Unigram", "unk_id": 0,
    "vocab": [["<unk>", 0.0], ["a", -1.5]], "byte_fallback": true}, "words": {"type": "WordLevel", "vocab": {"a": 0},
    "unk_token": "a"}, "normalizer": {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern":
    {"Regex": "(?:[^\\p{L}]+)*$"}, "content": "x"}, {"type": "Prepend", "prepend": "_"}, {"type": "NFKC"}]},
    "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": false},
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1],
    "tokens": ["<s>"]}}}, "decoder": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"},
    "digits": {"type": "Digits", "individual_digits": true}, "truncation": {"direction": "Right", "max_length": 3,
    "strategy": "LongestFirst", "stride": 0}}"#;

/// A folder with a tokenizer, of which one file is changed.
struct Files(Vec<(String, JsonMutator)>);

const FOLDERS: [&str; 2] = ["tiny_llama", "sentencepiece"];

fn original(file: &str) -> Option<Vec<u8>> {
    fs::read(crate::support::fixture(&format!("gguf/{file}"))).ok()
}

impl Target for Files {
    fn new() -> Self {
        let mut all = Vec::new();
        for folder in FOLDERS {
            let _ = fs::create_dir(folder);
            for (name, seed) in [
                (TOKENIZER, Some(PARTS)),
                (
                    "tokenizer_config.json",
                    Some(br#"{"bos_token": "<s>", "added_tokens_decoder": {"0": {"content": "<unk>", "special": true}}}"#,
                    ),
                ),
                ("added_tokens.json", Some(br#"{"<s>": 1, "<new>": 320}"#)),
                ("special_tokens_map.json", Some(br#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}}"#)),
                ("generation_config.json", Some(br#"{"eos_token_id": [1, 2], "pad_token_id": 0}"#)),
                ("config.json", Some(br#"{"bos_token_id": 1, "eos_token_id": 2}"#)),
            ] {
                let path = format!("{folder}/{name}");
                let bytes = original(&path);
                bytes.iter().for_each(|bytes| fs::write(&path, bytes).unwrap());
                let seeds: Vec<Vec<u8>> = bytes.into_iter().chain(seed.map(<[u8]>::to_vec)).collect();
                all.push((path, JsonMutator::new(seeds)));
            }
        }
        Self(all)
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        // Half of the inputs are the tokenizers themselves.
        let main = random.gen_bool(0.5);
        let files: Vec<_> = self.0.iter().filter(|(path, _)| !main || path.ends_with(TOKENIZER)).collect();
        let (path, mutator) = files[random.gen_range(0..files.len())];
        Input { file: path.clone(), bytes: mutator.input(random) }
    }

    fn run(&mut self, input: &Input) {
        fs::write(&input.file, &input.bytes).unwrap();
        if let Ok(Some(tokenizer)) = Tokenizer::from_directory(Path::new(&input.file).parent().unwrap()) {
            for text in ["", "The dog\u{e9} <s>12\n\n  🙂", "<new>a</s>"] {
                if let Ok(ids) = tokenizer.encode(text, true) {
                    let _ = tokenizer.tokens(&ids);
                    let _ = tokenizer.decode(&ids);
                }
            }
            let _ = tokenizer.special_texts();
        }
        match original(&input.file) {
            Some(bytes) => fs::write(&input.file, bytes).unwrap(),
            None => fs::remove_file(&input.file).unwrap(),
        }
    }
}

struct Template {
    mutator: Mutator,
    messages: Vec<Message>,
}

impl Target for Template {
    fn new() -> Self {
        let cases: Value = serde_json::from_slice(&seed::fixtures(&["gguf/chat.json"])[0]).unwrap();
        let templates =
            cases.as_array().unwrap().iter().map(|case| case["template"].as_str().unwrap().as_bytes().to_vec());
        let words = [
            "{{",
            "}}",
            "{%",
            "%}",
            "{%-",
            "-%}",
            "{#",
            "#}",
            "for",
            "in",
            "if",
            "else",
            "endif",
            "endfor",
            "set",
            "macro",
            "endmacro",
            "namespace",
            "loop.index",
            "loop.cycle",
            "range",
            "messages",
            "| tojson",
            "| trim",
            "| length",
            "| join",
            "| int",
            "| list",
            "| reverse",
            "| batch(3)",
            "| indent(4)",
            "| slice(3)",
            "| replace",
            "[1:]",
            "[::-1]",
            "[::0]",
            "raise_exception(",
            "strftime_now(",
            "~",
            "+",
            "*",
            "**",
            "//",
            "%",
            "is defined",
            "is mapping",
            ".split(",
            ".items()",
            ".startswith(",
            "break",
            "continue",
            "generation",
            "endgeneration",
            "include",
            "import",
        ];
        let messages = json!([{"role": "system", "content": "x"}, {"role": "user", "content": " é\n", "tool_calls": [1, {"a": null}]},
            {"role": "assistant", "content": "y"}]);
        Self { mutator: Mutator::new(templates.collect(), &words), messages: serde_json::from_value(messages).unwrap() }
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: "chat_template.jinja".into(), bytes: self.mutator.text(random).into_bytes() }
    }

    fn run(&mut self, input: &Input) {
        let template = std::str::from_utf8(&input.bytes).unwrap();
        let _ = render(template, &self.messages, &Options { add_generation_prompt: true, ..Options::default() });
    }
}

#[test]
fn tokenizer_files() {
    fuzz::<Files>("tokenizer::tokenizer_files", 3_000);
}

#[test]
fn chat_templates() {
    fuzz::<Template>("tokenizer::chat_templates", 3_000);
}
