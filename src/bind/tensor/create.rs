//! Functions that make new tensors.

use rhai::plugin::*;
use rhai::{Dynamic, Engine, Map};
use tch::{Device, Kind};

use super::convert::{Place, lengths, number, only_place, place};
use super::from_nested;
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::module;
use crate::bind::option::Options;
use crate::catalog::topic::Topic;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use crate::tensor::create::{self, Distribution};
use crate::tensor::element::Number;

/// Registers the functions.
pub fn register(engine: &mut Engine) {
    module::register(engine, Topic::Tensors, exported_manifest!(create_functions));
    module::register(engine, Topic::Tensors, exported_manifest!(random_functions));
}

fn settled(place: Place, default: Kind) -> create::Place {
    (place.kind.unwrap_or(default), place.device.unwrap_or(Device::Cpu))
}

fn filled(function: &'static str, shape: &Dynamic, value: Number, options: Map) -> Result<Tensor> {
    let place = only_place(function, options)?;
    let default = if function == "full" { value.default_kind() } else { Kind::Float };
    create::full(&lengths("the shape", shape)?, value, settled(place, default))
}

/// The dtype and device of a tensor like `tensor`, unless options say otherwise.
fn like(function: &'static str, tensor: &Tensor, options: Map) -> Result<create::Place> {
    let place = only_place(function, options)?;
    Ok((place.kind.unwrap_or(tensor.kind()), place.device.unwrap_or(tensor.device())))
}

fn required(what: &str, value: &Dynamic) -> Result<Number> {
    number(value).ok_or_else(|| expected(what, "a number", value))
}

fn range(mut arguments: Vec<Dynamic>) -> Result<Tensor> {
    let options = match arguments.last().and_then(|last| last.clone().try_cast::<Map>()) {
        Some(options) => {
            arguments.pop();
            options
        }
        None => Map::new(),
    };
    let place = only_place("arange", options)?;
    let (start, end, step) = match arguments.as_slice() {
        [end] => (Number::Integer(0), required("the end", end)?, Number::Integer(1)),
        [start, end] => (required("the start", start)?, required("the end", end)?, Number::Integer(1)),
        [start, end, step] => (required("the start", start)?, required("the end", end)?, required("the step", step)?),
        _ => return Err(Error::new("`arange` takes an end, a start and an end, or a start, an end and a step")),
    };
    let floats = [start, end, step].iter().any(|number| matches!(number, Number::Float(_)));
    create::arange(start, end, step, settled(place, if floats { Kind::Float } else { Kind::Int64 }))
}

/// The options `dtype`, `device` and `seed`.
fn seeded_place(options: &mut Options) -> Result<(Place, Option<i64>)> {
    Ok((place(options)?, options.integer("seed")?))
}

fn random(
    function: &'static str,
    distribution: Distribution,
    shape: &Dynamic,
    default: Kind,
    options: Map,
) -> Result<Tensor> {
    let (place, seed) = Options::read(function, options, seeded_place)?;
    create::random(distribution, &lengths("the shape", shape)?, settled(place, default), seed)
}

