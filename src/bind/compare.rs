//! Comparisons of numbers as IEEE 754 has them. Rhai's own take floats for equal that differ in the last place, and, because they divide by
//! the larger one, call neither infinity greater than 1 nor NaN unequal to itself.

use rhai::Engine;

/// Registers the comparisons.
pub fn register(engine: &mut Engine) {
    // Rhai has its own for plain numbers, and asks for others only if it is told to.
    engine.set_fast_operators(false);
    macro_rules! exact {
        ($($name:literal => $operator:tt),*) => {$(
            engine.register_fn($name, |left: f64, right: f64| left $operator right);
            engine.register_fn($name, |left: f64, right: i64| left $operator right as f64);
            engine.register_fn($name, |left: i64, right: f64| (left as f64) $operator right);
        )*};
    }
    exact!("==" => ==, "!=" => !=, "<" => <, "<=" => <=, ">" => >, ">=" => >=);
}
