//! The hooks that a script passes to a run: `[name, function]` pairs and interventions.

use std::cell::RefCell;
use std::rc::Rc;

use rhai::{Array, Dynamic, EvalAltResult, FnPtr, FuncArgs, Map, NativeCallContext};
use tch::Kind;

use super::intervention::{Names, Planned};
use crate::bind::convert::expected;
use crate::bind::error::ScriptResult;
use crate::bind::watch::watch;
use crate::error::{Error, Result};
use crate::model::config::Config;
use crate::model::hook::{self, HookPoint};
use crate::model::run::{Action, Callback, Hooks};
use crate::tensor::Tensor;

/// Where a failing closure leaves its error while it passes through the decoder.
type Failure = RefCell<Option<Box<EvalAltResult>>>;

/// The way from a run back to the script that started it: calls the hooks' functions and remembers why one failed.
pub struct Caller<'a> {
    context: &'a NativeCallContext<'a>,
    failure: Failure,
}

/// Does `work`, which runs a model with hooks that a script gave. An error in a hook's function is raised as it is.
///
/// # Errors
/// What `work` or a hook's function raises.
pub fn with_hooks<'a, T>(
    context: &'a NativeCallContext<'a>,
    work: impl FnOnce(&Caller<'a>) -> Result<T>,
) -> ScriptResult<T> {
    let caller = Caller { context, failure: Failure::default() };
    work(&caller).map_err(|error| match (error, caller.failure.take()) {
        (Error::Callback, Some(cause)) => cause,
        (error, _) => error.into(),
    })
}