#[export_module(manifest)]
mod create_functions {
    /// A tensor of a number or of nested arrays of numbers or bools.
    ///
    /// Integers give dtype i64, bools bool, and as soon as one number is a float, f32. Arrays side by side must be of
    /// one length. A tensor of one element counts as a number.
    ///
    /// Options: `dtype`, `device`.
    ///
    /// # Example
    /// ```rhai
    /// let t = tensor([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq(t.shape, [2, 2]);
    /// assert_eq(t.dtype, "f32");
    /// let t = tensor([1, 2, 3], #{dtype: "f64", device: "cpu"});
    /// assert_eq(t.dtype, "f64");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn tensor(values: Dynamic, options: Map) -> ScriptResult<Tensor> {
        Ok(only_place("tensor", options)
            .and_then(|place| from_nested(&values, place.kind, place.device.unwrap_or(Device::Cpu)))?)
    }

    /// A tensor of zeros of the given shape, f32.
    ///
    /// The shape is an array of lengths or one length.
    ///
    /// Options: `dtype`, `device`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(zeros([2, 3]).shape, [2, 3]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn zeros(shape: Dynamic, options: Map) -> ScriptResult<Tensor> {
        Ok(filled("zeros", &shape, Number::Integer(0), options)?)
    }

    /// A tensor of ones of the given shape, f32.
    ///
    /// Options: `dtype`, `device`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(ones(3).sum().item(), 3.0);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn ones(shape: Dynamic, options: Map) -> ScriptResult<Tensor> {
        Ok(filled("ones", &shape, Number::Integer(1), options)?)
    }

    /// A tensor filled with one value: i64 for an integer, f32 for a float, bool for a bool.
    ///
    /// Options: `dtype`, `device`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(full([2], 7).to_array(), [7, 7]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn full(shape: Dynamic, value: Dynamic, options: Map) -> ScriptResult<Tensor> {
        Ok(required("the value", &value).and_then(|value| filled("full", &shape, value, options))?)
    }

    /// A tensor of zeros with the shape, dtype and device of `t`.
    ///
    /// Options: `dtype`, `device`.
    #[rhai_fn(return_raw)]
    pub fn zeros_like(t: Tensor, options: Map) -> ScriptResult<Tensor> {
        full_like(t, Dynamic::from(0_i64), options)
    }

    /// A tensor of ones with the shape, dtype and device of `t`.
    ///
    /// Options: `dtype`, `device`.
    #[rhai_fn(return_raw)]
    pub fn ones_like(t: Tensor, options: Map) -> ScriptResult<Tensor> {
        full_like(t, Dynamic::from(1_i64), options)
    }

    /// A tensor filled with one value, with the shape, dtype and device of `t`.
    ///
    /// Options: `dtype`, `device`.
    #[rhai_fn(return_raw)]
    pub fn full_like(t: Tensor, value: Dynamic, options: Map) -> ScriptResult<Tensor> {
        Ok(required("the value", &value)
            .and_then(|value| create::full(&t.shape(), value, like("full_like", &t, options)?))?)
    }

    /// The integers from 0 to just before `end`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(3).to_array(), [0, 1, 2]);
    /// ```
    #[rhai_fn(name = "arange", return_raw)]
    pub fn arange(end: Dynamic) -> ScriptResult<Tensor> {
        Ok(range(vec![end])?)
    }

    /// The numbers from `start` to just before `end`, 1 apart: i64 if both are integers, otherwise f32.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(2, 5).to_array(), [2, 3, 4]);
    /// ```
    #[rhai_fn(name = "arange", return_raw)]
    pub fn arange_from(start: Dynamic, end: Dynamic) -> ScriptResult<Tensor> {
        Ok(range(vec![start, end])?)
    }

    /// The numbers from `start` to just before `end`, `step` apart; the last argument may be the options `dtype` and
    /// `device` instead.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(arange(0, 10, 4).to_array(), [0, 4, 8]);
    /// ```
    #[rhai_fn(name = "arange", return_raw)]
    pub fn arange_step(start: Dynamic, end: Dynamic, step: Dynamic) -> ScriptResult<Tensor> {
        Ok(range(vec![start, end, step])?)
    }

    /// The numbers from `start` to just before `end`, `step` apart, with the options `dtype` and `device`.
    #[rhai_fn(name = "arange", return_raw)]
    pub fn arange_with(start: Dynamic, end: Dynamic, step: Dynamic, options: Map) -> ScriptResult<Tensor> {
        Ok(range(vec![start, end, step, options.into()])?)
    }

    /// `steps` numbers at equal distances from `start` to `end`, both included, f32.
    ///
    /// Options: `dtype`, `device`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(linspace(0, 1, 3).to_array(), [0.0, 0.5, 1.0]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn linspace(start: Dynamic, end: Dynamic, steps: i64, options: Map) -> ScriptResult<Tensor> {
        let float = |what: &str, value: &Dynamic| {
            crate::bind::convert::number(value).ok_or_else(|| expected(what, "a number", value))
        };
        Ok(only_place("linspace", options).and_then(|place| {
            let (start, end) = (float("the start", &start)?, float("the end", &end)?);
            create::linspace(start, end, steps, settled(place, Kind::Float))
        })?)
    }

    /// The identity matrix with `n` rows, f32.
    ///
    /// Options: `dtype`, `device`.
    ///
    /// # Example
    /// ```rhai
    /// assert_eq(eye(2).to_array(), [[1.0, 0.0], [0.0, 1.0]]);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn eye(n: i64, options: Map) -> ScriptResult<Tensor> {
        Ok(only_place("eye", options).and_then(|place| create::eye(n, settled(place, Kind::Float)))?)
    }
}

#[export_module(manifest)]
mod random_functions {
    /// Restarts the random numbers of this session from a seed, so that what follows can be repeated.
    ///
    /// The numbers equal those of PyTorch on the CPU after `torch.manual_seed`.
    ///
    /// # Example
    /// ```rhai
    /// manual_seed(1);
    /// let a = rand(3);
    /// manual_seed(1);
    /// assert(equal(a, rand(3)));
    /// ```
    #[rhai_fn(name = "manual_seed", volatile)]
    pub fn manual_seed(seed: i64) {
        create::manual_seed(seed);
    }

    /// Random numbers, uniform on [0, 1), of the given shape.
    ///
    /// Options: `dtype`, `device`, `seed`. With a seed the numbers depend on nothing else, and later random numbers
    /// don't depend on the seed.
    ///
    /// # Example
    /// ```rhai
    /// assert(equal(rand([2, 2], #{seed: 1}), rand([2, 2], #{seed: 1})));
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn rand(shape: Dynamic, options: Map) -> ScriptResult<Tensor> {
        Ok(random("rand", Distribution::Uniform, &shape, Kind::Float, options)?)
    }

    /// Random numbers from the normal distribution with mean 0 and standard deviation 1, of the given shape.
    ///
    /// Options: `dtype`, `device`, `seed` (see `rand`).
    #[rhai_fn(return_raw, volatile)]
    pub fn randn(shape: Dynamic, options: Map) -> ScriptResult<Tensor> {
        Ok(random("randn", Distribution::Normal, &shape, Kind::Float, options)?)
    }

    /// Normal random numbers with the shape, dtype and device of `t`.
    ///
    /// Options: `dtype`, `device`, `seed` (see `rand`).
    #[rhai_fn(return_raw, volatile)]
    pub fn randn_like(t: Tensor, options: Map) -> ScriptResult<Tensor> {
        let (place, seed) = Options::read("randn_like", options, seeded_place)?;
        let place = (place.kind.unwrap_or(t.kind()), place.device.unwrap_or(t.device()));
        Ok(create::random(Distribution::Normal, &t.shape(), place, seed)?)
    }

    /// Random integers from `low` to just below `high`, of the given shape, i64.
    ///
    /// Options: `dtype`, `device`, `seed` (see `rand`).
    ///
    /// # Example
    /// ```rhai
    /// assert((randint(0, 5, [100]) < 5).all());
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn randint(low: i64, high: i64, shape: Dynamic, options: Map) -> ScriptResult<Tensor> {
        Ok(random("randint", Distribution::Integers(low, high), &shape, Kind::Int64, options)?)
    }
}
