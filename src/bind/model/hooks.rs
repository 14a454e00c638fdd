//! The hooks that a script passes to a run: `[name, function]` pairs and interventions.

use std::cell::RefCell;

use rhai::{Array, Dynamic, EvalAltResult, FnPtr, FuncArgs, NativeCallContext};

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
    /// An entry that is neither a pair nor an intervention, an unknown hook, an unknown position.
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
            let name = name.clone().into_string().map_err(|_| not_a_hook(entry))?;
            let function = function.clone().try_cast::<FnPtr>().ok_or_else(|| not_a_hook(entry))?;
            let points = hook::matching(&name, config)?;
            hooks.add_for(config, rows, points, name, Action::Call(self.callback(function)));
        }
        Ok(())
    }

    fn callback(&self, function: FnPtr) -> Callback<'_> {
        Box::new(move |point, value| {
            let value = Tensor::new(value.shallow_clone());
            call(&function, self.context, point, value).map_err(|error| self.stop(error))
        })
    }

    /// Calls another function that the script gave. Its error stops the run, and `with_hooks` raises it as it is.
    ///
    /// # Errors
    /// The function's own.
    pub fn call(&self, function: &FnPtr, arguments: impl FuncArgs) -> Result<Dynamic> {
        function.call_within_context(self.context, arguments).map_err(|error| self.stop(error))
    }

    fn stop(&self, error: Box<EvalAltResult>) -> Error {
        *self.failure.borrow_mut() = Some(error);
        Error::Callback
    }
}

fn not_a_hook(entry: &Dynamic) -> Error {
    expected("a hook", "[name, |value| ...] or an intervention such as patch(name, position, tensor)", entry)
}

/// Calls `|value|`, or `|value, name|` if the function takes two arguments.
fn call(
    function: &FnPtr,
    context: &NativeCallContext,
    point: &HookPoint,
    value: Tensor,
) -> ScriptResult<Option<tch::Tensor>> {
    let (result, written) = watch(&value.clone(), || call_function(function, context, point, value));
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
    value: Tensor,
) -> ScriptResult<Dynamic> {
    let one = function.call_within_context::<Dynamic>(context, (value.clone(),));
    match one {
        Err(error) if takes_other_arguments(&error, function) => {
            match function.call_within_context::<Dynamic>(context, (value, point.name())) {
                Err(error) if takes_other_arguments(&error, function) => Err(Error::new(format!(
                    "the function of the hook at `{}` takes the wrong number of arguments",
                    point.name()
                ))
                .hint("|value| ... or |value, name| ...")
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