impl Caller<'_> {
    /// Adds a script's hooks to a run, for some samples of the batch only where `rows` (first, how many) says so.
    ///
    /// # Errors
    /// An entry that is neither a pair nor an intervention, an unknown hook, an unknown position; several names that
    /// are not of one hook each, in order of execution.
    pub fn add<'a>(
        &'a self,
        hooks: &mut Hooks<'a>,
        entries: &Array,
        config: &Config,
        names: &Names,
        rows: Option<(i64, i64)>,
    ) -> Result<()> {
        for entry in entries {
            if let Some(planned) = entry.read_lock::<Planned>() {
                for intervention in planned.resolve(config, names)? {
                    let point = intervention.point;
                    hooks.add_for(config, rows, vec![point], point.name(), Action::Intervene(intervention));
                }
                continue;
            }
            let pair = entry.read_lock::<Array>().ok_or_else(|| not_a_hook(entry))?;
            let [name, function] = pair.as_slice() else { return Err(not_a_hook(entry)) };
            let function = function.clone().try_cast::<FnPtr>().ok_or_else(|| not_a_hook(entry))?;
            if let Some(names) = name.read_lock::<Array>() {
                let name = |name: &Dynamic| name.clone().into_string().map_err(|_| not_a_hook(entry));
                let names = names.iter().map(name).collect::<Result<Vec<_>>>()?;
                self.add_joint(hooks, &names, function, config, rows)?;
                continue;
            }
            let name = name.clone().into_string().map_err(|_| not_a_hook(entry))?;
            let points = hook::matching(&name, config)?;
            hooks.add_for(config, rows, points, name, Action::Call(self.callback(function)));
        }
        Ok(())
    }

    fn callback(&self, function: FnPtr) -> Callback<'_> {
        Box::new(move |point, value| {
            let value = Tensor::new(value.shallow_clone());
            call(&function, self.context, point, &[], value).map_err(|error| self.stop(error))
        })
    }

    /// Adds a hook whose function takes the activations of several places, and replaces the last one.
    fn add_joint<'a>(
        &'a self,
        hooks: &mut Hooks<'a>,
        names: &[String],
        function: FnPtr,
        config: &Config,
        rows: Option<(i64, i64)>,
    ) -> Result<()> {
        let points = names.iter().map(|name| hook::parse(name, config)).collect::<Result<Vec<_>>>()?;
        let order = hook::points(config);
        let place = |point: &HookPoint| order.iter().position(|other| other == point);
        if !points.is_sorted_by(|one, other| place(one) < place(other)) {
            return Err(Error::new(format!("the hooks {} do not run in this order", names.join(", "))).hint(
                "name them in the order of `model.hook_names`; the function replaces the last one's activation",
            ));
        }
        let Some((last, read)) = points.split_last() else { return Err(Error::new("a hook needs a name")) };
        // What the places before the last one had in this pass.
        let held: Rc<RefCell<Vec<Option<Tensor>>>> = Rc::new(RefCell::new(vec![None; read.len()]));
        for (index, point) in read.iter().enumerate() {
            let held = Rc::clone(&held);
            let keep: Callback = Box::new(move |_, value| {
                held.borrow_mut()[index] = Some(Tensor::new(value.shallow_clone()));
                Ok(None)
            });
            hooks.add_for(config, rows, vec![*point], point.name(), Action::Call(keep));
        }
        let replace: Callback = Box::new(move |point, value| {
            let before: Option<Vec<Tensor>> = held.borrow_mut().iter_mut().map(Option::take).collect();
            let before = before.ok_or_else(|| {
                Error::new(format!("the run reached `{}` but not all of the hooks that go with it", point.name()))
            })?;
            let value = Tensor::new(value.shallow_clone());
            call(&function, self.context, point, &before, value).map_err(|error| self.stop(error))
        });
        hooks.add_for(config, rows, vec![*last], last.name(), Action::Call(replace));
        Ok(())
    }

    /// Calls another function that the script gave. Its error stops the run, and `with_hooks` raises it as it is.
    ///
    /// # Errors
    /// The function's own.
    pub fn call(&self, function: &FnPtr, arguments: impl FuncArgs) -> Result<Dynamic> {
        function.call_within_context(self.context, arguments).map_err(|error| self.stop(error))
    }

    /// Calls a metric, |logits| or |logits, samples|, with logits [sample, d_vocab] of samples of these numbers. Where it
    /// fails, its error names the first sample that it fails for alone.
    ///
    /// # Errors
    /// The function's own; what it returns is neither a tensor nor an array of numbers, nor one number.
    pub fn measure(&self, function: &FnPtr, logits: &tch::Tensor, samples: &[usize]) -> Result<tch::Tensor> {
        let call = |logits: &tch::Tensor, samples: &[usize]| -> ScriptResult<Dynamic> {
            let logits = Tensor::new(logits.shallow_clone());
            match function.call_within_context::<Dynamic>(self.context, (logits.clone(),)) {
                Err(error) if takes_other_arguments(&error, function) => {
                    let samples: Array = samples.iter().map(|sample| Dynamic::from(*sample as i64)).collect();
                    match function.call_within_context::<Dynamic>(self.context, (logits, samples)) {
                        Err(error) if takes_other_arguments(&error, function) => {
                            Err(Error::new("the metric's function takes the wrong number of arguments")
                                .hint("|logits| ... or |logits, samples| ...")
                                .into())
                        }
                        other => other,
                    }
                }
                other => other,
            }
        };
        let values = call(logits, samples).map_err(|error| {
            let alone = |(row, sample): (i64, &usize)| {
                let logits = logits.f_narrow(0, row, 1).ok()?;
                call(&logits, std::slice::from_ref(sample)).err().map(|error| in_sample(*error, *sample).into())
            };
            let own = (0..).zip(samples).find_map(alone);
            self.stop(own.unwrap_or(error))
        })?;
        measured(&values)
    }

    fn stop(&self, error: Box<EvalAltResult>) -> Error {
        *self.failure.borrow_mut() = Some(error);
        Error::Callback
    }
}

/// What a metric returned, as a tensor.
fn measured(values: &Dynamic) -> Result<tch::Tensor> {
    if let Some(tensor) = values.read_lock::<Tensor>() {
        return Ok(tensor.share());
    }
    let one = |value: &Dynamic| -> Result<f64> {
        if let Some(tensor) = value.read_lock::<Tensor>().filter(|tensor| tensor.tch().numel() == 1) {
            return Ok(tensor.tch().f_to_kind(Kind::Double)?.f_reshape([-1])?.f_double_value(&[0])?);
        }
        let number = value.as_float().or_else(|_| value.as_int().map(|number| number as f64));
        number.map_err(|_| expected("what a metric returns", "a tensor [sample], or an array of numbers", value))
    };
    let numbers = match values.read_lock::<Array>() {
        Some(values) => values.iter().map(one).collect::<Result<Vec<_>>>()?,
        None => vec![one(values)?],
    };
    Ok(tch::Tensor::f_from_slice(&numbers)?)
}

