//! Runs the code blocks of the README and of the book, and compares their output with the pages.
//!
//! - `rhai` blocks of one page share a session, in order. `rhai,error` blocks must fail.
//! - A `text` block directly after a `rhai` or `sh` block is its output: numbers that are not integers up to rounding,
//!   `...` on a line of its own stands for any lines. `LANCET_UPDATE_BOOK=NAME` writes the real output into the pages
//!   whose path contains NAME (`.md` for all).
//! - Of `sh` blocks the commands, targets, scripts and options must exist; one with a `text` block is run.
//! - Blocks marked `ignore`, and `text` blocks marked `sample`, are not run; an HTML comment above them says why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A fenced block of a page.
struct Block {
    /// The line of its first fence, counted from 0.
    line: usize,
    /// The line of its last fence.
    end: usize,
    language: String,
    flags: Vec<String>,
    text: String,
    /// The nearest line above that is not empty.
    above: String,
}

impl Block {
    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }
}

/// A page and its blocks.
struct Page {
    path: PathBuf,
    lines: Vec<String>,
    blocks: Vec<Block>,
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        let mut above = String::new();
        for (number, line) in lines.iter().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (Some(block), Some("")) => {
                    block.end = number;
                    blocks.extend(open.take());
                }
                (Some(block), _) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, Some(info)) => {
                    let mut words = info.split(',').map(|word| word.trim().to_owned());
                    open = Some(Block {
                        line: number,
                        end: number,
                        language: words.next().unwrap_or_default(),
                        flags: words.collect(),
                        text: String::new(),
                        above: above.clone(),
                    });
                }
                (None, None) => {}
            }
            if !line.trim().is_empty() {
                above = line.clone();
            }
        }
        assert!(open.is_none(), "{}: a block has no end", path.display());
        Self { path, lines, blocks }
    }

    /// Where a block is, for messages.
    fn place(&self, block: &Block) -> String {
        format!("{}:{}", self.path.strip_prefix(root()).unwrap_or(&self.path).display(), block.line + 1)
    }

    /// The block of output that belongs to the block at `index`: only empty lines and comments are between them.
    fn output_of(&self, index: usize) -> Option<&Block> {
        let next = self.blocks.get(index + 1).filter(|next| next.language == "text")?;
        let between = &self.lines[self.blocks[index].end + 1..next.line];
        between.iter().all(|line| line.trim().is_empty() || line.starts_with("<!--")).then_some(next)
    }

    /// The lines outside of blocks.
    fn prose(&self) -> Vec<&str> {
        let inside = |line: &usize| self.blocks.iter().any(|block| (block.line..=block.end).contains(line));
        (0..self.lines.len()).filter(|line| !inside(line)).map(|line| self.lines[line].as_str()).collect()
    }

    /// Replaces the contents of blocks, given by the line of their first fence.
    fn update(&self, outputs: &BTreeMap<usize, String>) {
        let mut text = String::new();
        let mut skipped_to = 0;
        for (number, line) in self.lines.iter().enumerate() {
            if number < skipped_to {
                continue;
            }
            let _ = writeln!(text, "{line}");
            if let Some(output) = outputs.get(&number) {
                let _ = writeln!(text, "{}", output.trim_end());
                skipped_to = self.blocks.iter().find(|block| block.line == number).expect("the block").end;
            }
        }
        std::fs::write(&self.path, text).expect("the page is written");
    }
}

