//! Scripts: parsed, run, and typed at the prompt.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;

use lancet::access::Access;
use lancet::bind::display;
use lancet::limits::Limits;
use lancet::repl::helper::PromptHelper;
use lancet::session::{Options, ScriptError, Session, engine};
use rand_chacha::ChaCha8Rng;
use rhai::{Dynamic, Engine};
use rustyline::Context;
use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::history::MemHistory;

use crate::campaign::{Input, Target, fuzz};
use crate::seed;
use crate::support::{fixture, session};
use crate::token::ScriptMutator;

/// An input to be run may not hold this: it waits, which Ctrl-C does not end.
pub const DENIED: &str = "sleep";

/// A tiny model, in place of the one that set-up fetches.
const SMALL: &str = "small.gguf";

/// What begins every session: a model, a run of it, and values derived from them.
const PRELUDE: &str = r#"
    let model = load_model("small.gguf");
    let run = model.run_with_cache("The dog");
    let cache = run.cache;
    let logits = run.logits;
    let t = tensor([[1.0, -2.0], [3.0, 4.5]]);
"#;

/// A session with a model. Its scripts may write below the current folder only, and hold little.
pub fn with_model() -> Session {
    fs::copy(fixture("gguf/tiny_llama.gguf"), SMALL).unwrap();
    let access = Access::of_script(None, &[], vec!["cache".into()], &[]).unwrap();
    let limits = Limits { memory: 1 << 29, ..Limits::default() };
    let started = Session::new(Options { access, limits, ..Options::default() });
    let mut session = started.unwrap_or_else(|error| panic!("no session: {error:?}"));
    if let Err(error) = session.eval("prelude", PRELUDE) {
        panic!("{error:?}");
    }
    session
}

/// Runs a text as the prompt does, and shows its value or its error. An internal error is a fault.
pub fn evaluate(session: &mut Session, name: &str, text: &str) -> Option<Dynamic> {
    match session.eval(name, text) {
        Ok(value) => {
            display::echo(&value);
            Some(value)
        }
        Err(error) => {
            show(session, error);
            None
        }
    }
}

fn show(session: &Session, error: ScriptError) {
    let ScriptError::Failed(diagnostic) = error else { return };
    assert!(!diagnostic.message.contains("an internal error in Lancet"), "{}", diagnostic.message);
    for color in [true, false] {
        session.render(&diagnostic, color);
    }
}

struct Check {
    session: Session,
    mutator: ScriptMutator,
}

impl Target for Check {
    const LIFE: u64 = 2_000;

    fn new() -> Self {
        let session = session();
        let folders = ["scripts", "stdlib", "examples", "tests/scripts", "tests/errors"];
        let mut seeds = folders.map(seed::scripts).concat();
        seeds.extend(seed::short_scripts(&session.catalog()));
        Self { mutator: ScriptMutator::new(seeds, &session.catalog()), session }
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: "script.rhai".into(), bytes: self.mutator.input(random).into_bytes() }
    }

    fn run(&mut self, input: &Input) {
        if let Err(error) = self.session.check(&input.file, std::str::from_utf8(&input.bytes).unwrap()) {
            show(&self.session, error);
        }
    }
}

struct Run {
    session: Session,
    mutator: ScriptMutator,
}

/// Short scripts that may be run, and can be parsed.
fn short_scripts(session: &mut Session) -> Vec<String> {
    let tests = ["tests/scripts/tensor", "tests/errors"].map(seed::scripts).concat();
    let all = [seed::short_scripts(&session.catalog()), tests].concat();
    let texts = all.into_iter().map(|script| script.replace("smollm2", SMALL));
    let fit: Vec<String> = texts.filter(|text| !text.contains(DENIED) && session.check("seed", text).is_ok()).collect();
    assert!(fit.len() > 100, "there are {} scripts to begin with", fit.len());
    fit
}

/// The next random text that may be run.
fn allowed(mutator: &ScriptMutator, random: &mut ChaCha8Rng) -> String {
    loop {
        let text = mutator.input(random);
        if !text.contains(DENIED) {
            return text;
        }
    }
}

impl Target for Run {
    const LIFE: u64 = 200;
    const INTERRUPTED: bool = true;

    fn new() -> Self {
        let mut session = with_model();
        let seeds = short_scripts(&mut session);
        Self { mutator: ScriptMutator::new(seeds, &session.catalog()), session }
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        Input { file: "script.rhai".into(), bytes: allowed(&self.mutator, random).into_bytes() }
    }

    fn run(&mut self, input: &Input) {
        evaluate(&mut self.session, &input.file, std::str::from_utf8(&input.bytes).unwrap());
    }
}

/// The prompt: an input is a sequence of entries with empty lines between them. While one is typed it is completed and
/// coloured.
struct Prompt {
    session: Rc<RefCell<Session>>,
    helper: PromptHelper,
    parser: Engine,
    history: MemHistory,
    mutator: ScriptMutator,
}

impl Target for Prompt {
    const LIFE: u64 = 200;
    const INTERRUPTED: bool = true;

    fn new() -> Self {
        let mut session = with_model();
        let commands =
            [":help tensor", ":search norm", "let x = model.cfg\n\nx.n_", "model.run_with_cache(\"a\", \"blocks."];
        let seeds = short_scripts(&mut session).into_iter().chain(commands.map(str::to_owned)).collect();
        let mutator = ScriptMutator::new(seeds, &session.catalog());
        let session = Rc::new(RefCell::new(session));
        Self {
            helper: PromptHelper::new(session.clone()),
            parser: engine::parser(),
            history: MemHistory::new(),
            session,
            mutator,
        }
    }

    fn input(&self, random: &mut ChaCha8Rng) -> Input {
        let text = allowed(&self.mutator, random);
        Input { file: "entries.txt".into(), bytes: text.into_bytes() }
    }

    fn run(&mut self, input: &Input) {
        let text = std::str::from_utf8(&input.bytes).unwrap();
        for (number, entry) in text.split("\n\n").take(8).enumerate() {
            for place in [entry.len() / 3, entry.len() / 2, entry.len()] {
                let place = entry.floor_char_boundary(place);
                let _ = self.helper.complete(entry, place, &Context::new(&self.history));
            }
            self.helper.highlight(entry, entry.len());
            engine::is_incomplete(&self.parser, entry);
            match entry.trim().strip_prefix(':') {
                Some(command) => {
                    let (_, word) = command.split_once(' ').unwrap_or(("", command));
                    let catalog = self.session.borrow().catalog();
                    let _ = catalog.help(word);
                    catalog.search(word);
                }
                None => {
                    let value = evaluate(&mut self.session.borrow_mut(), &format!("<repl:{number}>"), entry);
                    if let Some(value) = value {
                        self.session.borrow_mut().set_variable("ans", value);
                    }
                }
            }
        }
    }
}

#[test]
fn checked_scripts() {
    fuzz::<Check>("script::checked_scripts", 3_000);
}

#[test]
fn scripts() {
    fuzz::<Run>("script::scripts", 2_000);
}

#[test]
fn entries_of_the_prompt() {
    fuzz::<Prompt>("script::entries_of_the_prompt", 1_000);
}
