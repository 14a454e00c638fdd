//! Catches values assigned in vain. Rhai hands the parts of a chain such as `model.W_E[0] = 0.0` back to the value that
//! they were read from, also when nothing was assigned. What comes back changed is an error, because the values of
//! Lancet's types cannot be changed through what is read from them.

use rhai::{Array, Dynamic, Engine, EvalAltResult, FuncRegistration, Map, NativeCallContext, Position};

use super::convert::type_name;
use super::error::ScriptResult;
use super::handle::{self, Handle};
use crate::catalog::HIDDEN;
use crate::error::Error;
use crate::tensor::Tensor;

/// Registers what Rhai calls with the parts of chains that begin with a value of type `T`.
pub fn register<T: Handle>(engine: &mut Engine) {
    FuncRegistration::new("index$set$").with_purity(true).with_comments([HIDDEN]).register_into_engine(
        engine,
        |context: NativeCallContext, target: &mut T, index: Dynamic, value: Dynamic| -> ScriptResult<()> {
            refuse_change(&context, target, &index, &value)
        },
    );
}

/// Fails if `value`, written to the property or item `index` of `target`, differs from what is read there.
pub fn refuse_change<T: Handle>(
    context: &NativeCallContext,
    target: &T,
    index: &Dynamic,
    value: &Dynamic,
) -> ScriptResult<()> {
    // A method that takes its value leaves `()` behind.
    if value.is_unit() {
        return Ok(());
    }
    let mut target = Dynamic::from(target.clone());
    let property = index.is_string().then(|| format!("get${index}"));
    let property = property.map(|name| context.call_native_fn_raw(name, true, &mut [&mut target]));
    let is_property = matches!(property, Some(Ok(_)));
    let current = match property {
        Some(Ok(current)) => Ok(current),
        _ => context.call_native_fn_raw("index$get$", true, &mut [&mut target, &mut index.clone()]),
    };
    match current {
        Ok(current) if is_unchanged(&current, value) => Ok(()),
        Ok(_) => {
            let what = if is_property { format!("the property `{index}`") } else { "an item".to_owned() };
            Err(Error::new(format!("{what} of a {} cannot be set", T::NAME)).hint(T::instead_of_setting()).into())
        }
        Err(_) if index.is_string() => {
            let text = format!("Unknown property '{index}' of '{}'", T::NAME);
            Err(EvalAltResult::ErrorDotExpr(text, Position::NONE).into())
        }
        Err(_) => {
            Err(EvalAltResult::ErrorIndexingType(format!("{} [{}]", T::NAME, type_name(index)), Position::NONE).into())
        }
    }
}

/// Whether `after` is what `before` was, up to what reading it again makes anew.
fn is_unchanged(before: &Dynamic, after: &Dynamic) -> bool {
    if let (Some(before), Some(after)) = (before.read_lock::<Tensor>(), after.read_lock::<Tensor>()) {
        return before.holds_same_elements(&after) && before.tch().requires_grad() == after.tch().requires_grad();
    }
    if let (Some(before), Some(after)) = (before.read_lock::<Array>(), after.read_lock::<Array>()) {
        let mut pairs = before.iter().zip(after.iter());
        return before.len() == after.len() && pairs.all(|(before, after)| is_unchanged(before, after));
    }
    if let (Some(before), Some(after)) = (before.read_lock::<Map>(), after.read_lock::<Map>()) {
        let mut pairs = before.iter().zip(after.iter());
        return before.len() == after.len()
            && pairs.all(|((key, before), (other, after))| key == other && is_unchanged(before, after));
    }
    // What a method took out of a container has left `()` behind.
    let text = |value: &Dynamic| handle::describe(value).unwrap_or_else(|| format!("{value:?}"));
    after.is_unit() || (before.type_id() == after.type_id() && text(before) == text(after))
}
