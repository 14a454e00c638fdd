//! What an evaluation may take: an error with its line, and the prompt goes on with its variables.

use std::process::Command;

use crate::support::with_input;

fn lancet(limits: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    if !limits.is_empty() {
        command.args(["--limit", limits]);
    }
    command
}

/// The report of code that goes beyond a limit.
fn refusal(limits: &str, code: &str) -> String {
    let output = lancet(limits).args(["-e", code]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{code}: {errors}");
    assert!(errors.contains("<command line>:1:"), "{code}: {errors}");
    errors
}

#[test]
fn values_that_grow_are_stopped() {
    for code in [
        "let s = \"ab\"; loop { s += s }",
        "let a = [1]; loop { a += a }",
        "let m = #{}; let i = 0; loop { m[i.to_string()] = i; i += 1 }",
        "let a = []; loop { a.push(1) }",
        "fn f(s) { f(s + s) } f(\"ab\")",
        "read_text(\"/dev/zero\")",
    ] {
        let report = refusal("memory=128MiB", code);
        assert!(report.contains("the script's values take more than 128.00 MiB"), "{code}: {report}");
        assert!(report.contains("`lancet --limit memory=SIZE`"), "{report}");
    }
}

#[test]
fn a_call_with_a_huge_result_is_refused() {
    for code in [
        "[0].pad(100000000000, 0)",
        "\"\".pad(100000000000, 'x')",
        "\"\".pad(100000000000, \"xy\")",
        "blob(100000000000)",
        "blob(100000000000, 3)",
        "blob().pad(100000000000, 3)",
        "let s = \"\"; s.pad(1000000, 'x'); let t = s; t.replace(\"x\", s)",
        "let s = \"\"; s.pad(1000000, 'x'); let t = s; t.replace('x', s)",
        "ones([1]).expand([100000000000]).to_array()",
    ] {
        let report = refusal("", code);
        assert!(report.starts_with("error: this would take "), "{code}: {report}");
    }
    assert!(refusal("", "\"\".pad(5, \"\")").contains("with an empty one"));
}

#[test]
fn libtorch_is_not_given_more_than_is_free() {
    for code in ["zeros([1000000, 1000000])", "ones([1000000, 1]) * ones([1, 1000000])"] {
        let report = refusal("", code);
        assert!(report.contains(": not enough free memory for "), "{report}");
    }
}

#[test]
fn operations_calls_and_time_are_limited() {
    assert!(refusal("operations=1000", "loop {}").contains("more operations than it may"));
    assert!(refusal("depth=9", "fn f(n) { if n == 0 { 0 } else { f(n - 1) } } f(10)").contains("more than 9 deep"));
    assert!(refusal("time=200ms", "loop {}").contains("the time for the script is over"));
    assert!(refusal("time=200ms", "try { loop {} } catch { }").contains("the time for the script is over"));
    let endless = "let a = ones([2000, 2000]); loop { a = a.matmul(a) }";
    assert!(refusal("time=200ms", endless).contains("the time for the script is over"));
    for wrong in ["memory=x", "tme=3s", "depth=1000"] {
        assert_eq!(lancet(wrong).args(["-e", "1"]).output().unwrap().status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn the_prompt_goes_on_with_its_variables() {
    let entries = "let kept = 7; let s = \"ab\";\nloop { s += s }\ns = \"\";\nkept\n";
    let output = with_input(lancet("memory=128MiB").arg("-i"), entries);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "7\n");
    assert!(String::from_utf8(output.stderr).unwrap().contains("<repl:2>:1:"));
}
