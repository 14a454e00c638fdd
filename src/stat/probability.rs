//! Probabilities kept as logarithms, so that a p-value far below the smallest float is still a number.

use std::f64::consts::{LN_2, LN_10};

use crate::error::{Error, Result, nearest};

/// A probability by its natural logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probability {
    ln: f64,
}

impl Probability {
    /// From the natural logarithm; what rounding puts above 1 becomes 1.
    pub fn from_ln(ln: f64) -> Self {
        Self { ln: if ln > 0.0 { 0.0 } else { ln } }
    }

    /// From a plain number.
    pub fn new(value: f64) -> Self {
        Self::from_ln(value.ln())
    }

    /// The plain number; 0 below about 5e-324.
    pub fn value(self) -> f64 {
        self.ln.exp()
    }

    /// The natural logarithm.
    pub fn ln(self) -> f64 {
        self.ln
    }

    /// The decimal logarithm, which also tells apart what is 0 as a plain number.
    pub fn log10(self) -> f64 {
        self.ln / LN_10
    }

    /// That of the opposite, without loss where this is close to 1.
    pub fn complement(self) -> Self {
        Self::from_ln(if self.ln > -LN_2 { (-self.ln.exp_m1()).ln() } else { (-self.ln.exp()).ln_1p() })
    }

    /// The sum of two.
    pub fn plus(self, other: Self) -> Self {
        let (large, small) = if self.ln >= other.ln { (self.ln, other.ln) } else { (other.ln, self.ln) };
        if small == f64::NEG_INFINITY {
            return Self::from_ln(large);
        }
        Self::from_ln(large + (small - large).exp().ln_1p())
    }
}

/// Which departures from the null hypothesis count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alternative {
    /// In either direction.
    #[default]
    TwoSided,
    /// Only below.
    Less,
    /// Only above.
    Greater,
}

impl Alternative {
    /// The names that scripts give.
    pub const NAMES: [&str; 3] = ["two-sided", "less", "greater"];

    /// The alternative of that name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn parse(name: &str) -> Result<Self> {
        match choice("alternative", name, &Self::NAMES)? {
            1 => Ok(Self::Less),
            2 => Ok(Self::Greater),
            _ => Ok(Self::TwoSided),
        }
    }

    /// The p-value from the probabilities, under the null hypothesis, of a statistic at most and at least as large.
    pub fn p_value(self, lower: Probability, upper: Probability) -> Probability {
        match self {
            Self::Less => lower,
            Self::Greater => upper,
            Self::TwoSided if lower.ln() <= upper.ln() => Probability::from_ln(lower.ln() + LN_2),
            Self::TwoSided => Probability::from_ln(upper.ln() + LN_2),
        }
    }
}

/// The position of `name` among the allowed values of an option.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn choice(option: &str, name: &str, allowed: &[&str]) -> Result<usize> {
    allowed.iter().position(|other| *other == name).ok_or_else(|| {
        let error = Error::new(format!("`{option}` cannot be `{name}`"));
        match nearest(name, allowed.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`? It is one of {}", allowed.join(", "))),
            None => error.hint(format!("one of {}", allowed.join(", "))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complement_and_sum_keep_small_parts() {
        assert_eq!(Probability::new(1e-20).complement().ln(), -1e-20);
        assert_eq!(Probability::from_ln(-1e-20).complement().value(), 1e-20);
        let sum = Probability::from_ln(-2000.0).plus(Probability::from_ln(-2000.0));
        assert!((sum.ln() - (LN_2 - 2000.0)).abs() < 1e-12);
        assert_eq!(Probability::new(0.0).plus(Probability::new(0.0)).value(), 0.0);
        assert_eq!(Probability::new(0.0).complement().value(), 1.0);
    }
}
