//! The everyday jobs of TransformerLens's and nnsight's users: each script runs, and the table of the book tells their
//! lengths.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::run_in;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What the table says of a job.
struct Row<'a> {
    script: &'a str,
    class: &'a str,
    lines: usize,
    peer_lines: usize,
}

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join("examples/jobs");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    paths
}

/// The lines of the job and those of the peer: a script is a heading with the peer's lines indented, the set-up, the
/// job, and checks, with an empty line between them.
fn lengths(text: &str) -> (usize, usize) {
    let peer = text.lines().filter(|line| line.starts_with("//!     ")).count();
    let parts: Vec<&str> = text.trim().split("\n\n").collect();
    let [_, _, job, _] = parts.as_slice() else { panic!("{} parts, not heading, set-up, job, checks", parts.len()) };
    (job.lines().filter(|line| !line.trim_start().starts_with("//")).count(), peer)
}

/// The rows of the table that name a script.
fn rows(table: &str) -> Vec<Row<'_>> {
    table
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [_, _, script, class, lines, peer_lines] = cells.as_slice() else { return None };
            let script = script.strip_prefix('`')?.strip_suffix('`')?;
            let count = |cell: &str| {
                let number = cell.split(' ').next().and_then(|number| number.parse().ok());
                number.unwrap_or_else(|| panic!("no number: {line}"))
            };
            Some(Row { script, class, lines: count(lines), peer_lines: count(peer_lines) })
        })
        .collect()
}

#[test]
fn every_job_runs() {
    for script in scripts() {
        let text = fs::read_to_string(&script).expect("text");
        assert!(text.lines().any(|line| line.starts_with("assert")), "{} asserts nothing", script.display());
        run_in(tempfile::tempdir().expect("folder").path(), &script);
    }
}

#[test]
fn the_table_of_jobs_counts_their_lines() {
    let table = fs::read_to_string(Path::new(ROOT).join("docs/src/jobs.md")).expect("table");
    let rows = rows(&table);
    let told: Vec<&str> = rows.iter().map(|row| row.script).collect();
    let names: Vec<String> =
        scripts().iter().map(|path| path.file_stem().expect("name").to_string_lossy().into_owned()).collect();
    assert_eq!(told, names);
    for row in rows {
        let text = fs::read_to_string(Path::new(ROOT).join("examples/jobs").join(format!("{}.rhai", row.script)))
            .expect("text");
        let (lines, peer_lines) = lengths(&text);
        assert_eq!((row.lines, row.peer_lines), (lines, peer_lines), "{}", row.script);
        assert!(row.class != "A" || lines <= peer_lines + 2, "{}: {lines} lines to {peer_lines} are no A", row.script);
    }
}
