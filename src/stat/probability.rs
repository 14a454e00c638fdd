//! Probabilities with their logarithms, so that a p-value far below the smallest float is still a number; alternatives
//! and methods of tests.

use std::f64::consts::LN_10;

use crate::error::{Result, unknown};

/// A probability with its natural logarithm, which is finite even if the plain number is rounded to 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probability {
    value: f64,
    ln: f64,
}

impl Probability {
    /// From the natural logarithm; a value rounded above 1 becomes 1.
    pub fn from_ln(ln: f64) -> Self {
        let ln = if ln > 0.0 { 0.0 } else { ln };
        Self { value: ln.exp(), ln }
    }

    /// From a plain number; a value rounded above 1 becomes 1.
    pub fn new(value: f64) -> Self {
        let value = if value > 1.0 { 1.0 } else { value };
        Self { value, ln: value.ln() }
    }

    /// From both, where the plain number is known better than from its logarithm.
    pub fn with_ln(value: f64, ln: f64) -> Self {
        Self { value, ln }
    }

    /// The plain number; 0 below about 5e-324.
    pub fn value(self) -> f64 {
        self.value
    }

    /// The natural logarithm.
    pub fn ln(self) -> f64 {
        self.ln
    }

    /// The decimal logarithm, which also distinguishes probabilities that are 0 as plain numbers.
    pub fn log10(self) -> f64 {
        self.ln / LN_10
    }

    /// The complement, without loss of digits if this is close to 1.
    pub fn complement(self) -> Self {
        match self.value > 0.5 {
            true => Self::new(-self.ln.exp_m1()),
            false => Self { value: 1.0 - self.value, ln: (-self.value).ln_1p() },
        }
    }

    /// The sum of two probabilities.
    pub fn plus(self, other: Self) -> Self {
        let value = self.value + other.value;
        if value > f64::MIN_POSITIVE {
            return Self::new(value);
        }
        let (large, small) = (self.ln.max(other.ln), self.ln.min(other.ln));
        Self::from_ln(if small == f64::NEG_INFINITY { large } else { large + (small - large).exp().ln_1p() })
    }
}

/// The alternative hypothesis: the departures from the null hypothesis that count.
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
    /// The names in scripts.
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
            Self::TwoSided if lower.ln() <= upper.ln() => lower.plus(lower),
            Self::TwoSided => upper.plus(upper),
        }
    }
}

/// The method for the p-value of a test on ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Exact if cheap and correct; each test documents when.
    #[default]
    Auto,
    /// From the distribution of the statistic without ties.
    Exact,
    /// From the normal distribution.
    Asymptotic,
}

impl Method {
    /// The method of that name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match choice("method", name, &["auto", "exact", "asymptotic", "approx"])? {
            0 => Self::Auto,
            1 => Self::Exact,
            _ => Self::Asymptotic,
        })
    }
}

/// The position of `name` among the allowed values of an option.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn choice(option: &str, name: &str, allowed: &[&str]) -> Result<usize> {
    allowed.iter().position(|other| *other == name).ok_or_else(|| unknown(option, name, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complement_and_sum_keep_small_parts() {
        assert_eq!(Probability::new(1e-20).complement().ln(), -1e-20);
        assert_eq!(Probability::from_ln(-1e-20).complement().value(), 1e-20);
        let sum = Probability::from_ln(-2000.0).plus(Probability::from_ln(-2000.0));
        assert!((sum.ln() - (2.0_f64.ln() - 2000.0)).abs() < 1e-12);
        assert_eq!(Probability::new(0.0).plus(Probability::new(0.0)).value(), 0.0);
        assert_eq!(Probability::new(0.0).complement().value(), 1.0);
    }
}
