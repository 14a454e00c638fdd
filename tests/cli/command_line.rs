//! The command line: what runs, what is printed where, and the exit codes.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt;

use crate::support::with_input;

fn lancet() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    command.env_remove("LANCET_PATH").env_remove("HF_HUB_OFFLINE");
    command
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn script(folder: &Path, text: &str) -> String {
    let path = folder.join("script.rhai");
    std::fs::write(&path, text).expect("script");
    path.display().to_string()
}

#[test]
fn code_given_on_the_command_line_prints_its_value() {
    lancet().args(["-e", "1 + 1"]).assert().success().stdout("2\n").stderr("");
    lancet().args(["-e", "let x = 1;"]).assert().success().stdout("");
    lancet().args(["-e", "ARGS", "a", "--model", "-x"]).assert().success().stdout("[\"a\", \"--model\", \"-x\"]\n");
}

#[test]
fn a_script_prints_only_what_it_prints() {
    let folder = tempfile::tempdir().expect("folder");
    let file = script(folder.path(), "#!/usr/bin/env -S lancet run\nprint(ARGS); print(script_dir()); 1 + 1");
    let expected = format!("[\"--model\", \"x\", \"--\", \"-h\"]\n{}\n", folder.path().display());
    lancet().args(["run", &file, "--model", "x", "--", "-h"]).assert().success().stdout(expected).stderr("");
}

#[test]
fn standard_input_is_a_script_too() {
    for arguments in [&["run", "-"][..], &[]] {
        let output = with_input(lancet().args(arguments), "print(40 + 2);\n");
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "42\n"));
    }
}

#[test]
fn errors_go_to_standard_error() {
    let output = lancet().args(["-e", "print(1); nope()"]).output().expect("output");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(out(&output), "1\n");
    assert!(err(&output).starts_with("error: there is no function `nope`"), "{}", err(&output));
    assert!(!err(&output).contains('\x1b'), "no colour in a pipe");
    // An unknown variable is an error before anything runs.
    lancet().args(["-e", "print(1); nope"]).assert().code(1).stdout("");
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    lancet().arg("--nonsense").assert().code(2).stdout("");
    lancet().arg("run").assert().code(2).stdout("");
    lancet().arg("-e").assert().code(2).stdout("");
    let output = lancet().args(["run", "no/such/file.rhai"]).output().expect("output");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("no/such/file.rhai"));
}

#[test]
fn a_script_chooses_its_exit_code() {
    lancet().args(["-e", "print(1); exit(7); print(2)"]).assert().code(7).stdout("1\n").stderr("");
    lancet().args(["-e", "exit()"]).assert().success().stdout("");
    lancet().args(["-e", "[1].map(|x| exit(3))"]).assert().code(3).stderr("");
    lancet().args(["-e", "exit(300)"]).assert().code(1);
}

#[test]
fn a_script_declares_its_options() {
    let folder = tempfile::tempdir().expect("folder");
    let file = script(
        folder.path(),
        "//! Counts things.\n\nlet args = parse_args(#{ samples: #{ default: 20, help: \"how many\" } });\nprint(args.samples + 1);",
    );
    lancet().args(["run", &file]).assert().success().stdout("21\n");
    lancet().args(["run", &file, "--samples", "4"]).assert().success().stdout("5\n");
    let help = lancet().args(["run", &file, "--help"]).output().expect("output");
    assert_eq!(help.status.code(), Some(0));
    assert!(out(&help).starts_with("Counts things.\n\nUsage: lancet run "), "{}", out(&help));
    assert!(out(&help).contains("--samples <INTEGER>  how many [default: 20]"), "{}", out(&help));
    let wrong = lancet().args(["run", &file, "--sample", "4"]).output().expect("output");
    assert_eq!((wrong.status.code(), out(&wrong).as_str()), (Some(2), ""));
    assert!(err(&wrong).contains("did you mean `--samples`?"), "{}", err(&wrong));
}

#[test]
fn check_finds_faults_without_running() {
    let folder = tempfile::tempdir().expect("folder");
    let good = script(folder.path(), "print(1);");
    lancet().args(["check", &good]).assert().success().stdout("").stderr("");
    let bad = script(folder.path(), "print(1); let x = y;");
    lancet().args(["check", &bad]).assert().code(1).stdout("");
}

#[test]
fn modules_are_found_beside_the_script_in_the_path_and_in_the_library() {
    let folder = tempfile::tempdir().expect("folder");
    let elsewhere = tempfile::tempdir().expect("folder");
    std::fs::write(folder.path().join("near.rhai"), "fn f() { 1 }").expect("module");
    std::fs::write(elsewhere.path().join("far.rhai"), "fn f() { 2 }").expect("module");
    let file = script(
        folder.path(),
        "import \"near\" as near; import \"far\" as far; import \"std/prelude\" as p;\nprint([near::f(), far::f(), p::zip([1], [2])]);",
    );
    lancet().args(["run", &file]).env("LANCET_PATH", elsewhere.path()).assert().success().stdout("[1, 2, [[1, 2]]]\n");
    lancet().args(["run", &file]).assert().code(1).stdout("");
}

