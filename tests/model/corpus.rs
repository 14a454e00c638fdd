//! The standard library's corpus: TransformerLens's packed rows (`make_corpus_fixtures.py`), and the laws that activations
//! over a corpus follow.

use std::path::Path;

use crate::support::{assert_contains, fixture, run_script, script_failure, session, tiny_path};
use lancet::session::Session;
use serde_json::Value;

/// `model`, a tiny model whose keys and values have fewer heads, and rows of tokens: `even` of one length, `ragged` of
/// several.
fn prepared() -> Session {
    let mut session = session();
    session.set_variable("path", tiny_path("qwen2").display().to_string().into());
    run_script(
        &mut session,
        r#"
        let model = load_model(path, #{ device: device });
        let even = randint(0, 97, [11, 9], #{ seed: 1 });
        let ragged = (0..11).map(|row| (0..row % 4 + 3).map(|at| even[row, at].item()));
        "#,
    );
    session
}

#[test]
fn packed_rows_are_those_of_transformer_lens() {
    let text = std::fs::read_to_string(fixture("corpus.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let mut session = session();
    session.set_variable("path", fixture("gguf/tiny_llama").display().to_string().into());
    session.set_variable("texts", reference["texts"].to_string().into());
    run_script(&mut session, "let model = load_model(path, #{ device: device }); let texts = json_decode(texts);");
    for case in reference["cases"].as_array().unwrap() {
        let (length, bos) = (&case["length"], &case["bos"]);
        run_script(
            &mut session,
            &format!(
                "let rows = corpus::pack(model, texts, #{{ length: {length}, bos: {bos}, quiet: true }}); \
                 assert_eq(rows.to_array(), {}); \
                 let start = corpus::pack(model, texts, #{{ length: {length}, bos: {bos}, rows: 1, quiet: true }}); \
                 assert_eq(start, rows[:1]);",
                case["rows"]
            ),
        );
    }
}

#[test]
fn laws_hold() {
    for (law, script) in LAWS {
        println!("{law}");
        run_script(&mut prepared(), script);
    }
}

const LAWS: &[(&str, &str)] = &[
    (
        "the highest activations are those of a sort of all, equal ones in the order of the corpus",
        r#"
        let encoder = randn([32, 3], #{ seed: 2 });
        // Coarse, so that many are equal; the last unit is dead.
        let encode = |value| { let latents = (value.matmul(encoder) * 2).round().relu(); latents[..., 2] = 0.0; latents };
        let latents = corpus::latents(model, "resid_post.1", ["a", "b", "dead"], encode);
        let all = encode.call(model.run_with_cache(even, "resid_post.1").cache["resid_post", 1]);
        for first in [0, 2] {
            let expected = all[:, first:].permute([2, 0, 1]).flatten(1, 2).sort(1, true);
            for batch in [1, 4, 16] {
                let found = corpus::max_activating(model, even, latents, #{ k: 20, batch: batch, first: first, quiet: true });
                assert_eq(found.values, expected.values[:, :20]);
                assert_eq(found.rows * (9 - first) + found.positions - first, expected.indices[:, :20]);
                for unit in 0..3 { for place in 0..20 {
                    let row = found.rows[unit, place].item();
                    assert_eq(found.activations[unit, place], all[row, :, unit]);
                } }
            }
        }
        "#,
    ),
    (
        "rows of several lengths give what each gives alone, whatever the size of a batch",
        r#"
        let units = corpus::neurons(model, 1, [0, 5, 7]);
        let alone = ragged.map(|row| model.run_with_cache(row, "post.1").cache["post", 1][0, :, [0, 5, 7]]);
        let all = cat(alone).T;
        for batch in [1, 3, 11] {
            let found = corpus::max_activating(model, ragged, units, #{ k: 6, batch: batch, quiet: true, quantiles: [0.1, 0.9], edges: [-0.01, 0.0, 0.02] });
            assert_eq(found.count, all.shape[1]);
            assert(allclose(found.values, all.sort(1, true).values[:, :6], #{ atol: 1e-6 }));
            assert(allclose(found.mean, all.to("f64").mean(1), #{ atol: 1e-6 }));
            assert(allclose(found.deviation, all.to("f64").std(1, #{ unbiased: false }), #{ atol: 1e-6 }));
            assert(allclose(found.min, all.min(1), #{ atol: 1e-6 }) && allclose(found.max, all.max(1), #{ atol: 1e-6 }));
            assert(allclose(found.density, (all > 0).to("f64").mean(1)));
            assert(allclose(found.quantiles, all.quantile([0.1, 0.9], 1).T, #{ atol: 1e-6 }));
            let bins = [all < -0.01, (all >= -0.01) & (all < 0), (all >= 0) & (all < 0.02), all >= 0.02];
            assert_eq(found.histogram, stack(bins.map(|bin| bin.to("i64").sum(1)), 1));
            let row = found.rows[1, 0].item();
            assert(allclose(found.activations[1, 0, :ragged[row].len()], alone[row][:, 1], #{ atol: 1e-6 }));
            assert_eq((!found.activations[1, 0].isnan()).to("i64").sum().item(), ragged[row].len());
        }
        "#,
    ),
    (
        "one example per row is the first of its highest",
        r#"
        let coarse = |value| (value[..., 0] * 4).round();
        let all = coarse.call(model.run_with_cache(even, "resid_post.0").cache["resid_post", 0]);
        let found = corpus::max_activating(model, even, corpus::latents(model, "resid_post.0", ["x"], coarse), #{ k: 30, batch: 2, per_row: true, quiet: true });
        let by_row = all.sort(1, true);
        let order = by_row.values[:, 0].sort(0, true);
        assert_eq(found.values[0], order.values);
        assert_eq(found.rows[0], order.indices);
        assert_eq(found.positions[0], by_row.indices[:, 0][order.indices]);
        "#,
    ),
    (
        "groups in one pass are those of passes of their own, and a direction is a projection",
        r#"
        let direction = randn([32], #{ seed: 3 });
        let groups = [corpus::neurons(model, 0, "all"), corpus::directions(model, "resid_pre.2", #{ d: direction }), corpus::latents(model, "ln_final.hook_scale", ["scale"], |scale| scale[..., 0])];
        let together = corpus::max_activating(model, even, groups, #{ k: 3, quiet: true });
        for (group, place) in groups {
            let own = corpus::max_activating(model, even, group, #{ k: 3, quiet: true });
            assert(own.keys() == together[place].keys() && allclose(own.activations, together[place].activations, #{ atol: 1e-6 }));
        }
        let all = model.run_with_cache(even, "resid_pre.2").cache["resid_pre", 2].matmul(direction);
        assert(allclose(together[1].max[0], all.max(), #{ atol: 1e-5 }) && together[0].labels.len() == 48);
        let example = corpus::examples(model, even, together[1], "d", #{ before: 2, after: 1 })[0];
        let ids = even[example.row];
        assert_eq(example.tokens[example.at], `${ids[example.position].item()}`);
        assert(example.activations[example.at] == example.value && example.tokens.len() <= 4);
        "#,
    ),
    (
        "means are means",
        r#"
        let names = ["resid_post.1", "z.0"];
        let caches = ragged.map(|row| model.run_with_cache(row, names).cache);
        for batch in [2, 16] {
            let found = corpus::means(model, ragged, names, #{ batch: batch, quiet: true });
            for name in found.keys() {
                assert(allclose(found[name], cat(caches.map(|cache| cache[name][0])).mean(0), #{ atol: 1e-6 }));
            }
            let cache = model.run_with_cache(even, names).cache;
            let by_position = corpus::means(model, even, names, #{ batch: batch, over: "prompts", quiet: true });
            assert(allclose(by_position["blocks.0.attn.hook_z"], cache["z", 0].mean(0, #{ keepdim: true }), #{ atol: 1e-6 }));
        }
        "#,
    ),
];

#[test]
fn what_does_not_fit_is_named() {
    let mut session = prepared();
    run_script(&mut session, r#"let own = |score| corpus::latents(model, "resid_post.0", ["x"], score);"#);
    let cases: &[(&str, &[&str])] = &[
        ("corpus::neurons(model, 0, [48])", &["no neuron 48", "0 to 47"]),
        ("corpus::max_activating(model, even, own.call(|x| x), #{})", &["[11, 9, 32]", "[11, 9, 1]"]),
        (
            "corpus::max_activating(model, ragged, own.call(|x| (x[..., 0] * 0).log()), #{ batch: 2 })",
            &["not finite", "row 0, position 0"],
        ),
        ("corpus::max_activating(model, even, own.call(|x| x[..., 0]), #{ first: 9 })", &["no position counts"]),
        (
            "corpus::max_activating(model, even, own.call(|x| x[..., 0]), #{ top: 9 })",
            &[r#"no option "top""#, "quantiles"],
        ),
        ("corpus::max_activating(model, even, own.call(|x| x[..., 0]), #{ k: 0 })", &[r#""k" is 0"#, "at least 1"]),
        ("corpus::max_activating(model, even, own.call(|x| x[..., 0]), #{ batch: 0 })", &[r#""batch" is 0"#]),
        ("corpus::max_activating(model, even, own.call(|x| x[..., 0]), #{ edges: [1, 0] })", &["[1, 0]", "ascending"]),
        (r#"corpus::max_activating(model, ["a b"], own.call(|x| x[..., 0]), #{})"#, &["a row is a text", "truncated"]),
        ("corpus::max_activating(model, [], own.call(|x| x[..., 0]), #{})", &["no rows"]),
        (r#"corpus::means(model, ragged, ["resid_post.0"], #{ over: "prompts" })"#, &["3 to 6 tokens"]),
        (r#"corpus::pack(model, ["a"], #{})"#, &["no tokenizer"]),
    ];
    for (script, parts) in cases {
        assert_contains(&script_failure(&mut session, script), parts);
    }
}

/// What texts `read` reads of files with these contents.
fn texts(folder: &Path, read: &str) -> String {
    let mut session = session();
    session.set_variable("folder", folder.display().to_string().into());
    crate::support::eval(&mut session, &format!("json_encode({read}.to_array())")).cast()
}

#[test]
fn texts_of_all_formats_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    std::fs::create_dir_all(place.join("plain/below")).unwrap();
    for (name, content) in [
        ("a.jsonl", "{\"text\": \"one\\ntwo\", \"n\": 1}\n\n{\"text\": \"\", \"n\": 2}\r\n{\"text\": \"ü\"}"),
        ("a.json", r#"[{"text": "one\ntwo"}, {"text": ""}, {"text": "ü"}]"#),
        ("a.csv", "n,text\n1,\"one\ntwo\"\n2,\n3,ü\n"),
        ("plain/1.txt", "one\ntwo"),
        ("plain/below/2.md", ""),
        ("plain/3.TXT", "\u{feff}ü"),
        ("plain/.hidden", "unread"),
    ] {
        std::fs::write(place.join(name), content).unwrap();
    }
    let mut writing = session();
    writing.set_variable("folder", place.display().to_string().into());
    run_script(
        &mut writing,
        r#"write_parquet(join_path(folder, "a.parquet"), #{ n: [1, 2, 3], text: ["one\ntwo", "", "ü"] });"#,
    );
    for name in ["a.jsonl", "a.json", "a.csv", "a.parquet"] {
        let read = format!("read_texts(join_path(folder, \"{name}\"))");
        assert_eq!(texts(place, &read), r#"["one\ntwo","","ü"]"#, "{name}");
        let part = format!("read_texts(join_path(folder, \"{name}\"), #{{ skip: 1, limit: 1 }})");
        assert_eq!(texts(place, &part), r#"[""]"#, "{name}");
    }
    assert_eq!(texts(place, r#"read_texts(join_path(folder, "plain"))"#), r#"["one\ntwo","ü",""]"#);
    assert_eq!(texts(place, r#"read_texts(folder + "/*/*.{txt,TXT}")"#), r#"["one\ntwo","ü"]"#);
    assert_eq!(texts(place, r#"read_texts(folder + "/**/*.md")"#), r#"[""]"#);
}

#[test]
fn a_row_without_a_text_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = session();
    session.set_variable("path", folder.path().join("rows").display().to_string().into());
    let cases: &[(&str, &[u8], &[&str])] = &[
        ("jsonl", b"{\"text\": \"a\"}\n\n{\"txt\": \"b\"}\n", &["rows.jsonl:3`", "no field `text`", "txt"]),
        ("jsonl", b"{\"text\": \"a\"}\n{\"text\": null}\n", &["rows.jsonl:2`", "`text` is empty"]),
        ("jsonl", b"{\"text\": \"a\"}\n{\"text\": 3}\n", &["rows.jsonl:2`", "not a text"]),
        ("jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n", &["rows.jsonl:2`", "not UTF-8"]),
        ("jsonl", b"{\"text\": \"a\"}\n  {\"text\" \"b\"}\n", &["rows.jsonl:2:11`"]),
        ("csv", b"text,n\na,1\n\"b\nc\n", &["rows.csv:3`", "quote is not closed"]),
        ("csv", b"text,n\na,1\nb\n", &["rows.csv:3`", "1 cells"]),
        ("csv", b"text,n\na,1\n\xff,2\n", &["rows.csv:3`", "not UTF-8"]),
        ("txt", b"\xff", &["rows.txt`", "byte 0"]),
        ("gz", b"", &["rows.gz`", "unknown file extension"]),
    ];
    for (extension, content, parts) in cases {
        std::fs::write(folder.path().join(format!("rows.{extension}")), content).unwrap();
        let script = format!("read_texts(path + \".{extension}\").to_array()");
        assert_contains(&script_failure(&mut session, &script), parts);
    }
    assert_contains(&script_failure(&mut session, r#"read_texts(path + "*.md")"#), &["no files"]);
    assert_contains(&script_failure(&mut session, r#"read_texts(path + ".csv", #{ limit: -1 })"#), &["negative"]);
}
