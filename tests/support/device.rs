//! The devices that the tests of models run on: `LANCET_TEST_DEVICE`, else the CPU.

/// The value with which models are split over all GPUs.
const SPLIT: &str = "split";

/// The device; all GPUs together are `auto`.
pub fn device() -> String {
    match std::env::var("LANCET_TEST_DEVICE") {
        Ok(name) if name == SPLIT => "auto".into(),
        Ok(name) => name,
        Err(_) => "cpu".into(),
    }
}

/// Whether models are split over all GPUs.
pub fn is_split() -> bool {
    std::env::var("LANCET_TEST_DEVICE").is_ok_and(|name| name == SPLIT)
}

/// Whether a call, whose own parenthesis is open, goes on after this text.
fn is_open(text: &str) -> bool {
    let mut depth = 1;
    text.chars().all(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        depth > 0
    })
}

/// A script whose calls of `load_model` with `device: device` split the model, where the tests' models are split.
pub fn placed(script: &str) -> String {
    let with_split = |call: &str| match call.split_once("device: device") {
        Some((before, after)) if is_split() && is_open(before) => {
            format!("{before}device_map: \"split\"{after}")
        }
        _ => call.to_owned(),
    };
    let mut calls = script.split("load_model(");
    let first = calls.next().unwrap_or_default().to_owned();
    calls.fold(first, |placed, call| placed + "load_model(" + with_split(call).as_str())
}