#[test]
fn help_and_reference_come_from_the_catalogue() {
    let help = lancet().args(["help", "zip"]).output().expect("output");
    assert!(out(&help).starts_with("zip(first, second)\n  Pairs the items"), "{}", out(&help));
    let missing = lancet().args(["help", "zipp"]).output().expect("output");
    assert_eq!(missing.status.code(), Some(1));
    assert!(err(&missing).contains("did you mean `zip`?"));
    let reference = out(&lancet().arg("doc").output().expect("output"));
    assert!(reference.contains("### zip") && reference.contains("### parse_args"));
    assert!(!reference.contains("### to_upper"), "the language's own functions are not Lancet's reference");
    lancet().arg("help").assert().success();
    lancet().arg("--version").assert().success().stdout(format!("lancet {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn debug_goes_to_standard_error() {
    let output = lancet().args(["-e", "debug(\"seen\")"]).output().expect("output");
    assert_eq!(out(&output), "");
    assert!(err(&output).contains("seen"));
}

#[test]
fn a_reader_that_leaves_ends_the_script() {
    let mut child = lancet()
        .args(["-e", "loop { print(\"line\") }"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lancet starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("line");
    let mut errors = String::new();
    child.stderr.take().expect("stderr").read_to_string(&mut errors).expect("errors");
    assert_eq!((child.wait().expect("end").code(), errors.as_str()), (Some(0), ""));
}

/// Runs code that prints a first line, presses Ctrl-C then, and expects that nothing more is printed but `interrupted`.
/// Returns how long that took.
fn stops_at_ctrl_c(code: &str) -> Duration {
    let mut child =
        lancet().args(["-e", code]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("lancet starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("line");
    interrupt(child.id());
    let pressed = Instant::now();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("rest");
    let mut errors = String::new();
    child.stderr.take().expect("stderr").read_to_string(&mut errors).expect("errors");
    let code_of_exit = child.wait().expect("end").code();
    assert_eq!((code_of_exit, rest.as_str(), errors.as_str()), (Some(130), "", "interrupted\n"), "{code}");
    pressed.elapsed()
}

#[test]
fn ctrl_c_stops_a_script() {
    stops_at_ctrl_c("print(\"ready\"); try { loop {} } catch { print(\"caught\") }");
    stops_at_ctrl_c("let x = rand([2000, 4]); print(\"ready\"); stats::tsne(x, #{ n_iter: 100000 })");
}

#[test]
fn ctrl_c_cannot_be_caught() {
    // A function's error is caught although its cause could not be.
    stops_at_ctrl_c("fn wait() { sleep(3) } print(\"ready\"); try { wait() } catch { } print(\"went on\")");
    stops_at_ctrl_c("print(\"ready\"); try { [1].map(|x| { loop {} }) } catch { }");
}

#[test]
fn ctrl_c_counts_though_a_native_call_has_ended_by_itself() {
    stops_at_ctrl_c("let x = rand([400, 400]); print(\"ready\"); x.svd();");
}

#[test]
fn ctrl_c_does_not_wait_for_a_sleep_or_a_drawing() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("points.png");
    let figure = "let n = 2000000; let figure = scatter_plot(rand([n]), rand([n])); print(\"ready\");";
    for code in ["print(\"ready\"); sleep(600);", &format!("{figure} figure.save({file:?});")] {
        assert!(stops_at_ctrl_c(code) < Duration::from_secs(10), "{code}");
    }
    assert!(!file.exists());
}

#[test]
fn values_nested_without_end_are_an_error() {
    for step in
        ["value = [value.take()];", "value = #{ next: value.take(), i: 1 };", "let inner = value; value = || inner;"]
    {
        let code = format!("let other = 1; let value = []; loop {{ other += 1; {step} }}");
        let error = err(&lancet().args(["-e", &code]).assert().code(1).get_output().clone());
        assert!(error.starts_with("error: values are nested more than 1000 deep"), "{code}: {error}");
    }
    let code = "let value = []; for i in 0..900 { value = [value.take()]; } value == value";
    lancet().args(["-e", code]).assert().success().stdout("true\n");
}

#[test]
fn ctrl_c_keeps_the_variables_of_a_session() {
    use std::io::Write;
    let mut child = lancet()
        .arg("-i")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lancet starts");
    let mut stdin = child.stdin.take().expect("stdin");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
    stdin.write_all(b"let kept = 41;\nprint(\"ready\"); [1].map(|x| { loop {} });\n").expect("input");
    let mut line = String::new();
    stdout.read_line(&mut line).expect("line");
    interrupt(child.id());
    stdin.write_all(b"kept + 1\n").expect("input");
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("rest");
    assert_eq!((child.wait().expect("end").code(), rest.as_str()), (Some(0), "42\n"));
}

fn interrupt(process: u32) {
    assert!(Command::new("kill").args(["-INT", &process.to_string()]).status().expect("kill").success());
}

#[test]
fn no_character_is_too_much_for_an_error() {
    let invisible = ['\u{A0}', '\u{2003}', '\u{2029}', '\u{85}', '\u{FEFF}', '\u{200B}', '\u{301}', '\u{1}', '\u{B}'];
    for character in invisible {
        // In comments and strings the character is allowed, and changes neither line nor column.
        let code = format!("/*{character}*/ let e = \"{character}日\";\nlet a{character}= 1;");
        let error = err(&lancet().args(["-e", &code]).assert().code(1).get_output().clone());
        let named = format!("error: the character U+{:04X} is not expected here", u32::from(character));
        assert!(error.starts_with(&named), "{error}");
        assert!(error.contains("[ <command line>:2:6 ]") && error.contains("\n 2 | let a"), "{error}");
        assert!(error.contains("-- here"), "{error}");
    }
}

#[test]
fn a_line_separator_is_an_error_at_its_place_wherever_code_comes_from() {
    let folder = tempfile::tempdir().expect("folder");
    let code = "\"日\u{2028}\";\nlet a\u{2028}= 1;";
    let file = script(folder.path(), code);
    for (output, place) in [
        (lancet().args(["run", &file]).output().expect("output"), &*format!("{file}:2:6")),
        (lancet().args(["check", &file]).output().expect("output"), &*format!("{file}:2:6")),
        (lancet().args(["-e", code]).output().expect("output"), "<command line>:2:6"),
        (with_input(lancet().arg("-i"), code), "<repl:2>:1:6"),
    ] {
        assert!(err(&output).starts_with("error: the character U+2028 is not expected here"), "{}", err(&output));
        assert!(err(&output).contains(&format!("[ {place} ]")), "{}", err(&output));
    }
}

#[test]
fn a_comment_that_is_not_closed_is_an_error_at_its_place() {
    let folder = tempfile::tempdir().expect("folder");
    let file = script(folder.path(), "print(1);\n/* a /* note */\nprint(2);\n");
    for command in ["run", "check"] {
        let output = lancet().args([command, &file]).assert().code(1).stdout("").get_output().clone();
        assert!(err(&output).starts_with("error: this comment is not closed"), "{}", err(&output));
        assert!(err(&output).contains("script.rhai:2:1 ]"), "{}", err(&output));
    }
    // An error before the comment is reported first; an error after it follows from the open comment.
    let before = err(&lancet().args(["-e", "let 1 = 2; /*"]).output().expect("output"));
    assert!(!before.contains("comment"), "{before}");
    let behind = err(&lancet().args(["-e", "if true { /* }"]).output().expect("output"));
    assert!(behind.starts_with("error: this comment is not closed"), "{behind}");
    let imported = script(folder.path(), "fn f() { 1 }\n/*");
    let import = err(&lancet().args(["-e", &format!("import \"{imported}\" as m; m::f()")]).output().expect("output"));
    assert!(import.starts_with("error: this comment is not closed") && import.contains("script.rhai:2:1"), "{import}");
}

#[test]
fn a_script_may_start_with_a_byte_order_mark_and_end_its_lines_in_any_way() {
    let folder = tempfile::tempdir().expect("folder");
    let text = "\u{FEFF}#!/usr/bin/env -S lancet run\n//! Counts.\nlet x = 1; // one\nprint(x + y);\n";
    for end in ["\n", "\r\n", "\r"] {
        let file = script(folder.path(), &text.replace('\n', end));
        let output = lancet().args(["run", &file]).output().expect("output");
        assert!(err(&output).contains("script.rhai:4:11 ]"), "{end:?} {}", err(&output));
    }
    let file = script(folder.path(), "\u{FEFF}print(1);");
    lancet().args(["run", &file]).assert().success().stdout("1\n");
    let file = script(folder.path(), "\u{FEFF}fn f() { 1 }");
    lancet().args(["-e", &format!("import \"{file}\" as m; m::f()")]).assert().success().stdout("1\n");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let plot = "line_plot([0, 1], [1, 2]).show()";
    for arguments in [
        &["-e", "for i in 0..3 { print(i) }"][..],
        &["-e", "1"],
        &["-e", plot],
        &["help"],
        &["help", "zip"],
        &["doc"],
        &["data"],
        &["doctor"],
        &["--version"],
        &["--help"],
    ] {
        let output = lancet().args(arguments).stdout(full()).output().expect("output");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(err(&output).contains("error: standard output cannot be written: No space left"), "{}", err(&output));
        assert_eq!(err(&output).lines().count(), 1, "{}", err(&output));
    }
}

#[test]
fn a_reader_that_has_left_is_no_error() {
    for arguments in [&["help"][..], &["help", "zip"], &["doc"], &["data"], &["doctor"], &["--version"], &["-e", "1"]] {
        let (reader, writer) = std::io::pipe().expect("pipe");
        drop(reader);
        let output = lancet().args(arguments).stdout(writer).output().expect("output");
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""), "{arguments:?}");
    }
}
