//! Rules on the source that no lint checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders in which nobody would notice a wrong number.
const NUMERICAL: [&str; 3] = ["src/model", "src/linear", "src/grid"];

/// The Rust files in a folder and those below it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The code of a file without its comments, its unit tests and white space.
fn code(text: &str) -> String {
    let tested = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = tested.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.flat_map(str::chars).filter(|character| !character.is_whitespace()).collect()
}

/// The text after the bracket that closes the one around the start of `text`.
fn behind_call(text: &str) -> &str {
    let mut depth = 1;
    for (place, character) in text.char_indices() {
        depth += i32::from(character == '(') - i32::from(character == ')');
        if depth == 0 {
            return &text[place + 1..];
        }
    }
    ""
}

/// The places where a default, or nothing, replaces a missing element.
fn defaults(code: &str) -> Vec<&str> {
    let found = code.match_indices(".get(").filter_map(|(place, word)| {
        let mut rest = behind_call(&code[place + word.len()..]);
        for copy in [".copied()", ".cloned()"] {
            rest = rest.strip_prefix(copy).unwrap_or(rest);
        }
        let dropped = rest.starts_with(')') && {
            let before = code[..place].rfind("filter_map(|");
            before.is_some_and(|start| {
                !code[start..place].contains(['{', ';']) && behind_call(&code[start + 11..]) == &rest[1..]
            })
        };
        (rest.starts_with(".unwrap_or") || dropped).then(|| &code[place.saturating_sub(40)..code.len() - rest.len()])
    });
    found.collect()
}

#[test]
fn the_rule_finds_what_it_forbids() {
    assert_eq!(defaults(&code("let x = row\n    .get(i) // why\n    .copied()\n    .unwrap_or(0.0);")).len(), 1);
    assert_eq!(defaults(&code("ids.iter().filter_map(|id| rows.get(at(*id)).cloned()).collect()")).len(), 1);
    for allowed in [
        "let x = row[i];",
        "row.get(i).ok_or_else(|| outside(i))?",
        "ids.iter().filter_map(|id| found(id)).map(|id| rows.get(id)).collect()",
        "#[cfg(test)] row.get(i).unwrap_or(0)",
    ] {
        assert!(defaults(&code(allowed)).is_empty(), "{allowed}");
    }
}

/// An element that is missing because of an internal error must stop the run: a default would give a wrong number.
#[test]
fn the_numerical_core_indexes_directly() {
    let mut wrong = Vec::new();
    for folder in NUMERICAL {
        for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) {
            let code = code(&fs::read_to_string(&path).unwrap());
            wrong.extend(defaults(&code).into_iter().map(|place| format!("{}: {place}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "index directly, or refuse what a user can cause:\n{}", wrong.join("\n"));
}

/// The folders or files directly below `src` that the code of each of them imports.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files(&root).into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let below = file.strip_prefix(&root).unwrap();
        let from = below.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        let code = code(&fs::read_to_string(&file).unwrap());
        let named = code.split("crate::").skip(1).flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![rest],
        });
        let named = named.map(|name| name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>());
        imports.entry(from.clone()).or_default().extend(named.filter(|name| *name != from));
    }
    imports
}

#[test]
fn no_two_folders_import_each_other() {
    let imports = imports();
    assert!(imports["bind"].contains("tensor") && imports["session"].contains("bind"), "imports are found");
    let both: Vec<String> = imports
        .iter()
        .flat_map(|(one, named)| named.iter().map(move |other| (one, other)))
        .filter(|(one, other)| one < other && imports.get(*other).is_some_and(|back| back.contains(*one)))
        .map(|(one, other)| format!("{one} and {other}"))
        .collect();
    assert!(both.is_empty(), "{}", both.join(", "));
}

/// The files that touch the disk themselves: those that do so for every script, and Lancet's own settings and caches.
const DISK: [&str; 10] = [
    "src/access/path.rs",
    "src/cli",
    "src/cluster",
    "src/data/fetch",
    "src/device.rs",
    "src/doctor.rs",
    "src/file.rs",
    "src/hub",
    "src/libtorch.rs",
    "src/memory.rs",
    "src/repl",
];

#[test]
fn scripts_reach_files_through_one_gate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let opened = [
        "fs::read",
        "fs::write",
        "fs::create",
        "fs::remove",
        "fs::rename",
        "fs::copy",
        "File::open",
        "File::create",
        "OpenOptions",
    ];
    let uses = |code: &str, word: &str| {
        code.match_indices(word).any(|(place, _)| !code[..place].ends_with(|letter: char| letter.is_alphanumeric()))
    };
    let mut wrong = Vec::new();
    for path in files(&root.join("src")) {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let code = code(&fs::read_to_string(&path).unwrap());
        if !DISK.iter().any(|allowed| name.starts_with(allowed)) {
            wrong.extend(opened.iter().filter(|word| uses(&code, word)).map(|word| format!("{name}: {word}")));
        }
    }
    assert!(wrong.is_empty(), "read and write with `crate::file`, which asks what the script may: {wrong:?}");
}
