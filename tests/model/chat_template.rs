//! Chat templates that would take all time or memory: each ends with an error that names the limit.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lancet::text::chat::{Options, render};

fn failure(template: &str) -> String {
    let error = render(template, &[], &Options::default()).unwrap_err();
    format!("{error} ({})", error.hint_text().unwrap_or_default())
}

/// A template that nests lists, each of which holds the one before it twice, and then goes on.
fn doubled(rest: &str) -> String {
    let lists = "{% set n = namespace(x=[1, 2]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}";
    format!("{lists}{rest}")
}

#[test]
fn texts_that_grow_without_end_are_refused() {
    let doubling = |operator: &str| {
        let set = format!("{{% set n.x = n.x {operator} n.x %}}");
        format!("{{% set n = namespace(x='ab') %}}{{% for i in range(60) %}}{set}{{% endfor %}}")
    };
    let a = "{% set a = 'x' * 1000000 %}";
    for template in [
        "{% for a in range(90000) %}{% for b in range(90000) %}x{% endfor %}{% endfor %}".to_owned(),
        doubling("~"),
        doubling("+"),
        "{{ 'x' * 1000000000000 }}".into(),
        "{{ 'a\nb'|indent(1000000000000) }}".into(),
        "{{ [1]|batch(1000000000000, 'x')|list }}".into(),
        "{{ [1]|slice(1000000000000, 'x')|list }}".into(),
        "{{ '%1000000000000d'|format(1) }}".into(),
        format!("{a}{{{{ a.replace('', a) }}}}"),
        format!("{a}{{{{ a|replace('', a) }}}}"),
        format!("{a}{{{{ a.join(range(90000)) }}}}"),
        format!("{a}{{{{ range(90000)|join(a) }}}}"),
        doubled("{{ n.x }}"),
        doubled("{{ n }}"),
        doubled("{{ n.x|tojson }}"),
        doubled("{{ n.x|string }}"),
        doubled("{{ n.x|pprint }}"),
        doubled("{{ ''.join(n.x) }}"),
        doubled("{{ '{}'.format(n.x) }}"),
        doubled("{{ raise_exception(n.x) }}"),
    ] {
        let message = failure(&template);
        assert!(message.contains("takes more than 2500000 steps"), "{template}: {message}");
    }
}

#[test]
fn sizes_that_no_conversation_needs_are_refused() {
    let nested = "{% set n = namespace(x=[]) %}{% for i in range(90000) %}{% set n.x = [n.x] %}{% endfor %}";
    for (template, expected) in [
        ("{{ [1]|tojson(indent=1000000000000) }}", "indents by at most 64"),
        ("{{ '{:>1000000000000}'.format(1) }}", "more than 999 characters"),
        ("{{ '{:.1000000000000f}'.format(1.5) }}", "more than 999 characters"),
        ("{{ range(1000000000000) }}", "too many"),
        (&format!("{nested}{{{{ n.x }}}}"), "more than 500 deep"),
        (&format!("{nested}{{{{ n.x|tojson }}}}"), "more than 500 deep"),
        (&doubled("{{ (n.x ~ '')|length }}"), "takes more than 512.00 MiB"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "recursion"),
    ] {
        let message = failure(template);
        assert!(message.contains(expected), "{template}: {message}");
    }
    let rendered = |template: &str| render(template, &[], &Options::default()).unwrap();
    // What Python's `str.format` gives.
    assert_eq!(rendered("{{ '{:>5}|{:.2f}|{}'.format(1, 1.5, [1]) }}"), "    1|1.50|[1]");
    assert_eq!(rendered("{{ 'aba'.replace('a', 'xy') }}{{ ', '.join(['a', 'b']) }}"), "xybxya, b");
}

/// Neither writing nor freeing a nesting as deep as the steps allow ends the process.
#[test]
fn deep_nestings_fit_on_the_stack() {
    let rows = "{% for i in range(450) %}{% for j in range(450) %}{% set n.x = [n.x] %}{% endfor %}{% endfor %}";
    let template = format!("{{% set n = namespace(x=[]) %}}{rows}{{{{ (n.x ~ '')|length }}}}");
    let brackets = 2 * (450 * 450 + 1);
    assert_eq!(render(&template, &[], &Options::default()).unwrap(), brackets.to_string());
}

#[test]
fn a_loop_over_nothing_is_refused_as_in_jinja() {
    let message = failure("{% if true %}\n{%- for x in tools -%}{{ x }}{% endfor %}{% endif %}");
    assert!(message.contains("line 2: 'NoneType' object is not iterable"), "{message}");
    let rendered = |template: &str| render(template, &[], &Options::default()).unwrap();
    assert_eq!(rendered("{% for x in nowhere %}{{ x }}{% else %}none{% endfor %}"), "none");
    assert_eq!(rendered("{% for k, v in {'a': 1}.items() if v %}{{ k }}{{ loop.length }}{% endfor %}"), "a1");
}

/// Ctrl-C is pressed while lists are compared, which takes little fuel and all time.
#[test]
#[cfg(unix)]
fn ctrl_c_does_not_wait_for_a_template() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/gguf/tiny_llama/tokenizer.json");
    std::fs::copy(fixture, folder.path().join("tokenizer.json")).unwrap();
    let config = r#"{ "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 8, "vocab_size": 400 }"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let other = "{% set m = namespace(x=[1, 2]) %}{% for i in range(60) %}{% set m.x = [m.x, m.x] %}{% endfor %}";
    let template = doubled(&format!("{other}{{{{ n.x == m.x }}}}"));
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    let code = format!(
        "let model = load_model(\"{}\", #{{ init: \"random\" }}); print(\"ready\");
         model.apply_chat_template([#{{ role: \"user\", content: \"\" }}])",
        folder.path().display()
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_lancet"));
    let mut child = command.args(["-e", &code]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it compares");
    let pressed = Instant::now();
    assert!(
        Command::new("kill")
            .env_remove("LD_PRELOAD")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(pressed.elapsed() < Duration::from_secs(10));
}
