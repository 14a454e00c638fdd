//! Reductions and functions along a dimension.

use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FuncRegistration, Map};

use super::convert::{from_number, lengths};
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::Result;
use crate::tensor::Tensor;
use crate::tensor::reduce::{self, REDUCTIONS, Reduction, Settings};

/// Registers reductions and functions. They leave the tensor in its place, because Rhai writes the values in a chain of
/// indexes back to where they were read.
pub fn register(engine: &mut Engine) {
    for reduction in REDUCTIONS {
        let name = reduction.name;
        let options = match reduction.options {
            [] => "`keepdim`".to_owned(),
            more => format!("`keepdim` and `{}`", more.join("`, `")),
        };
        let comment = |scope: &str| {
            let detail =
                if reduction.detail.is_empty() { String::new() } else { format!("\n///\n/// {}", reduction.detail) };
            format!("/// {}\n///\n/// {scope}{detail}", reduction.summary)
        };
        FuncRegistration::new(name)
            .with_params_info(["t: tensor", "tensor"])
            .with_comments([Topic::Tensors.comment(), comment("Over all elements; the result has no dimensions.")])
            .with_purity(true)
            .register_into_engine(engine, |t: &mut Tensor| -> ScriptResult<Tensor> {
                Ok(reduction.apply(t, &Settings::default())?)
            });
        FuncRegistration::new(name)
            .with_params_info(["t: tensor", "dim: integer or array", "tensor"])
            .with_comments([
                Topic::Tensors.comment(),
                comment(&format!(
                    "Over dimension `dim`, or over several in an array; a map in its place holds the options {options}."
                )),
            ])
            .with_purity(true)
            .register_into_engine(engine, |t: &mut Tensor, dim: Dynamic| run(reduction, t, &dim, None));
        FuncRegistration::new(name)
            .with_params_info(["t: tensor", "dim: integer or array", "options: map", "tensor"])
            .with_comments([
                Topic::Tensors.comment(),
                comment(&format!("Over dimension `dim`, or `()` for all, with the options {options}.")),
            ])
            .with_purity(true)
            .register_into_engine(engine, |t: &mut Tensor, dim: Dynamic, options: Map| {
                run(reduction, t, &dim, Some(options))
            });
    }
    module::register(engine, Topic::Tensors, exported_manifest!(reduce_functions));
}

fn run(reduction: &'static Reduction, tensor: &Tensor, dim: &Dynamic, options: Option<Map>) -> ScriptResult<Tensor> {
    Ok(settings(reduction.name, reduction.options, dim, options)
        .and_then(|settings| reduction.apply(tensor, &settings))?)
}

/// The dimensions and the options; a map in the place of the dimensions is the options.
fn settings(function: &'static str, more: &[&str], dim: &Dynamic, options: Option<Map>) -> Result<Settings> {
    let (dims, options) = match (dim.clone().try_cast::<Map>(), options) {
        (Some(map), None) => (None, map),
        (_, options) => (dimensions(function, dim)?, options.unwrap_or_default()),
    };
    Options::read(function, options, |options| {
        let mut settings = Settings { dims, ..Settings::default() };
        settings.keepdim = options.boolean("keepdim")?.unwrap_or(settings.keepdim);
        if more.contains(&"unbiased") {
            settings.unbiased = options.boolean("unbiased")?.unwrap_or(settings.unbiased);
        }
        if more.contains(&"p") {
            settings.order = options.number("p")?.unwrap_or(settings.order);
        }
        Ok(settings)
    })
}

fn dimensions(function: &str, dim: &Dynamic) -> Result<Option<Vec<i64>>> {
    if dim.is_unit() {
        return Ok(None);
    }
    let what = format!("the dimension of `{function}`");
    if dim.is_int() || dim.is::<Array>() {
        return lengths(&what, dim).map(Some);
    }
    let error = expected(&what, "an integer, an array of integers or ()", dim);
    Err(match function {
        "max" => error.hint("`maximum(a, b)` gives the larger of two elements each"),
        "min" => error.hint("`minimum(a, b)` gives the smaller of two elements each"),
        _ => error,
    })
}

#[export_module(manifest)]
mod reduce_functions {
    /// Whether any element is true or not zero: one bool, fit for `if`.
    ///
    /// # Example
    /// ```rhai
    /// assert((tensor([1, 2]) > 1).any());
    /// ```
    #[rhai_fn(name = "any", return_raw)]
    pub fn any(t: Tensor) -> ScriptResult<Dynamic> {
        Ok(reduce::any(&t, &Settings::default()).and_then(|any| any.item()).map(from_number)?)
    }

    /// Whether any element along dimension `dim` (or several in an array) is true or not zero, as a bool tensor.
    #[rhai_fn(name = "any", return_raw)]
    pub fn any_along(t: Tensor, dim: Dynamic) -> ScriptResult<Tensor> {
        Ok(settings("any", &[], &dim, None).and_then(|settings| reduce::any(&t, &settings))?)
    }

    /// Whether all elements are true or not zero: one bool, fit for `if`.
    ///
    /// # Example
    /// ```rhai
    /// assert((tensor([1, 2]) > 0).all());
    /// ```
    #[rhai_fn(name = "all", return_raw)]
    pub fn all(t: Tensor) -> ScriptResult<Dynamic> {
        Ok(reduce::all(&t, &Settings::default()).and_then(|all| all.item()).map(from_number)?)
    }

    /// Whether all elements along dimension `dim` (or several in an array) are true or not zero, as a bool tensor.
    #[rhai_fn(name = "all", return_raw)]
    pub fn all_along(t: Tensor, dim: Dynamic) -> ScriptResult<Tensor> {
        Ok(settings("all", &[], &dim, None).and_then(|settings| reduce::all(&t, &settings))?)
    }

    /// Exponentials along dimension `dim`, scaled to sum to 1.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([0.0, 0.0]).softmax(0).to_array(), [0.5, 0.5]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn softmax(t: Tensor, dim: i64) -> ScriptResult<Tensor> {
        Ok(t.softmax(dim)?)
    }

    /// The logarithm of the softmax along dimension `dim`, computed without overflow.
    #[rhai_fn(return_raw)]
    pub fn log_softmax(t: Tensor, dim: i64) -> ScriptResult<Tensor> {
        Ok(t.log_softmax(dim)?)
    }

    /// Running sums along dimension `dim`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(tensor([1, 2, 3]).cumsum(0).to_array(), [1, 3, 6]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn cumsum(t: Tensor, dim: i64) -> ScriptResult<Tensor> {
        Ok(t.cumsum(dim)?)
    }
}
