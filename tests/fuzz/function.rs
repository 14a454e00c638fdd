//! Every function that scripts can call, with random values of all types.

use lancet::catalog::{Entry, Kind, Parameter};
use lancet::session::Session;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::campaign::{Input, Target, fuzz};
use crate::script::{DENIED, evaluate, with_model};

const INTEGERS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "7",
    "31",
    "64",
    "255",
    "1000",
    "65536",
    "2147483647",
    "2147483648",
    "100000000000",
    "9223372036854775807",
    "(-1)",
    "(-2)",
    "(-2147483649)",
    "(-9223372036854775807 - 1)",
];
const FLOATS: &[&str] = &[
    "0.0",
    "(-0.0)",
    "0.5",
    "1.0",
    "(-1.5)",
    "3.0",
    "1e-300",
    "1e300",
    "1.7976931348623157e308",
    "9.3e18",
    "(0.0 / 0.0)",
    "(1.0 / 0.0)",
    "(-1.0 / 0.0)",
];
const STRINGS: &[&str] = &[
    r#""""#,
    r#""a""#,
    r#"" big""#,
    r#""e\u0301🙂""#,
    r#""\u2028\x00""#,
    r#""f32""#,
    r#""f64""#,
    r#""bf16""#,
    r#""i64""#,
    r#""cpu""#,
    r#""cuda:0""#,
    r#""all""#,
    r#""two-sided""#,
    r#""greater""#,
    r#""blocks.0.hook_resid_post""#,
    r#""blocks.1.attn.hook_z""#,
    r#""hook_*""#,
    r#""ij,jk->ik""#,
    r#""i...,j->""#,
    r#"".2""#,
    r#"">+1000.3e""#,
    r#""{""#,
    r#""{\"a\": [1e999]}""#,
    r#""no/such/file.json""#,
    r#""..""#,
    r#""résumé\n\ttext""#,
    r#""zzzzzzzzzzzzzzzzzzzzzzzzz""#,
];
const TENSORS: &[&str] = &[
    "t",
    "logits",
    "tensor(3)",
    "tensor([])",
    "zeros([0])",
    "zeros([2, 0, 3])",
    "tensor([1, 2, 3])",
    "tensor([true, false])",
    "tensor([[1, 2], [3, 4]])",
    "full([2, 2], 0.0 / 0.0)",
    "full([3], 1.0 / 0.0)",
    "arange(24).reshape([2, 3, 4])",
    "ones([1, 2, 1, 2, 1])",
    "rand([3, 3], #{ seed: 1 })",
    "rand([3, 3], #{ seed: 1 }).to(\"f64\")",
    "eye(3).to(\"bf16\")",
    "eye(2).to(\"f16\")",
    "rand([4, 2], #{ seed: 2 }).transpose(0, 1)",
    "arange(6).expand([2, 6])",
    "tensor([9223372036854775807, -1])",
    "rand([1000], #{ seed: 3 })",
    "tensor([0, 1, 1, 0])",
    "logits[0, -1]",
];
const FUNCTIONS: &[&str] = &[
    "|| 1",
    "|x| x",
    "|x, y| x + y",
    "|x, y| x < y",
    "|x, y, z| z",
    "|x| throw \"no\"",
    "|x| { x += 1; x }",
    "|x| ()",
    "|x| x.no_such",
    "Fn(\"print\")",
    "Fn(\"no such\")",
    "|x| [x, x]",
    "|x| x > 0",
];
const RANGES: &[&str] = &["0..3", "3..0", "-1..=2", "0..0", "1..1000", "5..=5", "0..9223372036854775807"];
const MODELS: &[&str] = &["model", "load_model(\"small.gguf\")"];
/// How values of Lancet's own types are made.
const HANDLES: &[(&str, &[&str])] = &[
    ("model", MODELS),
    ("cache", &["cache"]),
    ("intervention", &["patch(\"blocks.0.hook_resid_post\", -1, logits)", "zero(\"blocks.1.hook_attn_out\")"]),
    ("grid", &["grid"]),
    ("prefix", &["model.prefix(\"The dog\")"]),
    ("weights", &["model.blocks[0]", "model.blocks[-1].attn", "model.ln_final"]),
    ("linear_map", &["linear"]),
    ("paths", &["paths"]),
    ("path_graph", &["graph"]),
    ("figure", &["heatmap(t)", "figure"]),
    ("table", &["rows"]),
    ("progress", &["progress(3)"]),
];
const PRELUDE: &str = r#"
    let grid = model.patch_grid(#{ source: "The dog", target: ["a big"], answer: [7], sizes: [1], quiet: true });
    let linear = model.linearize("The dog");
    let paths = linear.paths(#{ answer: 7, edges: "argmax", quiet: true });
    let graph = path_graph(paths, #{ high_ranking_only: false });
    let rows = table(["a", "b"]);
    let figure = line_plot([0, 1, 2], [0.1, 0.4, 0.2]);
"#;

/// The kinds of values, by the names that signatures have for them.
const KINDS: &[&str] =
    &["integer", "float", "bool", "string", "char", "array", "map", "tensor", "range", "function", "()"];

struct Functions {
    session: Session,
    entries: Vec<Entry>,
}

impl Target for Functions {
    const LIFE: u64 = 500;
    const INTERRUPTED: bool = true;

    fn new() -> Self {
        let mut session = with_model();
        if let Err(error) = session.eval("prelude", PRELUDE) {
            panic!("{error:?}");
        }
        let entries: Vec<Entry> = session.catalog().entries().filter(|entry| entry.name != DENIED).cloned().collect();
        assert!(entries.len() > 500, "functions are found");
        Self { session, entries }
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        let entry = &self.entries[random.gen_range(0..self.entries.len())];
        Input { file: "call.rhai".into(), bytes: call(entry, random).into_bytes() }
    }

    fn run(&mut self, input: &Input) {
        evaluate(&mut self.session, &input.file, std::str::from_utf8(&input.bytes).unwrap());
    }
}

/// A call, operator or use of a property with random values, mostly of the types that it takes.
fn call(entry: &Entry, random: &mut ChaCha8Rng) -> String {
    let mut parameters: &[Parameter] = &entry.parameters;
    if entry.is_last_optional && random.gen_bool(0.4) {
        parameters = &parameters[..parameters.len() - 1];
    }
    let options: Vec<&str> = entry.doc.split('`').skip(1).step_by(2).filter(|word| is_name(word)).collect();
    let values: Vec<String> = parameters.iter().map(|parameter| argument(&parameter.kind, &options, random)).collect();
    let name = &entry.name;
    match (entry.kind, values.as_slice()) {
        (Kind::Property, [value]) => format!("let v = {value}; v.{name}"),
        (Kind::Setter, [value, new]) => format!("let v = {value}; v.{name} = {new}; v"),
        (Kind::Index, [value, index]) => format!("let v = {value}; v[{index}]"),
        (Kind::IndexSetter, [value, index, new]) => format!("let v = {value}; v[{index}] = {new}; v"),
        (Kind::Operator, [left, right]) => format!("({left}) {name} ({right})"),
        (Kind::Operator, [value]) => format!("{name}({value})"),
        _ => format!("{name}({})", values.join(", ")),
    }
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|character| character.is_ascii_lowercase() || character == '_')
}

fn argument(kind: &str, options: &[&str], random: &mut ChaCha8Rng) -> String {
    let first = kind.split(" or ").next().unwrap_or(kind);
    value(if random.gen_bool(0.8) { first } else { "any" }, options, 2, random)
}

/// An expression for a value of that kind.
fn value(kind: &str, options: &[&str], depth: usize, random: &mut ChaCha8Rng) -> String {
    let one = |of: &[&str], random: &mut ChaCha8Rng| of.choose(random).copied().unwrap_or_default().to_owned();
    let count = random.gen_range(0..4);
    match kind {
        "integer" if random.gen_bool(0.5) => random.gen_range(-3..10).to_string(),
        "integer" => one(INTEGERS, random),
        "float" => one(FLOATS, random),
        "bool" => one(&["true", "false"], random),
        "string" => one(STRINGS, random),
        "char" => one(&["'a'", "'é'", "'🙂'", "'\\x00'"], random),
        "tensor" => one(TENSORS, random),
        "range" => one(RANGES, random),
        "function" => one(FUNCTIONS, random),
        "()" => "()".to_owned(),
        "array" if depth == 0 => "[]".to_owned(),
        "array" => {
            let kind = if random.gen_bool(0.7) { KINDS[random.gen_range(0..KINDS.len())] } else { "any" };
            let items: Vec<String> = (0..count).map(|_| value(kind, options, depth - 1, random)).collect();
            format!("[{}]", items.join(", "))
        }
        "map" if depth == 0 => "#{}".to_owned(),
        "map" => {
            let mut names: Vec<&str> = (0..count).filter_map(|_| options.choose(random).copied()).collect();
            names.sort_unstable();
            names.dedup();
            let items: Vec<String> =
                names.iter().map(|name| format!("\"{name}\": {}", value("any", options, depth - 1, random))).collect();
            format!("#{{ {} }}", items.join(", "))
        }
        _ => match HANDLES.iter().find(|(name, _)| *name == kind) {
            Some((_, ways)) => one(ways, random),
            None => {
                let handles = random.gen_bool(0.1);
                let kind =
                    if handles { HANDLES.choose(random).map(|(name, _)| *name) } else { KINDS.choose(random).copied() };
                value(kind.unwrap_or_default(), options, depth, random)
            }
        },
    }
}

#[test]
fn functions() {
    fuzz::<Functions>("function::functions", 2_000);
}
