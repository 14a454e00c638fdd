//! The prompt, driven by lines on standard input.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Transcript {
    out: String,
    err: String,
    code: Option<i32>,
}

fn session(arguments: &[&str], input: &str) -> Transcript {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lancet"))
        .env("LANCET_HISTORY", "")
        .arg("-i")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lancet starts");
    let (mut stdin, input) = (child.stdin.take().expect("stdin"), input.to_owned());
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("output");
    writer.join().expect("end").expect("input");
    Transcript {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    }
}

fn prints(input: &str, expected: &str) {
    let transcript = session(&[], input);
    assert_eq!(transcript.err, "", "{input}");
    assert_eq!(transcript.out, expected, "{input}");
    assert_eq!(transcript.code, Some(0), "{input}");
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("file");
    path.display().to_string()
}

#[test]
fn values_are_shown_unless_a_semicolon_ends_the_entry() {
    prints("1 + 1\n1 + 2;\n\"text\"\nlet x = 3\nx\n", "2\n\"text\"\n3\n");
}

#[test]
fn the_last_value_is_ans() {
    prints("6 * 7\nans + 1\n10;\nans\n()\nans\n", "42\n43\n10\n10\n");
}

#[test]
fn functions_over_several_lines_persist_and_can_be_redefined() {
    prints(
        "fn double(x) {\n  let y = 2 * x;\n\n  y\n}\nlet twice = |x| double(x);\ndouble(4)\nfn double(x) { 20 * x }\ndouble(4)\ntwice.call(1)\n",
        "8\n80\n20\n",
    );
}

#[test]
fn closures_keep_what_they_captured() {
    prints("let a = 5\nlet add = |x| x + a\nadd.call(1)\n[1, 2].map(add)\n", "6\n[6, 7]\n");
}

#[test]
fn imports_persist_also_inside_functions() {
    let folder = tempfile::tempdir().expect("folder");
    let path = write(folder.path(), "shapes.rhai", "fn area(x) { x * x }\nexport const SIDES = 4;");
    let input = format!(
        "import \"{path}\" as shapes\nshapes::area(3)\nfn f(x) {{ shapes::area(x) + 1 }}\nf(2)\nshapes::SIDES\n"
    );
    prints(&input, "9\n5\n4\n");
}

#[test]
fn an_error_keeps_what_came_before_it() {
    let transcript = session(&[], "let a = 1; let b = 2; nothing.at_all()\nlet c = 3; [][0]\na\nc\n");
    assert_eq!(transcript.out, "3\n");
    assert_eq!(transcript.err.matches("error:").count(), 3, "{}", transcript.err);
    assert_eq!(transcript.code, Some(0));
}

#[test]
fn an_error_names_the_entry_the_function_came_from() {
    let transcript = session(&[], "fn f(x) { x.nope() }\n1\n[1].map(|x| f(x))\n");
    assert!(transcript.err.contains("<repl:1>:1:13"), "{}", transcript.err);
    assert!(transcript.err.contains("in `f`, from <repl:3>:1:13"), "{}", transcript.err);
}

#[test]
fn an_unfinished_entry_ends_with_the_input() {
    let transcript = session(&[], "1 + 1\nfn f(x) {\n  x +\n\n1 + 1\n");
    assert_eq!(transcript.out, "2\n");
    assert!(transcript.err.contains("the text ends inside a block"), "{}", transcript.err);
}

#[test]
fn a_script_comes_before_the_prompt() {
    let folder = tempfile::tempdir().expect("folder");
    let path = write(folder.path(), "start.rhai", "let total = ARGS.len(); fn f() { 7 }");
    let transcript = session(&[&path, "a", "--b"], "total\nf()\n");
    assert_eq!((transcript.out.as_str(), transcript.err.as_str()), ("2\n7\n", ""));
    let broken = write(folder.path(), "broken.rhai", "let kept = 5; [][1];");
    let transcript = session(&[&broken], "kept\n");
    assert_eq!(transcript.out, "5\n");
    assert!(transcript.err.contains("broken.rhai:1:18"), "{}", transcript.err);
}

