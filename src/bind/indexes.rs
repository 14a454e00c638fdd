//! Indexes of several dimensions, `value[0, 1:3, :]`: what stands between the brackets as one value.

use rhai::{Dynamic, Engine, EvalContext, Expression, FuncRegistration, ImmutableString, ParseError};

use super::error::ScriptResult;
use crate::catalog::HIDDEN;
use crate::syntax::index_token::{COLON, COMMA, COMMA_AFTER_RANGE};

/// An expression in a custom syntax of Rhai.
const EXPRESSION: &str = "$expr$";
/// Binds less than any operator of Rhai, the lowest of which has 30, and more than the end of an expression, which has 1.
const PRECEDENCE: u8 = 2;

/// The index of one dimension.
#[derive(Debug, Clone)]
pub enum Slot {
    /// An expression's value.
    Value(Dynamic),
    /// `:`
    All,
    /// `:end`
    Below(Dynamic),
}

/// The indexes in order.
#[derive(Debug, Clone)]
pub struct Indexes(Vec<Slot>);

/// The indexes after an open range, `1.., ` and a comma.
#[derive(Debug, Clone)]
struct AfterRange(Vec<Slot>);

impl Indexes {
    /// One index per dimension.
    pub fn slots(&self) -> &[Slot] {
        &self.0
    }
}

/// The indexes that an operand of the comma holds.
fn slots(value: Dynamic) -> Vec<Slot> {
    match value.try_cast_result::<Indexes>() {
        Ok(Indexes(slots)) => slots,
        Err(value) => vec![Slot::Value(value)],
    }
}

fn open_range(start: i64, AfterRange(rest): AfterRange) -> Indexes {
    let range = Slot::Value((start..i64::MAX).into());
    Indexes(std::iter::once(range).chain(rest).collect())
}

/// Registers the comma, the colon and the open range between the brackets of an index.
pub fn register_syntax(engine: &mut Engine) {
    let added = engine.register_custom_operator(COMMA, PRECEDENCE).map(drop);
    debug_assert!(added.is_ok(), "{added:?}");
    let operator = |name: &'static str| FuncRegistration::new(name).with_comments([HIDDEN]);
    operator(COMMA).register_into_engine(engine, |first: Dynamic, second: Dynamic| {
        let mut all = slots(first);
        all.extend(slots(second));
        Indexes(all)
    });
    operator("..").register_into_engine(engine, open_range);
    operator("..=").register_into_engine(engine, open_range);
    let begins_index = |symbols: &[ImmutableString], ahead: &str, _: &mut Dynamic| -> Result<_, ParseError> {
        let stands_alone = ahead == "]" || ahead == COMMA;
        Ok((symbols.len() == 1 && !stands_alone).then(|| EXPRESSION.into()))
    };
    engine.register_custom_syntax_with_state_raw(COLON, begins_index, false, |context, inputs, _| {
        let Some(end) = inputs.first() else { return Ok(Dynamic::from(Indexes(vec![Slot::All]))) };
        let mut all = slots(evaluate(context, end)?);
        if let Some(first) = all.first_mut()
            && let Slot::Value(end) = first
        {
            *first = Slot::Below(std::mem::take(end));
        }
        Ok(Dynamic::from(Indexes(all)))
    });
    engine.register_custom_syntax_with_state_raw(COMMA_AFTER_RANGE, begins_index, false, |context, inputs, _| {
        let rest = inputs.first().map_or(Ok(Vec::new()), |rest| evaluate(context, rest).map(slots))?;
        Ok(Dynamic::from(AfterRange(rest)))
    });
}

fn evaluate(context: &mut EvalContext, expression: &Expression) -> ScriptResult<Dynamic> {
    context.eval_expression_tree(expression)
}