/// The name of the pages to update, if any.
fn to_update() -> Option<String> {
    std::env::var("LANCET_UPDATE_BOOK").ok()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The README and the pages of the book that are written by hand.
fn pages() -> Vec<Page> {
    let mut paths = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder of the book") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("reference") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

/// A working folder with the project's scripts and the models from set-up, but no cached results.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_lancet")).args(["-e", "cache_dir()"]).output().expect("lancet runs");
    let values = String::from_utf8(output.stdout).expect("a path");
    let cache = Path::new(values.trim()).parent().expect("the cache's folder");
    std::fs::create_dir(folder.path().join("cache")).expect("a folder");
    std::os::unix::fs::symlink(cache.join("models"), folder.path().join("cache/models")).expect("a link");
    for name in ["examples", "scripts", "tests", "Makefile"] {
        std::os::unix::fs::symlink(root().join(name), folder.path().join(name)).expect("a link");
    }
    folder
}

/// Runs a program in the workplace without network; returns its output on both streams, in order.
fn run(program: &str, arguments: &[&str], workplace: &Path, input: &str) -> String {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let bin = Path::new(env!("CARGO_BIN_EXE_lancet")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(workplace)
        .env("PATH", path)
        .env("LANCET_CACHE", workplace.join("cache"))
        .env("HF_HUB_OFFLINE", "1")
        // Other tests run at the same time.
        .env("OMP_NUM_THREADS", "1")
        .env("COLUMNS", "100")
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().expect("a pipe"))
        .stderr(writer)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin");
    let input = input.to_owned();
    let sender = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("the output is text");
    sender.join().expect("the input is sent").ok();
    child.wait().expect("the program ends");
    // Progress, shown only on slow machines.
    text.lines().filter(|line| !line.contains(" elapsed")).fold(String::new(), |text, line| text + line + "\n")
}

/// Compares outputs with pages, or collects them to update the pages.
struct Outputs {
    update: bool,
    written: BTreeMap<usize, String>,
    failures: Vec<String>,
}

impl Outputs {
    fn new() -> Self {
        Self { update: to_update().is_some(), written: BTreeMap::new(), failures: Vec::new() }
    }

    fn check(&mut self, page: &Page, expected: &Block, actual: &str) {
        if expected.has("sample") || matches(&expected.text, actual) {
            return;
        }
        if self.update {
            self.written.insert(expected.line, actual.to_owned());
        } else {
            let place = page.place(expected);
            self.failures.push(format!("{place}: the page shows\n{}and this is printed\n{actual}", expected.text));
        }
    }

    fn finish(self, page: &Page) -> Vec<String> {
        if !self.written.is_empty() {
            page.update(&self.written);
        }
        self.failures
    }
}

/// Whether `actual` matches a page.
fn matches(expected: &str, actual: &str) -> bool {
    fn lines(text: &str) -> Vec<&str> {
        text.trim_end().lines().map(str::trim_end).collect()
    }
    fn lines_match(expected: &[&str], actual: &[&str]) -> bool {
        match (expected, actual) {
            ([], rest) => rest.is_empty(),
            (["...", expected @ ..], rest) => (0..=rest.len()).any(|skipped| lines_match(expected, &rest[skipped..])),
            ([first, expected @ ..], [other, actual @ ..]) => {
                line_matches(first, other) && lines_match(expected, actual)
            }
            (_, []) => false,
        }
    }
    lines_match(&lines(expected), &lines(actual))
}

/// Whether two lines are equal except for the last digits of numbers with a decimal point, and the prompt's entry
/// numbers.
fn line_matches(expected: &str, actual: &str) -> bool {
    let pieces = |line: &str| {
        let mut pieces: Vec<String> = vec![String::new()];
        let mut in_number = false;
        for character in line.chars() {
            let part = character.is_ascii_digit() || (character == '.' && in_number);
            if part != in_number {
                pieces.push(String::new());
                in_number = part;
            }
            pieces.last_mut().expect("a piece").push(character);
        }
        pieces
    };
    let (expected, actual) = (pieces(expected), pieces(actual));
    let in_entry = |pieces: &[String], index: usize| index > 0 && pieces[index - 1].ends_with("<repl:");
    expected.len() == actual.len()
        && (0..expected.len()).all(|index| {
            let (one, other) = (&expected[index], &actual[index]);
            if one == other || in_entry(&expected, index) {
                return true;
            }
            match (one.contains('.'), one.parse::<f64>(), other.parse::<f64>()) {
                (true, Ok(one), Ok(other)) => (one - other).abs() <= 0.011 * one.abs().max(1.0),
                _ => false,
            }
        })
}

/// Runs a page's `rhai` blocks in one session. Each is followed by a line that marks its end in the output.
fn run_scripts(page: &Page, workplace: &Path) -> Vec<String> {
    let scripts: Vec<usize> = (0..page.blocks.len())
        .filter(|&index| page.blocks[index].language == "rhai" && !page.blocks[index].has("ignore"))
        .collect();
    if scripts.is_empty() {
        return Vec::new();
    }
    let marker = |index: usize| format!("end of block {index}");
    let input: String =
        scripts.iter().map(|&index| format!("{}print(\"{}\");\n", page.blocks[index].text, marker(index))).collect();
    let printed = run(env!("CARGO_BIN_EXE_lancet"), &["-i"], workplace, &input);
    let mut outputs = Outputs::new();
    let mut rest = printed.as_str();
    for index in scripts {
        let block = &page.blocks[index];
        let Some((output, after)) = rest.split_once(&format!("{}\n", marker(index))) else {
            outputs.failures.push(format!("{}: the block does not end:\n{rest}", page.place(block)));
            break;
        };
        rest = after;
        let failed = output.lines().any(|line| line.starts_with("error: "));
        if failed != block.has("error") {
            let what = if failed { "fails" } else { "does not fail" };
            outputs.failures.push(format!("{}: the block {what}:\n{output}", page.place(block)));
        }
        match page.output_of(index) {
            Some(expected) => outputs.check(page, expected, output),
            None if block.has("error") => {
                outputs.failures.push(format!("{}: the error is not shown:\n{output}", page.place(block)));
            }
            None => {}
        }
    }
    outputs.finish(page)
}

/// The words of a command line as a shell splits them, up to a comment.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut quote: Option<char> = None;
    let mut fresh = true;
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                if fresh {
                    words.push(String::new());
                    fresh = false;
                }
            }
            (None, ' ') => fresh = true,
            (None, '#') if fresh => break,
            _ => {
                if fresh {
                    words.push(String::new());
                    fresh = false;
                }
                words.last_mut().expect("a word").push(character);
            }
        }
    }
    words
}

