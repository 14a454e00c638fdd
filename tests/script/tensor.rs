//! Tensors in scripts: against PyTorch's values, and the behaviour scripts in `scripts/tensor`.

use std::path::{Path, PathBuf};

use lancet::bind;
use lancet::tensor::Tensor;
use lancet::tensor::element::{Elements, Number};
use lancet::tensor::parse_kind;
use rhai::{Dynamic, Engine, Scope};
use serde_json::Value;
use tch::{Device, Kind};

use crate::support::{self, fixture, generator, message};

/// An engine in which `message(|| ...)` is the error that a closure raises, with its hint.
fn engine() -> Engine {
    let mut engine = support::engine();
    engine.register_fn("message", |context: rhai::NativeCallContext, closure: rhai::FnPtr| {
        match closure.call_within_context::<Dynamic>(&context, ()) {
            Ok(value) => format!("no error but {}", bind::display::literal(&value)),
            Err(error) => message(&error),
        }
    });
    engine
}

/// The tensor that a fixture describes.
fn stored(value: &Value) -> Tensor {
    let number = |value: &Value| match value {
        Value::Bool(value) => f64::from(*value),
        Value::String(text) => text.parse().unwrap(),
        other => other.as_f64().unwrap(),
    };
    let values = value["values"].as_array().unwrap().iter().map(number).collect();
    let shape: Vec<i64> = value["shape"].as_array().unwrap().iter().map(|length| length.as_i64().unwrap()).collect();
    let kind = parse_kind(value["dtype"].as_str().unwrap()).unwrap();
    Tensor::from_elements(&Elements::Floats(values), &shape, Some(kind), Device::Cpu).unwrap()
}

fn tolerance(kind: Kind) -> (f64, f64) {
    match kind {
        Kind::Double => (1e-10, 1e-10),
        Kind::Float => (1e-5, 1e-6),
        Kind::BFloat16 | Kind::Half => (1e-2, 1e-3),
        _ => (0.0, 0.0),
    }
}

fn differences(got: &Tensor, wanted: &Tensor) -> Option<String> {
    if got.shape() != wanted.shape() || got.kind() != wanted.kind() {
        return Some(format!("{} instead of {}", got.describe(), wanted.describe()));
    }
    let (relative, absolute) = tolerance(wanted.kind());
    let float = |number| match number {
        Number::Bool(value) => f64::from(value),
        Number::Integer(value) => value as f64,
        Number::Float(value) => value,
    };
    let (got, wanted) = (got.elements().unwrap(), wanted.elements().unwrap());
    (0..wanted.len()).find_map(|position| {
        let (got, wanted) = (float(got.get(position)?), float(wanted.get(position)?));
        let equal = got == wanted
            || (got.is_nan() && wanted.is_nan())
            || (got - wanted).abs() <= absolute + relative * wanted.abs();
        (!equal).then(|| format!("element {position} is {got} instead of {wanted}"))
    })
}

#[test]
fn values_are_pytorchs() {
    let _turn = generator();
    let fixtures: Value = serde_json::from_slice(&std::fs::read(fixture("tensor_cases.json")).unwrap()).unwrap();
    let engine = engine();
    let mut failures = Vec::new();
    for case in fixtures["cases"].as_array().unwrap() {
        let mut scope = Scope::new();
        for (name, value) in fixtures["inputs"].as_object().unwrap() {
            scope.push(name.as_str(), stored(value));
        }
        let script = case["script"].as_str().unwrap();
        match engine.eval_with_scope::<Dynamic>(&mut scope, script) {
            Err(error) => failures.push(format!("{script}: {}", message(&error))),
            Ok(value) => match value.clone().try_cast::<Tensor>() {
                None => failures.push(format!("{script}: gives {value}")),
                Some(got) => failures.extend(
                    differences(&got, &stored(&case["expected"])).map(|difference| format!("{script}: {difference}")),
                ),
            },
        }
        for (name, value) in fixtures["inputs"].as_object().unwrap() {
            let kept = scope.get_value::<Tensor>(name).unwrap();
            if let Some(difference) = differences(&kept, &stored(value)) {
                failures.push(format!("{script} changed `{name}`: {difference}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn scripts_behave() {
    let _turn = generator();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts/tensor");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let mut failures = Vec::new();
    for script in scripts {
        let scratch = tempfile::tempdir().unwrap();
        let mut scope = Scope::new();
        scope.push("folder", scratch.path().to_string_lossy().into_owned());
        scope.push("fixtures", fixture("").to_string_lossy().into_owned());
        if let Err(error) = engine().run_file_with_scope(&mut scope, script.clone()) {
            failures.push(format!("{}: {} at {}", script.display(), message(&error), error.position()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The reference implementation reads our files with the same content.
#[test]
fn saved_tensors_are_valid_safetensors() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("saved.safetensors");
    let mut scope = Scope::new();
    scope.push("path", path.to_string_lossy().into_owned());
    let script = r#"
        let tensors = #{bytes: tensor([1, 2, 3], #{dtype: "u8"}), b: tensor([[1.5, -2.0]]).T, a: tensor(7)};
        save_safetensors(path, tensors, #{metadata: #{"key": "a \"text\""}});
    "#;
    engine().run_with_scope(&mut scope, script).unwrap_or_else(|error| panic!("{}", message(&error)));
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["key"], "a \"text\"");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| {
        let view = tensors.tensor(name).unwrap();
        (view.dtype().to_string(), view.shape().to_vec(), view.data().to_vec())
    };
    let floats = [1.5f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat();
    assert_eq!(read("b"), ("F32".to_owned(), vec![2, 1], floats));
    assert_eq!(read("a"), ("I64".to_owned(), vec![], 7i64.to_le_bytes().to_vec()));
    assert_eq!(read("bytes"), ("U8".to_owned(), vec![3], vec![1, 2, 3]));
}

/// libtorch appends dozens of frames to every message; users must not see them.
#[test]
fn no_message_shows_a_backtrace() {
    let scripts = [
        "zeros([2, 3]).matmul(zeros([2]))",
        "arange(3, #{ device: \"cuda:99\" })",
        "zeros([2]).to(\"cuda:99\")",
        "zeros([10000000000000])",
        "tensor([[1.0, 2.0], [2.0, 4.0]]).inv()",
        "einsum(\"ab->\", [zeros([2])])",
    ];
    for script in scripts {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lancet")).args(["-e", script]).output().unwrap();
        let shown = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && shown.starts_with("error: "), "{shown}");
        for part in ["Exception raised", "frame #", ".cpp:1:", "most recent call"] {
            assert!(!shown.contains(part), "{script}: {shown}");
        }
    }
}
