//! Comparisons of numbers as IEEE 754 has them. Rhai's own take floats for equal that differ in the last place, and,
//! because they divide by the larger one, call neither infinity greater than 1 nor NaN unequal to itself.

use rhai::{Engine, FuncRegistration};

use crate::catalog::topic::Topic;

/// Registers the comparisons.
pub fn register(engine: &mut Engine) {
    // Rhai has its own for plain numbers, and asks for others only if it is told to.
    engine.set_fast_operators(false);
    macro_rules! exact {
        ($($name:literal => $operator:tt),*) => {$(
            let register = || {
                FuncRegistration::new($name).with_comments([&Topic::Utilities.comment(), "/// Compares as IEEE 754 says."])
            };
            register().register_into_engine(engine, |left: f64, right: f64| left $operator right);
            register().register_into_engine(engine, |left: f64, right: i64| left $operator right as f64);
            register().register_into_engine(engine, |left: i64, right: f64| (left as f64) $operator right);
        )*};
    }
    exact!("==" => ==, "!=" => !=, "<" => <, "<=" => <=, ">" => >, ">=" => >=);
}