/// The problem with a command line, if any.
fn complaint(line: &str, workplace: &Path) -> Option<String> {
    let words = words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).skip_while(|word| is_assignment(word)).collect();
    let (program, arguments) = words.split_first()?;
    match program.rsplit('/').next().unwrap_or_default() {
        "lancet" => lancet_complaint(arguments, workplace),
        "make" => {
            let makefile = std::fs::read_to_string(root().join("Makefile")).expect("Makefile");
            let exists = |target: &str| makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            let unknown = arguments.iter().find(|word| !is_assignment(word) && !exists(word));
            unknown.map(|target| format!("there is no target `{target}`"))
        }
        "cargo" | "cd" | "git" | "export" | "source" | "uv" | "pip" | "tar" => None,
        _ => Some(format!("`{program}` is not a command that the pages use")),
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
}

fn lancet_complaint(arguments: &[&str], workplace: &Path) -> Option<String> {
    static HELP: OnceLock<String> = OnceLock::new();
    let lancet = env!("CARGO_BIN_EXE_lancet");
    let help = HELP.get_or_init(|| run(lancet, &["--help"], workplace, ""));
    let known = |word: &str| help.lines().any(|line| line.split([' ', ',']).any(|other| other == word));
    match arguments {
        [] => None,
        ["--offline", rest @ ..] if known("--offline") => lancet_complaint(rest, workplace),
        [option @ ("--allow" | "--limit"), _, rest @ ..] if known(option) => lancet_complaint(rest, workplace),
        ["-e", ..] => None,
        [first @ ("run" | "-i" | "check"), file, options @ ..] if known(first) => {
            if file.chars().all(|character| character.is_ascii_uppercase()) {
                return None;
            }
            if !workplace.join(file).exists() && !workplace.join(format!("scripts/{file}.rhai")).exists() {
                return Some(format!("there is no script `{file}`"));
            }
            unknown_option(&["run", file, "--help"], options, workplace)
                .map(|option| format!("`{file}` has no option `{option}`"))
        }
        ["audit", _model, _task, options @ ..] if known("audit") => {
            unknown_option(&["audit", "--help"], options, workplace)
                .map(|option| format!("`lancet audit` has no option `{option}`"))
        }
        [command, ..] if known(command) => None,
        [command, ..] => Some(format!("lancet has no command `{command}`")),
    }
}

/// The first of a script's options that its help does not list.
fn unknown_option<'a>(help: &[&str], words: &[&'a str], workplace: &Path) -> Option<&'a str> {
    let mut options = words.iter().filter(|word| word.starts_with("--")).peekable();
    options.peek()?;
    let help = run(env!("CARGO_BIN_EXE_lancet"), help, workplace, "");
    options.find(|option| !help.lines().any(|line| line.split_whitespace().any(|word| word == **option))).copied()
}

