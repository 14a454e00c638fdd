//! Changes scripts token by token, so that they often remain scripts.

use lancet::catalog::{Catalog, Kind as EntryKind};
use lancet::syntax::scan::{KEYWORDS, Kind, scan};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::mutation::Mutator;

const SIGNS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "#{",
    ";",
    ",",
    ".",
    "?.",
    "?[",
    "::",
    ":",
    "=",
    "==",
    "..",
    "..=",
    "+=",
    "=>",
    "|x|",
    "||",
    "\"",
    "'",
    "`",
    "${",
    "/*",
    "*/",
    "//",
    "///",
    "#!",
    "this",
    ":help ",
    ":search ",
    "\n\n",
    "Fn(\"print\")",
    "import \"a\" as b;",
    "fn f(x) { x }",
    "try {",
    "} catch (e) {",
];
const OPERATORS: &[&str] = &[
    "==", "!=", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "**", "<<", ">>", "&", "|", "^", "&&", "||", "??", "..",
    "..=", "=", "+=", "-=", "*=", "/=", "in", "!in",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "7",
    "100",
    "65536",
    "2147483648",
    "100000000000",
    "9223372036854775807",
    "0x7f",
    "0b1",
    "0.0",
    "0.5",
    "-2.5",
    "1e300",
    "1.0e-300",
    "1e999",
    "99999999999999999999",
];
const TEXTS: &[&str] = &[
    "\"\"",
    "\"e\\u0301🙂\"",
    "\"\\x00\\u2028\"",
    "'a'",
    "`${1}${[]}`",
    "\"blocks.0.hook_resid_post\"",
    "\"f64\"",
    "\"cpu\"",
    "\"ij,jk->ik\"",
    "\".3e\"",
    "#\"a\"b\"#",
];
const VALUES: &[&str] = &[
    "()",
    "true",
    "[]",
    "#{}",
    "[1, 2.5, \"a\"]",
    "#{ a: 1, \"é\": [] }",
    "|x| x",
    "|| 1",
    "0..3",
    "model",
    "run",
    "cache",
    "logits",
    "t",
    "t[0]",
    "zeros([0, 2])",
    "tensor([true])",
    "ans",
];

/// Valid scripts, and what the tokens in them may be replaced by.
pub struct ScriptMutator {
    scripts: Vec<String>,
    functions: Vec<String>,
    texts: Vec<String>,
    bytes: Mutator,
}

impl ScriptMutator {
    /// Changes `scripts` with the help of the functions of `catalog`.
    pub fn new(scripts: Vec<String>, catalog: &Catalog) -> Self {
        let mut functions: Vec<String> = catalog
            .entries()
            .filter(|entry| entry.kind == EntryKind::Function)
            .map(|entry| entry.name.clone())
            .collect();
        functions.dedup();
        let mut texts: Vec<String> = TEXTS.iter().map(ToString::to_string).collect();
        for script in &scripts {
            let tokens = scan(script);
            texts.extend(
                tokens.iter().filter(|token| token.kind == Kind::Text).map(|token| token.text(script).to_owned()),
            );
        }
        let words: Vec<&str> = [SIGNS, OPERATORS, NUMBERS, VALUES, &KEYWORDS].concat();
        let words = words.into_iter().chain(functions.iter().map(String::as_str)).collect::<Vec<_>>();
        let seeds = scripts.iter().map(|script| script.clone().into_bytes()).collect();
        Self { bytes: Mutator::new(seeds, &words), scripts, functions, texts }
    }

    /// A text, often a script.
    pub fn input(&self, random: &mut ChaCha8Rng) -> String {
        if random.gen_bool(0.4) {
            return String::from_utf8_lossy(&self.bytes.input(random)).into_owned();
        }
        let mut script = self.script(random).to_owned();
        while {
            self.change(&mut script, random);
            random.gen_bool(0.7)
        } {}
        script
    }

    fn script(&self, random: &mut ChaCha8Rng) -> &str {
        &self.scripts[random.gen_range(0..self.scripts.len())]
    }

    fn change(&self, script: &mut String, random: &mut ChaCha8Rng) {
        let tokens = scan(script);
        if tokens.is_empty() || random.gen_bool(0.1) {
            // The statements of another script, or these once more.
            let other = if random.gen_bool(0.7) { self.script(random).to_owned() } else { script.clone() };
            script.push_str(";\n");
            script.push_str(&other);
            return;
        }
        let place = random.gen_range(0..tokens.len());
        let text = |place: usize| tokens.get(place).map_or("", |token| token.text(script));
        let is_called = |place: usize| text(place + 1) == "(";
        let is_member = |place: usize| place > 0 && matches!(text(place - 1), "." | "?.");
        let one = |of: &[&str], random: &mut ChaCha8Rng| of.choose(random).copied().unwrap_or_default().to_owned();
        let old = text(place);
        let new = match tokens[place].kind {
            _ if random.gen_bool(0.03) => String::new(),
            Kind::Name if is_called(place) => self.functions.choose(random).cloned().unwrap_or_default(),
            Kind::Name => {
                let is_alike = |other: &usize| {
                    tokens[*other].kind == Kind::Name && !is_called(*other) && is_member(*other) == is_member(place)
                };
                let names: Vec<&str> = (0..tokens.len()).filter(is_alike).map(text).collect();
                if is_member(place) || random.gen_bool(0.7) { one(&names, random) } else { one(VALUES, random) }
            }
            Kind::Number | Kind::Text if random.gen_bool(0.2) => one(VALUES, random),
            Kind::Number => one(NUMBERS, random),
            Kind::Text => self.texts.choose(random).cloned().unwrap_or_default(),
            Kind::Symbol if OPERATORS.contains(&old) && old != "|" && old != "=" => one(OPERATORS, random),
            Kind::Keyword if random.gen_bool(0.1) => one(&KEYWORDS, random),
            Kind::Symbol if random.gen_bool(0.1) => format!("{old} {}", one(VALUES, random)),
            _ => return,
        };
        script.replace_range(tokens[place].range.clone(), &new);
    }
}