/// A metric's error with the number of the sample that it is about.
fn in_sample(error: EvalAltResult, sample: usize) -> EvalAltResult {
    let said = |text: &dyn std::fmt::Display| format!("the metric's function fails at sample {sample}: {text}");
    match error {
        EvalAltResult::ErrorInFunctionCall(name, source, inner, place) => {
            EvalAltResult::ErrorInFunctionCall(name, source, in_sample(*inner, sample).into(), place)
        }
        EvalAltResult::ErrorTerminated(..) => error,
        EvalAltResult::ErrorRuntime(value, place) => {
            let value = match value.clone().try_cast::<Map>() {
                Some(mut map) => {
                    let text = map.get("error").map_or_else(|| value.to_string(), Dynamic::to_string);
                    map.insert("error".into(), said(&text).into());
                    map.into()
                }
                None => said(&value).into(),
            };
            EvalAltResult::ErrorRuntime(value, place)
        }
        mut other => {
            let place = other.take_position();
            EvalAltResult::ErrorRuntime(said(&other).into(), place)
        }
    }
}

fn not_a_hook(entry: &Dynamic) -> Error {
    expected(
        "a hook",
        "[name, |value| ...], [[name, name], |value, value| ...] or an intervention such as patch(name, position, x)",
        entry,
    )
}

/// Calls `|value|`, or `|value, name|` if the function takes one argument more; the values of the places `before` come
/// first.
fn call(
    function: &FnPtr,
    context: &NativeCallContext,
    point: &HookPoint,
    before: &[Tensor],
    value: Tensor,
) -> ScriptResult<Option<tch::Tensor>> {
    let values: Vec<Dynamic> = before.iter().chain([&value]).map(|value| Dynamic::from(value.clone())).collect();
    let (result, written) = watch(&value, || call_function(function, context, point, values));
    let result = result?;
    if result.is_unit() {
        if written {
            return Err(Error::new(format!(
                "the function of the hook at `{}` changes its activation but does not return it",
                point.name()
            ))
            .hint("end it with the activation, as in `|value| { value[0] = 0.0; value }`")
            .into());
        }
        return Ok(None);
    }
    match result.read_lock::<Tensor>() {
        Some(tensor) => Ok(Some(tensor.share())),
        None => Err(expected(
            &format!("what the hook at `{}` returns", point.name()),
            "a tensor, or () to leave the activation as it is",
            &result,
        )
        .into()),
    }
}

fn call_function(
    function: &FnPtr,
    context: &NativeCallContext,
    point: &HookPoint,
    values: Vec<Dynamic>,
) -> ScriptResult<Dynamic> {
    let one = function.call_within_context::<Dynamic>(context, values.clone());
    match one {
        Err(error) if takes_other_arguments(&error, function) => {
            let hint = match values.len() {
                1 => "|value| ... or |value, name| ...".to_owned(),
                count => format!("one for each of the {count} hooks, and perhaps the name of the last"),
            };
            let named = [values, vec![point.name().into()]].concat();
            match function.call_within_context::<Dynamic>(context, named) {
                Err(error) if takes_other_arguments(&error, function) => Err(Error::new(format!(
                    "the function of the hook at `{}` takes the wrong number of arguments",
                    point.name()
                ))
                .hint(hint)
                .into()),
                other => other,
            }
        }
        other => other,
    }
}

fn takes_other_arguments(error: &EvalAltResult, function: &FnPtr) -> bool {
    matches!(error, EvalAltResult::ErrorFunctionNotFound(signature, _)
        if signature.split([' ', '(']).next() == Some(function.fn_name()))
}
