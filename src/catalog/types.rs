//! The names that types go by in scripts and their help.

use std::any::TypeId;

use rhai::{Array, Dynamic, Engine, FnPtr, ImmutableString, Map};

/// The name for a parameter that takes anything.
pub const ANY: &str = "any";

/// The script's name of a type that Rhai or Rust calls `name`.
pub fn script_type(name: &str) -> String {
    let name = name.trim().trim_start_matches("&mut ").trim_start_matches('&').trim();
    let known = match name {
        "i64" | "INT" | "rhai::INT" => "integer",
        "f64" | "FLOAT" | "rhai::FLOAT" => "float",
        "str" | "string" | "String" | "alloc::string::String" | "ImmutableString" | "rhai::ImmutableString" => "string",
        "Dynamic" | "rhai::Dynamic" | "rhai::types::dynamic::Dynamic" | "?" | "" | "_" => ANY,
        "Fn" | "FnPtr" | "rhai::FnPtr" | "rhai::types::fn_ptr::FnPtr" => "function",
        "Array" | "rhai::Array" => "array",
        "Map" | "rhai::Map" => "map",
        "Blob" | "rhai::Blob" => "blob",
        // Rhai's own operators on text are written for all its kinds at once.
        _ if name.contains("ImmutableString") => "string",
        "range=" => "range",
        "Instant" => "timestamp",
        _ if name.contains("Range") => "range",
        _ => {
            let last = name.rsplit("::").next().unwrap_or(name);
            return last.to_lowercase();
        }
    };
    known.to_owned()
}

/// The script's name of a parameter's type as written in Rust.
pub fn of_parameter(engine: &Engine, written: &str) -> String {
    let written = written.trim().trim_start_matches("&mut ").trim();
    // Lancet's own types are registered under their last name too, which is how most functions write them.
    let last = written.rsplit("::").next().unwrap_or(written);
    let registered = |name| Some(engine.map_type_name(name)).filter(|found| *found != name);
    script_type(registered(written).or_else(|| registered(last)).unwrap_or(written))
}

/// The script's name of a result's type as written in Rust, without the error it may be wrapped with.
pub fn of_result(engine: &Engine, written: &str) -> String {
    let compact: String = written.chars().filter(|c| !c.is_whitespace()).collect();
    let inner = ["ScriptResult<", "RhaiResultOf<", "Result<"]
        .iter()
        .find_map(|wrapper| compact.rsplit_once(wrapper).map(|(_, rest)| rest.trim_end_matches('>')));
    let inner = match inner {
        Some(rest) => rest.split_once(",Box").map_or(rest, |(value, _)| value),
        None if compact.ends_with("RhaiResult") => "Dynamic",
        None => &compact,
    };
    if inner.is_empty() || inner == "()" { String::new() } else { of_parameter(engine, inner) }
}

/// The script's name of a type of which only the identity is known; `i32` stands for all that scripts never hold.
pub fn of_id(id: TypeId) -> &'static str {
    let known = [
        (TypeId::of::<Dynamic>(), ANY),
        (TypeId::of::<i64>(), "integer"),
        (TypeId::of::<f64>(), "float"),
        (TypeId::of::<bool>(), "bool"),
        (TypeId::of::<char>(), "char"),
        (TypeId::of::<ImmutableString>(), "string"),
        (TypeId::of::<Array>(), "array"),
        (TypeId::of::<Map>(), "map"),
        (TypeId::of::<FnPtr>(), "function"),
        (TypeId::of::<()>(), "()"),
    ];
    known.iter().find(|(other, _)| *other == id).map_or("i32", |(_, name)| name)
}

/// Whether scripts never hold values of that type: Rhai also registers its numbers for Rust's other widths.
pub fn is_foreign(kind: &str) -> bool {
    matches!(kind, "i8" | "i16" | "i32" | "i128" | "u8" | "u16" | "u32" | "u64" | "u128" | "f32" | "usize" | "isize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_types_have_script_names() {
        let engine = Engine::new();
        for (written, name) in [
            ("&mut Tensor", "tensor"),
            ("INT", "integer"),
            ("&str", "string"),
            ("&str | ImmutableString | String", "string"),
            ("rhai::Dynamic", "any"),
            ("lancet::tensor::Tensor", "tensor"),
            ("core::ops::range::Range<i64>", "range"),
            ("alloc::vec::Vec<rhai::types::dynamic::Dynamic>", "array"),
        ] {
            assert_eq!(of_parameter(&engine, written), name, "{written}");
        }
        for (written, name) in [
            ("ScriptResult < Tensor >", "tensor"),
            ("Result < Array, Box < EvalAltResult > >", "array"),
            ("Result<(), Box<EvalAltResult>>", ""),
            ("()", ""),
            ("RhaiResult", "any"),
            ("super::ScriptResult<Map>", "map"),
        ] {
            assert_eq!(of_result(&engine, written), name, "{written}");
        }
    }
}