#[test]
fn scripts_are_loaded_and_loaded_again() {
    let folder = tempfile::tempdir().expect("folder");
    let module = write(folder.path(), "part.rhai", "fn value() { 1 }");
    let main = write(folder.path(), "main.rhai", "import \"part\" as part; fn f() { part::value() }");
    let change = format!("let file = \"{module}\"");
    let transcript = session(&[], &format!(":load {main}\nf()\n:reload\n{change}\nf()\n:load missing.rhai\n"));
    assert_eq!(transcript.out, "1\n1\n");
    assert!(transcript.err.contains("missing.rhai"), "{}", transcript.err);
}

#[test]
fn saved_entries_make_a_script() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("saved.rhai");
    let input = format!(
        "let x = 2\nfn f(a) {{\n  a * 2\n}}\nx.nope()\n:vars\nf(x) // four\nprint(f(x))\n:save {}\n",
        path.display()
    );
    session(&[], &input);
    let output = Command::new(env!("CARGO_BIN_EXE_lancet")).arg("run").arg(&path).output().expect("output");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "4\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn variables_are_listed() {
    let transcript = session(&[], "let name = \"é\"\nconst LIMIT = 3\nlet name = [1, 2]\n:vars\n");
    let lines: Vec<Vec<&str>> = transcript.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [vec!["LIMIT", "integer", "(const)", "3"], vec!["name", "array", "[1,", "2]"]]);
}

#[test]
fn commands_explain_themselves() {
    let transcript = session(&[], ":help\n:help zip\n:search pairs\n:halp\n:load\n:time 1 + 1\n");
    assert!(transcript.out.contains(":reload"), "{}", transcript.out);
    assert!(transcript.out.contains("zip(first, second)"), "{}", transcript.out);
    let found = |line: &str| line.starts_with("enumerate ") && line.contains("  Pairs each item");
    assert!(transcript.out.lines().any(found), "{}", transcript.out);
    assert!(transcript.err.contains("did you mean `:help`?"), "{}", transcript.err);
    assert!(transcript.err.contains("`:load` needs FILE"), "{}", transcript.err);
    assert!(transcript.out.ends_with("2\n"), "{}", transcript.out);
}

#[test]
fn the_session_can_be_reset_and_left() {
    let transcript = session(&[], "let x = 1\n:reset\nx\n:quit\nprint(2)\n");
    assert!(transcript.err.contains("no variable `x`"), "{}", transcript.err);
    assert_eq!((transcript.out.as_str(), transcript.code), ("", Some(0)));
    assert_eq!(session(&[], "exit(9)\n").code, Some(9));
}

#[test]
fn a_variable_declared_again_hides_the_earlier_one() {
    let transcript = session(
        &[],
        "let a = 1; let f = || a;\nlet b = 2\nlet a = 5; let g = || a; a = 6;\n[f.call(), g.call()]\n\
         const b = 3\nb = 4\nlet b = 7\nb = 8\nlet b = b + 1; let b = b + 1;\n:vars\n",
    );
    let lines: Vec<Vec<&str>> = transcript.out.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert!(transcript.out.starts_with("[1, 6]\n"), "{}", transcript.out);
    assert_eq!(transcript.err.matches("error:").count(), 1, "{}", transcript.err);
    let names: Vec<&str> = lines.iter().map(|line| line[0]).collect();
    assert_eq!(names, ["f", "a", "g", "ans", "b"], "{}", transcript.out);
    assert_eq!(lines[4], ["b", "integer", "10"], "{}", transcript.out);
}

#[test]
fn a_long_session_and_a_long_entry_do_not_slow_down() {
    let mut input = String::new();
    for number in 0..5000 {
        input.push_str(&format!("let v{number} = {number};\n[v{number}].map(|x| x + 1);\n"));
    }
    input.push_str("fn long() {\n");
    for number in 0..4000 {
        input.push_str(&format!("  let a{number} = {number} + 1;\n"));
    }
    input.push_str("  a3999\n}\nlong() + v4999\n");
    let start = Instant::now();
    prints(&input, "8999\n");
    // The work of each line on all lines before it would take minutes.
    assert!(start.elapsed() < Duration::from_secs(40));
}