/// Checks a page's command lines, and runs those whose output is shown.
fn run_commands(page: &Page, workplace: &Path) -> Vec<String> {
    let mut outputs = Outputs::new();
    for (index, block) in page.blocks.iter().enumerate() {
        if block.language != "sh" || block.has("ignore") {
            continue;
        }
        for line in block.text.replace("\\\n", " ").lines() {
            if let Some(complaint) = complaint(line, workplace) {
                outputs.failures.push(format!("{}: {complaint}", page.place(block)));
            }
        }
        if let Some(expected) = page.output_of(index).filter(|expected| !expected.has("sample")) {
            let printed = run("bash", &["-c", &block.text], workplace, "");
            outputs.check(page, expected, &printed);
        }
    }
    outputs.finish(page)
}

#[test]
fn code_blocks_print_what_the_pages_show() {
    let mut failures = Vec::new();
    let chosen = to_update().unwrap_or_default();
    for page in pages().into_iter().filter(|page| page.path.display().to_string().contains(&chosen)) {
        let workplace = workplace();
        failures.extend(run_scripts(&page, workplace.path()));
        // The first pass may have updated the page.
        failures.extend(run_commands(&Page::read(page.path), workplace.path()));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn blocks_that_are_not_run_say_why() {
    let mut left_out = 0;
    for page in pages() {
        for (index, block) in page.blocks.iter().enumerate() {
            let place = page.place(block);
            let known = ["rhai", "sh", "text", "json", "rust", "toml", "python"].contains(&block.language.as_str());
            assert!(known, "{place}: `{}` is no language of the pages", block.language);
            let is_output = index > 0 && page.output_of(index - 1).is_some_and(|output| output.line == block.line);
            if block.language == "text" && !is_output {
                assert!(block.has("plain"), "{place}: output without its block, or text that is not marked `plain`");
            }
            if block.has("ignore") || block.has("sample") {
                left_out += 1;
                assert!(
                    block.above.starts_with("<!-- ") && block.above.ends_with(" -->"),
                    "{place}: the reason is missing"
                );
            }
        }
    }
    assert!(left_out <= 12, "{left_out} blocks are not run");
}

/// The targets of the links and pictures in a text, without those to other sites: files and anchors.
fn links(text: &str) -> Vec<(&str, &str)> {
    let links = text.split("](").skip(1).filter_map(|part| part.split_once(')'));
    let pictures = text.split("src=\"").skip(1).filter_map(|part| part.split_once('"'));
    let inner = links.chain(pictures).map(|(target, _)| target).filter(|target| !target.contains("://"));
    inner.map(|target| target.split_once('#').unwrap_or((target, ""))).collect()
}

/// The anchors of a page: its headings in lower case, with hyphens between their words.
fn anchors(page: &Page) -> Vec<String> {
    let headings = page.prose().into_iter().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
            title.chars().filter(kept).collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let name = page.path.display();
        for (file, anchor) in links(&page.prose().join("\n")) {
            // The reference is generated when the book is built.
            if file.contains("reference") {
                continue;
            }
            let target = if file.is_empty() { page.path.clone() } else { page.path.with_file_name(file) };
            assert!(target.exists(), "{name}: {file}");
            if !anchor.is_empty() {
                assert!(anchors(&Page::read(target)).iter().any(|other| other == anchor), "{name}: {file}#{anchor}");
            }
        }
    }
}

/// Paths in backquotes that begin with one of the project's folders.
#[test]
fn folders_and_files_that_pages_name_exist() {
    let folders = ["src", "stdlib", "scripts", "examples", "benches", "setup", "tests", "docs"];
    for page in pages() {
        let prose = page.prose().join("\n");
        for name in prose.split('`').skip(1).step_by(2) {
            let first = name.split('/').next().unwrap_or_default();
            if folders.contains(&first) && !name.contains([' ', '*', '{']) {
                assert!(root().join(name).exists(), "{}: `{name}`", page.path.display());
            }
        }
    }
}

#[test]
fn the_summary_lists_every_page() {
    let summary = std::fs::read_to_string(root().join("docs/src/SUMMARY.md")).expect("the summary");
    let listed = links(&summary);
    for page in pages() {
        let Ok(name) = page.path.strip_prefix(root().join("docs/src")) else { continue };
        let name = name.display().to_string();
        assert!(name == "SUMMARY.md" || listed.iter().any(|(file, _)| *file == name), "{name} is not in the summary");
    }
}
